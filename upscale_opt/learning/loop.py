"""The training loop: every method and every fine-tuning runs through `fit`.

A training is a sequence of phases, each a `Recipe` with an optimiser, a schedule and a seed of its own. What a method
does beside plain training is in the hooks of a `Method`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

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
from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.evaluation import Accuracy, accuracy
from upscale_opt.learning.recipes import Recipe
from upscale_opt.models.running import device_of
from upscale_opt.models.wrappers import unwrapped, without_prefixes


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes
    ----------
    phase, epoch
        Index of the recipe, and of the epoch in it; both from 0 on.
    loss, top1
        Means over the training images, while the weights changed.
    test
        Accuracy on the images to test on, after the epoch.
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
    """One phase of a training, as the hooks of a method see it.

    Attributes
    ----------
    model, data, recipe, optimiser
        What is trained, on what, and how.
    phase, epoch
        Where it is: index of the recipe, and of the epoch in it.
    """

    model: nn.Module
    data: Dataset
    recipe: Recipe
    optimiser: torch.optim.Optimizer
    phase: int
    epoch: int = 0

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy of a batch, and the model's outputs for it."""
        device = device_of(self.model)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.mixed_precision):
            outputs = self.model(images.to(device))
            outputs = getattr(outputs, "logits", outputs)  # those that have auxiliary heads in training
            return functional.cross_entropy(outputs, labels.to(device)), outputs


class Method:
    """What a method does beside plain training, at the places where it may; by default nothing."""

    def begin(self, training: Training) -> None:
        """Before the first epoch of a phase; not when it is resumed."""

    def before_step(self, training: Training) -> None:
        """Before each step of the optimiser, when the gradients are there."""

    def after_step(self, training: Training) -> None:
        """After each step of the optimiser."""

    def after_epoch(self, training: Training) -> None:
        """After each epoch, before the model is tested."""

    def end(self, training: Training) -> None:
        """After the last epoch of a phase has been tested."""

    def settings(self) -> Mapping[str, str]:
        """What was asked for; a training is resumed only with the same."""
        return {}

    def state(self) -> dict[str, Any]:
        """What it remembers, as tensors and plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned. The model has its weights already."""


@entrance(model=RUNNABLE, data=DATASET)
def fit(
    model: nn.Module,
    data: Dataset,
    recipes: Sequence[Recipe],
    *,
    method: Method | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> tuple[Epoch, ...]:
    """Train a model, in place; it is in eval mode afterwards.

    On one machine, with one number of threads, the same arguments lead to the same weights, bit for bit (on CUDA as
    far as its kernels allow), however often the training was stopped and resumed. The global random generators are as
    before afterwards.

    Parameters
    ----------
    model
        Maps images to outputs of shape (images, classes); an original or an export. Stays on its device.
    data
        Images to learn from and to test on.
    recipes
        The phases, one after the other. Each starts with a fresh optimiser and its own seed.
    method
        Its hooks. Default: plain training.
    checkpoint
        A file that is written after every epoch. If it exists, the training goes on from there; killed or interrupted
        at any moment, it loses one epoch at most. Default: none.
    progress
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    tuple
        One `Epoch` for every epoch, resumed ones included.

    Raises
    ------
    LearningError
        If data and model do not fit, the checkpoint is of another training, or the loss is no longer finite.
    """
    method = method or Method()
    data.require_fitting(model)
    _require_mixed_precision(recipes, device_of(model))
    settings = _settings(data, recipes, method)
    stored = read_checkpoint(checkpoint) if checkpoint is not None and Path(checkpoint).exists() else None
    log: list[Epoch] = []
    with own_random_state(), _bar(data, recipes, progress) as bar:
        if stored is not None:
            assert checkpoint is not None
            require_same(stored.settings, settings, Path(checkpoint).parent)
            log += [Epoch(**{**own, "test": Accuracy(**own["test"])}) for own in stored.log]
            bar.update(sum(_num_steps(data, recipes[own.phase]) for own in log))
        for phase in range(stored.phase if stored is not None else 0, len(recipes)):
            recipe = recipes[phase]
            seed_everything(recipe.seed)
            images = torch.Generator().manual_seed(recipe.seed)
            optimiser = torch.optim.SGD(
                model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
            training = Training(model, data, recipe, optimiser, phase)
            if stored is not None and phase == stored.phase:
                _restore(stored, training, method, images)
                training.epoch = stored.epoch
            else:
                method.begin(training)
            for epoch in range(training.epoch, recipe.epochs):
                training.epoch = epoch
                loss, top1 = _epoch(training, method, images, bar)
                method.after_epoch(training)
                test = accuracy(model, data.test_batches())
                log.append(Epoch(phase, epoch, loss, top1, test))
                bar.set_postfix(loss=f"{loss:.3f}", top1=f"{100 * test.top1:.1f}")
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


def _epoch(training: Training, method: Method, images: torch.Generator, bar: Any) -> tuple[float, float]:
    """One pass over the images; mean loss and top-1."""
    batches = training.data.train_batches(training.recipe.batch_size, images)
    total = torch.zeros((), dtype=torch.float64, device=device_of(training.model))
    right = torch.zeros_like(total)
    number = 0
    training.model.train()
    for step, (x, labels) in enumerate(batches):
        rate = training.recipe.rate(training.epoch + step / len(batches))
        for group in training.optimiser.param_groups:
            group["lr"] = rate
        training.optimiser.zero_grad()
        loss, outputs = training.loss(x, labels)
        loss.backward()
        method.before_step(training)
        training.optimiser.step()
        method.after_step(training)
        total += loss.detach() * len(labels)
        right += (outputs.detach().argmax(1) == labels.to(outputs.device)).sum()
        number += len(labels)
        bar.update()
    mean = float(total) / number
    if not torch.isfinite(total):
        raise LearningError(f"the loss is {mean} in epoch {training.epoch}; choose a smaller learning rate")
    return mean, float(right) / number


def _restore(stored: Checkpoint, training: Training, method: Method, images: torch.Generator) -> None:
    """Put everything into the state at the end of the epoch that a checkpoint is of."""
    try:
        network = unwrapped(training.model)  # its parameters are the model's own
        network.load_state_dict(without_prefixes(stored.model, network.state_dict().keys()))
        training.optimiser.load_state_dict(dict(stored.optimiser))
    except (RuntimeError, ValueError) as error:
        raise LearningError("the checkpoint is of another model; choose another directory") from error
    method.restore(stored.method)
    restore_random_state(stored.random)
    images.set_state(stored.random["images"])


def _settings(data: Dataset, recipes: Sequence[Recipe], method: Method) -> dict[str, str]:
    """What a training is asked for, as text; the model is known by its weights."""
    settings = {"data": str(data), "method": "none", "phases": str(len(recipes))}
    for name in asdict(recipes[0]):
        values = [getattr(recipe, name) for recipe in recipes]
        settings[name] = str(values[0] if len(set(values)) == 1 else values)
    return {**settings, **method.settings()}


def _bar(data: Dataset, recipes: Sequence[Recipe], progress: bool) -> Any:
    steps = sum(own.epochs * _num_steps(data, own) for own in recipes)
    return tqdm(total=steps, desc="train", unit="step", disable=None if progress else True, leave=False)


def _num_steps(data: Dataset, recipe: Recipe) -> int:
    return len(data.train_batches(recipe.batch_size, torch.Generator()))


def _require_mixed_precision(recipes: Sequence[Recipe], device: torch.device) -> None:
    wanted = any(own.mixed_precision for own in recipes)
    if wanted and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise LearningError("this GPU does not compute in bfloat16; leave out --mixed-precision")
