"""The result of every method: a model whose dropped columns are exactly zero, its masks, and a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from upscale_opt.errors import LearningError
from upscale_opt.learning.evaluation import Accuracy
from upscale_opt.learning.loop import Epoch
from upscale_opt.models.attributes import attribute_of
from upscale_opt.tracing.graphs import Graph


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained and masked model.

    Attributes
    ----------
    model
        The model in eval mode. Columns that its masks drop are exactly zero.
    masks
        Weight name to Boolean array, True = kept, for the masked weights. `upscale_opt.effective_masks` and
        `upscale_opt.plan` accept them.
    epochs
        The result of every epoch.
    log
        The steps of the method, in order. Each method documents its entries.
    final
        Final accuracy, if the model was changed after its last epoch.
    """

    model: nn.Module
    masks: Mapping[str, np.ndarray]
    epochs: tuple[Epoch, ...]
    log: tuple[Any, ...] = ()
    final: Accuracy | None = None

    @property
    def test(self) -> Accuracy:
        """Accuracy of the current model on the test images."""
        return self.final if self.final is not None else self.epochs[-1].test

    def __str__(self) -> str:
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        total = sum(mask.size for mask in self.masks.values())
        return f"{kept} of {total} input channels kept in {len(self.masks)} layers; test {self.test}"

    def require_zero(self, graph: Graph) -> None:
        """Raise an error unless every dropped column is zero.

        Raises
        ------
        LearningError
            If a dropped column is not zero.
        """
        for name, mask in self.masks.items():
            columns = attribute_of(self.model, name).detach().movedim(graph.consumers[name].input_axis, 0)
            if bool(columns[~mask].any()):
                raise LearningError(f"{name} is not zero where its mask drops channels; set the masks again")
