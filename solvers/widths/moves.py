"""What changing the width of single blocks does to the time: the local model of several methods, and a local search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork

_PAIRS = 96  # moves: of which the local search tries every second one; by hand


class Moves:
    """All choices that differ from one in the width of one block.

    Parameters
    ----------
    problem
        The problem.

    Attributes
    ----------
    block
        Per move its block; int64, shape (moves,). Moves are all widths of the first block, then of the second, ...
    place
        Per move the index of the width.
    loss
        Per move the loss of the block at that width.
    """

    def __init__(self, problem: WidthProblem) -> None:
        self.problem = problem
        sizes = [len(block.widths) for block in problem.blocks]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.block = np.repeat(np.arange(len(sizes)), sizes)
        self.place = np.concatenate([np.arange(n) for n in sizes])
        self.width = np.concatenate([np.array(block.widths, dtype=np.int64) for block in problem.blocks])
        self.loss = np.concatenate([np.array(block.losses, dtype=np.int64) for block in problem.blocks])
        self._works = [self._prepared(work) for work in problem.works]

    def _prepared(self, work: TimedWork) -> tuple[np.ndarray, ...]:
        """Ticks and times of a work, and its blocks' moves, each with how often the block is read and written."""
        table = self.problem.tables[work.table]
        read, written = Counter(work.inputs), Counter(work.outputs)
        blocks = sorted({*read, *written})
        ranges = [np.arange(self.starts[b], self.starts[b + 1]) for b in blocks]
        counts = [np.repeat([own[b] for b in blocks], [len(r) for r in ranges]) for own in (read, written)]
        return (
            np.array(table.input_widths, dtype=np.int64),
            np.array(table.output_widths, dtype=np.int64),
            table.nanoseconds,
            np.concatenate(ranges) if ranges else np.zeros(0, dtype=np.int64),
            *(own.astype(np.int64) for own in counts),
        )

    def times(self, choice: Sequence[int], *, read: bool = True, written: bool = True) -> np.ndarray:
        """Per move by how many nanoseconds it changes the time of a choice; int64.

        Parameters
        ----------
        choice
            The choice.
        read, written
            Whether a move changes what works read, and what they write. Where a work has one side only, it counts.
        """
        widths = self.width[self.starts[:-1] + np.asarray(choice)]
        steps = self.width - widths[self.block]
        changes = np.zeros(len(self.block), dtype=np.int64)
        for work, (inputs, outputs, nanoseconds, moves, times_read, times_written) in zip(
            self.problem.works, self._works
        ):
            total_in, total_out = (int(widths[list(side)].sum()) for side in (work.inputs, work.outputs))
            own = steps[moves]
            more_in = times_read * own if read or not work.outputs else 0
            more_out = times_written * own if written or not work.inputs else 0
            row, column = np.searchsorted(inputs, total_in), np.searchsorted(outputs, total_out)
            rows, columns = np.searchsorted(inputs, total_in + more_in), np.searchsorted(outputs, total_out + more_out)
            changes[moves] += nanoseconds[rows, columns] - nanoseconds[row, column]
        return changes

    def losses(self, choice: Sequence[int]) -> np.ndarray:
        """Per move by how many units it changes the loss of a choice; int64."""
        return self.loss - self.loss[self.starts[:-1] + np.asarray(choice)][self.block]

    def after(self, choice: Sequence[int], move: int) -> tuple[int, ...]:
        """The choice after a move."""
        changed = list(choice)
        changed[self.block[move]] = int(self.place[move])
        return tuple(changed)


def improved(
    moves: Moves, choice: Sequence[int], *, pairs: bool = True, out_of_time: Callable[[], bool] = lambda: False
) -> tuple[int, ...] | None:
    """A choice within the budget, at least as good as the given one, by single moves and pairs of moves.

    If the given choice exceeds the budget, it is first made faster. Then, as long as it helps, the best single move
    within the budget is made, or else the best pair of moves that was looked at.

    Parameters
    ----------
    moves
        The moves of the problem.
    choice
        Where to begin.
    pairs
        Whether to try pairs.
    out_of_time
        Asked before every move.

    Returns
    -------
        None if the moves do not lead into the budget.
    """
    found = _within_budget(moves, tuple(choice))
    while found is not None and not out_of_time():
        slack = moves.problem.budget - moves.problem.evaluate(found).time
        gains, changes = moves.losses(found), moves.times(found)
        fitting = np.flatnonzero((gains < 0) & (changes <= slack))
        if fitting.size:
            found = moves.after(found, int(fitting[np.lexsort((changes[fitting], gains[fitting]))[0]]))
            continue
        pair = _best_pair(moves, found, slack, gains, changes, out_of_time) if pairs else None
        if pair is None:
            break
        found = moves.after(moves.after(found, pair[0]), pair[1])
    return found


def _within_budget(moves: Moves, choice: tuple[int, ...]) -> tuple[int, ...] | None:
    """Make the move of least additional loss per nanosecond saved, until the budget is kept."""
    excess = moves.problem.evaluate(choice).time - moves.problem.budget
    while excess > 0:
        gains, changes = moves.losses(choice), moves.times(choice)
        faster = np.flatnonzero(changes < 0)
        if not faster.size:
            return None
        saved = np.minimum(-changes[faster], excess)
        choice = moves.after(choice, int(faster[np.argmin(gains[faster] / saved)]))
        excess = moves.problem.evaluate(choice).time - moves.problem.budget
    return choice


def _best_pair(
    moves: Moves,
    choice: tuple[int, ...],
    slack: int,
    gains: np.ndarray,
    changes: np.ndarray,
    out_of_time: Callable[[], bool],
) -> tuple[int, int] | None:
    """Two moves of different blocks that keep the budget and lessen the loss most, or None."""
    better = np.flatnonzero(gains < 0)
    cheapest = better[np.argsort(changes[better] / -gains[better], kind="stable")[:_PAIRS]]
    best, pair = 0, None
    for first in cheapest.tolist():
        if out_of_time():
            break
        second_changes = moves.times(moves.after(choice, first))
        total = gains + gains[first]
        fits = (second_changes + changes[first] <= slack) & (total < best) & (moves.block != moves.block[first])
        if fits.any():
            second = int(np.where(fits, total, 0).argmin())
            best, pair = int(total[second]), (first, second)
    return pair
