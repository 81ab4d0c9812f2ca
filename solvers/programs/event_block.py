"""One block in event order: the order of the events "row opens" and "row closes", and the cell every class lies in.

Between two neighbouring events is a cell; before the first and after the last one, too. In a cell the same rows are
open, so that the order within it does not matter. A class goes to a cell where all rows that keep it are open, and
every other row that is open there covers it in vain.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ortools.sat.python import cp_model

from solvers.common.clock import time_now
from solvers.common.rows import Row, merged_classes
from solvers.common.search import OutOfTimeError, Values


class EventBlock:
    """Variables and constraints of one block.

    Parameters
    ----------
    model
        The CP-SAT model to extend.
    rows
        The block's rows.
    weight, bits
        The block's classes: int of shape (num_classes,), bool of shape (num_classes, num_rows).
    deadline
        A `time.perf_counter` reading.
    merge
        Take classes that look the same to all rows together. Otherwise they are placed apart, in the order given.

    Raises
    ------
    OutOfTimeError
        If the deadline passes.
    """

    def __init__(
        self,
        model: cp_model.CpModel,
        rows: list[Row],
        weight: np.ndarray,
        bits: np.ndarray,
        *,
        deadline: float,
        merge: bool = True,
    ) -> None:
        self._model = model
        self._deadline = deadline
        self._rows = rows
        self._weight, self._bits, self._parts = merged_classes(weight, bits)
        self._twins: list[np.ndarray] = []
        if not merge:
            self._twins = self._parts
            self._weight, self._bits, self._parts = weight, bits, list(np.arange(len(weight))[:, np.newaxis])
        self._opens = {i: f"open {i}" for i, row in enumerate(rows) if not row.left}
        self._closes = {i: f"close {i}" for i, row in enumerate(rows) if not row.right}
        self._events = [*self._opens.values(), *self._closes.values()]
        self._passed = self._order_events()
        self._open_before_close()
        self._cell = self._choose_cells()
        self._keepers_are_open()
        self._covered = self._count_covered()
        self._break_reversal()
        self._order_twins()

    def excess(self, i: int) -> cp_model.LinearExprT:
        """sum(weight[s] * covered[s, i] for s not kept): what row i covers and does not keep."""
        own = np.flatnonzero(~self._bits[:, i]).tolist()
        return cp_model.LinearExpr.weighted_sum([self._covered[s, i] for s in own], self._weight[own].tolist())

    def hint(self, position: np.ndarray) -> None:
        """Hint at an order of the block's classes.

        Parameters
        ----------
        position
            int, shape (num_classes,): where each class (before merging) stands.
        """
        first = np.array([position[part].min() for part in self._parts])
        rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
        event = self._event_places(rank)
        if (
            self._may_be_reversed()
            and event[f"open {self._largest}"] + event[f"close {self._largest}"] > len(event) - 1
        ):
            rank = len(rank) - 1 - rank
            event = self._event_places(rank)
        for e, literals in self._passed.items():
            for k, literal in enumerate(literals[1:-1], start=1):
                self._model.add_hint(literal, event[e] < k)
        edges = self._edges(rank)
        cell = np.array([sum(edges[e] < own for e in self._events) for own in rank])
        for twins in self._twins:
            cell[twins] = np.sort(cell[twins])
        for s, literals in enumerate(self._cell):
            for k, literal in enumerate(literals):
                self._model.add_hint(literal, k == cell[s])
        for (s, i), literal in self._covered.items():
            opened = event.get(f"open {i}", -1) < cell[s]
            self._model.add_hint(literal, bool(opened and event.get(f"close {i}", len(event)) >= cell[s]))

    def sequence(self, values: Values) -> np.ndarray:
        """The classes (before merging) in an order that costs no more than the solution says."""
        cell = [next(k for k, literal in enumerate(literals) if values(literal)) for literals in self._cell]
        return np.concatenate([self._parts[s] for s in np.argsort(cell, kind="stable")])

    def _require_time(self) -> None:
        if time_now() >= self._deadline:
            raise OutOfTimeError

    def _order_events(self) -> dict[str, list[cp_model.LiteralT]]:
        """passed[e, k] <= passed[e, k + 1], sum(passed[e, k] for e) = k: the events before cell k, of 0 to num."""
        num = len(self._events)
        passed: dict[str, list[cp_model.LiteralT]] = {}
        for e in self._events:
            between = [self._model.new_bool_var(f"passed[{e},{k}]") for k in range(1, num)]
            passed[e] = [False, *between, True]
            for earlier, later in pairwise(between):
                self._model.add_implication(earlier, later)
        for k in range(1, num):
            self._model.add(sum(passed[e][k] for e in self._events) == k)
        return passed

    def _open_before_close(self) -> None:
        """passed[close i, k] implies passed[open i, k - 1]."""
        for i, e in self._opens.items():
            if i in self._closes:
                for k in range(1, len(self._events)):
                    self._model.add_implication(self._passed[self._closes[i]][k], self._passed[e][k - 1])

    def _choose_cells(self) -> list[list[cp_model.IntVar]]:
        """sum(cell[s, k] for k) = 1."""
        cells = []
        for s in range(len(self._weight)):
            own = [self._model.new_bool_var(f"cell[{s},{k}]") for k in range(len(self._events) + 1)]
            self._model.add_exactly_one(own)
            cells.append(own)
        return cells

    def _keepers_are_open(self) -> None:
        """cell[s, k] implies passed[open i, k] and not passed[close i, k], for the rows i that keep s."""
        for s, kept in enumerate(self._bits):
            self._require_time()
            keepers = np.flatnonzero(kept).tolist()
            for k, literal in enumerate(self._cell[s]):
                for i in keepers:
                    if i in self._opens:
                        self._model.add_implication(literal, self._passed[self._opens[i]][k])
                    if i in self._closes:
                        self._model.add_implication(literal, ~self._literal(self._closes[i], k))

    def _count_covered(self) -> dict[tuple[int, int], cp_model.IntVar]:
        """cell[s, k] and passed[open i, k] and not passed[close i, k] imply covered[s, i]; s not kept by i."""
        covered = {}
        for s, kept in enumerate(self._bits):
            self._require_time()
            for i in np.flatnonzero(~kept).tolist():
                literal = covered[s, i] = self._model.new_bool_var(f"covered[{s},{i}]")
                for k, cell in enumerate(self._cell[s]):
                    shut = [~self._literal(self._opens[i], k)] if i in self._opens else []
                    shut += [self._literal(self._closes[i], k)] if i in self._closes else []
                    self._model.add_bool_or(literal, ~cell, *shut)
        return covered

    def _break_reversal(self) -> None:
        """rank[open i] + rank[close i] <= num - 1 for the largest row i, if the block may be reversed."""
        self._largest = int(np.argmax(self._weight @ self._bits)) if self._rows else 0
        if self._may_be_reversed():
            both = self._passed[f"open {self._largest}"] + self._passed[f"close {self._largest}"]
            self._model.add(sum(both) >= len(self._events) + 1)

    def _order_twins(self) -> None:
        """sum(k * cell[s, k]) <= sum(k * cell[t, k]), for twins s before t (same rows)."""
        for twins in self._twins:
            for s, t in pairwise(twins.tolist()):
                here, there = (sum(k * literal for k, literal in enumerate(self._cell[own])) for own in (s, t))
                self._model.add(here <= there)

    def _may_be_reversed(self) -> bool:
        return bool(self._rows) and not any(row.left or row.right for row in self._rows)

    def _literal(self, e: str, k: int) -> cp_model.BoolVarT:
        """passed[e, k], in a form that can be negated."""
        literal = self._passed[e][k]
        return self._model.new_constant(int(literal)) if isinstance(literal, bool) else literal

    def _edges(self, rank: np.ndarray) -> dict[str, float]:
        """Where events fall among classes: just before the first kept, just after the last; all different."""
        edges: dict[str, float] = {}
        for i in range(len(self._rows)):
            kept, shift = rank[self._bits[:, i]], 0.2 * (i + 1) / (len(self._rows) + 1)
            edges[f"open {i}"] = kept.min() - 0.5 + shift
            edges[f"close {i}"] = kept.max() + 0.2 + shift
        return {e: edges[e] for e in self._events}

    def _event_places(self, rank: np.ndarray) -> dict[str, int]:
        """Place of every event among the events."""
        edges = self._edges(rank)
        return {e: k for k, e in enumerate(sorted(edges, key=edges.__getitem__))}
