"""The latency benchmark: a small network through all variants, in one step and in two; its table."""

import csv

import pytest

from benchmarks import results
from benchmarks.latency import __main__ as latency
from benchmarks.latency.cells import KEY, VARIANTS
from benchmarks.latency.tables import by_cell, page, verdict

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
    arguments = ["--models", "mobilenet_v3_small", "--formats", "channels_last", *QUICK]
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


def test_fresh_measures_what_is_asked_for_again_and_keeps_the_rest(directory, monkeypatch):
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
    assert latency.main(["--models", "resnet18", "resnet50", *how]) == 0


def test_the_floor_is_measured_twice_as_often_and_the_hosts_share_is_told(directory, monkeypatch):
    from benchmarks.latency import measuring

    monkeypatch.setattr(measuring, "per_cent", lambda share: "12")
    honest, measured = measuring.profile_interleaved, {}

    def noting(*given, **options):
        measured.update(honest(*given, **options))
        return measured

    monkeypatch.setattr(measuring, "profile_interleaved", noting)
    arguments = ["--models", "mobilenet_v3_small", "--formats", "NCHW", *QUICK, "--copies", "2"]
    assert latency.main(arguments) == 0
    rows = rows_of(directory)
    counts = {name: sum(own.rpartition(" ")[0] == name for own in measured) for name in VARIANTS}
    assert counts == {**dict.fromkeys(VARIANTS, 2), "floor": 4}
    assert {(row["measured_copies"], row["stolen"]) for row in rows} == {("2", "12")}


def test_plans_made_elsewhere_are_carried_out_without_a_solver(directory, monkeypatch):
    arguments = ["--models", "mobilenet_v3_small", "--formats", "NCHW", *QUICK, "--plans", str(directory / "plans")]
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
    common = {**dict.fromkeys(latency.COLUMNS, "x"), "median_ms": "1"}
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
    assert "1 slower" in page(rows) and len(by_cell(rows)) == 1
    assert by_cell(rows[:1]) == []


def test_the_page_sums_up_by_every_column():
    first, second = cell((1.2, 1.3, 1.4), (1.0, 1.1, 1.19)), cell((1.2, 1.3, 1.4), (1.41, 1.5, 1.6))
    for own, batch in ((first, "64"), (second, "8")):
        for row in own.values():
            row["batch"] = batch
    text = page([*first.values(), *second.values()])
    lines = [[field.strip() for field in line.split("|")[1:-1]] for line in text.splitlines()]
    sums = [line for line in lines if line[2:5] == ["x", "x", "1"]]
    assert [line[1] for line in sums] == ["8", "64"] * 2  # by network and by amount, with each batch size
    assert [line[-3:] for line in sums[:2]] == [["0", "0", "1"], ["1", "0", "0"]]
    pooled = ["x", "x", "2", "", "", "1.30 (1.30 to 1.30)", "", "", "1.30 (1.10 to 1.50)", "1", "0", "1"]
    assert pooled in lines and ["x", *pooled] in lines  # by device and backend, by format
