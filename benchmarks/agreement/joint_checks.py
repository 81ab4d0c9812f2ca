"""One tiny joint problem: enumeration, constraint program, relaxation and heuristics, and the checks of every answer.

The enumeration of the product counts as true. Where there are few choices, it is compared with a second one that shares
no code with it (`tests/oracles/all_joint_choices.py`). The values of random choices are compared for every problem.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from oracles.all_joint_choices import AllJointChoices

from benchmarks.agreement.checks import Contradiction, Outcome
from benchmarks.agreement.joint_instances import random_joint_problem
from problems import JointChoice, JointProblem, ProblemError, check_joint_certificate, evaluate_joint
from problems.checker.joint_checks import check_joint_solution
from problems.checker.proof_checks import Standing
from problems.joint.enumeration import best_of_all
from problems.joint.files import joint_in, joint_solution_in, joint_solution_text, joint_text
from solvers import JointResult, SolverError, Status, choose_jointly, joint_bound

MOST_CHOICES = 600
"""Most choices of a problem that the second enumeration goes through."""

EXACT = ("auto", "cp-sat", "brute-force")
"""Methods whose answers must be proven optimal on problems of this size."""

OTHERS = ("auto", *5 * ("sequential",), "auto", *3 * ("brute-force",), "local-search", *5 * ("sequential",))
"""Methods of which one is asked beside `cp-sat`, by the seed; the two with a local search take ten times as long."""

BOUND_SECONDS = 0.01
"""Seconds for the ascent of the relaxation: its bound holds whenever it ends."""

TIME_LIMIT = 20.0
"""Seconds per answer; no method needs them."""


def check_joint_seed(seed: int) -> Outcome:
    """Draw the joint problem of a seed, solve it in every way, and compare."""
    problem = random_joint_problem(seed)
    outcome = Outcome({"name": problem.name, "text": joint_text(problem)})
    for who, text in _flaws(problem, outcome, seed):
        outcome.contradictions.append(Contradiction(str(problem), who, text))
    return outcome


def _flaws(problem: JointProblem, outcome: Outcome, seed: int) -> Iterator[tuple[str, str]]:
    rng, counts = np.random.default_rng([seed, 8]), outcome.counts
    try:
        if joint_in(joint_text(problem).encode(), "the file") != problem:
            yield "file", "is another problem once written"
    except ProblemError as error:
        yield "file", f"is refused: {error}"
    oracle = AllJointChoices(problem)
    truth = evaluate_joint(problem, best_of_all(problem)).value
    if oracle.number <= MOST_CHOICES:
        counts["enumerated twice"] += 1
        if (other := oracle.least()) != truth:
            yield "enumeration", f"says {truth}, the other one {other}"
    for _ in range(3):
        yield from (("evaluate", text) for text in _misjudged(problem, oracle, rng))
    if problem.free_sets_bound > truth:
        yield "free sets", f"bound {problem.free_sets_bound} is above the optimum {truth}"
    certificate = joint_bound(problem, time_limit=BOUND_SECONDS)
    if check_joint_certificate(problem, certificate) > truth:
        yield "relaxation", f"bound {certificate.bound} is above the optimum {truth}"
    counts["free sets are optimal"] += problem.free_sets_bound == truth
    counts["relaxation is tight"] += max(certificate.bound, problem.free_sets_bound) == truth
    for method in ("cp-sat", OTHERS[seed % len(OTHERS)]):
        try:
            result = choose_jointly(problem, method, time_limit=TIME_LIMIT, seed=int(rng.integers(1000)))
        except SolverError as error:
            yield method, str(error)
            continue
        except Exception as error:
            yield method, f"raises {type(error).__name__}: {error}"
            continue
        counts["answers"] += 1
        counts["optimal"] += result.status is Status.OPTIMAL
        counts[f"{method} is optimal"] += result.value == truth
        if method == "cp-sat":
            counts["optimum has a cost"] += result.totals.cost > 0
        yield from ((method, text) for text in _false(problem, oracle, result, truth))
        if method in EXACT and result.status is not Status.OPTIMAL:
            yield method, f"proves nothing: {result}"


def _misjudged(problem: JointProblem, oracle: AllJointChoices, rng: np.random.Generator) -> Iterator[str]:
    """Compare the value of a random choice with the oracle's."""
    kept = [own[int(rng.integers(len(own)))] for own in map(oracle.sets, range(problem.num_accesses))]
    stored = oracle.stored(kept)
    order = [
        own if block.pinned else rng.permutation(own).tolist()
        for block, own in zip(problem.blocks, stored, strict=True)
    ]
    masks = [np.isin(np.arange(len(a.importance)), sorted(own)) for a, own in zip(problem.accesses, kept)]
    found = evaluate_joint(problem, JointChoice(order, masks)).value
    if found != oracle.value(order, kept):
        yield f"says {found}, the oracle {oracle.value(order, kept)}"


def _false(problem: JointProblem, oracle: AllJointChoices, result: JointResult, truth: int) -> Iterator[str]:
    """The false statements of a result, of its file, and of its proof."""
    kept = [frozenset(np.flatnonzero(own).tolist()) for own in result.kept]
    if any(own not in oracle.sets(a) for a, own in enumerate(kept)):
        yield "an access keeps a set that it may not keep"
        return
    own = oracle.value([part.tolist() for part in result.order.channels], kept)
    if own != result.value:
        yield f"says {result.value}, its choice costs {own}"
    if result.value < truth:
        yield f"says {result.value}, below the optimum {truth}"
    if result.bound > truth:
        yield f"bound {result.bound} is above the optimum {truth}"
    if result.status is Status.OPTIMAL and result.value != truth:
        yield f"OPTIMAL {result.value}, but the optimum is {truth}"
    content = joint_solution_text(problem, result.solution).encode()
    if joint_solution_in(content, "the file", problem) != result.solution:
        yield "its solution is another one once written"
    for statement in check_joint_solution(problem, result.solution):
        if statement.standing is Standing.WRONG:
            yield f"the checker says {statement}"
