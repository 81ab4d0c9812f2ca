"""Tests of the checker: what is true is verified, what is false is never, and tampered proofs are found out."""

import dataclasses
import json
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from proof_instances import PRICED, WITHOUT_TABLES, can_be_views, least_values, random_order, small_problem

from problems import OBJECTIVES, Access, Block, Claim, Order, Potentials, Problem, Proof, evaluate, write_instance
from problems.checker.cheapest_views_to_drop import cheapest_to_give_up
from problems.checker.checking import check_order, main
from problems.checker.consecutive_ones import can_all_be_views
from problems.checker.implied_bounds import implied_bound
from problems.checker.least_costs import cost_unless_view, costs_alone, least_cost
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import random_masks
from problems.proof_files import proof_to_dict, write_proof
from problems.solutions import Solution, write_solutions

SEEDS = range(25)
VERIFIED, UNCHECKED, WRONG = Standing.VERIFIED, Standing.UNCHECKED, Standing.WRONG


def triangle(size=1):
    """Three accesses of which every two can be views, but not all three; each keeps two classes of a block."""
    reads = np.repeat([[1, 1, 0], [0, 1, 1], [1, 0, 1]], size, axis=1)
    return Problem((Block("x", 3 * size),), tuple(Access(f"a{i}", (0,), kept) for i, kept in enumerate(reads)), "tri")


def with_and_without_tables(seed):
    """Random problems, and the objectives to try on each."""
    yield small_problem(seed), WITHOUT_TABLES
    yield small_problem(seed, tables=True), [OBJECTIVES["latency"]]


def standings(problem, objective, bound, *claims):
    """How the claims and the bound of a proof stand."""
    return [own.standing for own in check_proof(problem, Proof.of(problem, OBJECTIVES[objective], bound, claims))[1:]]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checkers_own_least_costs_are_those_of_brute_force(seed):
    """Alone, unless view, and together; with tables as well."""
    rng = np.random.default_rng(seed)
    for problem, goals in with_and_without_tables(seed):
        for goal in goals:
            least = least_values(problem, goal)
            own = least_cost(problem, goal)
            assert own.lower <= least <= own.upper
            assert own.lower == own.upper or goal.counts_runs or goal.uses_tables
            for a, alone in enumerate(costs_alone(problem, goal)):
                part = problem.restricted([a])
                assert alone * part.ticks <= least_values(part, goal) * problem.ticks
            for _ in range(20):
                found = evaluate(problem, random_order(problem, rng), goal)
                for a, cost in enumerate(found.accesses):
                    if cost.span > cost.kept:
                        assert cost.cost >= cost_unless_view(problem, goal, a)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checkers_own_test_of_views_is_brute_force(seed):
    problem = small_problem(seed)
    for size in range(1, len(problem.accesses) + 1):
        for chosen in combinations(range(len(problem.accesses)), size):
            assert can_all_be_views(problem, chosen) == can_be_views(problem, chosen)


