"""A pruning criterion: an importance, the amount to drop, and the data that the importance needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from upscale_opt.arguments.amounts import require_amount, require_rounding
from upscale_opt.arguments.checks import an_amount, described, named_values, whole
from upscale_opt.errors import MaskError
from upscale_opt.importance.calibration import Loss
from upscale_opt.importance.evidence import Evidence
from upscale_opt.importance.fisher import shared_scores
from upscale_opt.importance.observation import collect
from upscale_opt.importance.registry import Importance, importance_named
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph

LOCAL, GLOBAL = "local", "global"


@dataclass(frozen=True, eq=False)
class Criterion:
    """Which channels to drop, for any set of layers.

    Attributes
    ----------
    importance
        A name among `upscale_opt.IMPORTANCES`, or an `Importance`.
    amount
        Share of channels to remove, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    scope
        ``local``: the amount holds for each layer. ``global``: it holds for all layers together, with one threshold.
    amounts
        Names of weights or modules (wildcards allowed) to amounts for these layers. If several names match a layer, the
        last one counts. A global threshold does not include these layers.
    data, loss, seed
        See `upscale_opt.importance.observation.collect`.
    round_to, min_channels
        The numbers of kept channels are rounded up, see `upscale_opt.arguments.amounts.round_up`.

    Raises
    ------
    MaskError
        If a value is invalid.
    """

    importance: str | Importance = "l2"
    amount: float | str = 0.5
    scope: str = LOCAL
    amounts: Mapping[str, float | str] = field(default_factory=dict)
    data: Any = None
    loss: Loss | None = None
    seed: int = 0
    round_to: int = 1
    min_channels: int = 1

    def __post_init__(self) -> None:
        importance_named(self.importance)
        named_values(an_amount, "its amount", "weight or module", MaskError)(self.amounts, "amounts")
        for amount in (self.amount, *self.amounts.values()):
            require_amount(amount)
        require_rounding(self.round_to, self.min_channels)
        if not isinstance(self.scope, str) or self.scope not in (LOCAL, GLOBAL):
            raise MaskError(f"there is no scope {described(self.scope)}; choose {LOCAL} or {GLOBAL}")
        whole(0, MaskError)(self.seed, "seed")

    def evidence(self, graph: Graph, weights: list[str], side: str) -> Evidence:
        """Collect the evidence that the importance needs for these weights."""
        return collect(
            graph,
            importance_named(self.importance),
            weights,
            side=side,
            data=self.data,
            loss=self.loss,
            seed=self.seed,
        )

    def shared(self, graph: Graph, classes: np.ndarray, weights: list[str]) -> np.ndarray:
        """The scores of classes of channels; see `upscale_opt.importance.fisher.shared_scores`."""
        require_finite(graph)
        return shared_scores(
            graph,
            importance_named(self.importance),
            classes,
            weights,
            data=self.data,
            loss=self.loss,
            seed=self.seed,
        )

    def own_amounts(self, graph: Graph, masked: frozenset[str]) -> dict[str, float | str]:
        """Weight names to the amounts given by name, for masked weights only.

        Raises
        ------
        MaskError
            If a name matches no layer that is masked.
        """
        found: dict[str, float | str] = {}
        for pattern, amount in self.amounts.items():
            matching = consumers_matching(graph, [pattern]) & masked
            if not matching:
                raise MaskError(f"an amount is given for {pattern!r}, which matches no layer that is masked; remove it")
            found |= dict.fromkeys(matching, amount)
        return found
