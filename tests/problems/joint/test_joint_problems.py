"""Joint problems mean what docs/joint.md says, survive files, and the checker finds what is false about them."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from oracles.all_joint_choices import AllJointChoices

from benchmarks.agreement.joint_instances import random_joint_problem
from problems import (
    Block,
    JointAccess,
    JointCertificate,
    JointChoice,
    JointClaim,
    JointProblem,
    JointProof,
    JointSolution,
    Objective,
    ProblemError,
    check_joint_certificate,
    evaluate,
    evaluate_joint,
    read_joint,
    read_joint_solution,
    write_joint,
    write_joint_solution,
)
from problems.checker.checking import main
from problems.checker.joint_checks import check_joint_solution
from problems.checker.proof_checks import Standing
from problems.generators import random_masks
from problems.joint.enumeration import best_of_all

ACCESSES = (JointAccess("a", (0,), [5, 4, 0, 1], 2), JointAccess("b", (0,), [0, 3, 2, 9], required=11, price=1))
PROBLEM = JointProblem((Block("x", 4),), ACCESSES, "traffic", cost_price=3, stored_price=2, name="x")
SOLUTION = JointSolution(
    JointChoice([[0, 1, 3]], [[1, 1, 0, 0], [0, 1, 0, 1]]),
    1 + 2 + 2 + 3 * 2,
    JointProof.of(PROBLEM, [JointClaim("trivial", 6), JointClaim("search", 11, "all were tried")]),
    "by hand",
)


@pytest.mark.parametrize("seed", range(12))
def test_the_enumeration_agrees_with_one_that_shares_no_code_with_it(seed):
    problem = random_joint_problem(4000 + seed)
    oracle = AllJointChoices(problem)
    if oracle.number <= 3000:
        assert evaluate_joint(problem, best_of_all(problem)).value == oracle.least()


def test_a_value_is_made_of_cost_loss_and_prices():
    totals = evaluate_joint(PROBLEM, SOLUTION.choice)
    assert (totals.cost, totals.loss, totals.price, totals.value) == (0, 3, 8, 11)
    apart = JointChoice([[0, 3, 1]], SOLUTION.choice.kept)
    assert evaluate_joint(PROBLEM, apart).cost == 1
    assert evaluate(PROBLEM.with_kept(apart.kept), apart.order, "traffic").value == 1


def test_where_the_cost_comes_first_it_outweighs_everything_else():
    first = JointProblem(PROBLEM.blocks, ACCESSES, "copies", stored_price=2)
    assert first.cost_weight == 1 + 10 + 14 + 4 + 8
    dearer = dataclasses.replace(ACCESSES[1], price=50)
    assert JointProblem(PROBLEM.blocks, (ACCESSES[0], dearer)).cost_weight == 1 + 10 + 14 + 200


@pytest.mark.parametrize("objective", ["copies", "span", "traffic"])
def test_with_the_importances_of_fixed_sets_it_is_the_ordering_problem(objective):
    from problems import Order, evaluate_batch

    ordering = random_masks(6, 3, seed=5)
    problem = JointProblem.from_problem(ordering, objective=objective)
    choice = best_of_all(problem)
    assert [own.tolist() for own in choice.kept] == [own.kept.tolist() for own in ordering.accesses]
    stored = ordering.stored[0]
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(stored) for _ in range(300)])
    cost = evaluate_joint(problem, choice).cost
    assert cost <= evaluate_batch(ordering, [orders], objective).min()
    assert cost == evaluate(ordering, Order(choice.order.channels), objective).value


def test_scores_become_whole_numbers_on_one_scale():
    problem = JointProblem.from_importance([[0.25, 0.25], [0.1, 0.0]], shares=[0.5, 1.0], units=100, widths=None)
    assert [own.importance.tolist() for own in problem.accesses] == [[50, 50], [20, 0]]
    assert [own.required for own in problem.accesses] == [50, 20]


WRONG = {
    "importances must be whole numbers": lambda: JointAccess("a", (0,), [1, -1]),
    "the required sum is 7, but 1 channels have 5": lambda: JointAccess("a", (0,), [5, 4], 1, 7),
    "width is 3": lambda: JointAccess("a", (0,), [5, 4], 3),
    "give one each": lambda: JointProblem((Block("x", 3),), (JointAccess("a", (0,), [1, 2]),)),
    "has no prices": lambda: JointProblem((Block("x", 1),), (JointAccess("a", (0,), [1]),), "runs"),
    "give at least one": lambda: JointProblem((Block("x", 1),), ()),
    "reads block 1": lambda: JointProblem((Block("x", 1),), (JointAccess("a", (1,), [1]),)),
    "divide importances": lambda: JointProblem((Block("x", 2),), (JointAccess("a", (0,), [2**51, 2**51]),)),
    "exactly 2 channels": lambda: evaluate_joint(PROBLEM, JointChoice([[0, 1, 3]], [[1, 0, 0, 0], [0, 1, 0, 1]])),
    "importance of at least 11": lambda: evaluate_joint(
        PROBLEM, JointChoice([[0, 1, 2]], [[1, 1, 0, 0], [0, 1, 1, 0]])
    ),
    "not a permutation": lambda: evaluate_joint(PROBLEM, JointChoice([[0, 1]], SOLUTION.choice.kept)),
    "2 kept sets": lambda: evaluate_joint(
        JointProblem(PROBLEM.blocks, ACCESSES[:1]), JointChoice([[0, 1]], SOLUTION.choice.kept)
    ),
    "share is 2": lambda: JointProblem.from_importance([[1]], shares=2),
    "give 1 widths": lambda: JointProblem.from_importance([[1]], widths=[1, 1]),
    "cannot be enumerated": lambda: best_of_all(JointProblem.from_importance(np.ones((2, 12)))),
    "says nothing about joint problems": lambda: JointClaim("group", 3),
    "has a certificate if, and only if": lambda: JointClaim("relaxation", 3),
    "multipliers are too large": lambda: check_joint_certificate(
        PROBLEM, JointCertificate(1, (2**60, 0), (0, 0), ((0, 0, 0, 0),), ((),), 0)
    ),
    "a row that it does not have": lambda: check_joint_certificate(
        PROBLEM, JointCertificate(1, (0, 1), (0, 0), ((0, 0, 0, 0),), ((),), 0)
    ),
    "is not one of x": lambda: check_joint_certificate(
        PROBLEM, JointCertificate(1, (0, 0), (0, 0), ((0, 0),), ((),), 0)
    ),
    "couples the readers": lambda: check_joint_certificate(
        PROBLEM, JointCertificate(1, (0, 0), (0, 0), ((0, 0, 0, 0),), ((0, 0),), 0)
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_bad_input_is_one_sentence_that_says_what_is_wrong(words):
    with pytest.raises(ProblemError, match=re.escape(words)) as caught:
        WRONG[words]()
    assert "\n" not in str(caught.value)


def test_files_give_back_what_was_written(tmp_path):
    write_joint(PROBLEM, tmp_path / "x.json")
    assert read_joint(tmp_path / "x.json") == PROBLEM
    own = JointProblem(PROBLEM.blocks, ACCESSES, Objective("own", alpha=2, gamma=5))
    write_joint(own, tmp_path / "own.json")
    assert read_joint(tmp_path / "own.json") == own and own.content_hash() != PROBLEM.content_hash()
    write_joint_solution(PROBLEM, SOLUTION, tmp_path / "x.sol.json")
    assert read_joint_solution(tmp_path / "x.sol.json", PROBLEM) == SOLUTION
    with pytest.raises(ProblemError, match="solution of another problem"):
        read_joint_solution(tmp_path / "x.sol.json", own)


def test_a_file_with_a_wrong_field_is_refused_and_the_field_is_named(tmp_path):
    write_joint(PROBLEM, tmp_path / "x.json")
    good = json.loads((tmp_path / "x.json").read_text())
    for change in (
        {"cost_price": "3"},
        {"loss_price": -1},
        {"accesses": [{**good["accesses"][0], "width": 9}]},
        {"accesses": [{**good["accesses"][0], "wide": 9}]},
        {"blocks": [{**good["blocks"][0], "size": 3}]},
        {"objective": "runs"},
        {"version": 2},
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(ProblemError, match=re.escape(str(tmp_path / "bad.json"))):
            read_joint(tmp_path / "bad.json")


def test_the_checker_finds_false_values_claims_and_certificates():
    def verdicts(solution):
        return [own.standing for own in check_joint_solution(PROBLEM, solution)]

    assert set(verdicts(SOLUTION)) == {Standing.VERIFIED}
    certificate = JointCertificate(1, (4, 0), (0, 0), ((3, 2, 2, 2),), ((0, 1),), 0)
    proven = check_joint_certificate(PROBLEM, certificate)
    honest, false = (dataclasses.replace(certificate, bound=own) for own in (proven, proven + 1))
    for claim, wrong in (
        (JointClaim("trivial", PROBLEM.free_sets_bound + 1), True),
        (JointClaim("search", 12), True),
        (JointClaim("relaxation", proven, certificate=honest), False),
        (JointClaim("relaxation", proven + 1, certificate=false), True),
    ):
        solution = dataclasses.replace(SOLUTION, proof=JointProof.of(PROBLEM, [claim]))
        assert (Standing.WRONG in verdicts(solution)) is wrong, claim
    assert Standing.WRONG in verdicts(dataclasses.replace(SOLUTION, value=12))
    other = JointProof(SOLUTION.proof.claims, "0" * 64)
    assert Standing.WRONG in verdicts(dataclasses.replace(SOLUTION, proof=other))


def test_a_search_in_a_large_problem_is_on_trust():
    large = JointProblem.from_importance(np.ones((2, 30)), widths=3)
    choice = JointChoice([[0, 1, 2]], large.largest_kept())
    proof = JointProof.of(large, [JointClaim("search", 54 * 333)])
    solution = JointSolution(choice, evaluate_joint(large, choice).value, proof, "x")
    assert [own.standing for own in check_joint_solution(large, solution)][-1] is Standing.UNCHECKED


def test_the_command_checks_joint_problems_and_refuses_what_has_no_form_for_them(tmp_path, capsys):
    write_joint(PROBLEM, tmp_path / "x.json")
    write_joint_solution(PROBLEM, SOLUTION, tmp_path / "x.sol.json")
    assert main([str(tmp_path / "x.json"), "--solution", str(tmp_path / "x.sol.json")]) == 0
    assert "verified: every choice has a value >= 11" in capsys.readouterr().out
    stated = json.loads((tmp_path / "x.sol.json").read_text())
    (tmp_path / "x.sol.json").write_text(json.dumps({**stated, "value": 10}))
    assert main([str(tmp_path / "x.json"), "--solution", str(tmp_path / "x.sol.json")]) == 1
    stated["claims"][0]["kind"] = "conflict"
    (tmp_path / "x.sol.json").write_text(json.dumps(stated))
    assert main([str(tmp_path / "x.json"), "--solution", str(tmp_path / "x.sol.json")]) == 2
    assert "says nothing about joint problems" in capsys.readouterr().err
    assert main([str(tmp_path / "x.json"), "--proof", str(tmp_path / "x.sol.json")]) == 2
    assert "give it as --solution" in capsys.readouterr().err
