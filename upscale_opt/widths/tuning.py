"""Fine-tuning of a network that was made for a speedup, with the unpruned network as its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from problems.showing.progress import ShowProgress
from upscale_opt.learning.distillation import Distillation
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.widths.results import Speedup

LEARNING_RATE = 0.01
"""Highest learning rate: a tenth of what networks are trained with from the start."""


def tuned(
    found: Speedup,
    teacher: nn.Module,
    images: Dataset,
    epochs: int,
    held_out: Iterable[Any],
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> Speedup:
    """The same result with a network that has learned the unpruned one's outputs. Its module is trained in place.

    Widths, and so the measured speedup, stay as they are.

    Parameters
    ----------
    found
        What `upscale_opt.speedup` returned.
    teacher
        The unpruned network.
    images
        Images to learn from, with labels or without.
    epochs
        Passes over the images, at least 1.
    held_out
        Batches on which the fidelity is reported.
    seed
        Of the order of the images.
    checkpoint
        File from which an interrupted training goes on.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    LearningError
        If the images do not fit.

    Notes
    -----
    Distillation as in Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    module = found.exported.module
    recipe = Recipe(epochs, LEARNING_RATE, seed=seed)
    taught = Distillation(teacher) if images.labelled else Distillation(teacher, 1.0)
    fit(module, images, [recipe], distillation=taught, checkpoint=checkpoint, progress=progress)
    return replace(found, tuned=compare_outputs(teacher, module, held_out), epochs=epochs)
