"""Paths through the states of a block's rows on which classes gain something: the subproblem of the state relaxation.

All rows of a class are open on a stretch of a path. Every event changes the slope of the open rows. The leftmost
cheapest state of the stretch is its first one, entered by the opening of a row of the class; or its last one, left by
the closing of one; or one that is dearer on both sides: a valley, entered by a closing and left by an opening. So
nothing is lost if a class gains only at the first and the last state of its stretch and in valleys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.spans.bounds.state_graph import EventStates


@dataclass(frozen=True, eq=False)
class _Steps:
    """The events of one kind that lead to the states of a level: arrays of shape (most events, states of the level).

    `tail` is the state before (the number of states if there is none), `gain` the index of the step's gain.
    """

    tail: np.ndarray
    gain: np.ndarray


@dataclass(frozen=True, eq=False)
class BestPath:
    """A path with the largest gain.

    Attributes
    ----------
    gain
        The gain.
    states
        int: its states, the first one first.
    placed
        float64, shape (num_classes,): how often each class gains something on it.
    """

    gain: float
    states: np.ndarray
    placed: np.ndarray


class StatePaths:
    """The best path for given prices of the classes, and what passing a given state costs.

    Amounts are float64 and exact as long as they are whole numbers below 2**53.

    Parameters
    ----------
    rows
        The block.
    states
        The states of its rows, in levels; from the first to the last one there is a path.
    unit
        What one unit of slope counts.
    """

    def __init__(self, rows: BlockRows, states: EventStates, unit: int) -> None:
        self._rows, self.states = rows, states
        self._list_places(unit)
        self._list_steps()

    def best(self, price: np.ndarray) -> BestPath:
        """The best path if every class pays its price, float64 of shape (num_classes,), for each place it takes.

        A place costs weight times the slope of the open rows there.
        """
        gain = self._gains(price)
        self._forward(gain)
        path, by_closing = self._walk(gain)
        cells = self._cells_of(path, by_closing)
        visits = np.bincount(cells, minlength=len(gain))
        taken = visits[self._place_cell] * (price[self._place_class] > self._place_cost)
        return BestPath(float(self._ends(gain).max()), path, np.bincount(self._place_class, taken, len(price)))

    def through(self, price: np.ndarray) -> np.ndarray:
        """Largest gain on a path through each state; call `best` with the same prices first."""
        gain = self._gains(price)
        num = len(self.states)
        behind = np.full((2, num + 1), -np.inf)
        behind[:, num - 1] = 0.0, gain[self._valley[num - 1]]
        for k in range(self.states.num_levels - 1, 0, -1):
            opened, closed = behind[:, self.states.level(k)]
            steps = self._opening[k]
            value = opened + gain[steps.gain]
            np.maximum.at(behind[0], steps.tail, value)
            np.maximum.at(behind[1], steps.tail, value + gain[self._valley[steps.tail]])
            steps = self._closing[k]
            value = closed + gain[steps.gain]
            np.maximum.at(behind[0], steps.tail, value)
            np.maximum.at(behind[1], steps.tail, value)
        whole: np.ndarray = (self._value + behind)[:, :-1].max(axis=0)
        return whole

    def _list_places(self, unit: int) -> None:
        """Cells and places. A cell is a set of open rows with one of them, which opens or closes, or with none.

        In the first kind lie the classes that keep that row, in the second all; a place is a cell and a class in it.
        """
        rows, states = self._rows, self.states
        num_rows = rows.num_rows
        open_rows, self._set_of_state = np.unique(states.open_rows, return_inverse=True)
        inside = (open_rows[:, np.newaxis] >> np.arange(num_rows) & 1).astype(np.int64)
        slope = inside @ rows.slope * unit
        lies = (1 - inside).astype(np.float32) @ rows.bits.T.astype(np.float32) == 0
        where, which = np.nonzero(lies)
        all_cells = where * (num_rows + 1) + num_rows
        pair, row = np.nonzero(rows.bits[which])
        self._place_cell = np.concatenate([all_cells, where[pair] * (num_rows + 1) + row])
        self._place_class = np.concatenate([which, which[pair]])
        cost = (slope[where] * rows.weight[which]).astype(np.float64)
        self._place_cost = np.concatenate([cost, cost[pair]])
        self._num_cells = len(open_rows) * (num_rows + 1) + 1
        self._valley = np.append(self._set_of_state * (num_rows + 1) + num_rows, self._num_cells - 1)

    def _list_steps(self) -> None:
        states, num_rows = self.states, self._rows.num_rows
        opened, closed = np.append(states.opened, 0), np.append(states.closed, 0)
        set_of_state = np.append(self._set_of_state, 0)
        self._opening: list[_Steps] = [_Steps(np.zeros((0, 1), dtype=int), np.zeros((0, 1), dtype=int))]
        self._closing = list(self._opening)
        for k in range(1, states.num_levels):
            tail, head = states.before[k], np.arange(states.bounds[k], states.bounds[k + 1])
            opening = np.where(tail < len(states), opened[head] & ~opened[tail], 0)
            closing = np.where((tail < len(states)) & (opening == 0), closed[head] & ~closed[tail], 0)
            for event, steps, where in ((opening, self._opening, head), (closing, self._closing, tail)):
                row = np.log2(np.maximum(event, 1)).astype(np.int64)
                cell = set_of_state[np.broadcast_to(where, tail.shape)] * (num_rows + 1) + row
                steps.append(_Steps(np.where(event > 0, tail, len(states)), np.where(event > 0, cell, 0)))

    def _gains(self, price: np.ndarray) -> np.ndarray:
        """What the classes gain in each cell."""
        gain = np.maximum(price[self._place_class] - self._place_cost, 0.0)
        by_cell: np.ndarray = np.bincount(self._place_cell, gain, self._num_cells)
        return by_cell

    def _forward(self, gain: np.ndarray) -> None:
        """Largest gain up to each state if it is entered by an opening (row 0) or by a closing (row 1).

        The first state counts as entered by a closing, the last one as left by an opening.
        """
        num = len(self.states)
        value = self._value = np.full((2, num + 1), -np.inf)
        value[1, 0] = 0.0
        for k in range(1, self.states.num_levels):
            here = self.states.level(k)
            steps = self._opening[k]
            entered = np.maximum(value[0, steps.tail], value[1, steps.tail] + gain[self._valley[steps.tail]])
            value[0, here] = (entered + gain[steps.gain]).max(axis=0, initial=-np.inf)
            steps = self._closing[k]
            value[1, here] = (value[:, steps.tail].max(axis=0) + gain[steps.gain]).max(axis=0, initial=-np.inf)

    def _ends(self, gain: np.ndarray) -> np.ndarray:
        """Largest gain of a path whose last state is entered by an opening, by a closing."""
        num = len(self.states)
        return self._value[:, num - 1] + np.array([0.0, gain[self._valley[num - 1]]])

    def _walk(self, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states of a best path, and whether each is entered by a closing."""
        value, states = self._value, self.states
        state = len(states) - 1
        by_closing = bool(self._ends(gain).argmax())
        path, kinds = [state], [by_closing]
        for k in range(states.num_levels - 1, 0, -1):
            steps, column = (self._closing if by_closing else self._opening)[k], path[-1] - int(states.bounds[k])
            tail, own = steps.tail[:, column], gain[steps.gain[:, column]]
            valley = 0.0 if by_closing else gain[self._valley[tail]]
            options = np.stack([value[0, tail], value[1, tail] + valley]) + own
            kind, i = np.unravel_index(int(options.argmax()), options.shape)
            by_closing = bool(kind)
            path.append(int(tail[i]))
            kinds.append(by_closing)
        return np.array(path[::-1]), np.array(kinds[::-1])

    def _cells_of(self, path: np.ndarray, by_closing: np.ndarray) -> np.ndarray:
        """The cells in which classes gain on a path."""
        states, num_rows = self.states, self._rows.num_rows
        before, after = path[:-1], path[1:]
        opening = states.opened[after] & ~states.opened[before]
        event = opening | (states.closed[after] & ~states.closed[before])
        where = np.where(opening > 0, self._set_of_state[after], self._set_of_state[before])
        steps = where * (num_rows + 1) + np.log2(np.maximum(event, 1)).astype(np.int64)
        valleys = self._valley[path[by_closing & np.append(opening > 0, True)]]
        return np.concatenate([steps, valleys])
