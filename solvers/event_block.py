"""One block in the span model: the order of the events "row opens" and "row closes", and where classes lie to them.

The order of all classes need not be decided: it is enough to know in which order the rows open and close. A class
left of a row lies before the row opens, one right of it after it closes, and otherwise inside it, at a price.
"""

from __future__ import annotations

import time
from itertools import combinations, pairwise

import numpy as np
from ortools.sat.python import cp_model

from solvers.rows import Row, merged_classes
from solvers.search import Values


class OutOfTimeError(Exception):
    """The deadline passed while a model was built; there is nothing to search."""


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
        self._opens = [2 * i for i, row in enumerate(rows) if not row.left]
        self._closes = [2 * i + 1 for i, row in enumerate(rows) if not row.right]
        self._common = self._bits.T.astype(np.int64) @ self._bits > 0
        self._before: dict[tuple[int, int], cp_model.BoolVarT] = {}
        self._left: dict[tuple[int, int], cp_model.BoolVarT] = {}
        self._right: dict[tuple[int, int], cp_model.BoolVarT] = {}
        self._order_events()
        self._share_classes()
        self._place_left()
        self._place_right()
        self._place_between()
        self._break_reversal()
        self._order_twins()

    def excess(self, i: int) -> cp_model.LinearExprT:
        """sum(weight[s] * (1 - left[s, i] - right[s, i]) for s not kept): what row i covers and does not keep."""
        total: cp_model.LinearExprT = 0
        for s in np.flatnonzero(~self._bits[:, i]).tolist():
            sides = self._left.get((s, i), 0) + self._right.get((s, i), 0)
            total = total + int(self._weight[s]) * (1 - sides)
        return total

    def hint(self, position: np.ndarray) -> None:
        """Hint at an order of the block's classes.

        Parameters
        ----------
        position
            int, shape (num_classes,): where each class (before merging) stands.
        """
        rank = self._ranks(position)
        event = self._event_ranks(rank)
        if self._reversal is not None and not any(event[e] < event[f] for e, f in self._reversal):
            rank = len(rank) - 1 - rank
            event = self._event_ranks(rank)
        for twins in self._twins:
            rank[twins] = np.sort(rank[twins])
        for (e, f), literal in self._before.items():
            if e < f:
                self._model.add_hint(literal, event[e] < event[f])
        for (s, i), literal in self._left.items():
            self._model.add_hint(literal, bool(rank[s] < event[2 * i]))
        for (s, i), literal in self._right.items():
            self._model.add_hint(literal, bool(rank[s] > event[2 * i + 1]))

    def sequence(self, values: Values) -> np.ndarray:
        """The classes (before merging) in an order that costs no more than the solution says."""
        events = self._opens + self._closes
        place = {e: sum(values(self._before[f, e]) for f in events if f != e) for e in events}
        after = np.full(len(self._weight), -1)
        for s, kept in enumerate(self._bits):
            passed = [place[2 * i] for i in np.flatnonzero(kept).tolist() if not self._rows[i].left]
            passed += [place[f] for f in self._closes if (s, f // 2) in self._right and values(self._right[s, f // 2])]
            after[s] = max(passed, default=-1)
        return self._unmerged(np.argsort(after, kind="stable"))

    def tidied(self, position: np.ndarray) -> np.ndarray:
        """The classes (before merging) so that those that look the same to all rows stand together."""
        return self._unmerged(np.argsort(self._ranks(position), kind="stable"))

    def _require_time(self) -> None:
        if time.perf_counter() >= self._deadline:
            raise OutOfTimeError

    def _unmerged(self, sequence: np.ndarray) -> np.ndarray:
        return np.concatenate([self._parts[s] for s in sequence])

    def _ranks(self, position: np.ndarray) -> np.ndarray:
        """Rank of each merged class by its first part."""
        first = np.array([position[part].min() for part in self._parts])
        return np.argsort(np.argsort(first, kind="stable"), kind="stable")

    def _event_ranks(self, rank: np.ndarray) -> dict[int, float]:
        """Where events fall among classes: just before the first kept, just after the last."""
        event: dict[int, float] = {}
        for i in range(len(self._rows)):
            kept = rank[self._bits[:, i]]
            event[2 * i] = kept.min() - 0.5 + 0.2 * (i + 1) / (len(self._rows) + 1)
            event[2 * i + 1] = kept.max() + 0.2 + 0.2 * (i + 1) / (len(self._rows) + 1)
        return event

    def _order_events(self) -> None:
        """before[e, f] = not before[f, e]; before[e, f] and before[f, g] imply before[e, g]; rows open, then close."""
        events = self._opens + self._closes
        for e, f in combinations(sorted(events), 2):
            literal = self._model.new_bool_var(f"before[{e},{f}]")
            self._before[e, f], self._before[f, e] = literal, ~literal
        for e, f, g in combinations(sorted(events), 3):
            self._require_time()
            for x, y, z in ((e, f, g), (e, g, f)):
                self._model.add_bool_or(~self._before[x, y], ~self._before[y, z], self._before[x, z])

    def _share_classes(self) -> None:
        """before[open i, close j] if rows i and j keep a common class, i = j included."""
        for e in self._opens:
            for f in self._closes:
                if self._common[e // 2, f // 2]:
                    self._model.add_bool_or(self._before[e, f])

    def _place_left(self) -> None:
        """left[s, i] implies before[open j, open i] for the rows j that keep s; not for i open from the start."""
        for s, kept in enumerate(self._bits):
            self._require_time()
            keepers = [2 * j for j in np.flatnonzero(kept).tolist() if not self._rows[j].left]
            for e in self._opens:
                if not kept[e // 2]:
                    literal = self._model.new_bool_var(f"left[{s},{e // 2}]")
                    self._left[s, e // 2] = literal
                    self._model.add_bool_and(self._before[f, e] for f in keepers).only_enforce_if(literal)

    def _place_right(self) -> None:
        """right[s, i] implies before[close i, close j] for the rows j that keep s; not for i open until the end."""
        for s, kept in enumerate(self._bits):
            self._require_time()
            keepers = [2 * j + 1 for j in np.flatnonzero(kept).tolist() if not self._rows[j].right]
            for e in self._closes:
                if not kept[e // 2]:
                    literal = self._model.new_bool_var(f"right[{s},{e // 2}]")
                    self._right[s, e // 2] = literal
                    self._model.add_bool_and(self._before[e, f] for f in keepers).only_enforce_if(literal)

    def _place_between(self) -> None:
        """left[s, i] and right[s, j] imply before[close j, open i]: not both, if i and j keep a common class."""
        for (s, i), left in self._left.items():
            self._require_time()
            rights = [j for j in range(len(self._rows)) if (s, j) in self._right]
            excluded = [~self._right[s, j] for j in rights if self._common[i, j]]
            self._model.add_bool_and(excluded).only_enforce_if(left)
            for j in rights:
                if not self._common[i, j]:
                    self._model.add_bool_or(~left, ~self._right[s, j], self._before[2 * j + 1, 2 * i])

    def _order_twins(self) -> None:
        """left[t, i] implies left[s, i] and right[s, i] implies right[t, i], for twins s before t (same rows)."""
        for twins in self._twins:
            for s, t in pairwise(twins.tolist()):
                for i in range(len(self._rows)):
                    if (s, i) in self._left:
                        self._model.add_implication(self._left[t, i], self._left[s, i])
                    if (s, i) in self._right:
                        self._model.add_implication(self._right[s, i], self._right[t, i])

    def _break_reversal(self) -> None:
        """before[open i, open j] or before[close i, close j] for the two largest rows, if the block may be reversed."""
        self._reversal: list[tuple[int, int]] | None = None
        if len(self._rows) < 2 or any(row.left or row.right for row in self._rows):
            return
        i, j = np.argsort(-(self._weight @ self._bits), kind="stable")[:2].tolist()
        self._reversal = [(2 * i, 2 * j), (2 * i + 1, 2 * j + 1)]
        self._model.add_bool_or(*(self._before[pair] for pair in self._reversal))
