"""The benchmark of aligned widths: rows of a small network, its page, and that it goes on where it stopped."""

import csv

import pytest

from benchmarks import alignment, results

NETWORK = "tests/upscale_opt/networks.py:Residual"
QUICK = ("--image-size", "32", "--rounds", "3", "--copies", "1", "--time-limit", "0.2", "--batches", "1", "--quick")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def test_a_cell_is_measured_once_and_shown(directory, capsys):
    how = (*QUICK, "--models", NETWORK, "--amounts", "0.4", "--formats", "NCHW", "--tables", str(directory / "t"))
    assert alignment.main(how) == 0
    with (directory / "alignment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["unpruned", "unaligned", "auto", "8", "16"]
    by_name = {row["variant"]: row for row in rows}
    assert float(by_name["unaligned"]["ratio"]) == 1 and int(by_name["unaligned"]["padding"]) == 0
    assert int(by_name["8"]["padding"]) <= int(by_name["16"]["padding"]) > 0
    stored = int(by_name["unaligned"]["stored"])
    assert all(int(by_name[n]["stored"]) == stored + int(by_name[n]["padding"]) for n in ("auto", "8", "16"))
    assert "geometric mean" in (directory / "alignment.md").read_text()
    before = (directory / "alignment.csv").read_text()
    assert alignment.main(how) == 0 and (directory / "alignment.csv").read_text() == before
    assert NETWORK in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused(directory, capsys):
    assert alignment.main([*QUICK, "--models", "nothing-like-it"]) == 2
    assert "error: " in capsys.readouterr().err and not (directory / "alignment.csv").exists()
