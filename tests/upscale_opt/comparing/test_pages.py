"""Tests of the pages of comparisons, checks and solve results, and of predicted times."""

import re

import pytest
import torch
from networks import Residual

import upscale_opt
from problems.objectives import OVER_READ, VIEW
from upscale_opt import AnalyticCosts, UpscaleError, prune, save_report
from upscale_opt.comparing.check_pages import check_page, order_table
from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.comparing.predictions import predicted_bars
from upscale_opt.comparing.tables import measure_table, reading_table, segment_table
from upscale_opt.latency.profiling import Profile
from upscale_opt.latency.readings import Expected
from upscale_opt.planning.plans import Plan
from upscale_opt.planning.reading import Reading


@pytest.fixture(scope="module")
def masked():
    return prune(Residual().eval(), torch.zeros(1, 3, 8, 8), 0.5)


@pytest.fixture(scope="module")
def compared(masked):
    return masked.compare(objective="traffic", verify=False, measure=False)


def test_predicted_times_of_orders_for_latency_are_their_objective(masked):
    costs = AnalyticCosts()
    results = masked.solve("auto", objective="latency", costs=costs)
    bars = predicted_bars(masked, costs, {name: {"auto": own} for name, own in results.items()}, ["auto"])
    values = {own.name: own.value for own in bars.bars}
    objective = sum(own.value / own.evaluation.ticks for own in results.values())
    assert bars.unit == "µs" and values["auto"] == pytest.approx(objective / 1e3)
    assert values["floor"] <= values["auto"] <= values["baseline"] and values["floor"] < values["unpruned"]
    assert "predicted, not measured" in bars.how


def test_a_comparison_that_measured_nothing_shows_predictions(compared, tmp_path):
    compared.save_report(tmp_path / "a.html", title="small", command="some command")
    page = (tmp_path / "a.html").read_text()
    assert "<h1>small</h1>" in page and "predicted, not measured" in page and "some command" in page
    save_report(compared, tmp_path / "b.html", title="small", command="some command")
    assert (tmp_path / "b.html").read_text() == page


def test_tables_agree_with_the_results(masked, compared):
    solvers = compared.solvers
    segments = segment_table(masked.problems, compared.solutions, solvers, every=True)
    assert [row[0] for row in segments.rows] == list(masked.problems)
    objective = [own.name for own in segments.columns].index("objective")
    assert segments.footer[objective] == sum(row[objective] for row in segments.rows)
    assert segments.footer[objective] == sum(own["greedy"].value for own in compared.solutions.values())
    few = segment_table(masked.problems, compared.solutions, solvers)
    assert len(few.rows) < len(segments.rows) and few.footer[1:] == segments.footer[1:]
    measures = measure_table(masked.problems, compared.solutions, solvers)
    assert [row[0] for row in measures.rows] == ["original", "greedy", "auto"]
    traffic = [own.name for own in measures.columns].index("traffic")
    assert measures.rows[2][traffic] == sum(own["auto"].value for own in compared.solutions.values())


def test_readers_are_shown_as_the_export_reads_them(masked, compared):
    found = reading_table(masked.problems, compared.solutions, ["auto"])
    assert len(found.rows) == sum(len(own.accesses) for own in masked.problems.values())
    _, name, kept, stored, *_ = next(row for row in found.rows if row[2] < row[3])
    reading = {"auto": {name: Reading(OVER_READ, width=stored, kernel="matmul")}}
    wide = reading_table(masked.problems, compared.solutions, ["auto"], reading)
    row = next(own for own in wide.rows if own[1] == name)
    assert row[4:] == (OVER_READ, stored - kept, f"matmul, {stored} wide")


def test_results_of_solve_need_their_problems(masked, tmp_path):
    results = masked.solve(objective="span")
    save_report(results, tmp_path / "a.html", problems=masked.problems, title="solved")
    assert "Objective: span" in (tmp_path / "a.html").read_text()
    with pytest.raises(UpscaleError, match="also give problems"):
        save_report(results, tmp_path / "b.html")
    for wrong in (3, {}, {"a": 1}):
        with pytest.raises(UpscaleError, match="give what compare, check_orders, speedup"):
            upscale_opt.save_report(wrong, tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def _check():
    """Two orders; the second one is the baseline."""
    profiles = {name: Profile((own, own), "cpu", "eager", None, {}) for name, own in
                (("floor", 0.010), ("exact latency", 0.011), ("baseline", 0.020))}  # fmt: skip
    plans = {"exact latency": Plan({}, {}, {"a": VIEW}), "baseline": Plan({}, {}, {"a": "copy"})}
    expected = {name: {"a": Expected("a", Reading(VIEW), 2000.0, 1000.0)} for name in plans}
    measured = {name: {"a": 3e-6} for name in plans}
    return OrderCheck(
        tuple(plans), (0.0121, 0.0190), (0.011, 0.020), 1e-4, 0.010, expected, profiles, plans, measured,
        beside={"unpruned": 0.03},
    )  # fmt: skip


def test_a_check_shows_predictions_beside_measurements(tmp_path):
    html = check_page(_check(), title="a network", asked={"amount": 0.5}, command="check").html()
    assert html.count('class="mark"') == 2 and html.count('class="noise"') == 2
    assert "largest error" in html and "10.0 %" in html and "<dt>amount</dt><dd>0.5</dd>" in html
    table = order_table(_check())
    assert [own.name for own in table.columns][-2:] == ["view", "copy"]
    error = [own.name for own in table.columns].index("error")
    assert [row[error] for row in table.rows] == pytest.approx([10.0, -5.0])
    save_report(_check(), tmp_path / "a.html")
    bars = re.findall(r'class="name">([^<]*)', (tmp_path / "a.html").read_text())
    assert bars == ["unpruned", "exact latency", "baseline", "floor"]
