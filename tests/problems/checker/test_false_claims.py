"""False words about an instance with bundles, whose units may change places: none is verified, by nobody."""

import json
from itertools import permutations, product

import numpy as np
import pytest

from problems import (
    OBJECTIVES,
    Access,
    Block,
    Bundle,
    Claim,
    Order,
    Problem,
    ProblemError,
    Proof,
    evaluate,
    write_instance,
    write_proof,
)
from problems.checker.checking import main
from problems.checker.proof_checks import check_proof
from problems.generators import grouped_masks
from problems.order_files import read_order, write_order
from problems.proofs import fingerprint
from problems.signatures import content_hash


def eight_places():
    """Four blocks of two channels, each a unit; what `right` keeps lies far apart unless units change places."""
    blocks = tuple(Block(name, 2, removable=False) for name in "abcd")

    def kept(slots):
        own = np.zeros(16, dtype=bool)
        for slot, channels in slots.items():
            own[2 * slot : 2 * slot + 2] = channels
        return own

    accesses = (
        Access("left", (0, 3, 1, 2, 0, 1, 3, 2), kept({5: (1, 1)}), 2),
        Access("right", (3, 1, 2, 0, 1, 3, 2, 0), kept({0: (1, 0), 3: (1, 0), 6: (1, 1)}), 4),
    )
    return Problem(blocks, accesses, "eight places", (Bundle(((0,), (1,), (2,), (3,))),))


@pytest.fixture
def problem():
    return eight_places()


def best_order(problem):
    """Value and order of least span, of all there are."""
    found = []
    for units in permutations(range(4)):
        for turns in product((False, True), repeat=4):
            order = Order([own[::-1] if turn else own for own, turn in zip(problem.stored, turns)], [units])
            found.append((evaluate(problem, order, "span").value, order))
    return min(found, key=lambda own: own[0])


def false_proof(problem):
    """As a program wrote it that took units to stand still: the fingerprint is that of the instance without bundles."""
    in_place = Problem(problem.blocks, problem.accesses, problem.name)
    return Proof.of(in_place, OBJECTIVES["span"], 36, [Claim("trivial", 36)], solver="auto")


def test_the_bound_is_true_with_units_in_place_and_false_where_they_move(problem):
    proof = false_proof(problem)
    assert str(check_proof(problem.arranged([]), proof)[-1]) == "verified: every order has span >= 36"
    assert best_order(problem)[0] == 4


