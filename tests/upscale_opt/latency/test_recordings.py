"""CUDA graphs without a GPU: a recording that is replayed must find alive what it was recorded with.

A fake graph notes every tensor that operators read while it is recorded, and is not replayed without one of them.
"""

import gc
import weakref
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from upscale_opt import UpscaleWarning
from upscale_opt.commands.measuring import Measuring
from upscale_opt.latency import backends, profiling
from upscale_opt.latency.backends import CUDA_GRAPH, prepared, shared_pool
from upscale_opt.latency.calibration import Effort, conditions_of, measure
from upscale_opt.latency.cost_tables import Case, Key
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.reading import CONTIGUOUS, Reading
from upscale_opt.spdy.layer_times import case_times

CUDA = torch.device("cuda")
EFFORT = Effort(spans=1, rounds=2, sweeps=1, seconds=0.0, copies=2)
LAYER = Layer("Conv2d", (1, 12, 4, 4), 1, 1, 5, (1, 1), (1, 1), (0, 0), (1, 1), True, prologue=("ReLU",))


class Noting(TorchDispatchMode):
    """Notes the tensors that operators read and did not make."""

    def __init__(self):
        super().__init__()
        self.made, self.read = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        self.read += [weakref.ref(x) for x in given if not any(x is own for own in self.made)]
        found = function(*args, **(kwargs or {}))
        self.made += [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        return found


class FakeGraph:
    made: ClassVar[list] = []

    def __init__(self):
        self.read, self.replays = [], 0
        FakeGraph.made.append(weakref.ref(self))

    def replay(self):
        assert self.read and all(own() is not None for own in self.read), "illegal memory access"
        self.replays += 1


@pytest.fixture
def pools(monkeypatch):
    """The pools that graphs were recorded in."""
    found = []

    @contextmanager
    def recording(graph, pool=None):
        found.append(pool)
        with Noting() as noting:
            yield
        graph.read = noting.read
        noting.made.clear()

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, other):
            assert isinstance(other, Stream)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(backends, "require_backend", lambda name, device: None)
    return found


def test_a_recording_keeps_module_and_inputs(pools):
    def made():
        return prepared(nn.Linear(4, 3).eval(), (torch.randn(2, 4),), CUDA_GRAPH)

    with torch.inference_mode():
        call = made()
        gc.collect()
        call()
    assert pools == [None]
    graph = FakeGraph.made[-1]
    assert graph().replays == 1
    del call
    gc.collect()
    assert graph() is None  # nothing else holds it


def test_the_fake_graph_tells_what_is_not_kept(pools):
    graph, module, x = FakeGraph(), nn.Linear(4, 3).eval(), torch.randn(2, 4)
    with torch.inference_mode(), torch.cuda.graph(graph):
        module(x)
    graph.replay()
    del module
    gc.collect()
    with pytest.raises(AssertionError, match="illegal memory access"):
        graph.replay()


def test_specimens_of_a_calibration_are_kept(pools, monkeypatch):
    """What stopped the first calibration on a GPU."""
    monkeypatch.setattr("upscale_opt.latency.calibration.require_backend", lambda name, device: None)
    conditions = conditions_of((torch.randn(1, 12, 4, 4),), backend=CUDA_GRAPH)
    timings = measure(Key(LAYER, 5, 12), conditions, torch.device("cpu"), EFFORT)
    assert len(timings) > 5
    assert len(set(map(id, pools))) == 1 and pools[0] is not None  # memory is shared: one pool
    assert len(pools) == EFFORT.copies * len(timings)


def test_layers_timed_for_a_speedup_are_kept(pools, monkeypatch):
    monkeypatch.setattr("upscale_opt.latency.calibration.require_backend", lambda name, device: None)
    conditions = conditions_of((torch.randn(1, 12, 4, 4),), backend=CUDA_GRAPH)
    cases = [(Case(Reading(CONTIGUOUS), 5), 5), (Case(Reading(CONTIGUOUS), 12), 12)]
    assert len(case_times(LAYER, cases, conditions, torch.device("cpu"), EFFORT)) == 2


def test_models_that_are_measured_in_turn_are_kept(pools):
    models = {name: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval() for name in "ab"}
    found = profiling.profile_interleaved(models, torch.randn(1, 3, 4, 4), repeats=2, backend=CUDA_GRAPH)
    assert {own.backend for own in found.values()} == {CUDA_GRAPH}
    assert len(pools) == 2 and pools[0] is pools[1] is not None


def test_other_backends_share_nothing():
    assert shared_pool("eager") is None


def test_a_gpu_measures_cuda_graphs_unless_another_backend_is_asked_for():
    assert profiling.default_backend(torch.device("cuda")) == CUDA_GRAPH
    assert profiling.default_backend(torch.device("cpu")) == "eager"
    assert Measuring().backend_on("cuda:0") == CUDA_GRAPH and Measuring().backend_on("cpu") == "eager"
    assert Measuring(backend="torchscript").backend_on("cuda") == "torchscript"


def test_all_models_are_scripts_if_one_cannot_be_captured(monkeypatch):
    """Seen without a GPU: what prepares a call refuses to capture one model."""
    seen = []

    def preparing(model, inputs, backend, pool):
        seen.append((model, backend))
        if model == "b" and backend == CUDA_GRAPH:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return lambda: backend

    monkeypatch.setattr(profiling, "prepared", preparing)
    monkeypatch.setattr(profiling, "shared_pool", lambda backend: None)
    monkeypatch.setattr(profiling, "require_run", lambda model, inputs, name: None)
    monkeypatch.setattr(profiling, "_timer", lambda call, device: call)
    models = {"first": "a", "second": "b"}
    with pytest.warns(UpscaleWarning, match=r"second cannot be captured .*not permitted.*TorchScript"):
        calls, _, backend = profiling._prepared_calls(models, (), CUDA, CUDA_GRAPH, may_change=True)
    assert backend == "torchscript" and [call() for call in calls.values()] == ["torchscript"] * 2
    with pytest.raises(RuntimeError, match="not permitted"):
        profiling._prepared_calls(models, (), CUDA, CUDA_GRAPH, may_change=False)
    assert seen[-2:] == [("a", CUDA_GRAPH), ("b", CUDA_GRAPH)]