@pytest.mark.parametrize("seed", SEEDS)
def test_giving_up_costs_what_trying_all_sets_finds(seed):
    rng = np.random.default_rng(seed)
    price = rng.integers(0, 9, 6).tolist()
    demands = []
    for _ in range(rng.integers(1, 7)):
        own = frozenset(rng.choice(6, int(rng.integers(1, 5)), replace=False).tolist())
        demands.append((own, int(rng.integers(1, len(own) + 1))))
    sets = [set(own) for size in range(7) for own in combinations(range(6), size)]
    least = min(
        sum(price[a] for a in own) for own in sets if all(len(own & choice) >= need for choice, need in demands)
    )
    found = cheapest_to_give_up(demands, price, enough=1000)
    assert found is not None and found[0] == least == sum(price[a] for a in found[1])
    assert cheapest_to_give_up(demands, price, enough=least)[0] == least
    assert cheapest_to_give_up(demands * 2, [1] * 6, enough=1000, max_nodes=0) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_true_claims_never_imply_too_much(seed):
    """Random true claims with random shares: what they imply holds, and every one of them is verified or on trust."""
    problem, rng = small_problem(seed), np.random.default_rng(seed)
    for goal in WITHOUT_TABLES:
        claims = []
        for _ in range(6):
            own = sorted(
                rng.choice(len(problem.accesses), int(rng.integers(1, len(problem.accesses) + 1)), replace=False)
            )
            names = tuple(problem.accesses[a].name for a in own)
            share = Fraction(int(rng.integers(0, 4)), 3) if rng.random() < 0.7 else Fraction(1, 7)
            claims.append(Claim("group", least_values(problem.restricted(own), goal), "", names, share=share))
            if not can_be_views(problem, tuple(own)):
                claims.append(Claim("conflict", 0, accesses=names, views=len(own) - 1))
        implied = implied_bound(problem, goal, claims, enough=10**6).bound
        least = least_values(problem, goal)
        assert implied <= least
        statements = check_proof(problem, Proof.of(problem, goal, implied, claims))
        assert WRONG not in {own.standing for own in statements}
        assert check_proof(problem, Proof.of(problem, goal, least + 1, claims))[-1].standing in (WRONG, UNCHECKED)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["trivial", "group", "relaxation", "search"])
def test_false_claims_are_never_verified(seed, kind):
    """Whatever the claim is called, one above the least cost of its accesses is not verified, nor what rests on it."""
    for problem, goals in with_and_without_tables(seed):
        for goal in goals:
            least = least_values(problem, goal)
            proof = Proof.of(problem, goal, least + 1, [Claim(kind, least + 1)])
            *_, claim, bound = check_proof(problem, proof)
            assert claim.standing is not VERIFIED and bound.standing is not VERIFIED
            if goal in PRICED:
                assert claim.standing is WRONG and bound.standing is WRONG


@pytest.mark.parametrize("seed", SEEDS)
def test_false_conflicts_are_found_out(seed):
    """A set that can be views is no conflict, with whatever number of views."""
    problem = small_problem(seed)
    everyone = range(len(problem.accesses))
    for size in everyone:
        for chosen in combinations(everyone, size + 1):
            most = max(n for n in range(size + 2) if any(can_be_views(problem, own) for own in combinations(chosen, n)))
            names = tuple(problem.accesses[a].name for a in chosen)
            for views in range(size + 1):
                first, _ = standings(problem, "copies", 0, Claim("conflict", 0, accesses=names, views=views))
                assert first is (VERIFIED if views >= most else WRONG)


def test_a_conflict_may_not_claim_more_than_its_cheapest_accesses():
    conflict = {"accesses": ("a0", "a1", "a2"), "views": 2}
    assert standings(triangle(), "copies", 2, Claim("conflict", 2, **conflict)) == [VERIFIED, VERIFIED]
    assert standings(triangle(), "copies", 2, Claim("conflict", 3, **conflict))[0] is WRONG
    assert standings(triangle(), "copies", 3, Claim("conflict", 2, **conflict)) == [VERIFIED, WRONG]
    assert standings(triangle(), "traffic", 1, Claim("conflict", 1, **conflict)) == [VERIFIED, VERIFIED]


def test_claims_about_unknown_accesses_or_blocks_are_wrong():
    assert standings(triangle(), "span", 1, Claim("group", 1, accesses=("a0", "b7"))) == [WRONG, VERIFIED]
    own = Potentials("y", (0, 0, 0, 0), (0, 0, 0, 0))
    assert standings(triangle(), "runs", 3, Claim("relaxation", 3, potentials=(own,))) == [WRONG, VERIFIED]


