"""Proves that bounds from obstructions never exceed the optimum, and that the checker finds flaws in their claims."""

from __future__ import annotations

import dataclasses
import time
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from solver_instances import ALL_OBJECTIVES, one_block, sets, several_blocks

from problems import OBJECTIVES, Access, Block, Claim, Objective, Obstruction, Order, Problem, ProblemError, Proof
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import planted_outliers, random_matrix, with_tables
from problems.proof_files import proof_from_dict, proof_to_dict
from solvers import solve
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task
from solvers.spans.bounds.column_triples import TripleSearch
from solvers.spans.bounds.fractional_packing import packed
from solvers.spans.bounds.obstructions import bound_by_obstructions

PRICES = [
    *(own for own in ALL_OBJECTIVES if not own.counts_runs),
    Objective("dear", alpha=7, gamma=3),
    Objective("free reading", alpha=0, gamma=2),
    Objective("free copying", alpha=2, gamma=0),
]


def _bounded(problem: Problem, objective: Objective, order: Order | None = None) -> Incumbent:
    now = time.perf_counter()
    start = Order.identity(problem) if order is None else order
    incumbent = Incumbent(Task(problem, objective, start, now, now + 60, want_proof=True))
    bound_by_obstructions(incumbent._task, incumbent)
    return incumbent


def _checked(problem: Problem, objective: Objective) -> tuple[int, int]:
    """What the bound and the optimum are above what every access pays alone; the bound is true, and verified."""
    best = solve(problem, solver="brute-force", objective=objective, time_limit=60)
    found = _bounded(problem, objective, best.order)
    assert found.bound <= best.value
    if found.claims():
        proof = Proof.of(problem, objective, found.bound, found.claims())
        assert {own.standing for own in check_proof(problem, proof)} == {Standing.VERIFIED}
        assert proof_from_dict(proof_to_dict(proof)) == proof
    trivial = Task(problem, objective, best.order, 0.0, 0.0).trivial_bound
    return found.bound - trivial, best.value - trivial


def _instances(objective: Objective, seeds: range) -> list[Problem]:
    found = [
        problem
        for seed in seeds
        for problem in (one_block(seed, max_channels=6, max_accesses=6), several_blocks(seed, max_channels=4))
    ]
    if objective.uses_tables:
        return [with_tables(own, concave=k % 3 > 0, seed=k) for k, own in enumerate(found)]
    return found


@pytest.mark.parametrize(
    "objective", [OBJECTIVES[name] for name in ("span", "traffic", "latency")], ids=lambda own: own.name
)
def test_bounds_stay_below_the_optimum_and_the_checker_verifies_them(objective: Objective) -> None:
    for problem in _instances(objective, range(4)):
        _checked(problem, objective)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [*PRICES, OBJECTIVES["latency"]], ids=lambda own: own.name)
def test_many_bounds_stay_below_the_optimum_and_explain_half_of_it(objective: Objective) -> None:
    found = [_checked(problem, objective) for problem in _instances(objective, range(100, 300))]
    if (objective.alpha or 0) > 0 and objective.gamma != 0:
        assert sum(bound for bound, _ in found) > 0.45 * sum(best for _, best in found)


@pytest.mark.slow
def test_outliers_are_proven_optimal() -> None:
    """Nothing else bounds 16 rows that rarely meet; here obstructions close the gap."""
    problem = planted_outliers(64, 16, outliers=2, seed=0)
    result = solve(problem, objective="span", time_limit=20, proof=True, seed=1)
    assert result.gap == 0
    assert result.proof is not None
    assert str(check_proof(problem, result.proof)[-1]).startswith("verified: every order has span >=")


