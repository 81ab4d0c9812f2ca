"""Training recipes: number of epochs, learning rate, and batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from upscale_opt.arguments.checks import a_flag, described, refused, settle_fields, whole
from upscale_opt.errors import LearningError

COSINE, CONSTANT = "cosine", "constant"


@dataclass(frozen=True)
class Recipe:
    """One run of stochastic gradient descent. It starts without momentum.

    Attributes
    ----------
    epochs
        Passes over the images.
    lr
        Highest learning rate.
    momentum, weight_decay
        Arguments of `torch.optim.SGD`. Weight decay applies to every parameter.
    batch_size
        Images per step.
    schedule
        ``cosine``: from `lr` to 0, along half a cosine. ``constant``: always `lr`.
    warmup
        Number of warm-up epochs at the start. In them, the rate grows linearly from 0 to the rate of the schedule.
    seed
        Seed of the order of the images and of everything else that is random.
    mixed_precision
        Run the model in bfloat16 where that is safe (`torch.autocast`). The weights keep their type.

    Raises
    ------
    LearningError
        If a value is invalid.

    Examples
    --------
    >>> [round(Recipe(epochs=4, lr=0.1, warmup=1).rate(epoch), 3) for epoch in (0, 0.5, 1, 2, 4)]
    [0.0, 0.048, 0.085, 0.05, 0.0]
    """

    epochs: int = 20
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    schedule: str = COSINE
    warmup: float = 0
    seed: int = 0
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            whole(least, LearningError)(value, name)
        for name in ("lr", "momentum", "weight_decay", "warmup"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise refused(value, name, "a number", LearningError)
        settle_fields(self, mixed_precision=a_flag)
        if not 0 < self.lr < math.inf:
            raise LearningError(f"the learning rate is {self.lr:g}; give a number above 0, such as 0.05")
        if not 0 <= self.momentum < 1:
            raise LearningError(f"the momentum is {self.momentum:g}; give a number in [0, 1), such as 0.9")
        for name in ("weight_decay", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LearningError(f"{name} is {getattr(self, name):g}; give a number of at least 0")
        if not isinstance(self.schedule, str) or self.schedule not in (COSINE, CONSTANT):
            raise LearningError(f"there is no schedule {described(self.schedule)}; choose {COSINE} or {CONSTANT}")

    def rate(self, epoch: float) -> float:
        """The learning rate after a number of epochs, which may be fractional."""
        share = (1 + math.cos(math.pi * min(1, epoch / self.epochs))) / 2 if self.schedule == COSINE else 1
        return self.lr * share * (min(1, epoch / self.warmup) if self.warmup else 1)
