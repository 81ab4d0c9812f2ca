"""The benchmark of predictions: a small network checked twice, once more from its files, and what its page says."""

import csv

import pytest

from benchmarks import order_checks, results

NETWORK = "tests/upscale_opt/networks.py:Residual"
QUICK = ("--image-size", "32", "--runs", "2", "--time-limit", "0.5", "--batches", "1", "--quick", "--no-verify")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path / "tables"))
    return tmp_path


@pytest.fixture(scope="module")
def checks():
    """Checks that were made in this file, by cell: one is enough for everything that is written of it."""
    return {}


@pytest.fixture
def checked_once(checks, monkeypatch):
    honest = order_checks._checked

    def checking(cell, given):
        if cell.key not in checks:
            checks[cell.key] = honest(cell, given)
        return checks[cell.key]

    monkeypatch.setattr(order_checks, "_checked", checking)


def rows_of(directory, name="order_checks"):
    with (directory / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_cell_is_checked_twice_and_never_again(directory, checked_once, monkeypatch):
    arguments = ["--models", NETWORK, "--formats", "NCHW", *QUICK]
    assert order_checks.main(arguments) == 0
    rows = rows_of(directory)
    assert len(rows) == 2 * 11 and {row["repeat"] for row in rows} == {"1", "2"}
    assert all(float(row["predicted_ms"]) > 0 and float(row["measured_ms"]) > 0 for row in rows)
    worst = rows_of(directory, "order_checks_worst")
    assert len(worst) == 2 * order_checks.NUM_WORST
    page = (directory / "order_checks.md").read_text()
    assert "## Every check" in page and f"| {NETWORK} | 0.5 | 1 | NCHW | eager | 2 |" in page
    monkeypatch.setattr(order_checks, "_checked", None)
    assert order_checks.main(arguments) == 0 and rows_of(directory) == rows


def test_a_missing_device_is_bad_input(directory, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert order_checks.main(["--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def checked(batch, predicted, measured, floor=10.0, noise=0.1):
    common = {
        **dict.fromkeys(order_checks.COLUMNS, "x"),
        "batch": str(batch),
        "noise_ms": str(noise),
        "floor_ms": str(floor),
        "repeat": "1",
    }
    names = ("identity", "baseline", "greedy", "exact latency")
    return [
        {**common, "order": name, "predicted_ms": str(p), "measured_ms": str(m)}
        for name, p, m in zip(names, predicted, measured, strict=True)
    ]


def test_the_page_tells_good_predictions_from_bad_ones():
    good = checked(1, (12, 14, 11, 10), (12, 15, 11, 10))
    bad = checked(8, (10, 11, 12, 14), (30, 20, 15, 12))
    worst = {**good[0], "batch": "8", "access": "layer1.conv", "expected_us": "1", "measured_us": "9"}
    text = order_checks.page([*good, *bad], [worst], [])
    lines = [line for line in text.splitlines() if line.startswith("| x | x | 1 |")]
    assert "1.7%" in lines[0] and "1.00 | 1.00 | 1.00 | 1.00 | 6 of 6 pairs differ | 1.500 | 1.100 | 1.000" in lines[0]
    assert text.count("Furthest from their tables") == 1
    assert "The error is 37.1 %." in text and "Spearman's rho of groups is -1.00." in text
    assert "| identity | layer1.conv | 1 | 9 |" in text and "Not measured." in text
    assert "Furthest" not in order_checks.page(good, [worst], [])


def test_accesses_explain_a_wrong_rank_even_where_the_error_is_small():
    swapped = checked(8, (12.1, 12.2, 12.3, 12.4), (12.4, 12.0, 11.6, 11.2))
    pair = {"faster": "exact latency", "slower": "identity"}
    row = {**swapped[0], **pair, "access": "layer1.conv", "expected_us": "-1", "measured_us": "9"}
    text = order_checks.page(swapped, [], [row, {**row, "batch": "1", "access": "elsewhere"}])
    assert "Spearman's rho of groups is -1.00." in text and "Furthest from their tables" not in text
    assert "| exact latency | identity | layer1.conv | -1 | 9 |" in text and "elsewhere" not in text


def test_the_accesses_of_a_check_that_was_not_finished_are_measured_again(directory, checked_once):
    """Interrupted between two files: what has no row in the last one is dropped."""
    arguments = ["--models", NETWORK, "--formats", "NCHW", "--repeats", "1", *QUICK]
    assert order_checks.main(arguments) == 0
    (directory / "order_checks.csv").unlink()
    assert order_checks.main(arguments) == 0
    assert len(rows_of(directory, "order_checks_worst")) == order_checks.NUM_WORST


def test_pooling_compares_ratios_to_the_floor():
    cells = [
        *checked(1, (11, 12, 13, 14), (11, 12, 13, 14)),
        *checked(8, (101, 106, 118, 129), (101, 106, 118, 129), 100.0),
    ]
    text = order_checks.page(cells, [], [])
    (line,) = [line for line in text.splitlines() if line.startswith("| x | x | x | 1 | 8 |")]
    assert "| 1.0% | 0.0% | 1.00 |" in line
