"""What `choose_windows` returns. Only the gate (`solvers.windows.gate`) makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from problems.showing.reprs import shown, shown_as
from problems.windows.decision import Windows
from problems.windows.problem import WindowProblem
from solvers.common.result import Status
from solvers.showing.cards import window_card


@shown
@dataclass(frozen=True)
class WindowProgress:
    """What is known while a method runs.

    Attributes
    ----------
    seconds
        Since the start.
    value
        Of the best word so far; None at first.
    bound
        No windows have a smaller value; None while nothing is known.
    """

    seconds: float
    value: float | None
    bound: float | None

    def __str__(self) -> str:
        best = "nothing yet" if self.value is None else f"best {self.value:.6g}"
        return best if self.bound is None else f"{best}, bound {self.bound:.6g}"


@shown_as(window_card)
@dataclass(frozen=True, eq=False)
class WindowResult:
    """Windows, with what is known about them.

    Attributes
    ----------
    problem
        The problem.
    word
        The accesses that are not pinned, each at its opening and its closing. A start for the next call.
    cells
        Per channel the number of its cell in the word, or -1: not stored.
    windows
        The order of the stored channels, and the range of every access.
    value
        Loss and prices, from `problems.windows.decision.evaluate_windows`.
    loss, price
        Its two parts.
    bound
        No windows have a smaller value, up to ``problem.tolerance``; None if none is known. At most `value`.
    gap
        ``(value - bound) / |value|``, 0 if they are equal; None without a bound.
    status
        `Status.OPTIMAL` if value and bound differ by at most ``problem.tolerance``.
    method
        The method that was asked for.
    seconds
        How long it took.
    stats
        Figures of the methods that ran.
    """

    problem: WindowProblem = field(repr=False)
    word: tuple[int, ...]
    cells: np.ndarray = field(repr=False)
    windows: Windows = field(repr=False)
    value: float
    loss: float
    price: float
    bound: float | None
    status: Status
    method: str
    seconds: float
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> np.ndarray:
        """The stored channels in order."""
        return self.windows.order

    @property
    def masks(self) -> np.ndarray:
        """The channels that each access holds: Boolean, shape (accesses, channels), by original channel."""
        return self.windows.masks(self.problem.num_channels)

    @property
    def gap(self) -> float | None:
        """How far the value may be from the best, as a share of it."""
        if self.bound is None:
            return None
        return 0.0 if self.bound == self.value else (self.value - self.bound) / max(abs(self.value), 1e-300)

    def __str__(self) -> str:
        bound = "no bound" if self.bound is None else f"bound {self.bound:.6g}, gap {self.gap:.2%}"
        return f"{self.method}: value {self.value:.6g} {self.status} ({bound}); {self.windows}"
