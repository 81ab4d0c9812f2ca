"""The search for an amount that just reaches a measured target, by bisection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from problems import ProblemError
from solvers import SolverError
from upscale_opt.errors import UpscaleError
from upscale_opt.widths.closed_loop import CLOSE

Made = TypeVar("Made")
REFUSALS = (UpscaleError, ProblemError, SolverError)
"""Errors that say in a sentence why something cannot be done."""
MOST = 0.95
"""The largest amount that is tried."""


def least_amount(
    make: Callable[[float], Made], measure: Callable[[Made], float], target: float, *, steps: int = 7
) -> tuple[float, Made]:
    """The least amount of pruning found that reaches a target, with its network; the fastest one if none does.

    Parameters
    ----------
    make
        Makes a network that is pruned by an amount. Amounts that it refuses are too large.
    measure
        Measures how many times as fast it is (or has fewer multiply-accumulates).
    target
        What `measure` has to reach. Up to `CLOSE` times as much is close enough.
    steps
        Most networks that are made.

    Raises
    ------
    UpscaleError, ProblemError, SolverError
        If every amount was refused: the reason of the last one.

    Examples
    --------
    >>> amount, made = least_amount(lambda amount: 1 / (1 - amount), lambda made: made, 2.0)
    >>> round(made, 1)
    2.0
    """
    low, high, amount = 0.0, MOST, 1 - target**-0.5
    best: tuple[float, Made] | None = None
    fastest: tuple[float, float, Made] | None = None
    refusal: Exception | None = None
    for _ in range(steps):
        try:
            made = make(amount)
        except REFUSALS as error:
            refusal, high = error, amount
        else:
            reached = measure(made)
            if fastest is None or reached > fastest[0]:
                fastest = reached, amount, made
            if reached >= target:
                best, high = (amount, made), amount
                if reached <= CLOSE * target:
                    break
            else:
                low = amount
        amount = (low + high) / 2
    if best is not None:
        return best
    if fastest is not None:
        return fastest[1:]
    assert refusal is not None
    raise refusal
