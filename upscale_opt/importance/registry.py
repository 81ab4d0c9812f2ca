"""The registry of importances: the methods by name, and how users add more."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from problems.showing.reprs import shown
from upscale_opt.arguments.checks import a_flag, a_text, at_least, callable_with, described, optional, settle_fields
from upscale_opt.arguments.entrance import AN_IMPORTANCE, entrance
from upscale_opt.errors import MaskError
from upscale_opt.importance.evidence import Evidence

Score = Callable[[Evidence, str], np.ndarray]
Statistic = Callable[[torch.Tensor], torch.Tensor]


@shown
@dataclass(frozen=True)
class Importance:
    """A method that scores how much the channels of a layer matter.

    Attributes
    ----------
    name
        The name that users type.
    function
        ``function(evidence, weight)`` returns the scores of the channels of that weight on ``evidence.side``: shape
        (channels,), the weakest channel lowest. See `upscale_opt.importance.evidence.Evidence`. NaN raises an error. An
        infinite score is the strongest.
    source
        The paper, or another source of the method.
    statistic
        What to measure on the data, if anything. Takes a feature map, float of shape (images, channels, *positions),
        and returns numbers of shape (images, channels). Their means are ``evidence.statistics``.
    needs_gradients
        Whether the function reads ``evidence.gradients``, the gradients of a loss on the data.
    product_statistic
        What to measure on products of value and gradient, if anything. Takes the products, float64 of shape (images,
        channels), and returns numbers of the same shape. Their means over the images are ``evidence.products``. In
        constrained mode, the products of all consumers of a channel are added up first, the mean of the statistic of
        the sum is the channel's score, and the function is not called.
    samples_labels
        Whether the loss is the cross-entropy with labels drawn from the network's own softmax, so that the data needs
        no labels. Otherwise it is the cross-entropy with the labels of the data. A user's own loss replaces both.
    exponent
        If several consumers share a channel, the channel's score is the sum of their scores to this power. With L2
        scores, 2 gives the group norm of DepGraph (Fang et al., CVPR 2023).
    """

    name: str
    function: Score
    source: str
    statistic: Statistic | None = None
    needs_gradients: bool = False
    exponent: float = 1
    product_statistic: Statistic | None = None
    samples_labels: bool = False

    def __post_init__(self) -> None:
        function = callable_with("the evidence and the name of a weight", MaskError)
        settle_fields(self, name=a_text, function=function, exponent=at_least(0, MaskError))
        settle_fields(self, statistic=optional(callable_with("a feature map", MaskError)), needs_gradients=a_flag)
        products = optional(callable_with("the products of value and gradient", MaskError))
        settle_fields(self, product_statistic=products, samples_labels=a_flag)

    def __str__(self) -> str:
        needs = "labelled data" if self.needs_labels else "data" if self.needs_data else "no data"
        return f"{self.name} ({self.source}; needs {needs})"

    @property
    def needs_data(self) -> bool:
        """Whether it needs calibration data."""
        return self.statistic is not None or self._needs_loss

    @property
    def needs_labels(self) -> bool:
        """Whether the data needs labels. A loss that ignores labels removes this need."""
        return self._needs_loss and not self.samples_labels

    @property
    def _needs_loss(self) -> bool:
        return self.needs_gradients or self.product_statistic is not None


IMPORTANCES: dict[str, Importance] = {}
"""The importances by name; `register_importance` adds to them."""


@entrance(importance=AN_IMPORTANCE)
def register_importance(importance: Importance) -> Importance:
    """Register an importance under its name, and return it. A reloaded module replaces its importance.

    Raises
    ------
    MaskError
        If another importance has the name.
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
    """Find an importance by name. An `Importance` is returned unchanged.

    Raises
    ------
    MaskError
        If no importance has that name.
    """
    if isinstance(importance, Importance):
        return importance
    if not isinstance(importance, str) or importance not in IMPORTANCES:
        near = difflib.get_close_matches(importance, IMPORTANCES, n=1) if isinstance(importance, str) else []
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(IMPORTANCES)}"
        raise MaskError(f"there is no importance {described(importance)}; {hint}")
    return IMPORTANCES[importance]
