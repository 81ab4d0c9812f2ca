"""Tests that a build writes what the index says, and that updates only ever improve, whatever interrupts them."""

import dataclasses
import functools

import numpy as np
import pytest

from benchmarks.library import build as building
from benchmarks.library import update as updating
from benchmarks.library.__main__ import main
from benchmarks.library.candidates import Candidate, Origin, short_names, timed
from benchmarks.library.classical import classical_candidates
from benchmarks.library.rederive import rederive
from problems import Order, ProblemError, evaluate
from problems.collection import LIBRARY, Collection
from problems.generators import random_masks
from problems.solutions import Solution, write_solutions
from solvers import solve
from upscale_opt import __version__


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A library of five small instances, one of them with tables."""
    monkeypatch.setattr(building, "classical_candidates", lambda: iter(candidates(range(4))))
    building.build(Collection(tmp_path), models=(), digits=(), grouped=())
    return Collection(tmp_path)


def candidates(seeds):
    plain = []
    for seed in seeds:
        plain.append(Candidate.of(random_masks(16, 4, seed=seed), f"x/m-s{seed}", Origin("x", "random_masks", seed)))
    return [*plain, timed(plain[0], concave=True)]


def everything(collection):
    return {name: collection.solutions(name) for name in collection.names()}


def test_the_committed_classical_instances_are_what_the_generators_make():
    expected = {name: LIBRARY.entry(name) for name in LIBRARY.names("classical")}
    assert {candidate.entry.name: candidate.entry for candidate in classical_candidates()} == expected


def test_a_build_writes_instances_and_index(small):
    assert small.names() == ["x/m-s0", "x/m-s1", "x/m-s2", "x/m-s3", "x/m-s0-concave"]
    for candidate in candidates(range(4)):
        assert small.load(candidate.problem.name) == candidate.problem
    assert small.objectives("x/m-s0-concave") == ("latency",)


def test_duplicates_are_dropped_and_equal_names_refused(tmp_path, monkeypatch):
    first, second = candidates(range(1))[0], candidates(range(1, 2))[0]
    renamed = dataclasses.replace(first, problem=dataclasses.replace(first.problem, name="x/again"))
    monkeypatch.setattr(building, "classical_candidates", lambda: iter([first, renamed]))
    assert building.build(Collection(tmp_path), models=(), digits=(), grouped=()) == 1
    clash = dataclasses.replace(second, problem=dataclasses.replace(second.problem, name="x/m-s0"))
    monkeypatch.setattr(building, "classical_candidates", lambda: iter([first, clash]))
    with pytest.raises(ProblemError, match="two instances are named 'x/m-s0'"):
        building.build(Collection(tmp_path), models=(), digits=(), grouped=())


def test_a_new_build_keeps_solutions_of_what_stays_and_removes_the_others(small, monkeypatch):
    updating.update(small, ["greedy"])
    stays, goes = candidates([1])[0], small.path("x/m-s0")
    changes = Candidate.of(random_masks(16, 4, seed=99), "x/m-s2", Origin("x", "random_masks", 99))
    monkeypatch.setattr(building, "classical_candidates", lambda: iter([stays, changes]))
    building.build(Collection(small.directory), models=(), digits=(), grouped=())
    again = Collection(small.directory)
    assert set(again.solutions("x/m-s1")) == set(again.objectives("x/m-s1"))
    assert again.solutions("x/m-s2") == {} and not goes.exists()
    assert len(list(small.directory.rglob("*.json"))) == 4


def test_updates_never_worsen(small):
    """Weak after strong changes no file; strong after weak improves; every objective is solved."""
    weak = functools.partial(updating.update, small, ["identity"])
    strong = functools.partial(updating.update, small, ["pair-of-chains", "placed-sets", "cp-sat"], time_limit=20)
    weak()
    before = everything(small)
    counts = strong()
    after = everything(small)
    for name, known in before.items():
        assert set(known) == set(small.objectives(name))
        for objective, solution in known.items():
            assert after[name][objective].value <= solution.value
            assert (after[name][objective].bound or 0) >= (solution.bound or 0)
    assert counts["better value"] > 0 and all(s.proven for known in after.values() for s in known.values())
    files = {path: path.read_bytes() for path in small.directory.rglob("*.json")}
    assert weak()["jobs"] == 0
    assert {path: path.read_bytes() for path in small.directory.rglob("*.json")} == files


def test_a_weak_solver_does_not_touch_an_unproven_better_order(small):
    name = "x/m-s1"
    problem = small.load(name)
    best = solve(problem, solver="placed-sets", objective="span", time_limit=60)
    known = Solution(best.order, best.value, None, "placed-sets", None, "0.1.0", "2026-11-21")
    write_solutions({"span": known}, problem, small.solutions_path(name))
    updating.update(small, ["identity"], only=name, objectives=["span"])
    found = small.solutions(name)["span"]
    assert (found.value, found.solver, found.proven) == (best.value, "placed-sets", False)
    assert np.array_equal(np.sort(found.order[0]), problem.stored[0])


def test_orders_of_other_objectives_are_tried_first(small):
    """An order without copies has span 0, too, and keeps the name of who found it."""
    candidate = next(c for c in classical_candidates() if c.origin.family == "classical/planted")
    collection = Collection(small.directory / "planted")
    collection.directory.mkdir()
    (collection.directory / candidate.problem.name).parent.mkdir(parents=True)
    building.write_instance(candidate.problem, collection.directory / f"{candidate.problem.name}.json")
    collection.write_index([candidate.entry])
    updating.update(collection, ["cp-sat"], objectives=["copies"], time_limit=20)
    updating.update(collection, ["greedy"], objectives=["span"])
    found = collection.solutions(candidate.problem.name)["span"]
    assert (found.value, found.solver) == (0, "cp-sat")


def test_a_bound_for_traffic_is_one_for_span(small):
    """No order has more traffic than span, so a solver without bounds leaves span with traffic's."""
    updating.update(small, ["placed-sets"], objectives=["traffic"], time_limit=60)
    updating.update(small, ["greedy"], objectives=["span"])
    for name in small.names()[:4]:
        known = small.solutions(name)
        assert known["traffic"].proven and (known["span"].bound or 0) >= known["traffic"].value
        assert known["span"].value == evaluate(small.load(name), known["span"].order, "span").value


