"""The training loop. Every method and every fine-tuning uses `fit`.

A training run is a sequence of phases. Each phase is a `Recipe` with a separate optimiser, schedule and seed. A
`Method` has hooks for everything that a method does besides plain training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.arguments.entrance import DATASET, RUNNABLE, entrance
from upscale_opt.errors import LearningError
from upscale_opt.learning.checkpoints import (
    Checkpoint,
    own_random_state,
    random_state,
    read_checkpoint,
    require_same,
    restore_random_state,
    seed_everything,
)
from upscale_opt.learning.distillation import Distillation
from upscale_opt.learning.evaluation import Accuracy, accuracy, require_classes
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.recipes import Recipe
from upscale_opt.models.running import device_of
from upscale_opt.models.wrappers import unwrapped, without_prefixes


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch.

    Attributes
    ----------
    phase, epoch
        Index of the recipe, and of the epoch in it. Both start at 0.
    loss, top1
        Means over the training images during the epoch, while the weights changed. Without labels, `top1` is the
        agreement with the teacher.
    test
        Accuracy on the test images after the epoch. Without labels, agreement with the teacher.
    """

    phase: int
    epoch: int
    loss: float
    top1: float
    test: Accuracy

    def __str__(self) -> str:
        return f"phase {self.phase}, epoch {self.epoch}: loss {self.loss:.4f}; test {self.test}"


