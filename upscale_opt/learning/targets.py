"""Targets: how many input channels each layer keeps, and masks that keep exactly this number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from upscale_opt.arguments.checks import names, settle_fields
from upscale_opt.arguments.modes import INPUT
from upscale_opt.errors import MaskError
from upscale_opt.importance.criteria import GLOBAL, LOCAL, Criterion
from upscale_opt.importance.ranking import ranked_masks, require_reached
from upscale_opt.importance.registry import Importance
from upscale_opt.masking.importance_masks import maskable
from upscale_opt.tracing.graphs import Graph


@dataclass(frozen=True)
class Target:
    """How many channels to drop. Numbers are counted as in `upscale_opt.importance_masks`.

    Attributes
    ----------
    amount
        Share of channels to remove, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    scope
        ``local``: the amount holds for every layer. ``global``: for all layers together, where each keeps its strongest
        channel.
    amounts
        Names of weights or modules (wildcards allowed) to amounts for these layers. A global threshold does not include
        these layers.
    ignore
        Names of weights or modules that are not masked, wildcards allowed.

    Raises
    ------
    MaskError
        If a value is invalid.
    """

    amount: float | str = 0.5
    scope: str = LOCAL
    amounts: Mapping[str, float | str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle_fields(self, ignore=names)
        object.__setattr__(self, "ignore", (self.ignore,) if isinstance(self.ignore, str) else tuple(self.ignore))
        self._criterion({})

    def __str__(self) -> str:
        own = "".join(f", {name} {amount}" for name, amount in self.amounts.items())
        left = f", without {', '.join(self.ignore)}" if self.ignore else ""
        return f"amount {self.amount} {self.scope}{own}{left}"

    def weights(self, graph: Graph) -> list[str]:
        """Names of the masked weights, in execution order: convolutions that do not read the network input.

        Raises
        ------
        MaskError
            If there are none, or if a name to ignore or a name with an amount matches nothing.
        """
        names = maskable(graph, INPUT, ignore=self.ignore)
        if not names:
            raise MaskError("the network has no convolution whose inputs can be dropped; choose another model")
        self._criterion({}).own_amounts(graph, frozenset(names))
        return names

    def masks(
        self, graph: Graph, scores: Mapping[str, np.ndarray], weights: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Masks that keep the channels with the highest scores, exactly as many as the target says.

        Parameters
        ----------
        graph
            The traced model.
        scores
            Weight name to float64, shape (channels,).
        weights
            Names of the weights to mask. A global threshold holds for these. Default: all weights that have scores.

        Raises
        ------
        MaskError
            If so many channels cannot be dropped, because every layer keeps one.
        """
        names = list(scores) if weights is None else list(weights)
        own = self._criterion({}).own_amounts(graph, frozenset(scores))
        amounts = {name: amount for name, amount in own.items() if name in names}
        masks = ranked_masks(graph, names, INPUT, self._criterion(scores, amounts))
        if self.scope == GLOBAL:
            require_reached(graph, masks, self.amount, amounts)
        return masks

    def _criterion(
        self, scores: Mapping[str, np.ndarray], amounts: Mapping[str, float | str] | None = None
    ) -> Criterion:
        importance = Importance("score", lambda _, weight: scores[weight], "given")
        return Criterion(importance, self.amount, self.scope, self.amounts if amounts is None else amounts)
