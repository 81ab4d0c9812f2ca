"""The script for a GPU: budgets are kept, errors cost no other step anything, and all steps run on a CPU, too."""

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.device_tests import exit_code, marked_files
from benchmarks.gpu.networks import MULTIPLE, OrderCell, masked
from benchmarks.gpu.records import Records, facts_of
from benchmarks.gpu.schedule import (
    DIED,
    DONE,
    EXPIRED,
    FAILED,
    GRACE,
    LEFT_OUT,
    Deadline,
    DryRun,
    FakeClock,
    Outcome,
    Step,
    Worker,
    run_steps,
)
from benchmarks.gpu.settings import Setting
from benchmarks.gpu.widths import ADDITION, DEPTHWISE, NORMALISATION, WORKS, operator, widths_of
from upscale_opt.planning.padding import stored_widths


def setting_in(directory):
    return Setting.dry(directory, directory / "tables", "a commit")


def rows_of(directory, name):
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


def works(setting, deadline):
    return "fine"


def fails(setting, deadline):
    raise ValueError("first line\nsecond line")


def breaks_the_device(setting, deadline):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def hangs(setting, deadline):
    Records(setting.out, {}).add("kept", [{"row": 1}])
    time.sleep(600)


def dies(setting, deadline):
    os._exit(7)


def says_its_process(setting, deadline):
    return str(os.getpid())


