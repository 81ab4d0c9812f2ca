"""The method `milp`: one binary variable per layer and level, solved by HiGHS through SciPy. Imported on use."""

from __future__ import annotations

import math

import numpy as np

from solvers.allocation.buckets import Buckets
from solvers.common.errors import SolverError
from solvers.programs.linear_rows import LinearRows

_UNIT_SHARE = 0.5  # share: of a unit of error by which HiGHS's bound may lie below the choice: errors are whole numbers


class ChoiceProgram:
    """A mixed integer program: x[l][s] is 1 where layer l has level s.

    HiGHS computes in floating point. Its choice is rounded to whole numbers. Then two things are checked in whole
    numbers: the choice keeps the capacity, and the bound excludes a better choice.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._rows = LinearRows()
        self._columns = [self._rows.add_columns(len(e), price=e, integer=True) for e in buckets.errors]
        self._choose_one_level()
        self._keep_capacity()

    def solve(self, time_limit: float = math.inf) -> tuple[int, ...]:
        """The choice of least error, with a proof.

        Raises
        ------
        SolverError
            If the time limit (seconds) is reached before the proof, or the proof fails because of HiGHS's tolerances.
        """
        found = self._rows.minimise(time_limit)
        if found.x is None:
            raise SolverError(f"milp: HiGHS found no choice ({found.message}); use 'dynamic-programme'")
        choice = tuple(int(np.argmax(found.x[columns])) for columns in self._columns)
        error = sum(int(errors[s]) for errors, s in zip(self._buckets.errors, choice))
        time = sum(int(times[s]) for times, s in zip(self._buckets.times, choice))
        proven = found.mip_dual_bound is not None and found.mip_dual_bound > error - _UNIT_SHARE
        if time > self._buckets.capacity or not proven:
            raise SolverError(
                f"milp: HiGHS has no proof of the least error ({found.message}); give more time or use "
                "'dynamic-programme'"
            )
        return choice

    def _choose_one_level(self) -> None:
        """sum(x[l][s] for s) = 1 for every layer l."""
        for columns in self._columns:
            self._rows.add_rows(columns, np.ones(1), 1, 1)

    def _keep_capacity(self) -> None:
        """sum(time[l][s] * x[l][s] for l, s) <= capacity.

        A level that needs more than the capacity by itself counts ``capacity + 1`` buckets.
        """
        columns, times = np.concatenate(self._columns), np.concatenate(self._buckets.times)
        self._rows.add_rows(columns, times, -np.inf, self._buckets.capacity)
