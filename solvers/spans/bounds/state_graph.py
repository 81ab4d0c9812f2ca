"""What a sweep over one block can meet: the states its rows can be in, and the events that lead from one to the next.

From left to right every row is unopened, open, closed. Rows that share a class are open at one time, so none of them
closes before the other opens: that forbids most of the 3^n states. An order of the block is a path through the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solvers.common.errors import SolverError

MAX_STATES = 600_000
"""states: that are listed: all of 12 rows that share nothing, or 18 rows of which every two share a class"""

_MAX_ROWS = 30  # rows: two bits each in an int64


@dataclass(frozen=True, eq=False)
class EventStates:
    """States by level, the number of events before them; one event leads to the next level.

    Attributes
    ----------
    num_rows
        Number of rows.
    opened, closed
        int64, shape (num_states,): bit masks of the rows that were opened (closed ones included) and closed.
    bounds
        int64, shape (num_levels + 1,): the states of level k are ``bounds[k]`` to ``bounds[k + 1] - 1``.
    before
        Per level an int array of shape (at most num_rows, states of the level): the states one event before,
        ``num_states`` where there are fewer.
    """

    num_rows: int
    opened: np.ndarray
    closed: np.ndarray
    bounds: np.ndarray
    before: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.opened)

    @property
    def num_levels(self) -> int:
        """Number of levels: one more than there are events."""
        return len(self.before)

    @cached_property
    def open_rows(self) -> np.ndarray:
        """Bit masks of the rows that are open; int64, shape (num_states,)."""
        open_rows: np.ndarray = self.opened & ~self.closed
        return open_rows

    def level(self, k: int) -> slice:
        """The states of a level."""
        return slice(int(self.bounds[k]), int(self.bounds[k + 1]))

    def only(self, kept: np.ndarray) -> EventStates:
        """The same without some states; kept is bool, shape (num_states,), and leaves a path."""
        new = np.append(np.cumsum(kept) - 1, np.count_nonzero(kept))
        new[:-1][~kept] = new[-1]
        before = []
        for k, old in enumerate(self.before):
            rest = new[old[:, kept[self.level(k)]]]
            before.append(rest[(rest < new[-1]).any(axis=1)] if k else rest)
        bounds = np.concatenate([[0], np.cumsum(kept)])[self.bounds]
        return EventStates(self.num_rows, self.opened[kept], self.closed[kept], bounds, tuple(before))


def event_states(
    bits: np.ndarray, left: np.ndarray, right: np.ndarray, *, framed: bool = False, max_states: int = MAX_STATES
) -> EventStates:
    """List the states of the rows of one block.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows): which rows keep each class.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.
    framed
        Add a last row that opens before all other events and closes after them.
    max_states
        Where to give up.

    Raises
    ------
    SolverError
        If there are too many rows or states.

    Examples
    --------
    >>> free = np.zeros(2, dtype=bool)
    >>> len(event_states(np.array([[1, 0], [0, 1]], dtype=bool), free, free))
    9
    >>> len(event_states(np.array([[1, 1], [0, 1]], dtype=bool), free, free))
    7
    """
    num = len(left) + framed
    if num > _MAX_ROWS:
        raise SolverError(f"event states: a block has {len(left)} rows, more than {_MAX_ROWS - 1}; take fewer accesses")
    event = np.int64(1) << np.arange(2 * num, dtype=np.int64)
    required, start, end = _required(bits, left, right, framed)
    events = event[(end & ~start & event) != 0]
    required = required[(end & ~start & event) != 0]
    levels = [np.array([start], dtype=np.int64)]
    total = 1
    while levels[-1][0] != end:
        states = levels[-1][:, np.newaxis]
        may = (states & events == 0) & (states & required == required)
        levels.append(np.unique((states | events)[may]))
        total += len(levels[-1])
        if total > max_states:
            raise SolverError(
                f"event states: the {len(left)} rows of a block can be in more than {max_states} states; "
                "take fewer accesses together"
            )
    bounds = np.concatenate([[0], np.cumsum([len(level) for level in levels])])
    before = [np.zeros((0, 1), dtype=np.int64)]
    for k in range(1, len(levels)):
        before.append(_before(levels[k - 1], levels[k], event.reshape(2, num), int(bounds[k - 1]), total))
    state = np.concatenate(levels)
    rows = (np.int64(1) << num) - 1
    return EventStates(num, state & rows, state >> num, bounds, tuple(before))


def _required(bits: np.ndarray, left: np.ndarray, right: np.ndarray, framed: bool) -> tuple[np.ndarray, int, int]:
    """The events that must come before each event, and the first and the last state, as bit masks of events.

    Event i opens row i, event num_rows + i closes it. A row closes after the opening of every row it shares with.
    """
    num = len(left) + framed
    kept = bits.astype(np.float32)
    shares = (kept.T @ kept > 0) | np.eye(len(left), dtype=bool)
    opening = np.int64(1) << np.arange(len(left), dtype=np.int64)
    start = int(opening[left].sum())
    end = int(opening.sum() + (opening[~right] << num).sum())
    required = np.zeros(2 * num, dtype=np.int64)
    required[num : num + len(left)] = shares @ opening
    if framed:
        required[: len(left)] |= 1 << (num - 1)
        required[-1] = end | 1 << (num - 1)
        end |= (1 << (num - 1)) | (1 << (2 * num - 1))
    return required, start, end


def _before(previous: np.ndarray, states: np.ndarray, event: np.ndarray, offset: int, none: int) -> np.ndarray:
    """The states one event before those of a level: one row of the answer for the last event of each row."""
    opening, closing = event[:, :, np.newaxis]
    last = np.where(states & closing != 0, closing, states & opening)
    wanted = states & ~last
    found = np.minimum(np.searchsorted(previous, wanted), len(previous) - 1)
    exists = (previous[found] == wanted) & (last != 0)
    before = np.where(exists, found + offset, none)
    return np.ascontiguousarray(before[exists.any(axis=1)])
