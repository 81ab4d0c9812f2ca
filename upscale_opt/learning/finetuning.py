"""Fine-tuning with fixed masks, the conventional method: prune once by magnitude, then continue training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from problems.showing.progress import ShowProgress
from upscale_opt.arguments.checks import above, at_least
from upscale_opt.arguments.entrance import DATASET, LEARNER, RUNNABLE, entrance
from upscale_opt.errors import LearningError
from upscale_opt.learning.columns import Columns, HeldColumns
from upscale_opt.learning.distillation import TEMPERATURE, WEIGHT, Distillation
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.learned import Learned
from upscale_opt.learning.loop import Training, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.masking.input_masks import normalise_masks
from upscale_opt.models.running import device_of
from upscale_opt.tracing.trace import trace


@entrance(
    model=LEARNER,
    data=DATASET,
    teacher=RUNNABLE,
    distillation=at_least(0, LearningError),
    temperature=above(0, LearningError),
)
def finetune(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    target: Target | None = None,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
    teacher: nn.Module | None = None,
    distillation: float = WEIGHT,
    temperature: float = TEMPERATURE,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> Learned:
    """Mask a model and train it in place, with fixed masks.

    To fine-tune an export, use `upscale_opt.learning.loop.fit` directly. An export holds its dropped channels at zero
    itself.

    Parameters
    ----------
    model
        The model, in eval mode.
    data, recipe, checkpoint, progress
        See `upscale_opt.learning.loop.fit`.
    target
        Without masks: how many channels to drop, by L2 norm of the columns. Default: half of every layer.
    masks
        Masks in the formats of `upscale_opt.normalise_masks`. Default: the masks of the target.
    teacher
        A network whose outputs the model learns, mostly the dense one. It must not share weights with the model. If the
        data has no labels, it is needed. Default: none.
    distillation, temperature
        The teacher's weight a and the temperature T, see `upscale_opt.learning.distillation.Distillation`.

    Raises
    ------
    MaskError
        If the target cannot be reached, or a mask does not fit.
    LearningError
        In the same cases as `fit`.
    """
    taught = None if teacher is None else Distillation(teacher, distillation, temperature)
    if taught is not None:
        taught.require_other(model)
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device_of(model)))
    target = target or Target()
    given = None if masks is None else normalise_masks(graph, masks)
    columns = Columns(model, graph, target.weights(graph) if given is None else given)
    method = FixedMasks(columns, target.masks(graph, columns.norms()) if given is None else given)
    epochs = fit(model, data, [recipe], method=method, distillation=taught, checkpoint=checkpoint, progress=progress)
    return Learned(model, columns.masks, epochs)


class FixedMasks(HeldColumns):
    """Hooks for fixed masks. They set the masks before the first epoch.

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
        """The number of channels that the weights keep, and a digest of the masks."""
        kept = ", ".join(str(int(mask.sum())) for mask in self.masks.values())
        digest = hashlib.sha256()
        for name, mask in self.masks.items():
            digest.update(f"{name} {np.flatnonzero(mask).tolist()}".encode())
        own = {"method": "finetune", "kept channels": kept, "masks of digest": digest.hexdigest()[:12]}
        return {**super().settings(), **own}
