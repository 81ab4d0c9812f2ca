"""In which order accesses open and close: the constraint program for every objective that can be read off spans.

Every block orders the ends of its rows (`event_block`); an access pays for what its rows cover in vain, or for a copy.
"""

from __future__ import annotations

from ortools.sat.python import cp_model

from problems import Order
from solvers.common.rows import span_rows
from solvers.common.search import Values
from solvers.common.task import Task
from solvers.programs.event_block import EventBlock
from solvers.programs.formulation import Formulation
from solvers.programs.read_modes import ReadModes


class EventModel:
    """The model; `model` is the CP-SAT part of it.

    Parameters
    ----------
    form
        Units and costs, which list no pieces.
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
        assert form.modes is not None
        self._form = form
        self._names = [access.name for access in form.problem.accesses]
        self._blocks: dict[int, EventBlock] = {}
        self.model = cp_model.CpModel()
        excess = self._order_blocks(task.deadline)
        cost = [self._pay(a, modes, excess[a]) for a, modes in enumerate(form.modes)]
        self.model.minimize(sum(cost))
        for b, block in self._blocks.items():
            block.hint(form.positions(start, b))

    def order(self, values: Values) -> Order:
        """The order of a solution."""
        return self._form.order({b: block.sequence(values) for b, block in self._blocks.items()})

    def _order_blocks(self, deadline: float) -> list[cp_model.LinearExprT]:
        """excess[a] = what no order can change + what the rows of a cover in vain."""
        form, spans = self._form, span_rows(self._form.problem)
        excess: list[cp_model.LinearExprT] = [int(fixed) for fixed in spans.fixed]
        for b in range(len(form.problem.blocks)):
            rows = spans.of_block(b)
            if not rows:
                continue
            own = form.units.of_block(b)
            bits = form.units.signature[own][:, [row.reader for row in rows]]
            block = self._blocks[b] = EventBlock(
                self.model, rows, form.units.weight[own], bits, deadline=deadline, merge=not form.single_channels
            )
            for i, row in enumerate(rows):
                excess[row.access] = excess[row.access] + block.excess(i)
        return excess

    def _pay(self, a: int, modes: ReadModes, excess: cp_model.LinearExprT) -> cp_model.LinearExprT:
        """cost = sum(intercept[j] * read[j] + slope[j] * over[j]) + copy * copied, one of read[j] and copied holds.

        first[j] * read[j] <= over[j] <= last[j] * read[j], and sum(over[j]) >= excess if not copied.
        """
        if len(modes.segments) == 1:
            return self._pay_one_line(a, modes, excess)
        name = self._names[a]
        chosen, over, price = [], [], []
        for segment in modes.segments:
            read = self.model.new_bool_var(f"read[{name},{segment.first}]")
            part = self.model.new_int_var(0, segment.last, f"over[{name},{segment.first}]")
            self.model.add(part >= segment.first * read)
            self.model.add(part <= segment.last * read)
            price.append(segment.intercept * read + segment.slope * part)
            chosen.append(read)
            over.append(part)
        everything = self.model.add(sum(over) >= excess)
        if modes.copy is not None:
            copied = self.model.new_bool_var(f"copied[{name}]")
            everything.only_enforce_if(~copied)
            chosen.append(copied)
            price.append(modes.copy * copied)
        self.model.add_exactly_one(chosen)
        return sum(price)

    def _pay_one_line(self, a: int, modes: ReadModes, excess: cp_model.LinearExprT) -> cp_model.LinearExprT:
        """cost = view + slope * over + (copy - view) * copied, over >= excess if not copied.

        Without a copy over = excess.
        """
        (segment,) = modes.segments
        if modes.copy is None:
            return segment.cost + segment.slope * excess
        over = self.model.new_int_var(0, modes.max_excess, f"over[{self._names[a]}]")
        copied = self.model.new_bool_var(f"copied[{self._names[a]}]")
        self.model.add(over >= excess).only_enforce_if(~copied)
        if segment.last < modes.max_excess:
            self.model.add(over <= segment.last)
        return segment.cost + segment.slope * over + (modes.copy - segment.cost) * copied
