"""Pages over stores: pictures of what belongs together, tables, comparisons; and rows of the benchmarks' files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.benchmark_files import rows_of
from upscale_opt.sweeps.cells import ACCURACY, LATENCY, ORDERS, Axes, Model, cells_of
from upscale_opt.sweeps.pages.columns import csv_text, failures, summary
from upscale_opt.sweeps.pages.comparison import compare
from upscale_opt.sweeps.pages.page import page
from upscale_opt.sweeps.pages.points import pictures_of
from upscale_opt.sweeps.rows import DONE, FAILED, Row

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
AXES = Axes((Model("a"), Model("b<c>")), amounts=("0.25", "0.5"), measure=(ORDERS, ACCURACY, LATENCY), data="digits")
FIGURES = {
    ORDERS: {"value": 10, "traffic": 7, "gap": 0.0},
    ACCURACY: {"pruned_top1": 0.5, "tuned_top1": 0.75},
    LATENCY: {"latency_ms": 2.0, "unpruned_ms": 3.0, "ratio_to_unpruned": 0.66},
}


def rows(axes=AXES, **changed):
    """Rows of all cells. A changed figure is changed in the rows of its kind."""
    return [
        Row(str(cell), DONE, cell.to_dict(), figures={name: changed.get(name, own) for name, own in kind.items()})
        for cell in cells_of(axes)
        for kind in [FIGURES[cell.kind]]
    ]


@pytest.mark.parametrize(
    ("measure", "x_label", "y_label"),
    [
        ((ORDERS, ACCURACY, LATENCY), "milliseconds", "top-1 %"),
        ((ORDERS, LATENCY), "milliseconds", "traffic (channels moved in excess)"),
        ((LATENCY,), "amount removed", "milliseconds"),
        ((ACCURACY,), "amount removed", "top-1 %"),
        ((ORDERS,), "amount removed", "copies"),
    ],
)
def test_a_picture_shows_the_best_that_is_known(measure, x_label, y_label):
    found = pictures_of(rows(replace(AXES, measure=measure)))
    assert [own.title.split(",")[0] for own in found] == ["a", "b<c>"]
    assert {(own.x_label, own.y_label) for own in found} == {(x_label, y_label)}
    assert all(len(own.points) == (2 if measure == (ACCURACY,) else 4) for own in found)
    if y_label == "top-1 %":
        assert {point.y for point in found[0].points} == {75.0}


def test_a_page_needs_nothing_else_and_escapes_names():
    failed = Row("f", FAILED, cells_of(AXES)[0].to_dict(), reason="no <memory>")
    text = page({"a.sqlite": [*rows(), failed], "b.sqlite": rows(value=12)}).html()
    assert not re.search(r"src=|href=\"(?!data:,)|https?://(?!www\.w3\.org)|@import|url\(", text)
    assert "b<c>" not in text and "no <memory>" not in text and text.count("<svg") == 2
    assert "prefers-color-scheme: dark" in text and "value: 0 better, 0 equal, 8 worse" in text
    data = re.search(r'id="cells-data">(.*?)</script>', text)[1]
    table = json.loads(data)
    assert len(table["rows"]) == len(rows()) + 1 and all(len(own) == len(table["columns"]) for own in table["rows"])


def test_rows_are_summed_up_and_written():
    failed = Row("f", FAILED, cells_of(AXES)[0].to_dict(), reason="no memory")
    assert summary([*rows(), failed]) == "21 rows: 4 accuracy done, 8 latency done, 8 orders done, 1 orders failed"
    assert failures([failed, failed]) == ["2 failed: no memory"]
    lines = csv_text(rows()).splitlines()
    assert len(lines) == 21 and lines[0].startswith("kind,model,amount,importance")


def test_two_stores_are_compared_cell_by_cell():
    before, after = rows(), rows(replace(AXES, amounts=("0.5", "0.75")), value=12, latency_ms=2.01, tuned_top1=0.8)
    found = compare(before, after)
    assert (found.common, found.only_first, found.only_second) == (10, 10, 10)
    assert found.counts["value"] == {"better": 0, "equal": 0, "worse": 4}
    assert found.counts["latency_ms"] == {"better": 0, "equal": 4, "worse": 0}  # within the noise
    assert found.counts["tuned_top1"] == {"better": 2, "equal": 0, "worse": 0}
    assert found.lines[0]["figure"] == "value" and found.lines[0]["change_percent"] == 20.0


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("latency", {LATENCY}),
        ("solvers", {ORDERS}),
        ("alignment", {LATENCY}),
        ("vs_upscale_latency", {LATENCY, ORDERS}),
        ("widths", {ORDERS}),
    ],
)
def test_the_results_of_benchmarks_can_be_read(name, kinds):
    found = rows_of(RESULTS / f"{name}.csv")
    assert {row.cell["kind"] for row in found} <= kinds
    assert len({row.address for row in found}) > 0.99 * len(found)
    assert all(row.figures for row in found if row.done)


def test_accuracies_are_shares_and_have_latencies(tmp_path):
    lines = (RESULTS / "accuracy.csv").read_text().splitlines(keepends=True)
    few = tmp_path / "accuracy.csv"
    few.write_text("".join(lines[:20]))
    found = rows_of(few)
    assert {row.cell["kind"] for row in found} == {ACCURACY, LATENCY}
    first = next(row for row in found if row.cell["kind"] == ACCURACY)
    assert 0 < first.figures["tuned_top1"] <= 1 and first.cell["masking"]["importance"] == "l1"
    assert any(own.y_label == "top-1 %" and own.x_label == "milliseconds" for own in pictures_of(found))


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "a.csv"
    other.write_text("x,y\n1,2\n")
    with pytest.raises(SweepError, match="has no column model, network or instance"):
        rows_of(other)
    with pytest.raises(SweepError, match="cannot read"):
        rows_of(tmp_path / "none.csv")
