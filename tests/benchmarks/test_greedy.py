"""Tests of what the study of greedy counts, by hand and against brute force."""

import numpy as np
import pytest

from benchmarks import greedy, results
from problems import Access, Block, Order, Problem, evaluate
from problems.collection import LIBRARY
from problems.generators import random_masks
from problems.solutions import Solution
from solvers import solve


def row(family="f", over_reads=2, **values):
    """A row of the CSV from ``objective=(greedy, value, bound)``."""
    numbers = {
        f"{objective} {what}": number
        for objective, triple in values.items()
        for what, number in zip(("greedy", "value", "bound"), triple)
    }
    return {"family": family, "instance": "i", **numbers, "over-reads": over_reads}


def test_proven_instances_give_numbers_and_others_intervals():
    proven = [row(copies=(10, 10, 10)), row(copies=(10, 5, 5))]
    line = greedy.objective_row("f", proven, "copies")
    assert (line["proven"], line["greedy optimal"], line["avoidable mean"]) == (2, "50.0%", "25.0%")
    unproven = greedy.objective_row("f", [*proven, row(copies=(10, 10, 0)), row(copies=(0, 0, 0))], "copies")
    assert (unproven["proven"], unproven["greedy optimal"]) == (3, "50.0% to 75.0%")
    assert unproven["avoidable mean"] == "12.5% to 37.5%" and unproven["avoidable worst"] == "50.0% to 100.0%"


def test_what_nobody_has_solved_is_left_out():
    empty = row(copies=(10, "", ""), traffic=(10, "", ""))
    assert greedy.objective_row("f", [empty], "copies") == {} == greedy.over_read_row("f", [empty])
    assert greedy.objective_row("f", [empty, row(copies=(10, 10, 10))], "copies")["instances"] == 1


def test_over_reading_beats_copying_where_traffic_is_below_the_price_of_the_copies():
    rows = [
        row(copies=(5, 5, 5), traffic=(10, 10, 10), over_reads=0),
        row(copies=(5, 5, 5), traffic=(10, 9, 9), over_reads=2),
        row(copies=(5, 5, 2), traffic=(10, 9, 3), over_reads=1),
    ]
    line = greedy.over_read_row("f", rows)
    assert line["over-reads"] == "33.3% to 66.7%" == line["over-reading beats copying"]


def test_an_over_read_must_be_strictly_cheaper_than_its_copy():
    """Channels 0 and 2 of three: the over-read costs 1, the copy 4; channels 0 and 5: 4 against 4."""
    for kept, expected in (([1, 0, 1], True), ([1, 0, 0, 0, 0, 1], False)):
        problem = Problem((Block("x", len(kept), removable=False),), (Access("a", (0,), np.array(kept)),))
        assert greedy.has_cheap_over_read(problem, Order.identity(problem)) == expected


@pytest.mark.parametrize("seed", range(6))
def test_over_reads_follow_from_brute_force(seed):
    """If over-reading beats copying, the optimal order has an over-read cheaper than its copy."""
    problem = random_masks(7, 4, seed=seed)
    traffic, copies = (solve(problem, solver="brute-force", objective=o, time_limit=60) for o in ("traffic", "copies"))
    known = Solution(traffic.order, traffic.value, traffic.bound, "x", "x", "0", "2026-11-21")
    found = greedy.over_reads(problem, known)
    assert found[0] == found[1]
    if traffic.value < greedy.COPY_PRICE * copies.value:
        assert found == (True, True)
    unproven = Solution(traffic.order, traffic.value, None, "x", None, "0", "2026-11-21")
    assert greedy.over_reads(problem, unproven) == (False, True)


def test_rows_of_the_library():
    name = LIBRARY.names("classical/random")[0]
    found = greedy.instance_row(name)
    result = solve(LIBRARY.load(name), solver="greedy")
    assert found["copies greedy"] == result.value
    assert found["traffic greedy"] == evaluate(LIBRARY.load(name), result.order, "traffic").value
    assert found["copies value"] == LIBRARY.solutions(name)["copies"].value


def test_the_command_writes_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr(greedy, "DIRECTORY", tmp_path)
    monkeypatch.setattr(greedy, "_names", lambda: LIBRARY.names("classical/random")[:3])
    assert greedy.main([]) == 0
    text = (tmp_path / "greedy.md").read_text()
    assert all(f"## {title}" in text for title in ("copies", "runs", "traffic", "Over-reading"))
    assert len((tmp_path / "greedy.csv").read_text().splitlines()) == 4
