"""Columns and rows of a mixed integer program, collected and handed to HiGHS through SciPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array


@dataclass(eq=False)
class LinearRows:
    """A program under construction: minimise ``price @ x`` within the rows; columns lie between 0 and `upper`."""

    price: list[np.ndarray] = field(default_factory=list)
    upper: list[np.ndarray] = field(default_factory=list)
    integer: list[np.ndarray] = field(default_factory=list)
    num_columns: int = 0
    num_rows: int = 0
    _entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _limits: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add_columns(
        self, num: int, *, price: float | np.ndarray = 0.0, upper: float = 1.0, integer: bool = False
    ) -> np.ndarray:
        """New columns, with one price for all or one each; returns their indices."""
        self.price.append(np.full(num, price, dtype=float))
        self.upper.append(np.full(num, float(upper)))
        self.integer.append(np.full(num, int(integer)))
        self.num_columns += num
        return np.arange(self.num_columns - num, self.num_columns)

    def add_rows(self, columns: np.ndarray, factors: np.ndarray, lower: Any, upper: Any) -> None:
        """New rows: ``lower <= sum(factors * x[columns]) <= upper`` for every row of `columns`.

        Parameters
        ----------
        columns
            int, shape (rows, entries per row).
        factors
            Broadcast to the shape of `columns`.
        lower, upper
            Broadcast to (rows,).
        """
        columns = np.atleast_2d(columns)
        rows = np.arange(self.num_rows, self.num_rows + len(columns))
        factors = np.broadcast_to(np.asarray(factors, dtype=float), columns.shape)
        self._entries.append((np.repeat(rows, columns.shape[1]), columns.ravel(), factors.ravel()))
        ends = [np.broadcast_to(np.asarray(end, dtype=float), (len(columns),)) for end in (lower, upper)]
        self._limits.append((ends[0], ends[1]))
        self.num_rows += len(columns)

    def minimise(self, seconds: float) -> Any:
        """SciPy's result; HiGHS stops soon after so many seconds."""
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if np.isfinite(seconds):
            options["time_limit"] = max(seconds, 1e-3)
        constraints = []
        if self.num_rows:
            row, column, factor = (np.concatenate(part) for part in zip(*self._entries))
            lower, upper = (np.concatenate(part) for part in zip(*self._limits))
            matrix = csr_array((factor, (row, column)), shape=(self.num_rows, self.num_columns))
            constraints.append(LinearConstraint(matrix, lower, upper))
        return milp(
            np.concatenate(self.price),
            integrality=np.concatenate(self.integer),
            bounds=Bounds(0, np.concatenate(self.upper)),
            constraints=constraints,
            options=options,
        )
