"""A bound on the cost of one block, whatever its rows share: a path through the states of the rows, classes priced.

From left to right every row is unopened, open, closed. A class must lie at a state of the path at which all its rows
are open; a multiplier pays for every time it does, as in facility location (Geoffrion, "Lagrangean relaxation for
integer programming", Math. Programming Study 2, 1974). States no better order can pass are left out on the way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.climbing import descend
from solvers.common.errors import SolverError
from solvers.common.row_parts import row_parts
from solvers.spans.bounds.state_graph import MAX_STATES, event_states
from solvers.spans.bounds.state_paths import StatePaths
from solvers.spans.heuristics.event_moves import EventOrder
from solvers.spans.heuristics.seriation import spectral_sequences

_LARGEST_EXACT = 2**52  # value: up to which sums are exact in float64, with a bit to spare
_FINEST = 2**10  # parts: of a unit of cost that multipliers distinguish; by hand
_ROUNDS = 400  # rounds: of the subgradient search; by hand
_FIRST_STEP = 1.0  # factor: of the first step (Polyak's 1)
_SMALLEST_STEP = 1e-3  # factor: of a step, below which nothing changes any more; by hand
_FRUITLESS = 12  # rounds: in vain before the step is halved; by hand
_MEMORY = 0.85  # share: of the old direction in the new one; by hand
_WORTHWHILE = 0.9  # share: of states left after fixing, below which the graph is made anew; by hand


@dataclass(frozen=True, eq=False)
class StateBound:
    """What the relaxation proves about a block.

    Attributes
    ----------
    bound
        No sequence costs less.
    cost, sequence
        A good sequence of the classes, int of shape (num_classes,), and its cost.
    multipliers
        float64, shape (num_classes,): what it is worth, per unit of width, that a class has a place.
    """

    bound: int
    cost: int
    sequence: np.ndarray
    multipliers: np.ndarray

    @property
    def optimal(self) -> bool:
        """Whether the sequence is proven to be a cheapest one."""
        return self.bound >= self.cost


def state_relaxation(
    weight: np.ndarray,
    bits: np.ndarray,
    slope: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    *,
    deadline: float = np.inf,
    rounds: int = _ROUNDS,
    max_states: int = MAX_STATES,
) -> StateBound:
    """Bound the least cost of a block's sequences.

    Parameters
    ----------
    weight
        int, shape (num_classes,): widths.
    bits
        bool, shape (num_classes, num_rows): which rows meet each class.
    slope
        int, shape (num_rows,), not negative: what a row pays per unit of covered width.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.
    deadline
        A `time.perf_counter` reading; the bound so far is returned when it passes.
    rounds
        Most steps on the multipliers, for each part of the block that is independent of the rest.
    max_states
        Most states that are listed.

    Raises
    ------
    SolverError
        If the costs do not fit the arithmetic, or the rows can be in too many states.

    Examples
    --------
    >>> bits = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> found = state_relaxation(np.array([1, 2, 3, 1]), bits, np.ones(3, dtype=int), free, free)
    >>> found.bound, found.cost, found.optimal
    (12, 12, True)
    """
    bound = cost = 0
    sequence: list[np.ndarray] = []
    multipliers = np.zeros(len(weight))
    for part in row_parts(bits, slope, left, right):
        own, classes = part.rows, part.classes
        if len(own) == 0:
            sequence.append(classes)
            continue
        rows = BlockRows(weight[classes], bits[np.ix_(classes, own)], slope[own], left[own], right[own])
        relaxed = _Relaxation(rows, max_states)
        relaxed.solve(rounds, deadline)
        # A bound leaves out sequences no better than the one known, which therefore bounds it as well.
        bound, cost = bound + min(relaxed.bound, relaxed.cost), cost + relaxed.cost
        sequence.append(classes[relaxed.sequence])
        multipliers[classes] = relaxed.multipliers
    return StateBound(bound, cost, np.concatenate(sequence), multipliers)


class _Relaxation:
    """One part of a block. All amounts are whole numbers, in `scale`ths of the cost, and exact in float64.

    Attributes
    ----------
    bound
        No sequence costs less, unless it costs at least `cost`.
    cost, sequence
        The best sequence so far.
    """

    def __init__(self, rows: BlockRows, max_states: int) -> None:
        self._rows = rows
        most = int(rows.weight.sum()) * max(1, int(rows.slope.sum())) * (2 * rows.num_rows + 2)
        if most > _LARGEST_EXACT:
            raise SolverError("state relaxation: costs above 2**52 are not exact; scale channel_size or alpha down")
        self._scale = min(_FINEST, _LARGEST_EXACT // most)
        states = event_states(rows.bits, rows.left, rows.right, max_states=max_states)
        self._paths = StatePaths(rows, states, self._scale)
        self._least = rows.weight * (rows.bits @ rows.slope) * self._scale
        self._most = rows.weight * int(rows.slope.sum()) * self._scale
        self.bound = int((self._least // self._scale).sum())
        self.cost, self.sequence = 2**62, np.arange(len(rows.weight))
        self._best = self._least.astype(np.float64)
        self._start()

    @property
    def multipliers(self) -> np.ndarray:
        """The best multipliers, in units of the slope."""
        return self._best / (self._scale * self._rows.weight)

    def solve(self, rounds: int, deadline: float) -> None:
        """Subgradient steps towards the best multipliers (Polyak's length, the direction averaged)."""
        price, direction = self._best, np.zeros(len(self._best))
        step, fruitless, best = _FIRST_STEP, 0, -np.inf
        for _ in range(rounds):
            if self.bound >= self.cost or step < _SMALLEST_STEP or time.perf_counter() >= deadline:
                return
            path = self._paths.best(price)
            value = float(price.sum()) - path.gain
            self._offer(path.states)
            fruitless += 1
            if value > best:
                self.bound = max(self.bound, -int(-value // self._scale))
                best, self._best, fruitless = value, price, 0
            elif fruitless >= _FRUITLESS:
                step, fruitless, price, direction = step / 2, 0, self._best, direction * 0
                if not self._leave_out():
                    return
                continue
            direction = _MEMORY * direction + (1 - _MEMORY) * (1.0 - path.placed)
            norm = float((direction * direction * self._rows.weight).sum())
            if norm == 0:
                return
            length = step * max(self.cost * self._scale - value, self._scale) / norm
            price = np.rint(np.clip(price + length * direction * self._rows.weight, self._least, self._most))

    def _start(self) -> None:
        """A good sequence, and the multipliers that its classes pay."""
        rng = np.random.default_rng(0)
        everything = np.arange(len(self._rows.weight))
        for sequence in [everything, *spectral_sequences(self._rows)]:
            order = EventOrder.of_sequence(self._rows, sequence)
            descend(order, rng, np.inf)
            self._take(order.sequence())
        kept = self._rows.bits[self.sequence]
        opened = np.logical_or.accumulate(kept, axis=0) | self._rows.left
        unclosed = np.logical_or.accumulate(kept[::-1], axis=0)[::-1] | self._rows.right
        self._best[self.sequence] = (opened & unclosed) @ self._rows.slope
        self._best *= self._rows.weight * self._scale

    def _offer(self, path: np.ndarray) -> None:
        """Put every class at the cheapest state of a path, and remember the sequence if it is a better one."""
        open_rows = self._paths.states.open_rows[path]
        is_open = (open_rows[:, np.newaxis] >> np.arange(self._rows.num_rows) & 1).astype(bool)
        price = np.where((self._rows.bits[:, np.newaxis] & ~is_open).any(axis=2), np.inf, is_open @ self._rows.slope)
        self._take(np.argsort(price.argmin(axis=1), kind="stable"))

    def _take(self, sequence: np.ndarray) -> None:
        cost = self._rows.cost(sequence)
        if cost < self.cost:
            self.cost, self.sequence = cost, sequence

    def _leave_out(self) -> bool:
        """Forget the states that only orders at least as dear as the best one pass; False if all are forgotten."""
        self._paths.best(self._best)
        least = self._best.sum() - self._paths.through(self._best)
        kept = least <= (self.cost - 1) * self._scale
        if not (kept[0] and kept[-1]):
            self.bound = self.cost
            return False
        if np.count_nonzero(kept) < _WORTHWHILE * len(kept):
            self._paths = StatePaths(self._rows, self._paths.states.only(kept), self._scale)
        return True
