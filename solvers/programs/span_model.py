"""The solver `cp-sat` on objectives that let accesses read unwanted channels along: a local search, then a program.

The program orders the ends of spans (`event_model`). Exact optima of groups of accesses give the inequalities that its
relaxation lacks.
"""

from __future__ import annotations

import time

from problems import Order
from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.programs.event_model import EventModel
from solvers.programs.formulation import Formulation, formulations
from solvers.programs.groups import Group, bound_by_groups
from solvers.programs.program import search_formulations
from solvers.spans.heuristics.chains import offer_chains

_CHAIN_SHARE = 0.2  # share: of the time for a local search; by hand
_GROUP_SHARE = 0.3  # share: of the time for groups of accesses; by hand


def solve_spans(task: Task, config: SearchSettings, incumbent: Incumbent) -> dict[str, int | float]:
    """Minimise over-reading and copying; improves the incumbent, returns figures for reports."""
    offer_chains(task, incumbent, deadline=_share(task, _CHAIN_SHARE))
    stats: dict[str, int | float] = {"chain_value": incumbent.value}
    groups: list[Group] = []
    if not task.objective.uses_tables:
        groups = bound_by_groups(task, incumbent, work=config.group_work, deadline=_share(task, _GROUP_SHARE))
        stats |= {"groups": len(groups), "group_bound": incumbent.bound}

    def build(form: Formulation, own: Task, start: Order) -> EventModel:
        return EventModel(form, own, start, groups)

    method = "CP-SAT over the orders of the accesses' ends, with exact costs of groups as cuts"
    return stats | search_formulations(
        task, config, incumbent, formulations(task, counts_pieces=False), build, method=method
    )


def _share(task: Task, share: float) -> float:
    """The time when a share of what remains is used up, as a `time.perf_counter` reading."""
    return time.perf_counter() + share * task.remaining
