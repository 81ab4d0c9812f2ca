"""Fine-tuning under fixed masks: the conventional way, prune once by magnitude and train on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from upscale_opt.arguments.entrance import DATASET, LEARNER, entrance
from upscale_opt.learning.columns import Columns, HeldColumns
from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.learned import Learned
from upscale_opt.learning.loop import Training, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.masking.input_masks import normalise_masks
from upscale_opt.models.running import device_of
from upscale_opt.tracing.trace import trace


@entrance(model=LEARNER, data=DATASET)
def finetune(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    target: Target | None = None,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Learned:
    """Mask a model and train it, in place, with its masks fixed.

    An export is fine-tuned by `upscale_opt.learning.loop.fit` alone: it holds its dropped channels itself.

    Parameters
    ----------
    model
        The model, in eval mode.
    data, recipe, checkpoint, progress
        See `upscale_opt.learning.loop.fit`.
    target
        Without masks: how much is dropped, by L2 norm of the columns. Default: half of every layer.
    masks
        The masks, as `upscale_opt.normalise_masks` takes them. Default: those of the target.

    Raises
    ------
    MaskError
        If the target cannot be reached, or a mask does not fit.
    LearningError
        As `fit` does.
    """
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device_of(model)))
    target = target or Target()
    given = None if masks is None else normalise_masks(graph, masks)
    columns = Columns(model, graph, target.weights(graph) if given is None else given)
    method = FixedMasks(columns, target.masks(graph, columns.norms()) if given is None else given)
    epochs = fit(model, data, [recipe], method=method, checkpoint=checkpoint, progress=progress)
    return Learned(model, columns.masks, epochs)


class FixedMasks(HeldColumns):
    """Hooks for fixed masks, which are set before the first epoch.

    Parameters
    ----------
    columns
        The columns of the model.
    masks
        Weight name to Boolean array.
    """

    def __init__(self, columns: Columns, masks: Mapping[str, np.ndarray]) -> None:
        super().__init__(columns)
        self.masks = masks

    def begin(self, training: Training) -> None:
        """Set the masks."""
        self.columns.set(self.masks)

    def settings(self) -> dict[str, str]:
        """How many channels the weights keep, and which."""
        kept = ", ".join(str(int(mask.sum())) for mask in self.masks.values())
        digest = hashlib.sha256()
        for name, mask in self.masks.items():
            digest.update(f"{name} {np.flatnonzero(mask).tolist()}".encode())
        own = {"method": "finetune", "kept channels": kept, "masks of digest": digest.hexdigest()[:12]}
        return {**super().settings(), **own}
