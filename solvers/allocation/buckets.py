"""The allocation problem in whole numbers: times in buckets, rounded up, so that the budget is kept in seconds, too.

All three methods solve these numbers, and so agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems import AllocationProblem
from solvers.common.errors import SolverError

DEFAULT_BUCKETS = 10_000  # buckets: of the time budget, as in SPDY's paper
MAX_BUCKETS = 10**6  # buckets: a bound on memory; by hand

TOLERANCE = 1e-9  # buckets: by which a time may exceed a multiple and still count as that multiple: rounding of float64


@dataclass(frozen=True, eq=False)
class Buckets:
    """Times and errors of the levels in whole numbers.

    Attributes
    ----------
    times
        Per layer, int64, shape (levels,): ``ceil(seconds / (budget / capacity))``, at most ``capacity + 1``. 0 where
        a level takes no time.
    errors
        Per layer, int64, shape (levels,).
    capacity
        Buckets of the budget.
    """

    times: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]
    capacity: int

    @property
    def leaves_a_choice(self) -> bool:
        """Whether the fastest levels fit. Rounding up may say no where they just keep the budget in seconds."""
        return sum(int(times.min()) for times in self.times) <= self.capacity


def buckets_of(problem: AllocationProblem, num_buckets: int = DEFAULT_BUCKETS) -> Buckets:
    """Count times in buckets of ``budget / num_buckets``, rounded up; exact multiples stay, to `TOLERANCE`.

    Rounding up loses at most a bucket per layer, and what fits in buckets fits in seconds. A larger budget never counts
    more buckets, so that nothing that fits is lost by it.

    Raises
    ------
    SolverError
        If the number of buckets is below the number of layers or above `MAX_BUCKETS`.

    Notes
    -----
    Buckets as in SPDY (Frantar and Alistarh, ICML 2022), whose program rounds to the nearest instead, and may exceed
    the budget.
    """
    if not isinstance(num_buckets, (int, np.integer)) or not problem.num_layers <= num_buckets <= MAX_BUCKETS:
        raise SolverError(
            f"num_buckets is {num_buckets}; give a whole number from {problem.num_layers}, one per layer, "
            f"to {MAX_BUCKETS}"
        )
    width = problem.budget / num_buckets
    return Buckets(
        tuple(_rounded_up(np.array(layer.times), width, int(num_buckets)) for layer in problem.layers),
        tuple(np.array(layer.errors, dtype=np.int64) for layer in problem.layers),
        int(num_buckets),
    )


def _rounded_up(seconds: np.ndarray, width: float, capacity: int) -> np.ndarray:
    """Seconds in buckets; int64, at most one more than there are. Without any width only nothing fits."""
    if width <= 0:
        return np.where(seconds > 0, capacity + 1, 0)
    fitting = seconds <= width * (capacity + 1)
    num = np.ceil(np.where(fitting, seconds, 0.0) / width - TOLERANCE)
    return np.where(fitting, np.clip(num, 0, capacity + 1), capacity + 1).astype(np.int64)
