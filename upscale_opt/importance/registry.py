"""The registry of importances: the methods by name, and how users add their own."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upscale_opt.arguments.checks import a_flag, a_text, at_least, callable_with, described, optional, settle_fields
from upscale_opt.arguments.entrance import AN_IMPORTANCE, entrance
from upscale_opt.errors import MaskError
from upscale_opt.importance.evidence import Evidence

Score = Callable[[Evidence, str], np.ndarray]
Statistic = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Importance:
    """A way to say how much the channels of a layer matter.

    Attributes
    ----------
    name
        What users type.
    function
        ``function(evidence, weight)`` to the scores of the channels of that weight on ``evidence.side``: shape
        (channels,), the weakest lowest. See `upscale_opt.importance.evidence.Evidence`. NaN is refused; infinite is
        the strongest.
    source
        The paper, or where else the method is from.
    statistic
        What to measure of the data, if anything: a feature map, float of shape (images, channels, *positions), to
        numbers of shape (images, channels). Their means are ``evidence.statistics``.
    needs_gradients
        Whether the function looks at ``evidence.gradients``, those of a loss on the data.
    exponent
        Where consumers share a channel, its score is the sum of their scores to this power: 2 for L2 makes the group
        norm of DepGraph (Fang et al., CVPR 2023).
    """

    name: str
    function: Score
    source: str
    statistic: Statistic | None = None
    needs_gradients: bool = False
    exponent: float = 1

    def __post_init__(self) -> None:
        function = callable_with("the evidence and the name of a weight", MaskError)
        settle_fields(self, name=a_text, function=function, exponent=at_least(0, MaskError))
        settle_fields(self, statistic=optional(callable_with("a feature map", MaskError)), needs_gradients=a_flag)

    def __str__(self) -> str:
        needs = "labelled data" if self.needs_labels else "data" if self.needs_data else "no data"
        return f"{self.name} ({self.source}; needs {needs})"

    @property
    def needs_data(self) -> bool:
        """Whether it needs calibration data."""
        return self.statistic is not None or self.needs_gradients

    @property
    def needs_labels(self) -> bool:
        """Whether the data needs labels, unless a loss is given that does without."""
        return self.needs_gradients


IMPORTANCES: dict[str, Importance] = {}
"""The importances by name; `register_importance` adds to them."""


@entrance(importance=AN_IMPORTANCE)
def register_importance(importance: Importance) -> Importance:
    """Make an importance known under its name; it is returned. A module that is loaded again replaces its own.

    Raises
    ------
    MaskError
        If the name is taken by another importance.
    """
    known = IMPORTANCES.get(importance.name, importance)
    if known != importance and _home(known) != _home(importance):
        raise MaskError(f"there is an importance {importance.name!r} already; choose another name")
    IMPORTANCES[importance.name] = importance
    return importance


def _home(importance: Importance) -> tuple[str, str]:
    """Where the function of an importance is defined."""
    function: Any = importance.function
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function))


def importance_named(importance: str | Importance) -> Importance:
    """The importance of a name; an importance is returned as it is.

    Raises
    ------
    MaskError
        If there is none of that name.
    """
    if isinstance(importance, Importance):
        return importance
    if not isinstance(importance, str) or importance not in IMPORTANCES:
        near = difflib.get_close_matches(importance, IMPORTANCES, n=1) if isinstance(importance, str) else []
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(IMPORTANCES)}"
        raise MaskError(f"there is no importance {described(importance)}; {hint}")
    return IMPORTANCES[importance]
