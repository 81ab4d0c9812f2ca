"""The stopwatch: both networks are written alike, and what is too slow is not measured again."""

from contextlib import closing

import pytest
import torch
from torch import nn

from upscale_opt.errors import UpscaleError
from upscale_opt.modules.writes import RangeAdd
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


@pytest.mark.parametrize(
    ("ratios", "final", "turn", "processes"),
    [
        ([1.0, 2.0, 2.1], 1.0, 2.0, (1, 3)),  # a lonely one, which only the final file must bear
        ([2.1, 1.0, 2.0], 1.0, 2.0, (2, 3)),
        ([1.0, 1.05, 2.0], 1.0, 1.0, (1, 2)),  # two are not lonely
        ([1.85, 2.0, 2.0], 1.85, 1.85, (1, 1)),
        ([2.2, 2.0, 2.1], 2.0, 2.0, (3, 3)),
    ],
)
def test_turns_of_the_loop_leave_out_a_lonely_process(timed, ratios, final, turn, processes):
    calls, given = timed
    given += ratios
    with closing(Stopwatch(network(), (X,), repeats=2)) as watch:
        for is_final, expected, number in ((True, final, processes[0]), (False, turn, processes[1])):
            calls.clear()
            found = watch.measure(Unpruned(network(3), (X,)), is_final=is_final, wanted=1.9)
            assert found.speedup == pytest.approx(expected)
            assert len(calls) == number


class Stream(nn.Module):
    """Writes into a range of its channels, as an export with windows does."""

    def __init__(self):
        super().__init__()
        self.stem, self.own = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.add, self.head = RangeAdd(1, 2, 4, 2, inplace=True), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.add(x, self.own(x)))


def test_a_file_for_fixed_sizes_has_what_is_added_to_a_range(timed, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    outputs = []

    def measured_files(files, inputs, *, repeats, together):
        for own in files:
            running = runtime.InferenceSession(str(own), providers=["CPUExecutionProvider"])
            outputs.append(torch.from_numpy(running.run(None, {running.get_inputs()[0].name: X.numpy()})[0]))
        return {"median_ratios": [1.0, 0.5], "files": [{"median": 0.1}, {"median": 0.05}]}

    monkeypatch.setattr(measuring, "measured_files", measured_files)
    dense, own = Stream().eval(), Stream().eval()
    with closing(Stopwatch(dense, (X,), backend="onnxruntime", repeats=2)) as watch:
        watch.measure(Unpruned(own, (X,)), is_final=False)
    with torch.no_grad():
        torch.testing.assert_close(outputs[0], dense(X))
        torch.testing.assert_close(outputs[1], own(X))
    assert not own.add.pads


def test_what_cannot_be_written_for_fixed_sizes_is_measured_as_it_is_saved(timed, monkeypatch):
    calls, ratios = timed
    ratios += [1.5]

    def refused(*_):
        raise UpscaleError("no")

    monkeypatch.setattr(Stopwatch, "_save_fixed", refused)
    with closing(Stopwatch(network(), (X,), repeats=2)) as watch:
        assert watch.measure(Unpruned(network(3), (X,)), is_final=False).speedup == pytest.approx(1.5)
    assert {name for names, _ in calls for name in names} == {"dense-model.pt2", "model.pt2"}