class Scripted:
    """A runner whose steps take what a fake clock is told."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.given = clock, dict(seconds), []

    def run(self, step, seconds):
        self.given.append((step.name, seconds))
        self.clock.now += min(self.seconds[step.name], seconds + GRACE)
        return Outcome(DONE)


def test_the_budget_is_kept_whatever_steps_take(tmp_path):
    for taking in (1.0, 30.0, 1000.0):
        clock = FakeClock(0.0)
        chosen = [Step(str(i), works, most=40.0) for i in range(6)]
        runner = Scripted(clock, {step.name: taking for step in chosen})
        found = run_steps(chosen, 100.0, runner, clock, Records(tmp_path, {}))
        assert clock.now <= 100.0
        assert all(seconds <= 40.0 for _, seconds in runner.given)
        assert len(runner.given) == {1.0: 6, 30.0: 3, 1000.0: 2}[taking]
        assert [own.kind for own in found] == [DONE] * len(runner.given) + [LEFT_OUT] * (6 - len(runner.given))
    assert len(rows_of(tmp_path, "steps")) == 18


@pytest.mark.slow
def test_a_worker_survives_what_steps_do(tmp_path):
    """Failing, breaking the device, hanging, dying: the next step runs, and what was written is kept."""
    calls = {"first": says_its_process, "second": says_its_process, "fails": fails, "third": says_its_process}
    calls |= {"breaks": breaks_the_device, "fourth": says_its_process, "hangs": hangs, "dies": dies, "last": works}
    chosen = [Step(name, call, most=1.5 if name == "hangs" else 60.0, least=1.0) for name, call in calls.items()]
    worker = Worker(setting_in(tmp_path), grace=0.5)
    try:
        worker.run(chosen[0], 60.0)
        kinds = run_steps(chosen, 600.0, worker, time.monotonic, Records(tmp_path, {"commit": "c"}))
    finally:
        worker.close()
    found = dict(zip(calls, kinds, strict=True))
    assert found["fails"].kind == FAILED and found["fails"].line == "ValueError: first line second line"
    assert found["hangs"].kind == EXPIRED and found["dies"].kind == DIED and "exit code 7" in found["dies"].line
    assert found["last"] == Outcome(DONE, "fine")
    process = {name: found[name].line for name in ("first", "second", "third", "fourth")}
    assert process["first"] == process["second"] == process["third"] != process["fourth"]
    assert {row["step"] for row in rows_of(tmp_path, "steps")} == set(calls)
    assert rows_of(tmp_path, "kept") == [{"row": 1}]
    log = (tmp_path / "errors.log").read_text()
    assert "== fails\nTraceback" in log and "illegal memory access" in log


@pytest.mark.slow
def test_every_step_is_walked_without_a_gpu_and_within_the_budget(tmp_path, capsys):
    assert gpu.main(["run", "--out", str(tmp_path), "--dry", "--commit", "abc"]) == 0
    walked = rows_of(tmp_path, "steps")
    assert [row["step"] for row in walked] == [step.name for step in gpu.steps()]
    assert {row["outcome"] for row in walked} == {DONE}, walked
    assert sum(row["seconds"] for row in walked) <= gpu.BUDGET
    cells = [row for row in rows_of(tmp_path, "orders") if row["kind"] == "cell"]
    assert len(cells) == sum("orders" in row["step"] for row in walked)
    assert all(row["shapes"] == row["shapes_measured"] > 0 and row["commit"] == "abc" for row in cells)
    named = {row["order"] for row in rows_of(tmp_path, "orders") if row["kind"] != "cell"}
    assert {"unpruned", "baseline", "greedy as UPSCALE", "greedy", "exact latency", "floor"} <= named
    accesses = [row for row in rows_of(tmp_path, "accesses") if row["kind"] == "access"]
    assert {row["order"] for row in accesses} == {"greedy", "exact latency"}
    assert all(row["measured_us"] > 0 and "expected_us" in row for row in accesses)
    widths = rows_of(tmp_path, "widths")
    assert {row["dtype"] for row in widths} == {"float16", "float32"}
    assert {row["kind"] for row in widths} == {"convolution", ADDITION, NORMALISATION, DEPTHWISE}
    assert all(row["same"] for row in rows_of(tmp_path, "kernels"))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) <= 8 and {"tests.txt", "tables.zip"} <= set(files)
    assert "of 480 s by the fake clock" in capsys.readouterr().out


def test_a_small_budget_leaves_the_last_steps_out(tmp_path):
    clock, setting = FakeClock(0.01), setting_in(tmp_path)
    chosen = [replace(step, call=works) for step in gpu.steps()]
    found = run_steps(chosen, 200.0, DryRun(setting, clock, share=1.0), clock, Records(tmp_path, {}))
    assert clock.now <= 200.0
    kinds = [own.kind for own in found]
    assert kinds[:2] == [DONE, DONE] and kinds[-1] == LEFT_OUT


def test_calibration_ends_with_its_time_and_says_how_far_it_came(tmp_path):
    from benchmarks.gpu.orders import calibrated

    setting = setting_in(tmp_path)
    subject = masked(OrderCell("resnet50", 1, "float32", "contiguous"), setting)
    _, number, wanted = calibrated(subject, setting, Deadline(FakeClock(1.0), 0.5))
    assert number == 0 < wanted
    _, number, _ = calibrated(subject, setting, Deadline(FakeClock(1.0), 3.5))
    assert 0 < number < wanted
    _, number, _ = calibrated(subject, setting, Deadline(FakeClock(0.0), 1.0))
    assert number == wanted


def test_aligned_cells_keep_the_same_masks_and_store_multiples_of_8(tmp_path):
    setting = replace(setting_in(tmp_path), networks={"resnet50": "resnet18"})
    plain, wide = (masked(OrderCell("resnet50", 1, "float32", "contiguous", own), setting) for own in (False, True))
    assert not plain.masked.padding and wide.masked.padding and "to align" in wide.notes[-1]
    for name, mask in plain.masked.masks.items():
        assert (wide.masked.masks[name] == mask).all()
    widths, sizes = stored_widths(wide.masked), {block.name: block.size for block in wide.masked.graph.blocks}
    assert all(width % MULTIPLE == 0 or width == sizes[name] for name, width in widths.items())


def test_widths_are_on_the_grid_and_off_it():
    for work in WORKS:
        widths = widths_of(work.width)
        assert widths[-1] == work.width and set(range(work.width - 15, work.width)) <= set(widths)
        assert widths[0] >= work.width // 2 and len(widths) == len(set(widths)) <= 40
    assert {256, 512} <= {work.width for work in WORKS}


@pytest.mark.parametrize("work", WORKS, ids=lambda work: f"{work.kind} {work.width} {work.side}")
def test_operators_compute_their_width(work):
    module = operator(work, 24).eval()
    shape = (1, work.inputs if work.kind == "convolution" else 24, 5, 5)
    inputs = [torch.randn(shape) for _ in range(2 if work.kind == ADDITION else 1)]
    with torch.inference_mode():
        assert module(*inputs).shape == (1, 24, 5, 5)


def test_the_tests_that_need_a_gpu_are_found():
    assert {"test_cuda.py", "test_gather_convolution.py"} <= {path.name for path in marked_files()}


def test_tests_that_hang_are_ended_with_what_they_started(tmp_path):
    """By the process group, so that nothing of them disturbs the next step."""
    child = "import subprocess, sys; own = subprocess.Popen(['sleep', '600']); print(own.pid, flush=True); own.wait()"
    with (tmp_path / "out.txt").open("w+") as file:
        assert exit_code([sys.executable, "-c", child], file, 3.0) is None
        file.seek(0)
        number = int(file.read())
    deadline = time.monotonic() + 10
    while _runs(number) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(number)


def _runs(number):
    """Whether there is such a process that is more than a remainder."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_run_needs_a_device_and_wheels_that_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["run", "--out", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert gpu.main(["run", "--out", str(tmp_path), "--dry", "--wheels", str(tmp_path)]) == 2
    assert "there are no wheels in" in capsys.readouterr().err
    (tmp_path / "broken-1.0-py3-none-any.whl").write_text("no archive")
    assert gpu.main(["run", "--out", str(tmp_path), "--dry", "--wheels", str(tmp_path)]) == 2
    assert "cannot be installed" in capsys.readouterr().err
    assert not (tmp_path / "steps.jsonl").exists()


def test_single_steps_can_be_asked_for(tmp_path, capsys):
    assert gpu.main(["run", "--out", str(tmp_path), "--dry", "--only", "nothing like that"]) == 2
    assert "no step has nothing like that in its name; there are: orders of" in capsys.readouterr().err
    assert gpu.main(["run", "--out", str(tmp_path), "--dry", "--only", "kernels", "widths float32"]) == 0
    assert [row["step"] for row in rows_of(tmp_path, "steps")] == ["kernels", "widths float32"]


def test_rows_say_what_they_were_measured_on(tmp_path):
    records = Records(tmp_path / "out", facts_of("cpu", "abc"))
    records.add("some", [{"a": 1}, {"a": 2}])
    records.add("some", [{"a": 3}])
    rows = rows_of(tmp_path / "out", "some")
    assert [row["a"] for row in rows] == [1, 2, 3]
    assert rows[0]["device"] == "cpu" and rows[0]["torch"] == torch.__version__ and rows[0]["commit"] == "abc"


def test_steps_can_be_sent_to_another_process():
    import pickle

    for step in gpu.steps():
        again = pickle.loads(pickle.dumps(step))
        assert again.name == step.name and isinstance(again.call, partial) == isinstance(step.call, partial)