def test_rows_that_go_on_beyond_the_block_join_its_ends() -> None:
    """`left` reads from the start to c1, `right` from c1 to the end: one of them reads c0, and one c2."""
    blocks = Block("p", 1), Block("x", 3), Block("q", 1)
    reads = (
        Access("left", (0, 1), np.array([1, 0, 1, 0])),
        Access("right", (1, 2), np.array([0, 1, 0, 1])),
        Access("both", (1,), np.array([1, 0, 1])),
    )
    problem = Problem(blocks, reads)
    best = solve(problem, solver="brute-force", objective="span")
    assert (_bounded(problem, OBJECTIVES["span"]).bound, best.value) == (2, 2)


def test_a_block_whose_rows_meet_has_no_obstruction_if_it_has_consecutive_ones() -> None:
    bits = np.tril(np.ones((6, 6), dtype=bool))
    free = np.zeros(6, dtype=bool)
    assert not list(TripleSearch(bits, free, free).found(np.zeros((6, 6)), np.zeros(6), most=100))


def test_a_triple_is_found_exactly_if_there_are_no_consecutive_ones() -> None:
    """Tucker's theorem, against the test for consecutive ones, on random matrices with and without anchored rows."""
    from solvers.views.consecutive import consecutive_order

    for seed in range(60):
        rng = np.random.default_rng(seed)
        bits = rng.random((int(rng.integers(3, 7)), int(rng.integers(2, 6)))) < 0.45
        left, right = rng.random((2, bits.shape[1])) < 0.15
        bits[:, ~bits.any(axis=0)] = True
        search = TripleSearch(bits, left, right)
        found = list(search.found(np.zeros(bits.shape), np.zeros(bits.shape[1]), most=10))
        if found:
            assert consecutive_order(bits, left, right) is None
        elif not (left | right).any():
            assert consecutive_order(bits, left, right) is not None


def test_chains_join_two_classes_apart_from_the_third() -> None:
    """Sparse rows make long chains, some of which are found in one direction only."""
    for seed in range(3):
        bits = np.random.default_rng(seed).random((60, 60)) < 0.04
        free, random = np.zeros(60, dtype=bool), np.random.default_rng(seed).random((60, 60)) * 0.05
        found = list(TripleSearch(bits, free, free).found(random, np.zeros(60), most=2000))
        assert max(len(chain) for triple in found for chain in triple.chains) >= 4
        for triple in found:
            for i, chain in enumerate(triple.chains):
                first, last = (s for j, s in enumerate(triple.classes) if j != i)
                rows = bits[:, list(chain)]
                assert rows[first, 0] and rows[last, -1] and not rows[triple.classes[i]].any()
                assert (rows[:, :-1] & rows[:, 1:]).any(axis=0).all()


def test_a_packing_keeps_to_capacities_and_is_nearly_the_best() -> None:
    rng = np.random.default_rng(0)
    members = rng.random((60, 30)) < 0.2
    members[np.arange(60), rng.integers(0, 30, 60)] = True
    capacity = rng.integers(1, 9, 30).astype(float)
    best = packed(csr_matrix(members.astype(float)), capacity, most_steps=4000, deadline=np.inf)
    assert (members.T @ best.weight <= capacity + 1e-9).all()
    cover = best.price / (members @ best.price).min()
    assert best.weight.sum() >= 0.995 * float(capacity @ cover)


TRIANGLE = sets({0, 1}, {1, 2}, {0, 2})
_ONE = Obstruction("x", (0, 1, 2), (("a1",), ("a2",), ("a0",)), Fraction(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": Fraction(3, 2)}, "pays for more than it costs"),
        ({"block": "y"}, "there is no block 'y'"),
        ({"channels": (0, 1, 7)}, "stores no channel 7"),
        ({"chains": (("a0",), ("a2",), ("a0",))}, "does not join channels 1 and 2"),
        ({"chains": (("a1", "a0", "a1"), ("a2",), ("a0",))}, "keeps channel 0"),
        ({"chains": ((), ("a2",), ("a0",))}, "does not join"),
        ({"chains": (("b",), ("a2",), ("a0",))}, "there is no access 'b'"),
        ({"channels": (-1, 1, 2)}, "needs no chain"),
    ],
)
def test_the_checker_finds_what_is_wrong_with_an_obstruction(change: dict[str, object], said: str) -> None:
    flawed = Claim("obstructions", 1, obstructions=(dataclasses.replace(_ONE, **change),))
    statements = check_proof(TRIANGLE, Proof.of(TRIANGLE, OBJECTIVES["span"], 1, [flawed]))
    assert statements[1].standing is Standing.WRONG
    assert said in statements[1].reason