def test_a_bound_for_traffic_above_a_span_stops_the_run_and_names_the_instance(small):
    """The wrong bound is the traffic of the stored order."""
    name = "x/m-s1"
    problem = small.load(name)
    best = solve(problem, solver="placed-sets", objective="span", time_limit=60)
    order = Order.identity(problem)
    stored = evaluate(problem, order, "traffic").value
    assert stored > best.value
    wrong = Solution(order, stored, stored, "a", "a", "0.1.0", "2026-11-21")
    known = Solution(best.order, best.value, None, "a", None, "0.1.0", "2026-11-21")
    write_solutions({"span": known, "traffic": wrong}, problem, small.solutions_path(name))
    with pytest.raises(ProblemError, match=r"x/m-s1, span: .*above the value"):
        updating.update(small, ["greedy"], only=name, objectives=["span"])


def test_an_interrupt_keeps_what_was_solved_and_the_next_run_goes_on(small, monkeypatch):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return solve(*arguments, **options)

    monkeypatch.setattr(updating, "solve", interrupted)
    assert updating.update(small, ["greedy"])["interrupted"] == 1
    assert sum(len(known) for known in everything(small).values()) == 3
    monkeypatch.setattr(updating, "solve", solve)
    jobs = updating.jobs(small)
    assert [job.urgency for job in jobs[:14]] == [2.0] * 14
    updating.update(small, ["greedy"], missing=True)
    assert sum(len(known) for known in everything(small).values()) == 17
    assert updating.jobs(small, missing=True) == []


def test_refusals_are_counted_and_defects_of_solvers_stop_the_run(small, monkeypatch):
    from solvers import SolverError

    def refuse(*_, **__):
        raise SolverError("too large; choose another")

    monkeypatch.setattr(updating, "solve", refuse)
    assert updating.update(small, ["greedy"], only="x/m-s0")["refused"] == 4

    def defective(*_, **__):
        raise SolverError("claims nonsense; please report this")

    monkeypatch.setattr(updating, "solve", defective)
    with pytest.raises(ProblemError, match=r"x/m-s0, copies: claims nonsense"):
        updating.update(small, ["greedy"], only="x/m-s0")


def test_the_command(small, capsys):
    assert main(["--update", "--solver", "greedy", "--directory", str(small.directory), "--only", "x/m-s0"]) == 0
    assert "4 jobs" in capsys.readouterr().out
    assert set(small.solutions("x/m-s0")) == set(small.objectives("x/m-s0")) and not small.solutions("x/m-s1")
    assert main(["--update", "--directory", str(small.directory / "nowhere")]) == 2
    with pytest.raises(SystemExit):
        main([])


