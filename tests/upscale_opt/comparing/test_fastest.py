"""Which export is the answer: the one asked for, or a simpler one that is faster, by tables or by measurement."""

from dataclasses import replace

import networks
import numpy as np
import pytest
from measuring import QUICK, masked

from upscale_opt import Profile, UpscaleError, export, prepare, prune
from upscale_opt.comparing.fastest import BASELINE, UNPRUNED, UPSCALE, fastest_expected, fastest_measured, upscale_plan
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.latency.readings import expected_as_planned
from upscale_opt.planning.cost_model import AnalyticCosts


def profile(*seconds):
    return Profile(seconds, "cpu", "eager", None, {})


QUIET = np.array([1.0, 1.01, 0.99, 1.0, 1.02, 1.0])


def test_what_was_asked_for_is_the_answer_if_nothing_is_faster():
    found = fastest_measured(
        {UNPRUNED: profile(*(2 * QUIET)), "auto": profile(*QUIET), "floor": profile(*(0.5 * QUIET))}, "auto"
    )
    assert found.is_asked and "none of unpruned is faster" in str(found) and "floor" not in found.seconds


def test_an_unpruned_network_that_is_faster_is_the_answer():
    found = fastest_measured(
        {UNPRUNED: profile(*(0.9 * QUIET)), BASELINE: profile(*QUIET), "auto": profile(*QUIET)}, "auto"
    )
    assert found.fastest == UNPRUNED and not found.is_asked
    assert "answer: unpruned, not auto; measured, 900.000 ms against 1000.000" in str(found)
    assert "--mode constrained" in str(found)


def test_noise_is_no_reason_for_another_answer():
    """Faster in half of the rounds, slower in the others; a slow round slows both."""
    other = QUIET * np.array([0.97, 1.02, 0.97, 1.02, 0.97, 1.02])
    assert fastest_measured({"greedy": profile(*other), "auto": profile(*QUIET)}, "auto").is_asked
    slow = np.array([1, 1, 5, 1, 4, 1])
    pair = {"greedy": profile(*(0.95 * QUIET * slow)), "auto": profile(*(QUIET * slow))}
    assert fastest_measured(pair, "auto").fastest == "greedy"


def test_variants_that_are_not_there_are_refused():
    with pytest.raises(UpscaleError, match="choose from auto"):
        fastest_measured({"auto": profile(*QUIET)}, "greedy")
    with pytest.raises(UpscaleError, match="there is no plan of 'auto'"):
        fastest_expected({}, {}, {}, "auto")


def priced(tmp_path):
    model, inputs, graph, masks = masked(networks.Residual)
    return prune(model, inputs, masks=masks, graph=graph).calibrate(directory=tmp_path, effort=QUICK)


def test_by_tables_the_answer_is_the_plan_with_the_least_expected_time(tmp_path):
    made = priced(tmp_path)
    assert isinstance(made.costs, MeasuredCosts)
    results = {name: made.solve(name, objective="latency", time_limit=1) for name in ("greedy", "auto")}
    plans = {name: made.plan(own) for name, own in results.items()}
    plans |= {BASELINE: made.baseline_plan(), UPSCALE: upscale_plan(made.problems, made.masks)}
    found = fastest_expected(plans, made.problems, made.tables, "auto")
    for name, own in plans.items():
        expected = sum(e.excess for e in expected_as_planned(own, made.problems, made.tables).values())
        assert np.isclose(found.seconds[name], expected / 1e9) and found.seconds[name] >= found.seconds[found.fastest]
    worst = max(found.seconds, key=lambda name: found.seconds[name])
    other = fastest_expected(plans, made.problems, made.tables, worst)
    assert other.fastest == found.fastest or other.seconds[other.fastest] == found.seconds[found.fastest]
    assert other.is_asked or "ms beyond the floor" in str(other)


def test_upscales_own_export_is_exact_and_reads_views_or_copies_alone(tmp_path):
    made = priced(tmp_path)
    own = upscale_plan(made.problems, made.masks)
    assert {reading.mode for reading in own.readings.values()} <= {"view", "copy"}
    assert not any(reading.kernel or reading.width for reading in own.readings.values())
    assert export(made.model, made.example_inputs, own, graph=made.graph).verification.passed


def test_a_comparison_says_what_the_answer_is(tmp_path):
    made = priced(tmp_path)
    found = made.compare(("greedy", "auto"), objective="latency", time_limit=1, repeats=3)
    assert found.solvers == ("greedy", "auto") and UPSCALE in found.exports and UPSCALE in found.latencies
    assert found.answer.asked == "auto" and str(found.answer) in str(found)
    assert replace(found, latencies={}).answer is None


def test_without_measured_tables_upscales_export_is_not_compared():
    model, inputs, graph, masks = masked(networks.Residual)
    made = prepare(model, inputs, masks, graph=graph, objective="latency", costs=AnalyticCosts())
    found = made.compare(("greedy",), objective="latency", time_limit=1, measure=False)
    assert UPSCALE not in found.exports and BASELINE in found.exports
