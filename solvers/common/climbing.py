"""Iterated local search over anything that can improve itself part by part: descend, kick, descend, accept or go back.

Random restarts are not needed: a worse state is accepted now and then, and a long fruitless search returns to the best.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from solvers.common.clock import time_now

_WARMTH = 6e-3  # share: of the price that a worse state may cost more; by hand, warmer once more for spans
_FRUITLESS = 150  # kicks: in vain before the climber returns to the best state; by hand


class Climber(Protocol):
    """A state with a price and neighbourhoods, changed in place."""

    price: int

    @property
    def num_parts(self) -> int:
        """Number of neighbourhoods."""

    def improve(self, part: int) -> bool:
        """Make the best move of one neighbourhood if it lowers the price; says whether it does."""

    def kick(self, rng: np.random.Generator) -> None:
        """Make a few random moves."""

    def state(self) -> Any:
        """Whatever `restore` needs."""

    def restore(self, state: Any) -> None:
        """Return to an earlier state."""

    def sequence(self) -> np.ndarray:
        """The classes from left to right."""


def descend(climber: Climber, rng: np.random.Generator, deadline: float) -> None:
    """Improve part by part until none can be improved any more, or the deadline passes."""
    parts = rng.permutation(climber.num_parts).tolist()
    idle, k = 0, 0
    while idle < len(parts) and time_now() < deadline:
        if climber.improve(parts[k % len(parts)]):
            idle = 0
        else:
            idle += 1
            k += 1


class Acceptance:
    """Which states a search goes on from: better ones, slightly worse ones rarely, the best after a fruitless time.

    Parameters
    ----------
    price
        Of the first state.
    rng
        Random numbers.
    num_parts
        A state is made of so many parts, and steps change one at a time.
    warmth
        How much worse, as a share of the best price, a state may be that is accepted one time in three. Default 0.006.

    Attributes
    ----------
    current, best
        Prices of the present and of the best state.
    idle
        Steps since the best one improved.
    """

    def __init__(self, price: int, rng: np.random.Generator, *, num_parts: int = 1, warmth: float = _WARMTH) -> None:
        self.current = self.best = price
        self.idle = 0
        self._rng = rng
        self._warmth = warmth / num_parts

    def accepts(self, price: int) -> bool:
        """Decide on a state; it becomes the present one if accepted, and the best one if it is."""
        self.idle += 1
        worse = price - self.current
        if worse > 0 and self._rng.random() >= math.exp(-worse / (self._warmth * max(1, self.best))):
            return False
        self.current = price
        if price < self.best:
            self.best, self.idle = price, 0
        return True

    def returns(self) -> bool:
        """Whether it is time to go back to the best state, which is then the present one."""
        if self.idle == 0 or self.idle % _FRUITLESS:
            return False
        self.current = self.best
        return True
