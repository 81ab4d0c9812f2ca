"""The stopwatch: both networks are written alike, and what is too slow is not measured again."""

from contextlib import closing

import pytest
import torch
from torch import nn

from upscale_opt.errors import UpscaleError
from upscale_opt.widths import measuring
from upscale_opt.widths.measuring import PROCESSES, TOGETHER, Stopwatch, Unpruned

X = torch.randn(2, 3, 8, 8)


def network(width=6):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5)).eval()


@pytest.fixture
def timed(monkeypatch):
    """Processes are not started: the names of the files that they would measure, and the ratios that they find."""
    calls, ratios = [], []

    def measured_files(files, inputs, *, repeats, together):
        assert all(own.stat().st_size for own in files)
        calls.append(([own.name for own in files], together))
        ratio = ratios[min(len(calls), len(ratios)) - 1]
        return {"median_ratios": [1.0, 1 / ratio], "files": [{"median": 0.1}, {"median": 0.1 / ratio}]}

    monkeypatch.setattr(measuring, "measured_files", measured_files)
    return calls, ratios


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_the_least_process_counts_and_both_files_are_written_alike(timed, backend):
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    calls, ratios = timed
    ratios += [2.2, 2.0, 2.1]
    end = "pt2" if backend == "eager" else "onnx"
    ways = [False] * PROCESSES + [True] * (TOGETHER if backend == "onnxruntime" else 0)
    with closing(Stopwatch(network(), (X,), backend=backend, repeats=2)) as watch:
        own = Unpruned(network(3), (X,))
        assert watch.measure(own).speedup == pytest.approx(2.0)
        assert calls == [([f"dense-model.{end}", f"model.{end}"], way) for way in ways]
        calls.clear()
        assert watch.measure(own, is_final=False).speedup == pytest.approx(2.0)
        assert calls == [([f"dense-fixed-model.{end}", f"fixed-model.{end}"], False)] * PROCESSES


def test_what_is_too_slow_is_measured_only_once(timed):
    calls, ratios = timed
    ratios += [2.1, 1.9, 2.0]
    with closing(Stopwatch(network(), (X,), repeats=2)) as watch:
        assert watch.measure(Unpruned(network(3), (X,)), wanted=1.95).speedup == pytest.approx(1.9)
    assert len(calls) == 2


def test_what_cannot_be_written_for_fixed_sizes_is_measured_as_it_is_saved(timed, monkeypatch):
    calls, ratios = timed
    ratios += [1.5]

    def refused(*_):
        raise UpscaleError("no")

    monkeypatch.setattr(Stopwatch, "_save_fixed", refused)
    with closing(Stopwatch(network(), (X,), repeats=2)) as watch:
        assert watch.measure(Unpruned(network(3), (X,)), is_final=False).speedup == pytest.approx(1.5)
    assert {name for names, _ in calls for name in names} == {"dense-model.pt2", "model.pt2"}