@pytest.mark.parametrize("own_fingerprint", [False, True])
def test_a_proof_of_an_instance_with_bundles_is_refused(problem, own_fingerprint, tmp_path, capsys):
    """In the library and by the command, whether or not the fingerprint has been put right."""
    proof = false_proof(problem)
    assert proof.fingerprint != fingerprint(problem)
    document = tmp_path / "p.json"
    write_proof(proof, document)
    if own_fingerprint:
        document.write_text(document.read_text().replace(proof.fingerprint, fingerprint(problem)))
    write_instance(problem, tmp_path / "i.json")
    write_order(problem, best_order(problem)[1], tmp_path / "o.json")
    with pytest.raises(ProblemError, match="units of blocks that may change places, and proofs have no form"):
        check_proof(problem, proof)
    for order in ([], ["--order", str(tmp_path / "o.json")]):
        assert main([str(tmp_path / "i.json"), "--proof", str(document), *order]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and len(captured.err.splitlines()) == 1 and "may change places" in captured.err


def test_no_proof_is_made_of_an_instance_with_bundles(problem):
    with pytest.raises(ProblemError, match="may change places"):
        Proof.of(problem, OBJECTIVES["span"], 0, [Claim("trivial", 0)])


def test_the_best_order_with_its_places_is_one_that_the_command_evaluates(problem, tmp_path, capsys):
    value, order = best_order(problem)
    write_instance(problem, tmp_path / "i.json")
    write_order(problem, order, tmp_path / "o.json")
    assert read_order(tmp_path / "o.json", problem) == order and order.arrangement
    names = [str(tmp_path / name) for name in ("i.json", "o.json")]
    assert main([names[0], "--order", names[1], "--objective", "span", "--value", str(value)]) == 0
    assert f"verified: its span is {value}" in capsys.readouterr().out


def solutions_of(problem, order):
    """A file of solutions in which everything is true, as an object; the bounds are what nobody undercuts: 0."""
    runs = [own.tolist() for own in order.channels]
    common = {"bound": 0, "proven": False, "solver": "greedy", "bound_solver": "greedy", "version": "0.1.0"}
    entry = {**common, "date": "2026-11-21", "order": runs, "arrangement": [own.tolist() for own in order.arrangement]}
    goals = ("copies", "runs", "span", "traffic")
    return {
        "format": "upscale_opt.solutions",
        "version": 1,
        "instance": content_hash(problem),
        "solutions": {goal: {**entry, "value": evaluate(problem, order, goal).value} for goal in goals},
    }


@pytest.fixture
def claimed(problem, tmp_path, capsys):
    """A function: what to do to the file of true solutions, to exit code and all that the command says of it."""

    def check(spoil=lambda document: None, problem=problem, order=None):
        document = solutions_of(problem, order or best_order(problem)[1])
        spoil(document)
        write_instance(problem, tmp_path / "i.json")
        (tmp_path / "s.json").write_text(json.dumps(document))
        code = main([str(tmp_path / "i.json"), "--solution", str(tmp_path / "s.json")])
        captured = capsys.readouterr()
        assert (code == 2) == bool(captured.err) and len(captured.err.splitlines()) <= 1
        return code, captured.out + captured.err

    return check


def test_true_solutions_are_verified_and_their_bounds_on_trust(claimed):
    code, said = claimed()
    assert code == 0 and "WRONG" not in said
    assert "verified: the solutions are of this instance" in said and "verified: its span is 4" in said
    assert "on trust: every order has span >= 0 (units may change places" in said


def lifted(document):
    """Every bound 1000 above the value, called proven."""
    for own in document["solutions"].values():
        own.update(bound=own["value"] + 1000, proven=True)


FALSE = {
    "the hash of another instance": (
        lambda d: d.update(instance="0" * 64),
        "WRONG: the solutions are of this instance",
    ),
    "bounds above the values": (lifted, "WRONG: every order has span >= 1004 (this one has 4)"),
    "a value too low": (lambda d: d["solutions"]["span"].update(value=3), "WRONG: its span is 3 (it is 4)"),
    "proven without its bound": (
        lambda d: d["solutions"]["span"].update(proven=True),
        "WRONG: its span 4 is proven optimal (the bound is 0)",
    ),
    "not proven in spite of its bound": (
        lambda d: d["solutions"]["span"].update(bound=4),
        "WRONG: its span 4 is not proven optimal (the bound is 4)",
    ),
    "a channel twice": (
        lambda d: d["solutions"]["span"].update(order=[[0, 0], [0, 1], [0, 1], [0, 1]]),
        "WRONG: the order places every stored channel once",
    ),
    "a unit twice": (
        lambda d: d["solutions"]["span"].update(arrangement=[[0, 0, 1, 2]]),
        "WRONG: the order places every stored channel once",
    ),
}


@pytest.mark.parametrize("what", FALSE)
def test_false_solutions_are_found_out(what, claimed):
    spoil, expected = FALSE[what]
    code, said = claimed(spoil)
    assert code == 1 and expected in said, said


def of_span(**changes):
    return lambda d: d["solutions"]["span"].update(changes)


ILL_FORMED = {
    "another format": (lambda d: d.update(format="upscale_opt.proof"), "'format'"),
    "a newer version": (lambda d: d.update(version=2), "newer"),
    "a version that is none": (lambda d: d.update(version=True), "'version'"),
    "an unknown field of the file": (lambda d: d.update(nonsense=1), "'nonsense'"),
    "an unknown field of a solution": (of_span(nonsense=1), "'nonsense'"),
    "an unknown objective": (lambda d: d["solutions"].update(beauty=d["solutions"]["span"]), "'beauty'"),
    "an objective that needs tables": (
        lambda d: d["solutions"].update(latency=d["solutions"]["span"]),
        "has no cost table",
    ),
    "a hash that is none": (lambda d: d.update(instance="5f0c"), "'instance'"),
    "no hash": (lambda d: d.pop("instance"), "'instance'"),
    "a fraction": (of_span(value=4.0), "'value'"),
    "a Boolean for a number": (of_span(bound=True), "'bound'"),
    "a number for a Boolean": (of_span(proven=0), "'proven'"),
    "a bound of nobody": (of_span(bound_solver=None), "'bound_solver'"),
    "another form of date": (of_span(date="20261121"), "'date'"),
    "a day that is none": (of_span(date="2026-02-30"), "'date'"),
    "a solver that is none": (of_span(solver=7), "'solver'"),
    "no version": (lambda d: d["solutions"]["span"].pop("version"), "'version'"),
    "not a number": (of_span(value=float("nan")), "not valid JSON"),
    "infinite": (of_span(bound=float("-inf")), "not valid JSON"),
    "channels in words": (of_span(order=[["all"], [0, 1], [0, 1], [0, 1]]), "order[0]"),
    "channels true": (of_span(order=[[True, 0], [0, 1], [0, 1], [0, 1]]), "order[0]"),
    "units in halves": (of_span(arrangement=[[0.5, 1, 2, 3]]), "'arrangement'"),
}


@pytest.mark.parametrize("what", ILL_FORMED)
def test_ill_formed_solutions_are_one_sentence_that_names_the_field(what, claimed):
    spoil, expected = ILL_FORMED[what]
    code, said = claimed(spoil)
    assert code == 2 and expected in said and said.startswith("error: "), said


def test_a_field_that_is_there_twice_is_refused(problem, tmp_path, capsys):
    write_instance(problem, tmp_path / "i.json")
    text = json.dumps(solutions_of(problem, Order.identity(problem)))
    (tmp_path / "s.json").write_text(text.replace('"version": 1,', '"version": 1, "version": 1,', 1))
    assert main([str(tmp_path / "i.json"), "--solution", str(tmp_path / "s.json")]) == 2
    assert "has the field 'version' twice" in capsys.readouterr().err


def test_bounds_of_small_instances_without_bundles_are_checked(claimed):
    """One below the value of an order that is not the best, but above the best, is found out."""
    problem = grouped_masks(3, 2, 2, seed=1).arranged([])
    orders = [Order.random(problem, np.random.default_rng(seed)) for seed in range(20)]
    worst = max(orders, key=lambda order: evaluate(problem, order, "span").value)
    value = evaluate(problem, worst, "span").value
    code, said = claimed(lambda d: d["solutions"]["span"].update(bound=value, proven=True), problem, worst)
    assert code == 1 and f"WRONG: every order has span >= {value} (one has " in said
    assert claimed(problem=problem, order=worst)[0] == 0


@pytest.mark.parametrize("option", [["--objective", "span"], ["--value", "3"]])
def test_options_that_say_nothing_without_an_order_are_refused(option, problem, tmp_path, capsys):
    write_instance(problem, tmp_path / "i.json")
    assert main([str(tmp_path / "i.json"), *option]) == 2
    assert "--order" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--value", "x"], ["--nonsense"], []])
def test_a_command_line_that_is_none_is_one_sentence(arguments, problem, tmp_path, capsys):
    write_instance(problem, tmp_path / "i.json")
    assert main([*([str(tmp_path / "i.json")] if arguments else []), *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


EACH = {name: [0, 1] for name in "abcd"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"orders": {}, "nonsense": 1}, "'nonsense'"),
        ({"orders": {"a": [0, 1]}}, "lacks the block 'b'"),
        ({"orders": {**EACH, "e": [0]}}, "the block 'e'"),
        ({"orders": EACH, "places": {"a": 1}}, "places['a']"),
        ({"orders": EACH, "places": {"a": "z", "z": "a"}}, "the block 'z'"),
        ({"orders": {**EACH, "a": [0, 1.0]}}, "orders['a']"),
        ({"orders": {**EACH, "a": [0, True]}}, "orders['a']"),
        ({"orders": {**EACH, "a": [0, 2**80]}}, "orders['a']"),
        ({"format": "upscale_opt.instance", "version": 1, "orders": {}}, "is no upscale_opt.plan file"),
        ({"format": "upscale_opt.plan", "version": 99, "orders": {}}, "newer"),
        ({"format": "upscale_opt.plan", "version": 5, "orders": {}, "nonsense": 1}, "'nonsense'"),
        ({"format": "upscale_opt.plan", "version": 4, "orders": {}, "places": {"a": "b"}}, "'places'"),
        ([], "must be an object"),
    ],
)
def test_ill_formed_orders_are_one_sentence(document, expected, problem, tmp_path):
    (tmp_path / "o.json").write_text(json.dumps(document))
    with pytest.raises(ProblemError) as caught:
        read_order(tmp_path / "o.json", problem)
    assert expected in str(caught.value) and str(tmp_path / "o.json") in str(caught.value)
