"""The checker: it evaluates any order again, and checks the claims of any proof. It uses no solver.

    python -m problems.checking INSTANCE [--order FILE | --solution FILE] [--proof FILE]
    python -m problems.checking JOINT_PROBLEM [--solution FILE]

prints one line per statement: verified, on trust, or WRONG. The exit code is 0 if nothing is wrong, 1 if something is
wrong, and 2 for bad input.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from problems.checker.joint_checks import check_joint_files, is_joint
from problems.checker.proof_checks import Standing, Statement, check_proof
from problems.conversions import of_kind, whole_number
from problems.errors import ProblemError
from problems.evaluation import evaluate
from problems.instances import read_instance
from problems.objectives import OBJECTIVES, Objective, in_units, objective_named
from problems.order import Order
from problems.order_files import read_order
from problems.problem import Problem
from problems.proof_files import read_proof
from problems.proofs import Claim, Kind, Proof
from problems.signatures import content_hash
from problems.solution_files import StatedSolution, StatedSolutions, read_stated


def check_order(
    problem: Problem, order: Order, objective: str | Objective, value: int | None = None
) -> tuple[Statement, ...]:
    """Whether an order is valid for the problem and has the claimed value (for tables in ticks).

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = random_masks(8, 2)
    >>> print(*check_order(problem, Order.identity(problem), "span", 2), sep="\\n")
    verified: the order places every stored channel once and leaves pinned blocks alone
    WRONG: its span is 2 (it is 1)
    """
    goal = objective_named(objective)
    value = None if value is None else whole_number(value, "the value")
    text = "the order places every stored channel once and leaves pinned blocks alone"
    try:
        of_kind(order, Order, "the order").require_valid(of_kind(problem, Problem, "the problem"))
    except ProblemError as error:
        return (Statement(text, Standing.WRONG, str(error)),)
    valid = Statement(text, Standing.VERIFIED)
    found = evaluate(problem, order, goal).value
    if value is None or value == found:
        return valid, Statement(f"its {goal.name} is {found}", Standing.VERIFIED)
    return valid, Statement(f"its {goal.name} is {value}", Standing.WRONG, f"it is {found}")


def check_solutions(problem: Problem, stated: StatedSolutions) -> tuple[Statement, ...]:
    """Whether a file of best-known solutions belongs to the problem, and whether all its statements are true.

    A bound is wrong if an order lies below it, verified if the problem is small enough to check it, and otherwise on
    trust. Solutions of another instance are wrong as a whole; they are not checked further.

    Raises
    ------
    ProblemError
        If a solution needs cost tables that the problem lacks.

    Examples
    --------
    >>> import tempfile
    >>> from problems.collection import load, save
    >>> name = "classical/random/8x8-s0"
    >>> _, path = save(name, tempfile.mkdtemp())
    >>> for statement in check_solutions(load(name), read_stated(path))[:4]:
    ...     print(statement)
    verified: the solutions are of this instance
    verified: the order places every stored channel once and leaves pinned blocks alone
    verified: its copies is 14
    verified: every order has copies >= 14
    """
    text = "the solutions are of this instance"
    if stated.instance != content_hash(problem):
        return (Statement(text, Standing.WRONG, "they have the hash of another one"),)
    statements = [Statement(text, Standing.VERIFIED)]
    for own in stated.solutions.values():
        found = [*check_order(problem, own.order, own.objective, own.value)]
        if found[-1].standing is Standing.VERIFIED and own.bound is not None:
            found.append(_bound(problem, own))
        if own.proven != (own.bound == own.value):
            claim = f"its {own.objective.name} {own.value} is {'' if own.proven else 'not '}proven optimal"
            found.append(Statement(claim, Standing.WRONG, f"the bound is {own.bound}"))
        statements += [statement for statement in found if statement not in statements]
    return tuple(statements)


def _bound(problem: Problem, own: StatedSolution) -> Statement:
    """Check a bound without a proof, of a solution whose value is right."""
    goal, bound = own.objective, own.bound or 0
    text = f"every order has {goal.name} >= {in_units(bound, problem.ticks if goal.uses_tables else 1)}"
    if bound > own.value:
        return Statement(text, Standing.WRONG, f"this one has {own.value}")
    if problem.bundles:
        return Statement(text, Standing.UNCHECKED, "units may change places, and proofs have no form for that yet")
    if problem.constraints:
        return Statement(text, Standing.UNCHECKED, "there are constraints, and proofs have no form for that yet")
    claim = Claim(Kind.SEARCH, max(bound, 0), f"search by {own.bound_solver}")
    found = check_proof(problem, Proof.of(problem, goal, max(bound, 0), [claim]))[-1]
    return Statement(
        text, found.standing, "there is no proof" if found.standing is Standing.UNCHECKED else found.reason
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = _Parser(prog="python -m problems.checking", description="Check orders and proofs.")
    parser.add_argument("instance", type=Path, help="The instance file.")
    orders = parser.add_mutually_exclusive_group()
    orders.add_argument("--order", type=Path, help="A plan, or an order file: an object with the field 'orders'.")
    orders.add_argument("--solution", type=Path, help="A file of best-known solutions (NAME.sol.json).")
    parser.add_argument("--proof", type=Path, help="A proof file.")
    parser.add_argument("--objective", help="Objective of the order. [default: the proof's, otherwise all that apply]")
    parser.add_argument("--value", type=int, help="Claimed value of the order; needs --objective or --proof.")
    try:
        statements = _statements(parser.parse_args(arguments))
    except ProblemError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what a terminal cannot show
    for statement in statements:
        print(statement)
    return 1 if any(statement.standing is Standing.WRONG for statement in statements) else 0


class _Parser(argparse.ArgumentParser):
    """Whose errors are those of files."""

    def error(self, message: str) -> NoReturn:
        """What is wrong with the command line."""
        raise ProblemError(f"{message}; --help says what can be given")


def _statements(given: argparse.Namespace) -> list[Statement]:
    """Check everything that the command line asks for."""
    if given.order is None and (given.objective is not None or given.value is not None):
        raise ProblemError("--objective and --value say what --order is to be evaluated for; add it, or leave them out")
    if is_joint(given.instance):
        if given.order is not None or given.proof is not None:
            raise ProblemError(
                f"{given.instance} is a joint problem, whose choices and proofs are in one file; give it as --solution"
            )
        return check_joint_files(given.instance, given.solution)
    problem = read_instance(given.instance)
    proof = None if given.proof is None else read_proof(given.proof)
    statements = [Statement(f"{given.instance} is an instance: {problem}", Standing.VERIFIED)]
    if given.solution is not None:
        stated = read_stated(given.solution)
        statements += check_solutions(problem, stated)
        values = [(own.objective, own.value) for own in stated.solutions.values()]
        if proof is not None and Standing.WRONG not in {own.standing for own in statements}:
            statements += [own for goal, value in values if goal == proof.objective for own in _below(proof, value)]
    elif given.order is not None:
        order = read_order(given.order, problem)
        for objective in _objectives(given, problem, proof):
            found = check_order(problem, order, objective, given.value)
            statements += [own for own in found if own not in statements]
            if proof is not None and proof.objective == objective and found[-1].standing is Standing.VERIFIED:
                statements += _below(proof, evaluate(problem, order, objective).value)
    return statements if proof is None else [*statements, *check_proof(problem, proof)]


def _below(proof: Proof, value: int) -> list[Statement]:
    """Compare an order's value with a proof: the value refutes the bound, or meets it (then the order is optimal)."""
    if value < proof.bound:
        return [Statement(f"the bound {proof.bound} is not above it", Standing.WRONG)]
    return [Statement("it meets the bound: no order is better if the proof holds", Standing.VERIFIED)][
        value > proof.bound :
    ]


def _objectives(given: argparse.Namespace, problem: Problem, proof: Proof | None) -> list[Objective]:
    """The objectives by which an order is evaluated."""
    if given.objective is not None:
        return [objective_named(given.objective)]
    if proof is not None:
        return [proof.objective]
    if given.value is not None:
        raise ProblemError("--value needs to know of which objective; give --objective")
    tables = all(access.table is not None for access in problem.accesses)
    return [goal for goal in OBJECTIVES.values() if tables or not goal.uses_tables]
