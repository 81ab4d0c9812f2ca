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
    of_teacher
        Whether the classes are those that another network predicts, because the images have no labels.
    """

    top1: float
    top5: float | None
    loss: float
    images: int
    of_teacher: bool = False

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {100 * self.top5:.2f} %"
        whose = "agreement with the teacher, " if self.of_teacher else ""
        return f"{whose}top-1 {100 * self.top1:.2f} %{top5}, loss {self.loss:.4f}, of {self.images} images"


class Scores:
    """Sums over images, from which an `Accuracy` follows."""

    def __init__(self) -> None:
        self._first = self._fifth = self._loss = 0.0
        self._images = self._classes = 0

    def add(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        outputs
            Logits of shape (images, classes), or (images, classes, ...), where all positions of an image count alike.
        labels
            Class numbers of shape (images,), or (images, ...), on any device.

        Raises
        ------
        LearningError
            If the labels do not fit the outputs.
        """
        expected = (len(outputs), *outputs.shape[2:])
        if tuple(labels.shape) != expected or labels.is_floating_point():
            raise LearningError(
                f"the labels are of {labels.dtype} and shape {tuple(labels.shape)}; give class numbers of shape "
                f"{expected}"
            )
        require_classes(labels, outputs.shape[1])
        outputs, labels = outputs.float(), labels.to(outputs.device, torch.int64)
        self._classes = outputs.shape[1]
        best = outputs.topk(min(5, self._classes), dim=1).indices == labels.unsqueeze(1)
        shares = best.double().reshape(*best.shape[:2], -1).mean(-1)  # over the positions
        losses = functional.cross_entropy(outputs, labels, reduction="none")
        self._first += float(shares[:, 0].sum())
        self._fifth += float(shares.sum())
        self._loss += float(losses.reshape(len(losses), -1).mean(-1).sum())
        self._images += len(labels)

    def accuracy(self) -> Accuracy:
        """The means.

        Raises
        ------
        LearningError
            If there were no images.
        """
        if not self._images:
            raise LearningError("there are no images to evaluate on; give at least one batch")
        top5 = self._fifth / self._images if self._classes > 5 else None
        return Accuracy(self._first / self._images, top5, self._loss / self._images, self._images)


def require_classes(labels: torch.Tensor, classes: int) -> None:
    """Raise an error unless all labels are among the classes of a model.

    Raises
    ------
    LearningError
        If one is not.
    """
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        odd = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
        raise LearningError(
            f"an image has the class number {odd}, but the model has {classes} outputs; number the classes from 0 to "
            f"{classes - 1}, or give a model with more outputs"
        )


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
        If there are no images or no labels, or if the outputs have another form.
    """
    scores = Scores()
    device = device_of(model)
    with in_modes(model, training=False), torch.no_grad():
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise LearningError("accuracy needs labels; give batches of (images, class numbers)")
            x, labels = batch
            outputs = model(x.to(device))
            if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
                raise LearningError("the model must return one tensor of shape (images, classes); give one that does")
            scores.add(outputs, labels)
    return scores.accuracy()
