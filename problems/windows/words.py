"""Words: the order in which windows open and close along the stored channels.

A word lists every access that is not pinned twice, its opening and its closing. Its cells are the sets of accesses that
are open between two events, with the pinned accesses in all of them. Cell k lies in front of event k; the last cell
behind the last event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from problems.conversions import whole_numbers
from problems.errors import ProblemError
from problems.windows.decision import Windows
from problems.windows.problem import WindowProblem

NOT_STORED = -1
"""In place of a cell: the channel is not stored."""


def require_word(problem: WindowProblem, word: Any) -> tuple[int, ...]:
    """The word in whole numbers.

    Raises
    ------
    ProblemError
        If it does not list every access that is not pinned exactly twice.
    """
    events = whole_numbers(word, "a word")
    expected = np.repeat(np.array(problem.free, dtype=np.int64), 2)
    if events.ndim != 1 or not np.array_equal(np.sort(events), expected):
        raise ProblemError(f"a word lists each of the accesses {list(problem.free)} twice; correct it")
    return tuple(events.tolist())


def full_word(problem: WindowProblem) -> tuple[int, ...]:
    """The word in which every window opens before one closes, and the first to open is the last to close."""
    return (*problem.free, *reversed(problem.free))


def cells_of_word(problem: WindowProblem, word: Sequence[int]) -> np.ndarray:
    """The cells of a word: Boolean, shape (events + 1, accesses).

    Examples
    --------
    >>> from problems.windows.generators import random_windows
    >>> cells_of_word(random_windows(2, 2), [0, 1, 0, 1]).astype(int).tolist()
    [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    """
    events = np.array(require_word(problem, word), dtype=np.int64)
    toggles = np.zeros((len(events) + 1, problem.num_accesses), dtype=np.int64)
    toggles[np.arange(1, len(events) + 1), events] = 1
    cells = np.cumsum(toggles, axis=0) == 1
    cells[:, problem.pinned] = True
    return cells


def windows_of_word(problem: WindowProblem, word: Sequence[int], cells: Any) -> Windows:
    """Channels laid out cell by cell; within a cell by their numbers.

    Parameters
    ----------
    problem
        The problem.
    word
        The word.
    cells
        Per channel the index of its cell among those of the word, or `NOT_STORED`.

    Raises
    ------
    ProblemError
        If the word is none, or there is not one cell per channel.
    """
    events = np.array(require_word(problem, word), dtype=np.int64)
    cells = whole_numbers(cells, "the cells of the channels")
    if cells.shape != (problem.num_channels,) or (cells < NOT_STORED).any() or (cells > len(events)).any():
        raise ProblemError(
            f"the cells of the channels are not {problem.num_channels} numbers from {NOT_STORED} to {len(events)}; "
            "give one per channel"
        )
    stored = np.flatnonzero(cells != NOT_STORED)
    order = stored[np.argsort(cells[stored], kind="stable")]
    in_front = np.searchsorted(cells[order], np.arange(len(events)), side="right")
    starts = np.zeros(problem.num_accesses, dtype=np.int64)
    stops = np.full(problem.num_accesses, len(order))
    for place, access in zip(in_front[::-1], events[::-1]):
        starts[access] = place
    for place, access in zip(in_front, events):
        stops[access] = place
    return Windows(order, starts, stops)


def word_of_windows(problem: WindowProblem, windows: Windows) -> tuple[int, ...]:
    """A word that has the cells of some windows. Where several windows begin or end, all open before one closes.

    Raises
    ------
    ProblemError
        If the windows do not fit the problem.
    """
    windows.require_valid(problem)
    openings = [(int(windows.starts[a]), 0, a) for a in problem.free]
    closings = [(int(windows.stops[a]), 1, a) for a in problem.free]
    return tuple(a for _, _, a in sorted(openings + closings))
