"""BiP: learns masks and weights together, as the two levels of a bi-level problem (Zhang et al., NeurIPS 2022).

The upper level chooses the mask. The lower level chooses the weights for this mask:

    minimise over m    l(m * theta(m))    where    theta(m) = argmin over theta of l(m * theta) + gamma / 2 |theta|^2

Here, a mask entry belongs to one input channel of one weight. Pruned channels keep their gradient, so they may come
back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems.showing.progress import ShowProgress
from upscale_opt.arguments.checks import a_flag, above, an, settle_fields
from upscale_opt.arguments.entrance import DATASET, LEARNER, entrance
from upscale_opt.errors import LearningError
from upscale_opt.learning.columns import Columns, HeldColumns
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.learned import Learned
from upscale_opt.learning.loop import Training, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.models.running import device_of
from upscale_opt.tracing.trace import trace


@dataclass(frozen=True)
class Bip:
    """Settings for learning the mask.

    Attributes
    ----------
    gamma
        Weight of the lower level's regularisation. With a smaller gamma, the response of the weights to the mask counts
        more.
    lr, momentum
        Learning rate and momentum of the stochastic gradient descent on the scores.
    implicit
        Whether the upper gradient includes the implicit term. Without it, it is the gradient of the mask alone.
    frozen
        Share of the epochs, at the end, in which the mask is fixed. This is needed: if the mask changes until the end,
        accuracy is much lower.

    Raises
    ------
    LearningError
        If a value is invalid.
    """

    gamma: float = 1.0
    lr: float = 0.1
    momentum: float = 0.9
    implicit: bool = True
    frozen: float = 0.5

    def __post_init__(self) -> None:
        number = above(-math.inf, LearningError)
        settle_fields(self, gamma=number, lr=number, momentum=number, frozen=number, implicit=a_flag)
        for name, value in (("gamma", self.gamma), ("the learning rate of masks", self.lr)):
            if not 0 < value < math.inf:
                raise LearningError(f"{name} is {value:g}; give a number above 0")
        if not 0 <= self.momentum < 1:
            raise LearningError(f"the momentum of masks is {self.momentum:g}; give a number in [0, 1)")
        if not 0 <= self.frozen <= 1:
            raise LearningError(f"the share of epochs with a frozen mask is {self.frozen:g}; give one in [0, 1]")

    def num_learning(self, epochs: int) -> int:
        """Number of epochs in which the mask is learned. They are the first epochs."""
        return epochs - math.floor(self.frozen * epochs)


@dataclass(frozen=True)
class MaskEpoch:
    """Changes of the masks in an epoch that learned them.

    Attributes
    ----------
    epoch
        Index of the epoch.
    left, returned
        Number of dropped channels, and of channels that came back, summed over the steps.
    kept
        Weight name to the number of channels kept at the end.
    """

    epoch: int
    left: int
    returned: int
    kept: Mapping[str, int]


_SETTINGS = an("upscale_opt.learning.bip", "Bip", "a upscale_opt.learning.bip.Bip", LearningError)


@entrance(model=LEARNER, data=DATASET, settings=_SETTINGS)
def bip(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    target: Target | None = None,
    settings: Bip | None = None,
    *,
    finetuning: Recipe | None = None,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> Learned:
    """Prune a trained model by BiP, in place. It reaches the target number of channels from the first step.

    Every step has two parts. First the weights take a step on one batch. Then the scores of the channels take a step on
    another batch. A mask keeps the channels with the highest scores, exactly as many as the target says.

    Parameters
    ----------
    model
        A trained model, in eval mode.
    data, checkpoint, progress
        See `upscale_opt.learning.loop.fit`.
    recipe
        The recipe for weights and masks.
    target
        How many channels to drop: per layer, with other amounts for some layers, or over all layers. Default: half of
        every layer.
    settings
        Settings for learning the mask. Default: `Bip()`.
    finetuning
        A recipe for further training with fixed masks. Default: none.

    Returns
    -------
    Learned
        Its log has one `MaskEpoch` per epoch that learned masks.

    Raises
    ------
    MaskError
        If the target cannot be reached.
    LearningError
        In the same cases as `fit`.

    Notes
    -----
    An epoch that learns masks costs as much as two epochs. Source: Zhang et al., Advancing Model Pruning via Bi-level
    Optimization, NeurIPS 2022, in its structured form, for input channels. There are two differences to the released
    code. Scores and weights have separate optimisers and share no memory. The implicit term follows the formula of the
    paper.
    """
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device_of(model)))
    target, settings = target or Target(), settings or Bip()
    columns = Columns(model, graph, target.weights(graph))
    method = _LearntMasks(columns, target, settings, recipe.seed)
    recipes = [recipe] if finetuning is None else [recipe, finetuning]
    epochs = fit(model, data, recipes, method=method, checkpoint=checkpoint, progress=progress)
    return Learned(model, columns.masks, epochs, tuple(method.log))


def element_gradient(
    theta: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, *, gamma: float = 1.0, implicit: bool = True
) -> torch.Tensor:
    """The gradient of the upper level with respect to one mask entry per weight.

    Let z = m * theta and g = dl/dz, and assume that the loss is linear in z. Then the implicit function theorem gives d
    theta / dm = - diag(g) / gamma, and so

        dl/dm = (theta - m * g / gamma) * g.

    Parameters
    ----------
    theta, gradient, mask
        The weights, g, and the mask, all of the same shape.
    gamma
        Weight of the lower level's regularisation.
    implicit
        Whether to include the second term.
    """
    first = theta * gradient
    return first - mask * gradient.square() / gamma if implicit else first


def channel_gradient(
    theta: np.ndarray, squares: np.ndarray, mask: np.ndarray, *, gamma: float = 1.0, implicit: bool = True
) -> np.ndarray:
    """The gradient with respect to one mask entry per input channel: `element_gradient` summed over the column.

    Parameters
    ----------
    theta
        Sums of theta * g over the columns, shape (channels,).
    squares
        Sums of g^2 over the columns, shape (channels,).
    mask
        bool, shape (channels,).
    gamma, implicit
        As for `element_gradient`.
    """
    return theta - mask * squares / gamma if implicit else theta


class _LearntMasks(HeldColumns):
    """BiP's hooks. After every step on the weights, they do one step on the scores.

    The model always holds m * theta. The dropped columns of theta are stored separately. When such a column returns, it
    has its old weights. Stored columns have no weight decay and no momentum.
    """

    def __init__(self, columns: Columns, target: Target, bip: Bip, seed: int) -> None:
        super().__init__(columns)
        self.target, self.bip, self.seed = target, bip, seed
        self.scores = {name: torch.zeros(columns.size(name), dtype=torch.float64) for name in columns.weights}
        self.optimiser = torch.optim.SGD(self.scores.values(), bip.lr, momentum=bip.momentum)
        self.aside = {name: torch.zeros_like(weight) for name, weight in columns.weights.items()}
        self.log: list[MaskEpoch] = []
        self._images = torch.Generator().manual_seed(2**32 + seed)
        self._batches: Iterator[Any] | None = None
        self._left = self._returned = 0

    def begin(self, training: Training) -> None:
        """Initialise the scores: the norms of the columns, relative to the largest norm of the layer."""
        if training.phase > 0:
            return
        for name, norms in self.columns.norms().items():
            self.scores[name].copy_(torch.from_numpy(norms / (norms.max() or 1)))
        self._apply(self.target.masks(self.columns.graph, self._numbers()))
        self._left = self._returned = 0

    def after_step(self, training: Training) -> None:
        """Do one step on the scores, on a separate batch, and set new masks."""
        super().after_step(training)
        if training.phase > 0 or training.epoch >= self.bip.num_learning(training.recipe.epochs):
            return
        names = list(self.columns.weights)
        loss, _ = training.loss(*self._next_batch(training))
        gradients = torch.autograd.grad(loss, [self.columns.weights[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            theta = self.columns.weights[name].detach() + self.aside[name]
            upper = channel_gradient(
                self.columns.sums(name, theta * gradient),
                self.columns.sums(name, gradient.square()),
                self.columns.masks[name],
                gamma=self.bip.gamma,
                implicit=self.bip.implicit,
            )
            self.scores[name].grad = torch.from_numpy(upper)
        self.optimiser.step()
        self._apply(self.target.masks(self.columns.graph, self._numbers()))
        self.columns.hold(training.optimiser)

    def after_epoch(self, training: Training) -> None:
        """Log the changes of the masks."""
        self._batches = None
        if training.phase == 0 and training.epoch < self.bip.num_learning(training.recipe.epochs):
            kept = {name: int(mask.sum()) for name, mask in self.columns.masks.items()}
            self.log.append(MaskEpoch(training.epoch, self._left, self._returned, kept))
        self._left = self._returned = 0

    def settings(self) -> dict[str, str]:
        """The target and the settings."""
        own = {f"mask {name}": str(value) for name, value in asdict(self.bip).items()}
        return {**super().settings(), "method": "bip", "target": str(self.target), **own}

    def state(self) -> dict[str, Any]:
        """The masks, the scores with their momentum, the stored columns, and the order of the images."""
        return {
            **super().state(),
            "scores": self.scores,
            "optimiser": self.optimiser.state_dict(),
            "aside": self.aside,
            "images": self._images.get_state(),
            "log": [asdict(own) for own in self.log],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        super().restore(state)
        for own, stored in ((self.scores, state["scores"]), (self.aside, state["aside"])):
            for name, tensor in own.items():
                tensor.copy_(stored[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self._images.set_state(state["images"])
        self.log = [MaskEpoch(**own) for own in state["log"]]

    def _numbers(self) -> dict[str, np.ndarray]:
        return {name: score.numpy() for name, score in self.scores.items()}

    def _next_batch(self, training: Training) -> Any:
        if self._batches is None:
            self._batches = iter(training.data.train_batches(training.recipe.batch_size, self._images))
        return next(self._batches)

    def _apply(self, masks: Mapping[str, np.ndarray]) -> None:
        """Set new masks. Store the columns that they drop, and restore the columns that they keep again."""
        before = self.columns.masks
        changed = {name: mask for name, mask in masks.items() if not np.array_equal(mask, before[name])}
        self._left += sum(int((before[name] & ~mask).sum()) for name, mask in changed.items())
        self._returned += sum(int((~before[name] & mask).sum()) for name, mask in changed.items())
        with torch.no_grad():
            thetas = {name: self.columns.weights[name] + self.aside[name] for name in changed}
            self.columns.set(changed)
            for name, theta in thetas.items():
                kept = self.columns.entries(name, changed[name])
                self.columns.weights[name].copy_(theta.where(kept, 0))
                self.aside[name].copy_(theta.where(~kept, 0))
