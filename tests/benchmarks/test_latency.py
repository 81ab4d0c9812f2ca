"""The latency benchmark: a small network through all variants, in one step and in two; its table."""

import csv
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.latency import __main__ as latency
from benchmarks.latency.cells import KEY, VARIANTS
from benchmarks.latency.tables import by_cell, page, verdict

NETWORK = f"{Path(__file__).parents[1]}/upscale_opt/networks.py:Residual"
QUICK = ("--image-size", "32", "--runs", "2", "--time-limit", "1", "--batches", "1", "--amounts", "0.5")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path / "tables"))
    return tmp_path


def rows_of(directory):
    with (directory / "latency.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_variant_has_a_row_and_nothing_is_measured_twice(directory, monkeypatch, capsys):
    arguments = ["--models", NETWORK, "--formats", "channels_last", *QUICK]
    assert latency.main(arguments) == 0
    rows = rows_of(directory)
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert all(float(row["median_ms"]) > 0 for row in rows) and float(rows[-1]["to_floor"]) == 1
    command = f"python -m benchmarks.latency {' '.join(arguments)}"
    assert {row["command"] for row in rows} == {command}
    text = (directory / "latency.md").read_text()
    assert "## Every cell" in text and f"`{command}` ({rows[0]['commit']})" in text
    monkeypatch.setattr(latency, "_measured", None)
    assert latency.main(arguments) == 0 and rows_of(directory) == rows


def test_fresh_measures_what_is_asked_for_again_and_keeps_the_rest(directory, monkeypatch, capsys):
    figures = {"median_ms": "1", "to_floor": "1", "to_floor_low": "1", "to_floor_high": "1"}

    def measured(cell, given):
        key = dict(zip(KEY, cell.key, strict=True))
        return [{**key, **figures, "runs": given.runs, "variant": name} for name in VARIANTS]

    monkeypatch.setattr(latency, "_measured", measured)
    how = ["--formats", "NCHW", "--batches", "1", "--amounts", "0.5"]
    assert latency.main(["--models", "resnet18", "resnet50", *how, "--runs", "2"]) == 0
    assert latency.main(["--models", "resnet18", *how, "--runs", "3", "--fresh"]) == 0
    assert [(row["model"], row["runs"]) for row in rows_of(directory)[:: len(VARIANTS)]] == [
        ("resnet50", "2"),
        ("resnet18", "3"),
    ]
    text = (directory / "latency.md").read_text()
    assert "--models resnet18 resnet50" in text and "--fresh" in text
    monkeypatch.setattr(latency, "_measured", None)
    capsys.readouterr()
    assert latency.main(["--models", "resnet18", *how]) == 0
    printed = capsys.readouterr().out
    assert "| resnet18 |" in printed and "| resnet50 |" not in printed  # what is asked for
    assert (directory / "latency.md").read_text() == text  # all


def test_the_floor_is_measured_twice_as_often_and_the_hosts_share_is_told(directory, monkeypatch):
    from benchmarks.latency import measuring

    monkeypatch.setattr(measuring, "per_cent", lambda share: "12")
    honest, measured = measuring.profile_interleaved, {}

    def noting(*given, **options):
        measured.update(honest(*given, **options))
        return measured

    monkeypatch.setattr(measuring, "profile_interleaved", noting)
    arguments = ["--models", NETWORK, "--formats", "NCHW", *QUICK, "--copies", "2"]
    assert latency.main(arguments) == 0
    rows = rows_of(directory)
    counts = {name: sum(own.rpartition(" ")[0] == name for own in measured) for name in VARIANTS}
    assert counts == {**dict.fromkeys(VARIANTS, 2), "floor": 4}
    assert {(row["measured_copies"], row["stolen"]) for row in rows} == {("2", "12")}


def test_plans_made_elsewhere_are_carried_out_without_a_solver(directory, monkeypatch):
    arguments = ["--models", NETWORK, "--formats", "NCHW", *QUICK, "--plans", str(directory / "plans")]
    assert latency.main([*arguments, "--plan-only"]) == 0
    assert len(list((directory / "plans").glob("*.json"))) == 4 and not (directory / "latency.csv").exists()
    monkeypatch.setitem(__import__("sys").modules, "benchmarks.latency.planning", None)
    assert latency.main(arguments) == 0
    assert len(rows_of(directory)) == len(VARIANTS)


def test_no_copies_are_bad_input(directory, capsys):
    assert latency.main([*QUICK, "--models", "resnet18", "--copies", "0"]) == 2
    assert "the number of copies is 0; give at least 1" in capsys.readouterr().err


def test_a_missing_device_is_bad_input(directory, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert latency.main(["--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def cell(greedy, exact):
    common = {**dict.fromkeys(latency.COLUMNS, "x"), "median_ms": "1", "amount": "0.5", "batch": "1"}
    found = {}
    for name, (low, middle, high) in {"greedy": greedy, "exact latency": exact, "floor": (1, 1, 1)}.items():
        figures = {"to_floor": str(middle), "to_floor_low": str(low), "to_floor_high": str(high)}
        found[name] = {**common, "variant": name, **figures}
    return found


def test_verdicts_respect_the_noise():
    assert verdict(cell((1.2, 1.3, 1.4), (1.0, 1.1, 1.19))) == "faster"
    assert verdict(cell((1.2, 1.3, 1.4), (1.0, 1.1, 1.21))) == "tie"
    assert verdict(cell((1.2, 1.3, 1.4), (1.41, 1.5, 1.6))) == "slower"
    rows = list(cell((1.2, 1.3, 1.4), (1.41, 1.5, 1.6)).values())
    assert "| 0 | 0 | 1 |" in page(rows) and len(by_cell(rows)) == 1
    assert by_cell(rows[:1]) == []


def lines_of(*cells):
    """The fields of every line of the tables of a page."""
    text = page([row for own in cells for row in own.values()])
    return [[field.strip() for field in line.split("|")[1:-1]] for line in text.splitlines()]


def test_the_page_sums_up_by_every_column():
    first, second = cell((1.2, 1.3, 1.4), (1.0, 1.1, 1.19)), cell((1.2, 1.3, 1.4), (1.41, 1.5, 1.6))
    for own, amount, batch in ((first, "0.5", "64"), (second, "0.25", "8")):
        for row in own.values():
            row |= {"amount": amount, "batch": batch}
    lines = lines_of(first, second)
    sums = [line for line in lines if line[2:5] == ["x", "x", "1"]]
    assert [line[:2] for line in sums] == [
        *(["x", "8"], ["x", "64"]),  # network and batch size
        *(["x", "0.25"], ["x", "0.5"]),  # network and amount
        *(["0.25", "8"], ["0.5", "64"]),  # amount and batch size
    ]
    assert [line[-3:] for line in sums] == [["0", "0", "1"], ["1", "0", "0"]] * 3
    pooled = ["x", "x", "2", "", "", "1.300 (1.30 to 1.30)", "", "", "1.300 (1.10 to 1.50)", "1", "0", "1"]
    assert pooled in lines and ["x", *pooled] in lines  # by device and backend, by format


def test_networks_stay_in_the_order_in_which_they_were_measured():
    cells = [cell((1, 1, 1), (1, 1, 1)) for _ in range(3)]
    for own, model in zip(cells, ("resnet50", "densenet121", "resnet18"), strict=True):
        for row in own.values():
            row["model"] = model
    found = [line[0] for line in lines_of(*cells) if line[1:5] == ["1", "x", "x", "1"]]
    assert found == ["resnet50", "densenet121", "resnet18"]


def test_the_page_says_how_many_times_as_long_one_variant_takes_as_another():
    """Devices apart."""
    first, second, other = (cell((1, greedy, 2), (1, 1, 1)) for greedy in (1.2, 0.8, 2))
    for own, difference in ((second, {"batch": "8"}), (other, {"device": "cuda"})):
        for row in own.values():
            row |= difference
    lines = [line for line in lines_of(first, second, other) if line[2:4] == ["greedy", "exact latency"]]
    assert lines == [
        ["x", "x", "greedy", "exact latency", "2", "0.980", "0.800", "1.200", "1"],
        ["cuda", "x", "greedy", "exact latency", "1", "2.000", "2.000", "2.000", "1"],
    ]


def test_dtypes_are_cells_of_their_own_and_older_rows_are_float32(directory, capsys):
    arguments = ["--models", "tests/upscale_opt/networks.py:Inverted", "--formats", "NCHW", *QUICK, "--no-verify"]
    assert latency.main(arguments) == 0
    path = directory / "latency.csv"
    with path.open(newline="") as file:
        older = [{name: own for name, own in row.items() if name != "dtype"} for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(older[0]))
        writer.writeheader()
        writer.writerows(older)
    assert latency.main([*arguments, "--dtypes", "float32", "bfloat16"]) == 0
    rows = rows_of(directory)
    assert [row["dtype"] for row in rows] == ["float32"] * len(VARIANTS) + ["bfloat16"] * len(VARIANTS)
    assert [row["median_ms"] for row in rows[: len(VARIANTS)]] == [row["median_ms"] for row in older]
    text = (directory / "latency.md").read_text()
    assert "| eager |" in text and "| eager, bfloat16 |" in text
    assert latency.main([*arguments, "--dtypes", "tf32"]) == 2
    assert "tf32 needs a CUDA device" in capsys.readouterr().err