@dataclass(eq=False)
class Training:
    """One phase of a training run. The hooks of a method get this object.

    Attributes
    ----------
    model, data, recipe, optimiser
        The model, its data, and how it is trained.
    phase, epoch
        Index of the current recipe, and of the current epoch in it.
    distillation
        The teacher, if there is one.
    """

    model: nn.Module
    data: Dataset
    recipe: Recipe
    optimiser: torch.optim.Optimizer
    phase: int
    epoch: int = 0
    distillation: Distillation | None = None

    def loss(
        self, images: torch.Tensor, labels: torch.Tensor | None, taught: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, and the model's outputs for it.

        Parameters
        ----------
        images, labels
            The batch. The labels are None if there are none.
        taught
            The teacher's outputs, if there is a teacher. Default: the teacher computes them.
        """
        device = device_of(self.model)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.mixed_precision):
            outputs = self.model(images.to(device))
            outputs = getattr(outputs, "logits", outputs)  # for models with auxiliary heads in training
            hard = None
            if labels is not None:
                require_classes(labels, outputs.shape[1])
                hard = functional.cross_entropy(outputs, labels.to(device))
        if self.distillation is None:
            assert hard is not None  # `fit` requires labels if there is no teacher
            return hard, outputs
        taught = self.distillation.logits(images) if taught is None else taught
        return self.distillation.loss(outputs, taught, hard), outputs


class Method:
    """The hooks of a method, for everything besides plain training. By default, they do nothing."""

    def begin(self, training: Training) -> None:
        """Called before the first epoch of a phase, but not when the phase is resumed."""

    def before_step(self, training: Training) -> None:
        """Called before each step of the optimiser, after the gradients are computed."""

    def after_step(self, training: Training) -> None:
        """Called after each step of the optimiser."""

    def after_epoch(self, training: Training) -> None:
        """Called after each epoch, before the model is tested."""

    def end(self, training: Training) -> None:
        """Called after the test of the last epoch of a phase."""

    def settings(self) -> Mapping[str, str]:
        """The settings of the method. A run is resumed only with the same settings."""
        return {}

    def state(self) -> dict[str, Any]:
        """The state of the method, as tensors and plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`. The model already has its weights."""


@entrance(model=RUNNABLE, data=DATASET)
def fit(
    model: nn.Module,
    data: Dataset,
    recipes: Sequence[Recipe],
    *,
    method: Method | None = None,
    distillation: Distillation | None = None,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> tuple[Epoch, ...]:
    """Train a model in place. Afterwards it is in eval mode.

    On one machine with a fixed number of threads, the same arguments give the same weights, bit for bit. This holds
    however often the run was stopped and resumed (on CUDA as far as its kernels allow). The states of the global random
    generators are restored at the end.

    Parameters
    ----------
    model
        A model that maps images to outputs of shape (images, classes): an original or an export. It stays on its
        device.
    data
        Images for training and for testing. They need labels, unless there is a teacher.
    recipes
        The phases, in order. Each starts with a fresh optimiser and its own seed.
    method
        The hooks of a method. Default: plain training.
    distillation
        A teacher, whose outputs the model learns. Default: none.
    checkpoint
        A file that is written after every epoch. If it exists, the run resumes from it. If the run is killed or
        interrupted at any time, it loses at most one epoch. Default: none.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Returns
    -------
    tuple
        One `Epoch` for every epoch, including those before a resume.

    Raises
    ------
    LearningError
        If data and model do not fit, if the checkpoint is of another run, or if the loss is not finite.
    """
    method = method or Method()
    if distillation is None:
        data.require_labels("training", "fine-tune with a teacher, such as the dense network")
    else:
        distillation.require_other(model)
        data.require_fitting(distillation.teacher)
    data.require_fitting(model)
    _require_mixed_precision(recipes, device_of(model))
    settings = _settings(data, recipes, method)
    if distillation is not None:
        settings |= distillation.settings(labelled=data.labelled)
    tested = _Tests(data, distillation)
    stored = read_checkpoint(checkpoint) if checkpoint is not None and Path(checkpoint).exists() else None
    log: list[Epoch] = []
    with own_random_state(), _bar(data, recipes, progress) as bar:
        if stored is not None:
            assert checkpoint is not None
            require_same(stored.settings, settings, Path(checkpoint).parent)
            log += [Epoch(**{**own, "test": Accuracy(**own["test"])}) for own in stored.log]
            bar.advance(sum(_num_steps(data, recipes[own.phase]) for own in log))
        for phase in range(stored.phase if stored is not None else 0, len(recipes)):
            recipe = recipes[phase]
            seed_everything(recipe.seed)
            images = torch.Generator().manual_seed(recipe.seed)
            optimiser = torch.optim.SGD(
                model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
            training = Training(model, data, recipe, optimiser, phase, distillation=distillation)
            if stored is not None and phase == stored.phase:
                _restore(stored, training, method, images)
                training.epoch = stored.epoch
            else:
                method.begin(training)
            for epoch in range(training.epoch, recipe.epochs):
                training.epoch = epoch
                loss, top1 = _epoch(training, method, images, bar)
                method.after_epoch(training)
                test = tested.of(model)
                log.append(Epoch(phase, epoch, loss, top1, test))
                bar.note(f"loss {loss:.3f}, top-1 {100 * test.top1:.1f} %")
                if epoch + 1 == recipe.epochs:
                    method.end(training)
                if checkpoint is not None:
                    Checkpoint(
                        settings,
                        phase,
                        epoch + 1,
                        unwrapped(model).state_dict(),
                        optimiser.state_dict(),
                        method.state(),
                        [asdict(own) for own in log],
                        {**random_state(), "images": images.get_state()},
                    ).write(checkpoint)
    model.eval()
    return tuple(log)


class _Tests:
    """Tests a model after every epoch: against labels, or without labels against the classes of the teacher."""

    def __init__(self, data: Dataset, distillation: Distillation | None) -> None:
        self._data, self._distillation = data, None if data.labelled else distillation
        self._classes: list[torch.Tensor] | None = None

    def of(self, model: nn.Module) -> Accuracy:
        """The accuracy of a model."""
        if self._distillation is None:
            return accuracy(model, self._data.test_batches())
        if self._classes is None:
            self._classes = self._distillation.classes(self._data.test_batches())
        batches = zip((x for x, *_ in self._data.test_batches()), self._classes, strict=True)
        return replace(accuracy(model, batches), of_teacher=True)


def _epoch(training: Training, method: Method, images: torch.Generator, bar: Any) -> tuple[float, float]:
    """One pass over the images. Returns the mean loss and top-1 accuracy."""
    batches = training.data.train_batches(training.recipe.batch_size, images)
    total = torch.zeros((), dtype=torch.float64, device=device_of(training.model))
    right = torch.zeros_like(total)
    number = 0
    training.model.train()
    for step, (x, *rest) in enumerate(batches):
        labels = rest[0] if rest else None
        taught = None if training.distillation is None else training.distillation.logits(x)
        rate = training.recipe.rate(training.epoch + step / len(batches))
        for group in training.optimiser.param_groups:
            group["lr"] = rate
        training.optimiser.zero_grad()
        loss, outputs = training.loss(x, labels, taught)
        loss.backward()
        method.before_step(training)
        training.optimiser.step()
        method.after_step(training)
        if labels is None:
            assert taught is not None
            labels = taught.argmax(1)
        total += loss.detach() * len(labels)
        right += (outputs.detach().argmax(1) == labels.to(outputs.device)).sum()
        number += len(labels)
        bar.advance()
    mean = float(total) / number
    if not torch.isfinite(total):
        raise LearningError(f"the loss is {mean} in epoch {training.epoch}; choose a smaller learning rate")
    return mean, float(right) / number


def _restore(stored: Checkpoint, training: Training, method: Method, images: torch.Generator) -> None:
    """Restore the complete state at the end of a checkpoint's epoch."""
    try:
        network = unwrapped(training.model)  # it shares its parameters with the model
        network.load_state_dict(without_prefixes(stored.model, network.state_dict().keys()))
        training.optimiser.load_state_dict(dict(stored.optimiser))
    except (RuntimeError, ValueError) as error:
        raise LearningError("the checkpoint is of another model; choose another directory") from error
    method.restore(stored.method)
    restore_random_state(stored.random)
    images.set_state(stored.random["images"])


def _settings(data: Dataset, recipes: Sequence[Recipe], method: Method) -> dict[str, str]:
    """The settings of a training run, as text. The model is not included: its weights identify it."""
    settings = {"data": str(data), "method": "none", "phases": str(len(recipes))}
    for name in asdict(recipes[0]):
        values = [getattr(recipe, name) for recipe in recipes]
        settings[name] = str(values[0] if len(set(values)) == 1 else values)
    return {**settings, **method.settings()}


def _bar(data: Dataset, recipes: Sequence[Recipe], progress: ShowProgress) -> ProgressBar[None]:
    steps = sum(own.epochs * _num_steps(data, own) for own in recipes)
    return ProgressBar("train", total=steps, unit="step", progress=progress)


def _num_steps(data: Dataset, recipe: Recipe) -> int:
    return len(data.train_batches(recipe.batch_size, torch.Generator()))


def _require_mixed_precision(recipes: Sequence[Recipe], device: torch.device) -> None:
    wanted = any(own.mixed_precision for own in recipes)
    if wanted and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise LearningError("this GPU does not compute in bfloat16; leave out --mixed-precision")
