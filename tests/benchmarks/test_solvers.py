"""Tests of the solver benchmark: what it counts, that it goes on where it was, and that it keeps losses."""

import numpy as np
import pytest

from benchmarks import profiles, results, solvers
from problems import Order
from problems.collection import LIBRARY
from problems.solutions import Solution


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr(solvers, "DIRECTORY", tmp_path)
    return tmp_path


COMMAND = ["--per-family", "2", "--families", "classical/random", "l2-steps", "--time-limit", "0.2", "--solvers"]


def test_a_run_writes_its_files_and_a_second_one_solves_nothing(directory, monkeypatch, capsys):
    """The steps family has no solver that knows it but greedy and identity; a solver that does not exist is named."""
    assert solvers.main([*COMMAND, "greedy", "identity", "unheard-of", "--objectives", "copies", "latency"]) == 0
    rows = solvers.read_rows(directory / "solvers.csv")
    assert len(rows) == 8 and {row["objective"] for row in rows} == {"copies", "latency"}
    text = (directory / "solvers.md").read_text()
    assert "absent: unheard-of" in text and "## copies" in text and "## latency" in text
    assert (directory / "solvers.png").stat().st_size > 1000

    def unwanted(*_, **__):
        raise AssertionError("solved twice")

    monkeypatch.setattr(solvers, "solve", unwanted)
    assert solvers.main([*COMMAND, "greedy", "identity", "--objectives", "copies", "latency"]) == 0
    assert solvers.read_rows(directory / "solvers.csv") == rows


def test_an_interrupted_run_keeps_its_rows_and_goes_on(directory, monkeypatch, capsys):
    real, calls = solvers.solve, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(solvers, "solve", interrupted)
    command = [*COMMAND, "greedy", "identity", "--objectives", "copies"]
    assert solvers.main(command) == 130
    assert len(solvers.read_rows(directory / "solvers.csv")) == 2
    assert "interrupted" in (directory / "solvers.md").read_text()
    assert solvers.main(command) == 0
    assert len(solvers.read_rows(directory / "solvers.csv")) == 4


def test_refusals_are_rows(directory):
    """Sets of placed classes are too many for an instance with hundreds of classes."""
    name = "densenet121/l2-0.50/features-transition2"
    row = {
        "objective": "span",
        "family": "l2",
        "instance": name,
        "solver": "placed-sets",
        "time_limit": "1",
        "seed": "0",
    }
    assert solvers.measure([row], directory / "x.csv")
    (found,) = solvers.read_rows(directory / "x.csv")
    assert found["status"] == "refused" and found["value"] == ""


def test_samples_are_seeded_subsets_of_the_family():
    assert solvers.sample("l2", 5, seed=1) == solvers.sample("l2", 5, seed=1) != solvers.sample("l2", 5, seed=2)
    assert {LIBRARY.entry(name).family for name in solvers.sample("l2", 5)} == {"l2"}
    assert len(solvers.sample("classical/concat", 1000)) == len(LIBRARY.names("classical/concat"))


def test_matrices_are_families_of_their_own(directory, capsys):
    """They are solved for runs only, and nothing is known of them beforehand."""
    assert solvers.sample("cbm/a", 2) == solvers.sample("cbm/a", 2) != solvers.sample("cbm/a", 2, seed=3)
    command = ["--per-family", "1", "--families", "cbm/a", "--time-limit", "20", "--solvers", "greedy", "auto"]
    assert solvers.main([*command, "--name", "x"]) == 0
    rows = solvers.read_rows(directory / "x.csv")
    assert [(row["objective"], row["solver"]) for row in rows] == [("runs", "greedy"), ("runs", "auto")]
    assert rows[1]["status"] == "OPTIMAL" and rows[1]["value"] == rows[1]["bound"]
    assert "| cbm/a | 0% | 100% |" in " ".join(capsys.readouterr().out.split())


def test_summaries_count_proofs_gaps_and_losses():
    """By hand: two instances with best-known values 8 and 10."""

    def row(instance, solver, status, value="", seconds=""):
        return {
            "objective": "copies",
            "family": "f",
            "instance": instance,
            "solver": solver,
            "status": status,
            "value": value,
            "seconds": seconds,
        }

    rows = [
        row("a", "greedy", "FEASIBLE", "10", "1"),
        row("b", "greedy", "FEASIBLE", "10", "3"),
        row("a", "x", "OPTIMAL", "8", "2"),
        row("b", "x", "FEASIBLE", "20", "4"),
        row("a", "y", "refused"),
        row("b", "y", "FEASIBLE", "5", "1"),
    ]
    known = {
        (name, "copies"): Solution(Order([[0]]), value, None, "x", None, "0", "2026-11-21")
        for name, value in (("a", 8), ("b", 10))
    }
    greedy, x, y = solvers.summarise(rows, known)
    assert (greedy["proven"], greedy["mean gap"], greedy["worst gap"], greedy["median s"]) == (
        "0%",
        "10.0%",
        "20.0%",
        2,
    )
    assert (x["proven"], x["mean gap"], x["worst gap"], x["worse than greedy"]) == ("50%", "25.0%", "50.0%", 1)
    assert (y["refused"], y["instances"], y["beats best known"], y["worst gap"]) == (1, 2, 1, "-100.0%")


def test_a_bound_above_a_value_is_reported():
    """Of a solver above the best known, and of the best known above a solver's order; equal ones are fine."""

    def row(instance, value, bound):
        names = {"objective": "span", "instance": instance, "solver": "x"}
        return {**names, "value": value, "bound": bound}

    def best(value, bound):
        return Solution(Order([[0]]), value, bound, "y", "y", "0", "2026-11-21")

    known = {("a", "span"): best(5, 5), ("b", "span"): best(5, 5), ("c", "span"): best(5, 4), ("d", "span"): None}
    rows = [row("a", "7", "6"), row("b", "4", "3"), row("c", "5", "5"), row("d", "3", ""), row("d", "", "")]
    marked, found = solvers.judged(rows, known)
    assert [row.get("status") for row in marked] == ["WRONG", None, None, None, None]
    assert len(found) == 2
    assert "x claims that span of a is at least 6, but there is an order of 5" in found
    assert "y (best known) claims that span of b is at least 5, but there is an order of 4" in found


def test_ratios_are_of_proofs_only():
    rows = [
        {"instance": i, "solver": s, "status": status, "seconds": seconds}
        for i, s, status, seconds in [
            ("a", "x", "OPTIMAL", "2"),
            ("a", "y", "OPTIMAL", "1"),
            ("b", "x", "FEASIBLE", "0.1"),
            ("b", "y", "OPTIMAL", "5"),
            ("c", "x", "refused", ""),
        ]
    ]
    ratios = profiles.time_ratios(rows, ["x", "y"])
    assert np.array_equal(ratios, [[2, np.inf, np.inf], [1, 1, np.inf]])


def test_shares_of_proofs_count_every_solve_of_a_family() -> None:
    rows = [
        {"family": "a", "solver": "auto", "status": status, "objective": objective}
        for status, objective in (("OPTIMAL", "span"), ("FEASIBLE", "span"), ("OPTIMAL", "runs"), ("refused", "runs"))
    ]
    assert solvers.proven_shares(rows) == [{"family": "a", "auto": "50%"}]
