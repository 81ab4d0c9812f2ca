"""Decisions of the window problem: an order of the stored channels, and a contiguous range per access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from problems.conversions import of_kind, whole_numbers
from problems.errors import ProblemError
from problems.showing.reprs import shown
from problems.windows.problem import WindowProblem


@shown
@dataclass(frozen=True, eq=False)
class Windows:
    """The stored channels in their order, and per access the range of positions that it holds.

    Parameters
    ----------
    order
        The stored channels, each once: ``order[k]`` is the channel at position k.
    starts, stops
        Shape (accesses,): access a holds the positions ``starts[a]`` to ``stops[a] - 1``. Equal: it holds nothing.

    Raises
    ------
    ProblemError
        If a channel is stored twice, or a range does not lie within the positions.

    Examples
    --------
    >>> windows = Windows([2, 0, 3], [0, 1], [2, 3])
    >>> windows.masks(4).astype(int).tolist()
    [[1, 0, 1, 0], [1, 0, 0, 1]]
    """

    order: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    def __init__(self, order: Any, starts: Any, stops: Any) -> None:
        for field, given in (("order", order), ("starts", starts), ("stops", stops)):
            array = whole_numbers(given, f"the windows: {field}")
            if array.ndim != 1:
                raise ProblemError(f"the windows: {field} has {array.ndim} dimensions; give a list of numbers")
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        if len(self.starts) != len(self.stops):
            raise ProblemError(f"there are {len(self.starts)} starts and {len(self.stops)} stops; give one per access")
        if len(np.unique(self.order)) < len(self.order):
            raise ProblemError("the order of the windows stores a channel twice; list each once")
        inside = (self.starts >= 0) & (self.starts <= self.stops) & (self.stops <= len(self.order))
        if not inside.all():
            raise ProblemError(
                f"window {int(np.argmin(inside))} does not lie within the {len(self.order)} stored channels; give "
                "0 <= start <= stop"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Windows):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("order", "starts", "stops"))

    def __hash__(self) -> int:
        return hash((self.order.tobytes(), self.starts.tobytes(), self.stops.tobytes()))

    @property
    def widths(self) -> np.ndarray:
        """Per access the number of channels that it holds."""
        return self.stops - self.starts

    def masks(self, num_channels: int) -> np.ndarray:
        """The channels that each access holds: Boolean, shape (accesses, num_channels), by original channel."""
        place = np.arange(len(self.order))
        held = np.zeros((len(self.starts), num_channels), dtype=bool)
        held[:, self.order] = (place >= self.starts[:, np.newaxis]) & (place < self.stops[:, np.newaxis])
        return held

    def require_valid(self, problem: WindowProblem) -> None:
        """Raise `ProblemError` unless the windows fit a problem and keep its pinned accesses and full channels."""
        of_kind(problem, WindowProblem, "the problem")
        if len(self.starts) != problem.num_accesses:
            raise ProblemError(f"there are {len(self.starts)} windows for {problem.num_accesses} accesses; one each")
        if len(self.order) and not (self.order.min() >= 0 and self.order.max() < problem.num_channels):
            raise ProblemError(f"the windows store channels outside 0 to {problem.num_channels - 1}; correct the order")
        narrow = problem.pinned & (self.widths < len(self.order))
        if narrow.any():
            name = problem.accesses[int(np.argmax(narrow))].name
            raise ProblemError(f"access {name!r} is pinned; its window must hold every stored channel")
        if not self.masks(problem.num_channels)[:, problem.full].all():
            raise ProblemError("some access does not hold a channel that is marked as full; every access must hold it")

    def __str__(self) -> str:
        ranges = " ".join(f"{start}:{stop}" for start, stop in zip(self.starts.tolist(), self.stops.tolist()))
        return f"{len(self.order)} channels stored, windows {ranges}"


@shown
@dataclass(frozen=True)
class WindowTotals:
    """What windows cost.

    Attributes
    ----------
    loss
        The losses of all channels.
    price
        The prices of all channels that are held.
    value
        Their sum, which is minimised.
    """

    loss: float
    price: float

    @property
    def value(self) -> float:
        """Loss and price together."""
        return self.loss + self.price


def evaluate_windows(problem: WindowProblem, windows: Windows) -> WindowTotals:
    """Loss and price of windows: the definition of the objective.

    Parameters
    ----------
    problem
        The problem.
    windows
        The decision.

    Raises
    ------
    ProblemError
        If the windows do not fit the problem.

    Examples
    --------
    >>> from problems.windows.losses import ChannelLosses
    >>> from problems.windows.problem import StreamAccess
    >>> accesses = [StreamAccess("in", "writer"), StreamAccess("a", "reader"), StreamAccess("b", "reader")]
    >>> problem = WindowProblem(accesses, ChannelLosses([[4.0, 1.0], [0.0, 0.0], [0.0, 9.0]]), [1.0, 1.0, 1.0])
    >>> evaluate_windows(problem, Windows([0, 1], [0, 0, 1], [2, 1, 2]))
    WindowTotals(loss=1.0, price=4.0)
    """
    of_kind(windows, Windows, "the windows").require_valid(problem)
    held = windows.masks(problem.num_channels)
    cells, of_channel = np.unique(held.T, axis=0, return_inverse=True)
    losses = problem.losses.of_cut(problem.cut(cells))[of_channel, np.arange(problem.num_channels)]
    return WindowTotals(float(losses.sum()), float(problem.channel_prices[held].sum()))
