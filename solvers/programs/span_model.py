"""The solver `cp-sat` on objectives that let accesses read unwanted channels along: bounds, then a program.

A local search gives an order, accesses that cannot all be views a first bound, whose proof can be checked; the program
orders the ends of spans (`event_model`).
"""

from __future__ import annotations

from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.programs.event_model import EventModel
from solvers.programs.formulation import formulations
from solvers.programs.program import search_formulations
from solvers.spans.heuristics.local_search import SpanClimb
from solvers.views.view_bound import bound_by_conflicts

_CONFLICT_SHARE = 0.1  # share: of the time for the covering problem; by hand
_CLIMB_SHARE = 0.2  # share: of the time for a local search; by hand
_PATIENCE = 5  # rounds: of the local search that may be in vain; by hand


def solve_spans(task: Task, config: SearchSettings, incumbent: Incumbent) -> dict[str, int | float]:
    """Minimise over-reading and copying; improves the incumbent, returns figures for reports."""
    climb = SpanClimb(task.within(_CLIMB_SHARE), incumbent)
    stats: dict[str, int | float] = {"steps": climb.run([task.start], _PATIENCE)}
    if not incumbent.closed and not task.expired:
        stats |= bound_by_conflicts(task.within(_CONFLICT_SHARE), incumbent)
    programs = formulations(task, counts_pieces=False)
    method = "CP-SAT over the orders of the accesses' ends"
    return stats | search_formulations(task, config, incumbent, programs, EventModel, method=method)