def test_names_are_short_unique_and_safe_for_files():
    segments = ["a.0.conv", "a.1.conv", "a.10.conv", "b", "b.c#2"]
    names = short_names(segments)
    assert list(names) == segments and len(set(names.values())) == 5
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for name in names.values())


def older(collection, name, **changes):
    """Let the solutions of an instance be of an older version, some of them changed; returns them by objective."""
    problem = collection.load(name)
    known = {
        objective: dataclasses.replace(solution, version="0.0.9", **changes.get(objective, {}))
        for objective, solution in collection.solutions(name).items()
    }
    write_solutions(known, problem, collection.solutions_path(name))
    return known


def test_bounds_of_other_versions_are_derived_again_and_only_these(small):
    updating.update(small, ["placed-sets"], time_limit=60)
    before = {name: older(small, name) for name in ("x/m-s0", "x/m-s1")}
    counts = rederive(small, ["placed-sets"], time_limit=60)
    assert counts["derived again"] == 8 and counts["not reached"] == counts["weaker"] == 0
    for name, known in before.items():
        for objective, solution in small.solutions(name).items():
            assert solution.version == __version__ and solution.proven
            assert (solution.value, solution.bound) == (known[objective].value, known[objective].bound)
    assert not rederive(small, ["placed-sets"])


def test_an_old_bound_that_is_not_reached_stays_until_a_weaker_one_is_accepted(small):
    """Greedy proves the trivial bound only."""
    updating.update(small, ["placed-sets"], only="x/m-s1", objectives=["span"], time_limit=60)
    (before,) = older(small, "x/m-s1").values()
    assert before.proven and before.value > 0
    assert rederive(small, ["greedy"]) == {"not reached": 1}
    assert small.solutions("x/m-s1")["span"].version == "0.0.9"
    assert rederive(small, ["greedy"], accept_weaker=True) == {"weaker": 1}
    after = small.solutions("x/m-s1")["span"]
    assert (after.value, after.bound, after.bound_solver) == (before.value, 0, "greedy")


def test_a_false_old_bound_goes_when_a_better_order_is_found(small):
    """The old file said that the stored order, which is not the best, is optimal."""
    name = "x/m-s1"
    problem = small.load(name)
    stored = Order.identity(problem)
    value = evaluate(problem, stored, "span").value
    false = Solution(stored, value, value, "a", "a", "0.0.9", "2026-11-21")
    write_solutions({"span": false}, problem, small.solutions_path(name))
    counts = rederive(small, ["placed-sets"], time_limit=60)
    after = small.solutions(name)["span"]
    assert counts["better value"] == 1 and after.proven and after.value < value


def test_the_command_to_derive_again(small, capsys):
    updating.update(small, ["placed-sets"], only="x/m-s0", time_limit=60)
    older(small, "x/m-s0")
    assert main(["--rederive", "--solver", "placed-sets", "--directory", str(small.directory)]) == 0
    assert "4 derived again" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--update", "--accept-weaker"])


def test_classical_instances_can_be_built_alone(tmp_path, monkeypatch):
    """New and changed ones are written; all others stay with their solutions, in the order of a whole build."""

    def named(seed):
        origin = Origin("classical/y", "random_masks", seed)
        return Candidate.of(random_masks(16, 4, seed=seed), f"classical/y/m-s{seed}", origin)

    monkeypatch.setattr(building, "classical_candidates", lambda: iter([named(0), named(1), *candidates([5])]))
    building.build(Collection(tmp_path), models=(), digits=(), grouped=())
    updating.update(Collection(tmp_path), ["greedy"])
    monkeypatch.setattr(building, "classical_candidates", lambda: iter([named(0), named(1), named(2), named(3)]))
    assert building.build_classical(Collection(tmp_path), "classical/y/m-s[02]") == 1
    again = Collection(tmp_path)
    assert again.names() == [*(f"classical/y/m-s{seed}" for seed in range(3)), "x/m-s5", "x/m-s5-concave"]
    assert all(again.solutions(name) for name in again.names() if not name.endswith("s2"))
    assert again.load("classical/y/m-s2") == named(2).problem
    assert building.build_classical(again) == 1 and building.build_classical(Collection(tmp_path)) == 0
