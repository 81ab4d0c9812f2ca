"""The checker: re-evaluates any order of any instance, and checks the claims of any proof; knows no solver.

    python -m problems.checking INSTANCE [--order FILE | --solution FILE] [--proof FILE]

prints a line per statement (verified, on trust, or WRONG) and ends with exit code 0 (nothing is wrong), 1 (something
is) or 2 (bad input).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from problems.errors import ProblemError
from problems.evaluation import OBJECTIVES, Objective, evaluate, objective_named
from problems.files import read_any_json, read_json, require_field
from problems.instances import read_instance
from problems.named_orders import order_by_names
from problems.order import Order
from problems.problem import MAX_SIZE, Problem
from problems.proof_checks import Standing, Statement, check_proof
from problems.proof_files import read_proof
from problems.proofs import Proof, require_provable
from problems.solutions import arrangement_from


def check_order(
    problem: Problem, order: Order, objective: str | Objective, value: int | None = None
) -> tuple[Statement, ...]:
    """Whether an order is one of the problem and has the value claimed (in ticks for tables).

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = random_masks(8, 2)
    >>> print(*check_order(problem, Order.identity(problem), "span", 2), sep="\\n")
    verified: the order places every stored channel once and leaves pinned blocks alone
    WRONG: its span is 2 (it is 1)
    """
    goal = objective_named(objective)
    text = "the order places every stored channel once and leaves pinned blocks alone"
    try:
        order.require_valid(problem)
    except ProblemError as error:
        return (Statement(text, Standing.WRONG, str(error)),)
    valid = Statement(text, Standing.VERIFIED)
    found = evaluate(problem, order, goal).value
    if value is None or value == found:
        return valid, Statement(f"its {goal.name} is {found}", Standing.VERIFIED)
    return valid, Statement(f"its {goal.name} is {value}", Standing.WRONG, f"it is {found}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m problems.checking", description="Check orders and proofs.")
    parser.add_argument("instance", type=Path, help="The instance file.")
    orders = parser.add_mutually_exclusive_group()
    orders.add_argument("--order", type=Path, help="A plan, or an object with the field 'orders': block to channels.")
    orders.add_argument("--solution", type=Path, help="A file of best-known solutions (NAME.sol.json).")
    parser.add_argument("--proof", type=Path, help="A proof file.")
    parser.add_argument("--objective", help="Of the order. [default: the proof's, otherwise all that apply]")
    parser.add_argument("--value", type=int, help="What the order is claimed to have; needs --objective or --proof.")
    given = parser.parse_args(arguments)
    try:
        statements = _statements(given)
    except ProblemError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for statement in statements:
        print(statement)
    return 1 if any(statement.standing is Standing.WRONG for statement in statements) else 0


def _statements(given: argparse.Namespace) -> list[Statement]:
    """Everything that was asked for, checked."""
    problem = read_instance(given.instance)
    proof = None if given.proof is None else read_proof(given.proof)
    if proof is not None:
        require_provable(problem)
    statements = [Statement(f"{given.instance} is an instance: {problem}", Standing.VERIFIED)]
    for objective, order, value in _orders(given, problem, proof):
        statements += [own for own in check_order(problem, order, objective, value) if own not in statements]
        if proof is not None and proof.objective == objective and statements[-1].standing is Standing.VERIFIED:
            statements += _below(proof, evaluate(problem, order, objective).value)
    return statements if proof is None else [*statements, *check_proof(problem, proof)]


def _below(proof: Proof, value: int) -> list[Statement]:
    """What an order's value says about a proof: it is refuted, or the order is optimal if it is right."""
    if value < proof.bound:
        return [Statement(f"the bound {proof.bound} is not above it", Standing.WRONG)]
    return [Statement("it meets the bound: no order is better if the proof holds", Standing.VERIFIED)][
        value > proof.bound :
    ]


def _orders(
    given: argparse.Namespace, problem: Problem, proof: Proof | None
) -> list[tuple[Objective, Order, int | None]]:
    """Objective, order and claimed value of everything to evaluate."""
    if given.solution is not None:
        return _read_solutions(given.solution, problem)
    if given.order is None:
        return []
    order = _read_order(given.order, problem)
    tables = all(access.table is not None for access in problem.accesses)
    goals = [goal for goal in OBJECTIVES.values() if tables or not goal.uses_tables]
    if given.objective or proof is not None:
        goals = [objective_named(given.objective) if given.objective else proof.objective]  # type: ignore[union-attr]
    if given.value is not None and len(goals) > 1:
        raise ProblemError("--value needs to know of which objective; give --objective")
    return [(goal, order, given.value) for goal in goals]


def _read_order(path: Path, problem: Problem) -> Order:
    """The orders by block name in a plan or in an object with that field, and its places if it has any."""
    document = read_any_json(path)
    by_block = require_field(document, "orders", dict, str(path))
    places = require_field({"places": {}, **document}, "places", dict, str(path))
    missing = [block.name for block in problem.blocks if block.name not in by_block]
    if missing:
        raise ProblemError(f"{path}: field 'orders' lacks the block {missing[0]!r}")
    orders = {
        block.name: _channels(by_block[block.name], f"{path}: orders[{block.name!r}]") for block in problem.blocks
    }
    try:
        return order_by_names(problem, orders, places)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def _read_solutions(path: Path, problem: Problem) -> list[tuple[Objective, Order, int | None]]:
    """Objective, order and claimed value of every solution in a file."""
    document = read_json(path, file_format="upscale_opt.solutions", version=1)
    found: list[tuple[Objective, Order, int | None]] = []
    for goal, raw in require_field(document, "solutions", dict, str(path)).items():
        where = f"{path}: solutions.{goal}"
        blocks = require_field(raw, "order", list, where)
        arrangement = arrangement_from(require_field({"arrangement": [], **raw}, "arrangement", list, where), where)
        order = Order([_channels(own, f"{where}: order[{b}]") for b, own in enumerate(blocks)], arrangement)
        found.append((objective_named(goal), order, require_field(raw, "value", int, where)))
    return found


def _channels(raw: Any, where: str) -> list[int]:
    """A list of channels and of runs [first, count]."""
    entries = raw if isinstance(raw, list) else [None]
    runs: list[Any] = [[entry, 1] if type(entry) is int else entry for entry in entries]
    for run in runs:
        whole = isinstance(run, list) and len(run) == 2 and all(type(number) is int for number in run)
        if not whole or not 0 <= run[0] <= MAX_SIZE or not 1 <= run[1] <= MAX_SIZE:
            raise ProblemError(f"{where} must list channels, or runs [first, count] of them")
    if sum(count for _, count in runs) > MAX_SIZE:
        raise ProblemError(f"{where} lists more than {MAX_SIZE} channels")
    return [first + k for first, count in runs for k in range(count)]


if __name__ == "__main__":
    sys.exit(main())
