"""The allocation problem in whole numbers. Times are counted in buckets and rounded up, so the budget holds in seconds.

All three methods solve these whole numbers. So they agree exactly.
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
        a level needs no time.
    errors
        Per layer, int64, shape (levels,).
    capacity
        Number of buckets in the budget.
    """

    times: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]
    capacity: int

    @property
    def leaves_a_choice(self) -> bool:
        """Whether the fastest levels fit. Rounding up can make this false although they fit in seconds."""
        return sum(int(times.min()) for times in self.times) <= self.capacity


def buckets_of(problem: AllocationProblem, num_buckets: int = DEFAULT_BUCKETS) -> Buckets:
    """Count times in buckets of ``budget / num_buckets``, rounded up. Exact multiples stay exact, within `TOLERANCE`.

    Rounding up loses at most one bucket per layer. A choice that fits in buckets also fits in seconds. A larger budget
    never needs more buckets, so a choice that fits stays feasible.

    Raises
    ------
    SolverError
        If the number of buckets is below the number of layers or above `MAX_BUCKETS`.

    Notes
    -----
    Buckets as in SPDY (Frantar and Alistarh, ICML 2022). The authors' program rounds to the nearest bucket and so may
    exceed the budget.
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
    """Seconds in buckets; int64, at most one more than the capacity. If buckets have width 0, only a time of 0 fits."""
    if width <= 0:
        return np.where(seconds > 0, capacity + 1, 0)
    fitting = seconds <= width * (capacity + 1)
    num = np.ceil(np.where(fitting, seconds, 0.0) / width - TOLERANCE)
    return np.where(fitting, np.clip(num, 0, capacity + 1), capacity + 1).astype(np.int64)
