"""Where every class lies: one constraint program for every objective, one method per constraint.

What moves is a signature class or a single channel. Its position is the number of channels before it in its block; an
access sees it behind the blocks that it reads before. Where bundles may be arranged, these depend on places.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ortools.sat.python import cp_model

from problems import FixedPlace, Order
from solvers.common.clock import time_now
from solvers.common.incumbent import Incumbent
from solvers.common.search import OutOfTimeError, Values
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.common.unit_kinds import unit_kinds
from solvers.programs.formulation import Formulation, formulations
from solvers.programs.program import search_formulations
from solvers.programs.read_modes import ReadModes


def search_places(
    task: Task, settings: SearchSettings, incumbent: Incumbent, *, counts_pieces: bool
) -> dict[str, int | float]:
    """Let CP-SAT place the units of every block; improves the incumbent, returns figures for reports.

    Parameters
    ----------
    task, settings, incumbent
        The solve, of any objective; places of a bundle's units are chosen, too.
    counts_pieces
        As for `formulations`.
    """
    programs = formulations(task, counts_pieces=counts_pieces)
    method = "CP-SAT over the places of units and classes"
    return search_formulations(task, settings, incumbent, programs, DirectModel, method=method)


class DirectModel:
    """The model; `model` is the CP-SAT part of it.

    Parameters
    ----------
    form
        Units and costs.
    task
        Gives the deadline.
    start
        The order to hint at.

    Raises
    ------
    OutOfTimeError
        If the deadline passes.
    """

    def __init__(self, form: Formulation, task: Task, start: Order) -> None:
        self._form = form
        self._problem = form.problem
        self._deadline = task.deadline
        self._follows: dict[int, list[tuple[int, int, cp_model.IntVar]]] = {}
        self.model = cp_model.CpModel()
        self._position = self._place_units(start)
        self._order_twins()
        self._keep_constraints()
        self._places = [self._arrange(i, start) for i in range(len(self._problem.bundles))]
        cost: list[cp_model.LinearExprT] = []
        for a in range(len(self._problem.accesses)):
            if time_now() >= self._deadline:
                raise OutOfTimeError
            cost.append(self._runs(a) if form.modes is None else self._pay(a, form.modes[a]))
        self.model.minimize(sum(cost))

    def order(self, values: Values) -> Order:
        """The order of a solution."""
        free = [b for b, block in enumerate(self._problem.blocks) if not block.pinned]
        units = self._form.units
        return self._form.order(
            {
                b: np.argsort([values(self._position[s]) for s in units.of_block(b).tolist()], kind="stable")
                for b in free
            },
            [np.argsort([values(place) for place in places]) for places in self._places],
        )

    def _place_units(self, start: Order) -> list[cp_model.LinearExprT]:
        """no_overlap([position[s], position[s] + weight[s]) for s in block); fixed numbers in pinned blocks."""
        units, position = self._form.units, []
        for b, block in enumerate(self._problem.blocks):
            size = len(self._problem.stored[b])
            intervals = []
            for s, hint in zip(units.of_block(b).tolist(), self._form.positions(start, b).tolist()):
                weight = int(units.weight[s])
                if block.pinned:
                    position.append(hint)
                    continue
                variable = self.model.new_int_var(0, size - weight, f"position[{s}]")
                self.model.add_hint(variable, hint)
                intervals.append(self.model.new_fixed_size_interval_var(variable, weight, f"unit[{s}]"))
                position.append(variable)
            self.model.add_no_overlap(intervals)
        return position

    def _order_twins(self) -> None:
        """position[s] < position[t] for single channels s before t that the same readers keep (symmetry)."""
        units = self._form.units
        if not self._form.single_channels:
            return
        for s, t in pairwise(range(len(units))):
            b = units.block[s]
            alike = b == units.block[t] and np.array_equal(units.signature[s], units.signature[t])
            if self._form.constrained[[s, t]].any():
                continue
            if alike and not self._problem.blocks[b].pinned:
                self.model.add(self._position[s] < self._position[t])

    def _keep_constraints(self) -> None:
        """position[s] = place, for a fixed place; position[s] < position[t], for a precedence. Units are channels."""
        units = self._form.units
        unit = {(int(b), int(own[0])): s for s, (b, own) in enumerate(zip(units.block, units.members, strict=True))}
        for own in self._problem.constraints:
            first, *later = (self._position[unit[own.block, channel]] for channel in own.channels)
            if isinstance(own, FixedPlace):
                self.model.add(first == own.place % len(self._problem.stored[own.block]))
            else:
                self.model.add(first < later[0])

    def _arrange(self, i: int, start: Order) -> list[cp_model.IntVar]:
        """all_different(place[u] for the units u of a bundle); place[u] < place[v] for u before v of one kind."""
        bundle = self._problem.bundles[i]
        hint = np.argsort(start.arrangement[i]) if start.arrangement else np.arange(len(bundle.units))
        places = [self.model.new_int_var(0, len(bundle.units) - 1, f"place[{i},{u}]") for u in range(len(hint))]
        self.model.add_all_different(places)
        latest: dict[int, int] = {}
        for u, kind in enumerate(unit_kinds(self._problem, bundle)):
            if kind in latest:
                self.model.add(places[latest[kind]] < places[u])
            latest[kind] = u
        for u, place in enumerate(places):
            self.model.add_hint(place, int(hint[u]))
        return places

    def _offsets(self, a: int) -> list[cp_model.LinearExprT]:
        """Per block that an access reads, the channels in its input before it: offset = before[place of the unit]."""
        blocks = self._problem.accesses[a].blocks
        widths = [len(self._problem.stored[b]) for b in blocks]
        before = np.cumsum([0, *widths[:-1]])
        offsets: list[cp_model.LinearExprT] = before.tolist()
        slots = {b: np.flatnonzero(np.array(blocks) == b) for b in set(blocks)}
        for i, bundle in enumerate(self._problem.bundles):
            for column in zip(*bundle.units, strict=True):
                for often in range(len(slots.get(column[0], ()))):
                    own = [int(slots[b][often]) for b in column]
                    for u, slot in enumerate(own):
                        name = f"offset[{a},{slot}]"
                        offset = self.model.new_int_var_from_domain(cp_model.Domain.from_values(before[own]), name)
                        self.model.add_element(self._places[i][u], before[own].tolist(), offset)
                        offsets[slot] = offset
        return offsets

    def _span(self, a: int) -> cp_model.IntVar:
        """span = last - first, first <= offset + position[s], last >= offset + position[s] + weight[s], s kept by a.

        The offset of an occurrence of a block is the number of channels in the access's input before it.
        """
        access, units = self._problem.accesses[a], self._form.units
        width = sum(len(self._problem.stored[b]) for b in access.blocks)
        first = self.model.new_int_var(0, width - access.num_kept, f"first[{access.name}]")
        last = self.model.new_int_var(access.num_kept, width, f"last[{access.name}]")
        for (r, b), offset in zip(self._occurrences(a), self._offsets(a), strict=True):
            for s in self._kept_units(r, b):
                self.model.add(first <= offset + self._position[s])
                self.model.add(last >= offset + self._position[s] + int(units.weight[s]))
        span = self.model.new_int_var(access.num_kept, width, f"span[{access.name}]")
        self.model.add(span == last - first)
        return span

    def _pay(self, a: int, modes: ReadModes) -> cp_model.LinearExprT:
        """cost >= the cost of the one read mode that is chosen."""
        name = self._problem.accesses[a].name
        most = max(int(modes.over_read.max()), modes.copy or 0)
        cost = self.model.new_int_var(int(modes.over_read.min()), most, f"cost[{name}]")
        chosen = self._over_read(a, modes, cost)
        if modes.copy is not None:
            chosen.append(self._copy(a, modes.copy, cost))
        if modes.pieces is not None:
            chosen.append(self._pieces(a, modes.pieces, cost))
        self.model.add_exactly_one(chosen)
        return cost

    def _over_read(self, a: int, modes: ReadModes, cost: cp_model.IntVar) -> list[cp_model.IntVar]:
        """read[j] implies first[j] <= span - kept <= last[j] and cost >= intercept[j] + slope[j] * (span - kept).

        One literal for every linear piece of the cost; a view is an over-read of nothing.
        """
        access = self._problem.accesses[a]
        excess = self._span(a) - access.num_kept
        chosen = []
        for segment in modes.segments:
            read = self.model.new_bool_var(f"read[{access.name},{segment.first}]")
            self.model.add_linear_constraint(excess, segment.first, segment.last).only_enforce_if(read)
            self.model.add(cost >= segment.intercept + segment.slope * excess).only_enforce_if(read)
            chosen.append(read)
        return chosen

    def _copy(self, a: int, price: int, cost: cp_model.IntVar) -> cp_model.IntVar:
        """copied implies cost >= price."""
        copied = self.model.new_bool_var(f"copied[{self._problem.accesses[a].name}]")
        self.model.add(cost >= price).only_enforce_if(copied)
        return copied

    def _pieces(self, a: int, prices: np.ndarray, cost: cp_model.IntVar) -> cp_model.IntVar:
        """joined implies runs <= listed and cost >= prices[runs], where prices do not decrease."""
        name = self._problem.accesses[a].name
        joined = self.model.new_bool_var(f"joined[{name}]")
        most = len(prices) + 1
        runs = self.model.new_int_var(2, most, f"runs[{name}]")
        self.model.add(runs >= self._runs(a)).only_enforce_if(joined)
        price = self.model.new_int_var(int(prices[0]), int(prices[-1]), f"price[{name}]")
        self.model.add_element(runs - 2, prices.tolist(), price)
        self.model.add(cost >= price).only_enforce_if(joined)
        return joined

    def _runs(self, a: int) -> cp_model.LinearExprT:
        """runs = sum(1 for kept units) - sum(follows[s, t] for kept s, t) - sum(joins across block boundaries).

        Not for problems with bundles, whose borders are not the same in all arrangements.
        """
        total: cp_model.LinearExprT = 0
        readers = self._occurrences(a)
        for r, b in readers:
            total = total + self._runs_within(r, b)
        for (r, b), (r_next, b_next) in pairwise(readers):
            total = total - self._join(r, b, r_next, b_next)
        return total

    def _runs_within(self, r: int, b: int) -> cp_model.LinearExprT:
        """Runs of one occurrence of a block: kept units less those that follow another kept one."""
        own = self._form.units.of_block(b)
        kept = self._form.units.signature[own, r]
        if self._problem.blocks[b].pinned:
            return int(np.count_nonzero(kept[1:] & ~kept[:-1])) + int(kept[0])
        inside = [arc for s, t, arc in self._successors(b) if s > 0 and t > 0 and kept[s - 1] and kept[t - 1]]
        return int(np.count_nonzero(kept)) - sum(inside)

    def _join(self, r: int, b: int, r_next: int, b_next: int) -> cp_model.IntVar:
        """join <= 1 if the last unit of b is kept by r, join <= 1 if the first unit of b_next is kept by r_next."""
        join = self.model.new_bool_var(f"join[{r}]")
        self.model.add(join <= self._kept_at_end(r, b, last=True))
        self.model.add(join <= self._kept_at_end(r_next, b_next, last=False))
        return join

    def _kept_at_end(self, r: int, b: int, *, last: bool) -> cp_model.LinearExprT:
        """Whether reader r keeps the last (first) unit of its block: 0 or 1."""
        kept = self._form.units.signature[self._form.units.of_block(b), r]
        if self._problem.blocks[b].pinned:
            return int(kept[-1 if last else 0])
        ends = [(s, arc) if last else (t, arc) for s, t, arc in self._successors(b) if (t if last else s) == 0]
        return sum(arc for s, arc in ends if kept[s - 1])

    def _successors(self, b: int) -> list[tuple[int, int, cp_model.IntVar]]:
        """circuit(follows), follows[s, t] implies position[t] = position[s] + weight[s]; node 0 is both ends.

        Units are counted from 1 within the block; made when runs are first asked for.
        """
        if b in self._follows:
            return self._follows[b]
        own, weight = self._form.units.of_block(b).tolist(), self._form.units.weight
        arcs = []
        for s in range(len(own) + 1):
            if time_now() >= self._deadline:
                raise OutOfTimeError
            for t in range(len(own) + 1):
                if s == t:
                    continue
                arc = self.model.new_bool_var(f"follows[{b},{s},{t}]")
                arcs.append((s, t, arc))
                if t == 0:
                    continue
                end = 0 if s == 0 else self._position[own[s - 1]] + int(weight[own[s - 1]])
                self.model.add(self._position[own[t - 1]] == end).only_enforce_if(arc)
        self.model.add_circuit(arcs)
        self._follows[b] = arcs
        return arcs

    def _occurrences(self, a: int) -> list[tuple[int, int]]:
        """The readers of an access with their blocks, in the order of the concatenation."""
        return [(r, reader.block) for r, reader in enumerate(self._problem.readers) if reader.access == a]

    def _kept_units(self, r: int, b: int) -> list[int]:
        """The units of its block that reader r keeps."""
        own = self._form.units.of_block(b)
        return own[self._form.units.signature[own, r]].tolist()