def test_tampered_potentials_are_wrong():
    """True ones give the bound; raised ones, too few of them, those of another objective do not."""
    problem = triangle(4)  # three classes of which every access keeps two: with four runs at least
    true = Potentials("x", (0, 1, 1, 1), (0, 1, 0, 0))
    claim = Claim("relaxation", 4, potentials=(true,))
    assert standings(problem, "runs", 4, claim)[-1] is VERIFIED
    for k in range(4):
        for side in ("leave", "enter"):
            prices = list(getattr(true, side))
            prices[k] += 3
            own = dataclasses.replace(true, **{side: prices})
            assert standings(problem, "runs", 7, Claim("relaxation", 7, potentials=(own,))) == [WRONG, WRONG]
    short = Potentials("x", true.leave[:3], true.enter[:3])
    assert standings(problem, "runs", 4, dataclasses.replace(claim, potentials=(short,)))[0] is WRONG
    assert standings(problem, "span", 4, claim)[0] is WRONG
    assert standings(problem, "runs", 4, dataclasses.replace(claim, accesses=("a0",)))[0] is WRONG


def test_shares_above_one_count_for_nothing():
    """Two true claims that share an access do not add up unless their shares do."""
    problem = random_masks(24, 8, keep=0.5)
    goal = OBJECTIVES["span"]
    groups = [tuple(range(k, k + 3)) for k in range(0, 6, 2)]
    costs = [least_cost(problem.restricted(own), goal).lower for own in groups]
    claims = [
        Claim("group", cost, "", tuple(problem.accesses[a].name for a in own)) for cost, own in zip(costs, groups)
    ]
    half = [dataclasses.replace(claim, share=Fraction(1, 2)) for claim in claims]
    assert implied_bound(problem, goal, claims, enough=10**6).bound == max(costs)
    assert implied_bound(problem, goal, half, enough=10**6).bound >= -(-sum(costs) // 2)
    assert implied_bound(problem, goal, claims[::2], enough=10**6).bound == costs[0] + costs[2]
    stated = Proof.of(problem, goal, sum(costs), claims)
    assert check_proof(problem, stated)[-1].standing is WRONG


def test_a_search_is_on_trust_where_it_cannot_be_repeated():
    """The verdict says so, and how much of the bound is verified."""
    problem = random_masks(96, 16)  # more accesses than the checker solves
    group = Claim("group", 1, accesses=tuple(access.name for access in problem.accesses[:3]))
    search = Claim("search", 20, "path over pairs of chains", figures={"states": 900})
    proof = Proof.of(problem, OBJECTIVES["span"], 20, [group, search])
    _, first, second, bound = check_proof(problem, proof)
    assert (first.standing, second.standing, bound.standing) == (VERIFIED, UNCHECKED, UNCHECKED)
    assert bound.reason.startswith("1 is verified")


def test_a_proof_of_another_instance_is_wrong_as_a_whole():
    """Also if it differs in a single mask, a table, a channel size or a name only."""
    problem = triangle()
    proof = Proof.of(problem, OBJECTIVES["copies"], 2, [Claim("conflict", 2, accesses=("a0", "a1", "a2"), views=2)])
    first, *others = problem.accesses
    for changed in (
        dataclasses.replace(first, kept=~first.kept),
        dataclasses.replace(first, channel_size=4),
        dataclasses.replace(first, name="z"),
    ):
        statements = check_proof(Problem(problem.blocks, (changed, *others), "tri"), proof)
        assert [own.standing for own in statements] == [WRONG]
    assert check_proof(Problem(problem.blocks, problem.accesses, "renamed"), proof)[-1].standing is VERIFIED
    assert check_proof(problem, dataclasses.replace(proof, ticks=7))[0].standing is WRONG


def test_costs_in_ticks_are_those_of_the_whole_problem():
    """A group whose own tables need fewer ticks is still counted in the problem's ticks."""
    for seed in SEEDS:
        problem = small_problem(seed, tables=True)
        goal = OBJECTIVES["latency"]
        for a, access in enumerate(problem.accesses):
            part = problem.restricted([a])
            least = least_values(part, goal) * problem.ticks // part.ticks
            first = standings(problem, "latency", 0, Claim("group", least, accesses=(access.name,)))[0]
            false = standings(problem, "latency", 0, Claim("group", least + 1, accesses=(access.name,)))[0]
            assert first is not WRONG and false is not VERIFIED


def test_orders_are_evaluated_and_compared_with_the_claim():
    problem = triangle()
    identity = Order.identity(problem)
    assert [own.standing for own in check_order(problem, identity, "copies")] == [VERIFIED, VERIFIED]
    assert [own.standing for own in check_order(problem, identity, "copies", 0)] == [VERIFIED, WRONG]
    assert [own.standing for own in check_order(problem, Order([[0, 1, 1]]), "copies")] == [WRONG]


@pytest.fixture
def files(tmp_path):
    """An instance with its order, its solutions and its proof."""
    problem = triangle()
    write_instance(problem, tmp_path / "i.json")
    (tmp_path / "o.json").write_text(json.dumps({"orders": {"x": [0, 1, 2]}}))
    found = {"copies": (2, [0, 1, 2]), "runs": (4, [2, 0, 1])}
    solutions = {
        goal: Solution(Order([channels]), value, None, "greedy", None, "0.1.0", "2026-11-21")
        for goal, (value, channels) in found.items()
    }
    write_solutions(solutions, problem, tmp_path / "s.json")
    claims = [Claim("conflict", 2, accesses=("a0", "a1", "a2"), views=2)]
    write_proof(Proof.of(problem, OBJECTIVES["copies"], 2, claims), tmp_path / "p.json")
    return tmp_path


def check(files, *arguments):
    return main([str(files / own) if own.endswith(".json") else own for own in ("i.json", *arguments)])


def test_the_command_says_what_it_verified(files, capsys):
    assert check(files, "--order", "o.json", "--proof", "p.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("verified: ") for line in lines)
    assert "verified: its copies is 2" in lines and lines[-1] == "verified: every order has copies >= 2"
    assert check(files, "--solution", "s.json") == 0
    assert "verified: its runs is 4" in capsys.readouterr().out
    assert check(files, "--order", "o.json", "--objective", "span", "--value", "1") == 0


def test_the_command_refuses_what_is_false(files, capsys):
    """Exit code 1 for a false value, a false bound, a proof below which an order lies; 2 for what cannot be read."""
    assert check(files, "--order", "o.json", "--objective", "span", "--value", "0") == 1
    assert "WRONG: its span is 0 (it is 1)" in capsys.readouterr().out
    document = json.loads((files / "p.json").read_text())
    (files / "q.json").write_text(json.dumps(document | {"bound": 3}))
    assert check(files, "--order", "o.json", "--proof", "q.json") == 1
    assert "WRONG: the bound 3 is not above it" in capsys.readouterr().out
    write_instance(triangle(2), files / "i.json")
    assert check(files, "--proof", "p.json") == 1
    assert check(files, "--order", "o.json") == 1
    (files / "s.json").write_text((files / "s.json").read_text().replace('"value":4', '"value":"4"'))
    for arguments in (["--solution", "s.json"], ["--proof", "none.json"], ["--order", "o.json", "--value", "1"]):
        assert check(files, *arguments) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_every_change_of_a_number_in_a_proof_file_is_harmless_or_found_out(files, capsys):
    """Each number of a tight proof raised by one: never verified; lowered: never a higher bound."""
    document = proof_to_dict(
        Proof.of(triangle(), OBJECTIVES["copies"], 2, [Claim("conflict", 2, accesses=("a0", "a1", "a2"), views=2)])
    )
    for change in ({"bound": 3}, {"ticks": 2}, {"fingerprint": "0" * 64}):
        (files / "q.json").write_text(json.dumps(document | change))
        assert check(files, "--proof", "q.json") == 1
    for change in ({"bound": 3}, {"views": 1}, {"accesses": ["a0", "a1", "a7"]}):
        claim = document["claims"][0] | change
        (files / "q.json").write_text(json.dumps(document | {"claims": [claim]}))
        assert check(files, "--proof", "q.json") == 1
    capsys.readouterr()
