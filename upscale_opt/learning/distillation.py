"""Knowledge distillation: a network learns the outputs of another one, which need no labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from upscale_opt.arguments.checks import above, at_least, settle_fields
from upscale_opt.arguments.entrance import RUNNABLE
from upscale_opt.errors import LearningError
from upscale_opt.models.digests import state_digest
from upscale_opt.models.running import device_of, in_modes

WEIGHT, TEMPERATURE = 0.9, 4.0


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher, and how much its outputs count.

    The loss of a batch is (1 - a) * CE + a * T^2 * KL(teacher || student). CE is the cross-entropy with the labels. The
    two distributions are softmax(logits / T). Without labels, a is 1.

    Attributes
    ----------
    teacher
        The teacher, mostly the dense network. It runs in eval mode and does not change. It may be on another device.
    weight
        a, from 0 to 1.
    temperature
        T, above 0. The factor T^2 keeps the gradients at their size when T changes.

    Raises
    ------
    LearningError
        If a value is invalid.

    Notes
    -----
    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2. The paper uses the
    cross-entropy with the teacher's distribution, which has the same gradients as KL.
    """

    teacher: nn.Module
    weight: float = WEIGHT
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        settle_fields(self, teacher=RUNNABLE, weight=at_least(0, LearningError), temperature=above(0, LearningError))
        if self.weight > 1:
            raise LearningError(f"the weight of the teacher is {self.weight:g}; give a number from 0 to 1")
        if self.temperature == float("inf"):
            raise LearningError("the temperature is infinite; give a number such as 4")

    def require_other(self, model: nn.Module) -> None:
        """Raise an error if the teacher shares parameters with the model that is trained.

        Raises
        ------
        LearningError
            If it does: it would change.
        """
        own = {id(parameter) for parameter in model.parameters()}
        if any(id(parameter) in own for parameter in self.teacher.parameters()):
            raise LearningError("the teacher shares weights with the model, so it would change; give a deep copy")

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The teacher's outputs, on its device.

        Raises
        ------
        LearningError
            If they are not of shape (images, classes).
        """
        with in_modes(self.teacher, training=False), torch.no_grad():
            outputs = self.teacher(images.to(device_of(self.teacher)))
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            raise LearningError("the teacher must return one tensor of shape (images, classes); give one that does")
        return outputs

    def classes(self, batches: Iterable[Any]) -> list[torch.Tensor]:
        """The classes that the teacher predicts, one tensor per batch, on the CPU."""
        return [self.logits(batch[0]).argmax(1).cpu() for batch in batches]

    def loss(self, outputs: torch.Tensor, taught: torch.Tensor, hard: torch.Tensor | None) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        outputs, taught
            Logits of student and teacher, shape (images, classes).
        hard
            The cross-entropy with the labels, or None without labels.

        Raises
        ------
        LearningError
            If student and teacher have different classes.
        """
        if outputs.shape != taught.shape:
            raise LearningError(
                f"the model has outputs of shape {tuple(outputs.shape)}, and the teacher of {tuple(taught.shape)}; "
                "give a teacher with the same classes"
            )
        p, q = ((own.float() / self.temperature).log_softmax(1) for own in (taught.to(outputs.device), outputs))
        soft = self.temperature**2 * functional.kl_div(q, p, reduction="batchmean", log_target=True)
        return soft if hard is None else (1 - self.weight) * hard + self.weight * soft

    def settings(self, *, labelled: bool) -> dict[str, str]:
        """The settings, as text. A training run resumes only with the same ones."""
        weight = self.weight if labelled else 1.0
        return {
            "distillation": f"{weight:g}, temperature {self.temperature:g}, teacher {state_digest(self.teacher)[:12]}"
        }
