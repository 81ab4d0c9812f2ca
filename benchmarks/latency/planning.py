"""The plans of a cell's variants. This is the part that needs solvers."""

from __future__ import annotations

from benchmarks.latency.cells import Subject
from solvers import solve
from upscale_opt import Plan, extract, plan
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.latency.readings import cheapest_readings, tables_of


def plans_of(subject: Subject, costs: MeasuredCosts, *, time_limit: float) -> dict[str, Plan]:
    """Per variant, its plan; only for variants with their own orders.

    Parameters
    ----------
    subject
        The masked network.
    costs
        The costs; measured ones if there are any.
    time_limit
        Seconds per segment and solver.
    """
    masks, seed = subject.masks, subject.cell.seed
    problems = extract(subject.graph, masks, costs=costs)

    def solved(solver: str, objective: str) -> Plan:
        results = {
            name: solve(problem, solver=solver, objective=objective, time_limit=time_limit, seed=seed)
            for name, problem in problems.items()
        }
        return plan(problems, masks, results)

    tables = tables_of(subject.masked, costs)
    greedy = solved("greedy", "copies")
    return {
        "greedy": greedy,
        "greedy, cheapest reads": cheapest_readings(greedy, problems, tables)[0],
        "exact copies": solved("auto", "copies"),
        "exact latency": cheapest_readings(solved("auto", "latency"), problems, tables)[0],
    }
