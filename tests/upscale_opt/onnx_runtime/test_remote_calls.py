"""Parts are timed in another process, whose sessions share their threads; this process stays as it is."""

import gc
import io
import os
import pickle
import signal
import time

import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime")

from upscale_opt import Effort
from upscale_opt.latency import onnx_worker
from upscale_opt.latency.backends import ONNXRUNTIME, prepared, prepared_parts
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.onnx_runtime import remote_calls
from upscale_opt.onnx_runtime.remote_calls import DONE, INTERLEAVED, LOAD, REFUSED, RUN, timing_process
from upscale_opt.onnx_runtime.requirements import OnnxError
from upscale_opt.onnx_runtime.sessions import named
from upscale_opt.onnx_runtime.writing import written

X = (torch.randn(2, 4, 8, 8),)
QUICK = Effort(rounds=3, sweeps=1, seconds=0.0, copies=2)


def layer():
    torch.manual_seed(0)
    return nn.Conv2d(4, 8, 3).eval()


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """Every test has a process of its own, which ends with it."""
    known = {}
    monkeypatch.setattr(remote_calls, "_processes", known)
    yield
    for process in known.values():
        process.close()


@pytest.mark.parametrize("alone", [False, True])
def test_parts_are_timed_there_and_sessions_here_are_as_before(alone):
    calls = [prepared_parts(layer, X, 2, ONNXRUNTIME, alone=alone) for _ in range(2)]
    found = interleaved(calls, torch.device("cpu"), QUICK)
    assert [len(own) for own in found] == [3, 3] and all(figure > 0 for own in found for figure in own)
    assert calls[0][0]() is None  # runs once
    assert torch.allclose(prepared(layer(), X, ONNXRUNTIME)(), layer()(*X), atol=1e-5)


def test_a_process_serves_all_calls_until_it_ends():
    process = timing_process()
    assert timing_process() is process and process.is_running
    process.close()
    assert not process.is_running and timing_process() is not process


def test_a_process_that_was_killed_is_said_and_replaced():
    process = timing_process()
    call = prepared_parts(layer, X, 1, ONNXRUNTIME)[0]
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(OnnxError, match="has ended; run this again"):
        call()
    prepared_parts(layer, X, 1, ONNXRUNTIME)[0]()


def test_an_interrupt_does_not_end_the_process_but_a_broken_question_does(monkeypatch):
    process = timing_process()
    call = prepared_parts(layer, X, 1, ONNXRUNTIME)[0]
    os.kill(process._process.pid, signal.SIGINT)
    time.sleep(0.1)
    call()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_calls.pickle, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert not process.is_running, "its answer might be taken for another one"
    monkeypatch.undo()
    with pytest.raises(OnnxError, match="has ended; run this again"):
        call()


def test_half_an_answer_is_said(monkeypatch):
    call = prepared_parts(layer, X, 1, ONNXRUNTIME)[0]

    def truncated(*_):
        raise pickle.UnpicklingError("pickle data was truncated")

    monkeypatch.setattr(remote_calls.pickle, "load", truncated)
    with pytest.raises(OnnxError, match="has ended; run this again"):
        call()


def test_a_fork_starts_a_process_of_its_own_and_does_not_end_this_one(monkeypatch):
    process, own = timing_process(), os.getpid()
    monkeypatch.setattr(remote_calls.os, "getpid", lambda: own + 1)
    other = timing_process()
    assert other is not process
    process.close()
    assert process._process.poll() is None
    other.close()
    monkeypatch.undo()
    process.close()


def test_what_it_cannot_run_is_refused_and_it_goes_on():
    process = timing_process()
    with pytest.raises(OnnxError, match="ONNX Runtime does not accept this network"):
        process.load(b"no model", {}, 1, optimise=True)
    with pytest.raises(OnnxError, match="does not run this part"):
        process.run(10**6)
    prepared_parts(layer, X, 1, ONNXRUNTIME)[0]()


def test_calls_that_nobody_holds_are_forgotten():
    process = timing_process()
    calls = prepared_parts(layer, X, 2, ONNXRUNTIME)
    kept, lost = calls[0], calls[1].handle
    del calls
    gc.collect()
    kept()
    with pytest.raises(OnnxError, match="does not run this part"):
        process.run(lost)


def test_answers_of_the_worker():
    """The other side, in this process."""
    content = written(layer(), X)
    arrays = {name: x.numpy() for name, x in named((*X, torch.zeros(1))).items()}  # one that the model does not take
    asked = [
        ([], LOAD, ([0, 1], content, arrays, True)),
        ([], INTERLEAVED, ([[0, 1], [1]], 0.0, 2)),
        ([1], RUN, (0,)),
        ([], RUN, (1,)),
    ]
    questions, answers = io.BytesIO(b"".join(pickle.dumps(own) for own in asked)), io.BytesIO()
    with torch.inference_mode():
        onnx_worker.serve(questions, answers)
    answers.seek(0)
    found = [pickle.load(answers) for _ in asked]
    assert [kind for kind, _ in found] == [DONE, DONE, DONE, REFUSED]
    assert [len(own) for own in found[1][1]] == [2, 2]
