"""Solvers and evaluator against a second opinion that shares no code with them, on everything a file can hold."""

import ast
import itertools
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import __main__ as command
from benchmarks.agreement import checks, joint_checks, oracle, running
from benchmarks.agreement.instances import MOST_ORDERS, random_document, random_goals
from benchmarks.agreement.joint_instances import random_joint_problem
from benchmarks.agreement.oracle import GOALS, Goal, Oracle
from problems import JointCertificate, Order, read_instance, read_joint
from solvers import Finding, SolverError

TOO_HIGH = JointCertificate(1, (), (), (), (), 10**9)

TWO_BLOCKS = {
    "blocks": [
        {"name": "x", "pinned": False, "removable": True, "required": [3], "channels": [[1, [0]], [2, []], [2, [1]]]},
        {"name": "y", "pinned": True, "removable": True, "channels": [[1, []], [1, "1"]]},
    ],
    "accesses": [
        {"name": "a", "blocks": [0, 1], "channel_size": 2},
        {"name": "b", "blocks": [0], "channel_size": 1},
    ],
}
"""Access a reads x and y: reader 0 keeps channel 0 of x, reader 1 some of x and the last of y."""


def line(kept, *, table=None, size=1):
    """One block, one access that keeps these channels."""
    runs = [[1, [0] if keep else []] for keep in kept]
    access = {"name": "a", "blocks": [0], "channel_size": size}
    block = {"name": "x", "pinned": True, "removable": False, "channels": runs}
    return Oracle({"blocks": [block], "accesses": [access | ({"table": table} if table else {})]})


