"""The ordering problem that windows leave: every access keeps what its window holds."""

from __future__ import annotations

from problems.errors import ProblemError
from problems.problem import Access, Block, Problem
from problems.windows.decision import Windows
from problems.windows.problem import WindowProblem


def ordering_problem(problem: WindowProblem, windows: Windows) -> Problem:
    """One block with the stream's channels, and per window that holds a channel an access that keeps these channels.

    ``Order([windows.order])`` is an order of it in which every access is a view, so its best value for `copies` is 0.

    Raises
    ------
    ProblemError
        If the windows do not fit the problem, or no channel is stored.

    Examples
    --------
    >>> from problems import Order, evaluate, objective_named
    >>> from problems.windows.generators import random_windows
    >>> windows = Windows([3, 0, 1], [0, 1], [2, 3])
    >>> problem = ordering_problem(random_windows(4, 2), windows)
    >>> evaluate(problem, Order([windows.order]), objective_named("copies")).value
    0
    """
    windows.require_valid(problem)
    if not len(windows.order):
        raise ProblemError(f"{problem.name}: no channel is stored, so there is nothing to order; lower the prices")
    block = Block(problem.name, problem.num_channels, required=tuple(sorted(windows.order.tolist())))
    masks = windows.masks(problem.num_channels)
    accesses = [Access(own.name, (0,), kept) for own, kept in zip(problem.accesses, masks) if kept.any()]
    return Problem((block,), tuple(accesses), problem.name)
