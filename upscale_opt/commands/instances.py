"""Solving an instance file instead of a model. Loads no torch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from problems import Problem, objective_named
from upscale_opt.commands import options
from upscale_opt.commands.next_steps import Step, again, next_text
from upscale_opt.commands.sessions import Search, default_objective, say
from upscale_opt.comparing import reports
from upscale_opt.comparing.gains import orders_text
from upscale_opt.planning.solutions import Solutions

_WHY_INSTANCES = (
    "Every access keeps some of the channels. It reads fast what lies side by side in memory; else it reads unwanted "
    "channels, too, or copies the wanted ones first. Channels that the same accesses keep are a class."
)


def settled(search: Search, problem: Problem) -> Search:
    """The search with an objective: the one asked for, or the default one, by whether there are cost tables.

    Greedy keeps no constraints; where there are some, `identity` takes its place.
    """
    if problem.constraints:
        search = replace(search, solvers=["identity", *(name for name in search.solvers if name != "greedy")])
    if search.objective is not None:
        return search
    return replace(search, objective=default_objective(all(access.table is not None for access in problem.accesses)))


def solve_instance(problem: Problem, search: Search, json: Path | None, *, segments: bool = False) -> Solutions:
    """Solve one problem, print the orders and write the document. Returns the results under the problem's name."""
    problems = {problem.name: problem}
    solutions: Solutions = {problem.name: {}}
    costs = "instance" if objective_named(search.settled).uses_tables else None

    def document(**extra: Any) -> dict[str, Any]:
        return reports.document(
            problems,
            solutions,
            search.solvers,
            model=None,
            amount=None,
            objective=search.settled,
            costs=costs,
            **extra,
        )

    try:
        for _, name, result in search.run(problems):
            solutions[problem.name][name] = result
    except KeyboardInterrupt as stopped:
        options.write_json(document(stopped=stopped), json)
        print(f"interrupted{f'; the best orders so far are in {json}' if json else ''}", file=sys.stderr)
        raise
    say(f"{problem}. {_WHY_INSTANCES}\n", hanging=0)
    say(orders_text(problems, solutions, search.solvers, objective=search.settled, costs=costs))
    if segments:
        title = f"{problem}, objective {search.settled}"
        say("\n" + reports.table(problems, solutions, search.solvers, title=title, costs=costs))
    options.write_json(document(), json)
    return solutions


def next_steps(problem: Problem, search: Search) -> str:
    """What to do with a solved instance. Instances with bundles or constraints have no proofs."""
    provable = not search.proof and not problem.bundles and not problem.constraints
    steps = [Step("read why no order is better", [again("solve", "--proof")])] if provable else []
    return next_text([*steps, Step("see the accesses and their channels before and after", [again("show")])])
