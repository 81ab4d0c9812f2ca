"""The constraint program: the order of the events "access opens" and "access closes", cells, and kept sets.

As in `solvers.programs.event_block`, a block has a cell before, between and behind the events of its readers, and the
same readers are open in all of a cell. Here the kept sets are variables, so channels lie in cells one by one, a channel
that nobody keeps may lie in none, and every access has a row for its width (a cardinality) and for its required sum (a
knapsack). An access that reads several blocks opens once and closes once along all of them; what it has passed at the
end of a block it has passed at the start of the next one.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ortools.sat.python import cp_model

from problems import AccessCost
from problems.joint.decision import JointChoice, evaluation_of
from problems.joint.problem import JointProblem
from problems.objectives import COPY
from solvers.common.clock import time_now
from solvers.common.search import OutOfTimeError, Values


class JointModel:
    """The model; `model` is the CP-SAT part of it.

    Parameters
    ----------
    problem
        The problem.
    deadline
        A reading of the clock.
    hint
        The choice to hint at.

    Raises
    ------
    OutOfTimeError
        If the deadline passes.
    """

    def __init__(self, problem: JointProblem, deadline: float, hint: JointChoice | None = None) -> None:
        self._problem, self._deadline = problem, deadline
        self.model = cp_model.CpModel()
        self._readers: list[list[tuple[int, int]]] = [[] for _ in problem.blocks]
        for a, slots in enumerate(problem.slots):
            for s, (b, _) in enumerate(slots):
                self._readers[b].append((a, s))
        self._keep = [self._choose_kept(a) for a in range(problem.num_accesses)]
        self._copied = [self._choose_mode(a) for a in range(problem.num_accesses)]
        self._passed = [self._pass_events(a) for a in range(problem.num_accesses)]
        for b in range(len(problem.blocks)):
            self._one_event_at_a_time(b)
        self._stored = [self._store(b) for b in range(len(problem.blocks))]
        self._cell = [self._choose_cells(b) for b in range(len(problem.blocks))]
        for b in range(len(problem.blocks)):
            self._kept_channels_are_open(b)
            self._break_reversal(b)
        self.model.minimize(sum(self._value(a) for a in range(problem.num_accesses)) + self._stored_price())
        if hint is not None:
            self._hint(hint)

    def choice(self, values: Values) -> JointChoice:
        """The choice of a solution: it costs no more than the solution says."""
        kept = [np.array([bool(values(own)) for own in row]) for row in self._keep]
        order = []
        for b, needed in enumerate(self._problem.with_kept(kept).stored):
            cells = self._cell[b]
            place = {c: next((k for k, own in enumerate(cells[c]) if values(own)), 0) for c in needed.tolist()}
            order.append(sorted(place, key=lambda c, place=place: (place[c], c)))  # type: ignore[misc]
        return JointChoice(order, kept)

    def _choose_kept(self, a: int) -> list[cp_model.IntVar]:
        """sum(keep[a, p]) = width, sum(importance[a, p] * keep[a, p]) >= required, or sum(keep[a, p]) >= 1."""
        access = self._problem.accesses[a]
        keep = [self.model.new_bool_var(f"keep[{a},{p}]") for p in range(len(access.importance))]
        if access.width is not None:
            self.model.add(sum(keep) == access.width)
        else:
            self.model.add_bool_or(keep)
        if access.required is not None:
            self.model.add(cp_model.LinearExpr.weighted_sum(keep, access.importance.tolist()) >= access.required)
        return keep

    def _choose_mode(self, a: int) -> cp_model.IntVar:
        """copied[a]; never if there is no price for copies."""
        copied = self.model.new_bool_var(f"copied[{a}]")
        if self._problem.copy_price is None:
            self.model.add(copied == 0)
        return copied

    def _num_cells(self, b: int) -> int:
        return 2 * len(self._readers[b]) + 1

    def _pass_events(self, a: int) -> list[tuple[list[cp_model.IntVar], list[cp_model.IntVar]]]:
        """passed[a, open, k] <= passed[a, open, k + 1] along all cells of all slots; passed[close] <= passed[open].

        Nothing is passed in the first cell, and all is passed in the last.
        """
        slots, found = self._problem.slots[a], []
        first = self.model.new_constant(0), self.model.new_constant(0)
        for s, (b, _) in enumerate(slots):
            num = self._num_cells(b)
            own: list[list[cp_model.IntVar]] = []
            for event in (0, 1):
                inner = [self.model.new_bool_var(f"passed[{a},{s},{event},{k}]") for k in range(1, num)]
                own.append([first[event], *inner])
                for earlier, later in pairwise(own[event]):
                    self.model.add_implication(earlier, later)
            for opened, closed in zip(*own):
                self.model.add_implication(closed, opened)
            first = own[0][-1], own[1][-1]
            found.append((own[0], own[1]))
        self.model.add_bool_and(*first)
        return found

    def _one_event_at_a_time(self, b: int) -> None:
        """sum(passed[e, k + 1] - passed[e, k] for events e of the block) <= 1."""
        events = [own for a, s in self._readers[b] for own in self._passed[a][s]]
        for k in range(self._num_cells(b) - 1):
            self.model.add(sum(own[k + 1] - own[k] for own in events) <= 1)

    def _store(self, b: int) -> list[cp_model.IntVar]:
        """keep[a, p] implies stored[c] for the channel c at p; some channel is stored."""
        always = self._problem.always_stored[b]
        stored = [
            self.model.new_constant(1) if own else self.model.new_bool_var(f"stored[{b},{c}]")
            for c, own in enumerate(always.tolist())
        ]
        for a, s in self._readers[b]:
            start = self._problem.slots[a][s][1].start
            for c in np.flatnonzero(~always).tolist():
                self.model.add_implication(self._keep[a][start + c], stored[c])
        if not always.any():
            self.model.add_bool_or(stored)
        return stored

    def _choose_cells(self, b: int) -> list[list[cp_model.IntVar]]:
        """sum(cell[c, k] for k) = stored[c]; cells do not descend along a pinned block."""
        cells = []
        for c, stored in enumerate(self._stored[b]):
            own = [self.model.new_bool_var(f"cell[{b},{c},{k}]") for k in range(self._num_cells(b))]
            self.model.add(sum(own) == stored)
            cells.append(own)
        if self._problem.blocks[b].pinned:
            for here, there in pairwise(cells):
                first, second = (sum(k * literal for k, literal in enumerate(own)) for own in (here, there))
                self.model.add(first <= second)
        return cells

    def _kept_channels_are_open(self, b: int) -> None:
        """keep[a, p] and cell[c, k] and not copied[a] imply passed[open, k] and not passed[close, k]."""
        for a, s in self._readers[b]:
            opened, closed = self._passed[a][s]
            start, copied = self._problem.slots[a][s][1].start, self._copied[a]
            for c, cells in enumerate(self._cell[b]):
                if time_now() >= self._deadline:
                    raise OutOfTimeError
                keep = self._keep[a][start + c]
                for k, cell in enumerate(cells):
                    self.model.add_bool_or(~keep, ~cell, copied, opened[k])
                    self.model.add_bool_or(~keep, ~cell, copied, ~closed[k])

    def _value(self, a: int) -> cp_model.LinearExprT:
        """loss and price of what a keeps, + over-read price * sum(covered[p]), + copy price * sum(keep[p] if copied).

        Where over-reading is not allowed, nothing may be covered.
        """
        problem, access = self._problem, self._problem.accesses[a]
        constant = problem.loss_price * int(access.largest_sums[-1])
        own = [access.price - problem.loss_price * int(weight) for weight in access.importance.tolist()]
        total: cp_model.LinearExprT = constant + cp_model.LinearExpr.weighted_sum(self._keep[a], own)
        over, copy = problem.over_read_price, problem.copy_price
        if over != 0:
            covered = self._count_covered(a)
            if over is not None:
                total = total + over * access.channel_size * sum(covered)
        if copy and access.width is not None:
            total = total + copy * access.channel_size * access.width * self._copied[a]
        elif copy:
            total = total + copy * access.channel_size * sum(self._gathered(a))
        return total

    def _count_covered(self, a: int) -> list[cp_model.IntVar]:
        """cell[c, k] and passed[open, k] and not passed[close, k] imply covered[p], keep[a, p] or copied[a]."""
        found = []
        for s, (b, positions) in enumerate(self._problem.slots[a]):
            opened, closed = self._passed[a][s]
            for c, cells in enumerate(self._cell[b]):
                if time_now() >= self._deadline:
                    raise OutOfTimeError
                allowed = [self._keep[a][positions.start + c], self._copied[a]]
                if self._problem.over_read_price is not None:
                    found.append(self.model.new_bool_var(f"covered[{a},{positions.start + c}]"))
                    allowed.append(found[-1])
                for k, cell in enumerate(cells):
                    self.model.add_bool_or(*allowed, ~cell, ~opened[k], closed[k])
        return found

    def _gathered(self, a: int) -> list[cp_model.IntVar]:
        """keep[a, p] and copied[a] imply gathered[a, p]."""
        found = []
        for p, keep in enumerate(self._keep[a]):
            found.append(self.model.new_bool_var(f"gathered[{a},{p}]"))
            self.model.add_bool_or(~keep, ~self._copied[a], found[-1])
        return found

    def _stored_price(self) -> cp_model.LinearExprT:
        """stored price * sum(stored[c])."""
        price = self._problem.stored_price
        return price * sum(sum(own) for own in self._stored) if price else 0

    def _break_reversal(self, b: int) -> None:
        """rank[open] + rank[close] <= number of events - 1 for the first reader, if the block may be reversed."""
        if self._may_be_reversed(b):
            opened, closed = self._passed[self._readers[b][0][0]][0]
            self.model.add(sum(opened) + sum(closed) >= self._num_cells(b))

    def _may_be_reversed(self, b: int) -> bool:
        alone = all(len(self._problem.slots[a]) == 1 for a, _ in self._readers[b])
        return bool(self._readers[b]) and alone and not self._problem.blocks[b].pinned

    def _hint(self, choice: JointChoice) -> None:
        """Hint at a choice: kept sets, read modes, and for every block the events and cells along its order."""
        evaluation = evaluation_of(self._problem, choice)
        for a, cost in enumerate(evaluation.accesses):
            self.model.add_hint(self._copied[a], cost.mode == COPY)
            for literal, kept in zip(self._keep[a], choice.kept[a].tolist()):
                self.model.add_hint(literal, kept)
        places = [self._event_places(a, choice, cost) for a, cost in enumerate(evaluation.accesses)]
        for b, order in enumerate(choice.order.channels):
            events = sorted(
                (place, kind, a, s)
                for a, s in self._readers[b]
                for kind, (slot, place) in enumerate(places[a])
                if slot == s
            )
            if self._may_be_reversed(b):
                first = [rank for rank, event in enumerate(events) if event[2] == self._readers[b][0][0]]
                if sum(first) > len(events) - 1:
                    order = order[::-1]
                    events = [(len(order) - place, 1 - kind, a, s) for place, kind, a, s in events[::-1]]
            ranks = {(a, s, kind): rank for rank, (_, kind, a, s) in enumerate(events)}
            for a, s in self._readers[b]:
                for kind in (0, 1):
                    rank = ranks.get((a, s, kind), -1 if places[a][kind][0] < s else self._num_cells(b))
                    for k, literal in enumerate(self._passed[a][s][kind][1:], start=1):
                        self.model.add_hint(literal, k > rank)
            cells = {c: sum(event[0] <= place for event in events) for place, c in enumerate(order.tolist())}
            for c, literals in enumerate(self._cell[b]):
                if not self._problem.always_stored[b][c]:
                    self.model.add_hint(self._stored[b][c], c in cells)
                for k, literal in enumerate(literals):
                    self.model.add_hint(literal, k == cells.get(c))

    def _event_places(self, a: int, choice: JointChoice, cost: AccessCost) -> list[tuple[int, int]]:
        """Slots in which an access opens and closes, and the channels before that in the block; copies at the end."""
        lengths = [len(choice.order[b]) for b, _ in self._problem.slots[a]]
        if cost.mode == COPY:
            return 2 * [(len(lengths) - 1, lengths[-1])]
        ends = np.cumsum(lengths)
        found = []
        for kept, shift in ((cost.start, 0), (cost.start + cost.span - 1, 1)):
            slot = int(np.searchsorted(ends, kept, side="right"))
            found.append((slot, kept - int(ends[slot]) + lengths[slot] + shift))
        return found
