"""The accuracy of a model, top-1 and top-5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from upscale_opt.arguments.entrance import RUNNABLE, entrance
from upscale_opt.arguments.entrance import batches as a_series
from upscale_opt.errors import LearningError
from upscale_opt.models.running import device_of, in_modes


@dataclass(frozen=True)
class Accuracy:
    """The result of an evaluation.

    Attributes
    ----------
    top1, top5
        Shares of images whose class is the first output, or among the first five outputs. `top5` is None if there are
        fewer than six classes.
    loss
        Mean cross-entropy.
    images
        Number of images.
    """

    top1: float
    top5: float | None
    loss: float
    images: int

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {100 * self.top5:.2f} %"
        return f"top-1 {100 * self.top1:.2f} %{top5}, loss {self.loss:.4f}, of {self.images} images"


@entrance(model=RUNNABLE, batches=a_series)
def accuracy(model: nn.Module, batches: Iterable[Any]) -> Accuracy:
    """Evaluate a model in eval mode. Its modes and statistics do not change.

    Parameters
    ----------
    model
        A model that maps images to outputs of shape (images, classes).
    batches
        Pairs of images and class numbers.

    Raises
    ------
    LearningError
        If there are no images, or if the outputs have another form.
    """
    first = fifth = images = 0
    loss, classes = 0.0, 0
    device = device_of(model)
    with in_modes(model, training=False), torch.no_grad():
        for x, labels in batches:
            outputs, labels = model(x.to(device)), labels.to(device)
            if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
                raise LearningError("the model must return one tensor of shape (images, classes); give one that does")
            outputs = outputs.float()
            classes = outputs.shape[1]
            best = outputs.topk(min(5, classes), dim=1).indices == labels[:, None]
            first += int(best[:, 0].sum())
            fifth += int(best.sum())
            loss += float(functional.cross_entropy(outputs, labels, reduction="sum"))
            images += len(labels)
    if not images:
        raise LearningError("there are no images to evaluate on; give at least one batch")
    return Accuracy(first / images, fifth / images if classes > 5 else None, loss / images, images)