def test_the_oracle_imports_nothing_of_what_it_judges():
    tree = ast.parse(Path(oracle.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= {"__future__", "collections.abc", "dataclasses", "fractions", "functools"} | {
        "itertools",
        "math",
        "numpy",
        "typing",
    }


@pytest.mark.parametrize(
    ("goal", "cost"),
    [
        (GOALS["copies"], 3 * 4),
        (GOALS["span"], 3 * 3),
        (GOALS["traffic"], 3 * 3),
        (GOALS["runs"], 3),
        (Goal("prices", 2, 1), 3 * 4),
        (Goal("prices", 5, 0), 0),
        (Goal("prices", 2**60, None), 3 * 3 * 2**60),
    ],
)
def test_costs_are_those_of_the_page(goal, cost):
    """Kept 4 channels of a span of 7, in 3 runs, 3 elements each."""
    kept = [0, 1, 1, 0, 1, 0, 0, 1, 0]
    assert line(kept, size=3).costs([range(9)], [], goal) == [(7, 3, cost)]
    assert line(kept, size=3).least(goal) == cost


@pytest.mark.parametrize(
    ("table", "cost"),
    [
        ({"spans": [1, 3, 9], "costs": [10, 11, 17], "copy": None}, 15),
        ({"spans": [1, 4, 9], "costs": [10, 11, 13], "copy": None}, 11 + Fraction(3 * 2, 5)),
        ({"spans": [4, 9], "costs": [10, 90], "copy": 7}, 17),
        ({"spans": [4, 9], "costs": [10, 90], "copy": 7, "runs": [2, 4], "pieces": [1, 2]}, 11 + Fraction(1, 2)),
        ({"spans": [4, 9], "costs": [10, 90], "copy": None, "runs": [2], "pieces": [1]}, 58),
    ],
)
def test_times_are_interpolated_exactly_and_the_cheapest_mode_counts(table, cost):
    assert line([0, 1, 1, 0, 1, 0, 0, 1, 0], table=table).least(GOALS["latency"]) == cost


def test_what_is_stored_is_placed():
    own = Oracle(TWO_BLOCKS)
    assert own.stored == [[0, 3, 4], [0, 1]] and own.num_orders == 6
    with pytest.raises(ValueError, match="stored channels"):
        own.cost([[0, 1, 2], [0, 1]], [], GOALS["span"])
    with pytest.raises(ValueError, match="pinned"):
        own.cost([[0, 3, 4], [1, 0]], [], GOALS["span"])


def test_occurrences_make_room_for_each_other_one_by_one():
    """The m-th occurrence of a block takes its channels to the m-th one of the other block."""
    blocks = [{"name": name, "pinned": False, "removable": False} for name in "uv"]
    blocks[0]["channels"], blocks[1]["channels"] = [[1, [0]], [1, [0, 2]]], [[1, [3]], [1, [1, 3]]]
    access = {"name": "a", "blocks": [0, 1, 0, 1], "channel_size": 1}
    own = Oracle({"blocks": blocks, "accesses": [access], "bundles": [[[0], [1]]]})
    assert [slot.block for slot in own.arranged(0, [[1, 0]])] == [1, 0, 1, 0]
    in_place, changed = [own.costs([[0, 1], [0, 1]], units, GOALS["runs"])[0] for units in ([], [[1, 0]])]
    assert in_place == (8, 3, 3)  # 11 01 01 11
    assert changed == (7, 2, 2)  # 01 11 11 01


def keeps(order, rule):
    """Whether an order of a block keeps a constraint on it."""
    if "place" in rule:
        return order[rule["place"]] == rule["channel"]
    return order.index(rule["first"]) < order.index(rule["later"])


@pytest.mark.parametrize("seed", range(12))
def test_the_brute_force_tries_every_order(seed):
    document = random_document(seed)
    own = Oracle(document)
    if own.num_orders > 800:
        return
    orders = [
        order
        for order in itertools.product(
            *([o] if block["pinned"] else itertools.permutations(o) for o, block in zip(own.stored, own.blocks))
        )
        if all(keeps(order[rule["block"]], rule) for rule in own.constraints)
    ]
    places = list(itertools.product(*(itertools.permutations(range(len(units))) for units in own.bundles)))
    goal = random_goals(document, seed, 1)[0][1]
    assert own.least(goal) == min(own.cost(order, units, goal) for order in orders for units in places)


def test_instances_have_everything_that_a_file_can_hold():
    documents = [random_document(seed) for seed in range(400)]
    assert max(Oracle(document).num_orders for document in documents) <= MOST_ORDERS
    found = Counter()
    for document in documents:
        tables = [access["table"] for access in document["accesses"] if "table" in access]
        units = [unit for bundle in document.get("bundles", []) for unit in bundle]
        own = Oracle(document)
        found["two bundles"] += len(document.get("bundles", [])) == 2
        found["units of two blocks"] += any(len(unit) == 2 for unit in units)
        found["bundles and tables of all accesses"] += bool(units) and len(tables) == len(document["accesses"])
        found["tables of some accesses"] += 0 < len(tables) < len(document["accesses"])
        found["pieces"] += any("pieces" in table for table in tables)
        found["no copy"] += any(table["copy"] is None for table in tables)
        found["free copy"] += any(table["copy"] == 0 for table in tables)
        found["required"] += any("required" in block for block in document["blocks"])
        found["pinned"] += any(block["pinned"] for block in document["blocks"])
        found["pinned beside bundles"] += bool(units) and any(block["pinned"] for block in document["blocks"])
        found["removed channels"] += any(
            len(stored) < sum(count for count, _ in block["channels"])
            for stored, block in zip(own.stored, document["blocks"])
        )
        found["repeated"] += any(len(set(access["blocks"])) < len(access["blocks"]) for access in document["accesses"])
        found["channel sizes"] += any(access["channel_size"] > 1 for access in document["accesses"])
        found["hexadecimal"] += any(
            isinstance(who, str) for block in document["blocks"] for _, who in block["channels"]
        )
        found["weights"] += any("weight" in access for access in document["accesses"])
        found["fixed places"] += any("place" in own for own in document.get("constraints", []))
        found["precedence"] += any("first" in own for own in document.get("constraints", []))
    assert min(found.values()) >= 10 and len(found) == 17, found


def test_prices_reach_from_free_to_as_high_as_is_exact():
    goals = [goal for seed in range(300) for name, goal in random_goals(random_document(seed), seed, 5)]
    prices = {price for goal in goals if goal.kind == "prices" for price in (goal.alpha, goal.gamma)}
    assert {None, 0, 1} <= prices and max(price or 0 for price in prices) > 2**40
    assert {goal.kind for goal in goals} == {"prices", "runs", "tables"}


@pytest.mark.parametrize(
    "seeds", [range(20), *(pytest.param(range(a, a + 40), marks=pytest.mark.slow) for a in range(20, 240, 40))]
)
def test_nothing_contradicts_the_oracle(seeds):
    for seed in seeds:
        assert checks.check_seed(1_000_000 + seed, num_goals=1).contradictions == [], seed


@pytest.mark.slow
def test_twenty_thousand_instances_without_a_contradiction(tmp_path):
    assert command.main(["--instances", "20000", "--jobs", "2", "--directory", str(tmp_path)]) == 0


class Lying:
    """A solver that says what it is told to."""

    name, exact = "lying", False

    def __init__(self, bound=0, error=None):
        self.bound, self.error = bound, error

    def solve(self, task):
        if self.error is not None:
            raise self.error
        return Finding(Order.identity(task.problem), bound=task.start_value if self.bound is None else self.bound)


@pytest.mark.parametrize(
    ("solver", "said"),
    [
        (Lying(bound=None), "is above the optimum"),
        (Lying(error=SolverError("is wrong; please report this")), "please report this"),
        (Lying(error=ZeroDivisionError("division by zero")), "raises ZeroDivisionError: division by zero"),
    ],
)
def test_who_lies_is_found_out(solver, said, monkeypatch):
    monkeypatch.setattr(checks, "_asked", lambda rng: [solver])
    found = [own for seed in range(30) for own in checks.check_seed(seed).contradictions]
    assert found and all("Lying" in own.who for own in found) and any(said in str(own) for own in found)


def test_refusals_are_no_contradictions(monkeypatch):
    monkeypatch.setattr(checks, "_asked", lambda rng: [Lying(error=SolverError("too large; choose another"))])
    outcome = checks.check_seed(0)
    assert outcome.contradictions == [] and outcome.counts["refused"] == 2


def test_the_command_writes_what_is_wrong(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checks, "_asked", lambda rng: [Lying(bound=None)])
    directory = tmp_path / "found"
    assert command.main(["--instances", "20", "--seed", "3", "--directory", str(directory)]) == 1
    written = sorted(directory.glob("tiny-*.json"))
    told = capsys.readouterr().out
    assert written and f"{len(written)} instances with contradictions" in told and str(written[0]) in told
    seed = int(written[0].stem.removeprefix("tiny-"))
    assert json.loads(written[0].read_text()) == random_document(seed)
    assert read_instance(written[0]).name == f"tiny-{seed}"


def test_the_command_goes_on_where_it_was_interrupted(monkeypatch, tmp_path, capsys):
    def interrupted(seeds, jobs, joint):
        yield from zip(seeds[:4], map(checks.check_seed, seeds[:4]))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "outcomes", interrupted)
    assert command.main(["--instances", "10", "--seed", "7", "--directory", str(tmp_path)]) == 130
    assert "go on with --seed 11 --instances 6" in capsys.readouterr().err
    assert command.main(["--instances", "0"]) == 2 and "--instances is 0" in capsys.readouterr().err


def test_outcomes_are_the_same_in_several_processes():
    one, two = list(running.outcomes(range(4))), list(running.outcomes(range(4), jobs=2))
    assert [seed for seed, _ in two] == [0, 1, 2, 3]
    assert [outcome.document for _, outcome in one] == [outcome.document for _, outcome in two]
    assert np.array_equal([o.counts["answers"] for _, o in one], [o.counts["answers"] for _, o in two])


def test_joint_problems_agree_and_false_answers_are_found_and_kept(tmp_path, capsys, monkeypatch):
    arguments = ["--joint", "--instances", "2", "--seed", "4", "--directory", str(tmp_path)]
    assert command.main(arguments) == 0
    assert "seeds 4:6: 0 instances with contradictions; " in capsys.readouterr().out
    monkeypatch.setattr(joint_checks, "joint_bound", lambda problem, **_: TOO_HIGH)
    monkeypatch.setattr(joint_checks, "check_joint_certificate", lambda problem, own: own.bound)
    assert command.main(arguments) == 1
    assert "bound 1000000000 is above the optimum" in capsys.readouterr().out
    assert read_joint(tmp_path / "tiny-4.json") == random_joint_problem(4)