def test_the_checker_finds_chains_with_a_gap_and_bounds_that_are_too_high() -> None:
    problem = sets({0, 1}, {2, 3}, {0, 4}, {3, 4})
    gap = Obstruction("x", (4, 0, 3), (("a0", "a1"), ("a3",), ("a2",)), Fraction(1))
    claim = Claim("obstructions", 1, obstructions=(gap,))
    assert "share no channel" in check_proof(problem, Proof.of(problem, OBJECTIVES["span"], 0, [claim]))[1].reason
    high = Claim("obstructions", 2, obstructions=(_ONE,))
    assert check_proof(TRIANGLE, Proof.of(TRIANGLE, OBJECTIVES["span"], 1, [high]))[1].reason == "they give 1"
    runs = Claim("obstructions", 1, obstructions=(_ONE,))
    assert "not runs" in check_proof(TRIANGLE, Proof.of(TRIANGLE, OBJECTIVES["runs"], 1, [runs]))[1].reason


def test_alike_channels_share_what_an_obstruction_costs() -> None:
    """Two channels of every class: every over-read class costs two, and the weight may be two."""
    problem = sets({0, 1, 2, 3}, {2, 3, 4, 5}, {0, 1, 4, 5})
    two = Obstruction("x", (0, 2, 4), (("a1",), ("a2",), ("a0",)), Fraction(2))
    proof = Proof.of(problem, OBJECTIVES["span"], 2, [Claim("obstructions", 2, obstructions=(two,))])
    assert [own.standing for own in check_proof(problem, proof)] == [Standing.VERIFIED] * 3
    assert solve(problem, solver="brute-force", objective="span").value == 2


def test_obstructions_and_claims_refuse_what_they_cannot_be() -> None:
    with pytest.raises(ProblemError, match="three different channels"):
        Obstruction("x", (0, 0, 1), ((), (), ()), Fraction(1))
    with pytest.raises(ProblemError, match="below 0"):
        Obstruction("x", (0, 1, 2), ((), (), ()), Fraction(-1))
    with pytest.raises(ProblemError, match="give a fraction"):
        Obstruction("x", (0, 1, 2), ((), (), ()), "much")
    with pytest.raises(ProblemError, match="of that kind"):
        Claim("search", 1, obstructions=(_ONE,))
    with pytest.raises(ProblemError, match="of that kind"):
        Claim("obstructions", 1)
    document = proof_to_dict(
        Proof.of(TRIANGLE, OBJECTIVES["span"], 1, [Claim("obstructions", 1, obstructions=(_ONE,))])
    )
    document["claims"][0]["obstructions"][0]["weight"] = "1.5"
    with pytest.raises(ProblemError, match=r"claims\[0\]: obstructions\[0\]: field 'weight'"):
        proof_from_dict(document)


def test_large_blocks_are_looked_at_in_part() -> None:
    """More classes than are looked at: the bound is that of some of them, and still true."""
    problem = random_matrix(200, 8, density=0.3, seed=3)
    assert len(problem.classes) > 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solvers.spans.bounds.obstructions.MOST_CLASSES", 12)
        patch.setattr("solvers.spans.bounds.obstructions.MOST_ROWS", 6)
        few = _bounded(problem, OBJECTIVES["span"])
    assert 0 < few.bound <= solve(problem, objective="span", time_limit=20).value
    proof = Proof.of(problem, OBJECTIVES["span"], few.bound, few.claims())
    assert check_proof(problem, proof)[-1].standing is Standing.VERIFIED
