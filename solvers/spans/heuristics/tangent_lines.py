"""What accesses pay by their excess, and straight lines through it: how searches for linear costs serve all objectives.

A line through what an access pays now lies above a concave cost, so that an order that is better for the lines is
better for the costs. A line to a random other excess leads somewhere else.
"""

from __future__ import annotations

import numpy as np

from solvers.common.task import Task

_LARGEST_SLOPE = 10_000  # value: the steepest line in whole numbers; four digits are kept; by hand
_NEAR = 50  # parts: of a curve; a tangent looks one part to each side; by hand


class SpanCurves:
    """What every access pays by its excess if nothing is read in pieces, and lines through that.

    Attributes
    ----------
    straight
        All are straight lines.
    exact
        They are what the accesses pay; otherwise joining pieces may be cheaper, if there are few.
    """

    def __init__(self, task: Task) -> None:
        problem, objective = task.problem, task.objective
        self.straight = not objective.uses_tables and objective.gamma is None
        tables = [access.table for access in problem.accesses if objective.uses_tables]
        most = max((table.pieces.points[-1] for table in tables if table and table.pieces), default=0)
        self.exact = most == 0
        self._curves = []
        for access in problem.accesses:
            excess = np.arange(sum(len(problem.stored[b]) for b in access.blocks) - access.num_kept + 1)
            runs = np.where(excess > 0, most + 1, 1)
            self._curves.append(
                objective.costs(access, access.num_kept + excess, runs, ticks=objective.ticks_of(problem))
            )
        price = np.array([access.channel_size for access in problem.accesses], dtype=np.int64)
        self._price = price // np.gcd.reduce(price) if len(price) else price

    def value(self, excess: np.ndarray) -> int:
        """Sum of the costs; excess is int, shape (num_accesses,)."""
        return sum(int(curve[e]) for curve, e in zip(self._curves, excess.tolist()))

    def slopes(self, access: np.ndarray, excess: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Whole numbers in proportion to the slopes of the accesses' lines; int64, same shape as `access`.

        Parameters
        ----------
        access, excess
            int, shape (num_rows,): the accesses and their present excess.
        rng
            If given, one or two lines lead to a random other excess, or are flat.
        """
        if self.straight:
            return self._price[access]
        rises = np.array([self._rise(a, e, e) for a, e in zip(access.tolist(), excess.tolist())])
        if rng is not None:
            for i in rng.integers(len(access), size=int(rng.integers(1, 3))).tolist():
                flat = rises[i] > 0 and rng.random() < 0.5
                a = int(access[i])
                rises[i] = 0 if flat else self._rise(a, int(excess[i]), int(rng.integers(len(self._curves[a]))))
        largest = float(rises.max(initial=0.0))
        return np.rint(rises * (_LARGEST_SLOPE / largest if largest > 0 else 0.0)).astype(np.int64)

    def _rise(self, a: int, excess: int, other: int) -> float:
        """Slope of the line from one excess of an access to another, or around it if it is the same."""
        curve = self._curves[a]
        reach = max(1, len(curve) // _NEAR) if excess == other else 0
        low, high = max(0, min(excess, other) - reach), min(len(curve) - 1, max(excess, other) + reach)
        return max(0.0, (int(curve[high]) - int(curve[low])) / max(1, high - low))
