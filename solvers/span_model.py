"""In which order accesses open and close: the model for objectives that let accesses read unwanted channels along.

Every block orders the ends of its rows (`event_block`); an access pays for what its rows cover in vain, or for a
copy. Exact optima of groups of accesses give the inequalities that the relaxation lacks.
"""

from __future__ import annotations

import time

import numpy as np
from ortools.sat.python import cp_model

from problems import Claim, Order
from solvers.chains import offer_chains
from solvers.event_block import EventBlock, OutOfTimeError
from solvers.groups import Group, combined_bound, group_weights, solved_groups
from solvers.incumbent import Incumbent
from solvers.proofs import claim, group_claims
from solvers.rows import class_bits, span_rows
from solvers.search import Values, run_search
from solvers.settings import SearchSettings
from solvers.task import Task

_CHAIN_SHARE = 0.2
_GROUP_SHARE = 0.3


def solve_spans(task: Task, config: SearchSettings, incumbent: Incumbent) -> dict[str, int | float]:
    """Minimise over-reading and copying; improves the incumbent, returns figures for reports."""
    offer_chains(task, incumbent, deadline=_share(task, _CHAIN_SHARE))
    groups = solved_groups(task, work=config.group_work, deadline=_share(task, _GROUP_SHARE))
    incumbent.raise_bound(
        min(combined_bound(groups, _single_costs(task)), incumbent.value),
        lambda _: _group_claims(task, groups),
        method="groups",
    )
    stats: dict[str, int | float] = {
        "chain_value": incumbent.value,
        "groups": len(groups),
        "group_bound": incumbent.bound,
    }
    if incumbent.closed or task.expired:
        return stats
    try:
        model = SpanModel(task, groups, incumbent.order)
    except OutOfTimeError:
        return stats
    incumbent.offer(model.tidied(incumbent.order))
    if incumbent.closed or task.expired:
        return stats

    def on_solution(values: Values) -> None:
        incumbent.offer(model.order(values))

    outcome = run_search(
        model.model, task, config, on_solution=on_solution, deterministic_time=config.max_deterministic_time
    )
    if outcome.bound is not None and outcome.values is not None:
        incumbent.offer(model.order(outcome.values))
        incumbent.raise_bound(
            min(outcome.bound, incumbent.value),
            lambda bound: [
                claim(
                    task.problem,
                    "search",
                    bound,
                    "CP-SAT over the orders of the accesses' ends, with exact costs of groups as cuts",
                    groups=len(groups),
                    branches=outcome.num_branches,
                )
            ],
        )
    return {**stats, "deterministic_time": outcome.deterministic_time}


def _group_claims(task: Task, groups: list[Group]) -> list[Claim]:
    """The groups that count, with exact multipliers."""
    alone = _single_costs(task)
    members, costs = [group.accesses for group in groups], [group.cost for group in groups]
    return group_claims(task.problem, members, costs, alone, group_weights(groups, alone)[0])


def _share(task: Task, share: float) -> float:
    """The time when a share of what remains is used up, as a `time.perf_counter` reading."""
    return time.perf_counter() + share * task.remaining


def _single_costs(task: Task) -> np.ndarray:
    """What every access costs on its own; int64, shape (num_accesses,)."""
    fixed = span_rows(task.problem).fixed
    nothing = np.zeros(1, dtype=np.int64)
    return np.array(
        [
            task.objective.costs(access, access.num_kept + fixed[a : a + 1], nothing)[0]
            for a, access in enumerate(task.problem.accesses)
        ],
        dtype=np.int64,
    )


class SpanModel:
    """The model; `model` is the CP-SAT part of it."""

    def __init__(self, task: Task, groups: list[Group], start: Order) -> None:
        self._task = task
        self._problem = problem = task.problem
        self._blocks: dict[int, EventBlock] = {}
        self.model = cp_model.CpModel()
        spans = span_rows(problem)
        excess: list[cp_model.LinearExprT] = [int(fixed) for fixed in spans.fixed]
        for b in range(len(problem.blocks)):
            rows = spans.of_block(b)
            if not rows:
                continue
            own = problem.classes.of_block(b)
            bits = class_bits(problem, b, (row.reader for row in rows))
            block = self._blocks[b] = EventBlock(
                self.model, rows, problem.classes.weight[own], bits, deadline=task.deadline
            )
            for i, row in enumerate(rows):
                excess[row.access] = excess[row.access] + block.excess(i)
            block.hint(self._class_positions(start, b))
        cost = self._pay(excess)
        self._bound_groups(groups, cost)
        self.model.minimize(sum(cost))

    def order(self, values: Values) -> Order:
        """The order of a solution."""
        return self._order_by({b: block.sequence(values) for b, block in self._blocks.items()})

    def tidied(self, order: Order) -> Order:
        """An order made of whole classes, each at the place of its first channel in the given one."""
        return self._order_by({b: block.tidied(self._class_positions(order, b)) for b, block in self._blocks.items()})

    def _class_positions(self, order: Order, b: int) -> np.ndarray:
        """Position of the first channel of every class of a block."""
        position = np.empty(self._problem.blocks[b].size, dtype=np.int64)
        position[order[b]] = np.arange(len(order[b]))
        classes = self._problem.classes
        return np.array([position[classes.members[s]].min() for s in classes.of_block(b)])

    def _order_by(self, sequence: dict[int, np.ndarray]) -> Order:
        everything: list[int] = []
        for b in range(len(self._problem.blocks)):
            own = self._problem.classes.of_block(b)
            everything.extend(own[sequence[b]] if b in sequence else own)
        return Order.of_classes(self._problem, everything)

    def _pay(self, excess: list[cp_model.LinearExprT]) -> list[cp_model.LinearExprT]:
        """cost[a] = channel_size * (alpha * over[a] + gamma * |K| * copied[a]), over[a] >= excess[a] if not copied[a].

        Without gamma there is no copying and over[a] = excess[a].
        """
        alpha, gamma = self._task.objective.alpha, self._task.objective.gamma
        cost: list[cp_model.LinearExprT] = []
        for a, access in enumerate(self._problem.accesses):
            price = (alpha or 0) * access.channel_size
            if gamma is None:
                cost.append(price * excess[a])
                continue
            width = sum(len(self._problem.stored[b]) for b in access.blocks)
            over = self.model.new_int_var(0, width, f"over[{access.name}]")
            copied = self.model.new_bool_var(f"copied[{access.name}]")
            self.model.add(over >= excess[a]).only_enforce_if(~copied)
            cost.append(price * over + gamma * access.channel_size * access.num_kept * copied)
        return cost

    def _bound_groups(self, groups: list[Group], cost: list[cp_model.LinearExprT]) -> None:
        """sum(cost[a] for a in G) >= optimum of G alone (redundant)."""
        for group in groups:
            self.model.add(sum(cost[a] for a in group.accesses) >= group.cost)
