"""Tests that a network is bit for bit what it was, whatever its forward does, after everything that traces it."""

import contextlib
import random
from collections import OrderedDict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from solvers import solve
from upscale_opt import (
    ModelError,
    UpscaleError,
    compare,
    effective_masks,
    export,
    extract,
    l2_masks,
    load,
    plan,
    trace,
    verify,
)
from upscale_opt.models.preservation import Preservation
from upscale_opt.models.snapshots import Snapshot
from upscale_opt.verifying.masked_copies import masked_copy


class Helper:
    """An object that is no module."""

    __slots__ = ("calls", "last")

    def __init__(self):
        self.calls, self.last = 0, None


class Changing(nn.Module):
    """Its forward changes about everything that can be changed; what it computes does not depend on that."""

    seen = None
    history: list = []  # noqa: RUF012 (a class attribute on purpose)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rebound", torch.zeros((), dtype=torch.int64))
        self.register_buffer("late", None)
        self.cache, self.by_shape, self.order, self.recent, self.names = None, {}, OrderedDict(a=1), deque([1]), {1}
        self.helper, self.space, self.array = Helper(), SimpleNamespace(last=None, inner=[None]), np.zeros(3)
        self.plain, self.generator = torch.zeros(2), torch.Generator().manual_seed(3)
        self.draws = random.Random(4)

    def forward(self, x, memory=[]):  # noqa: B006 (a mutable default on purpose)
        if self.cache is None:
            self.cache = torch.arange(8.0).reshape(1, 8, 1, 1).to(x.device)
        self.by_shape.setdefault("first", x)
        self.order["b"] = self.order.pop("a", 1)
        self.recent.append(x)
        self.names.add("x")
        memory.append(x)
        self.helper.calls, self.helper.last = self.helper.calls + 1, x
        self.space.last, self.space.inner[0] = x, x
        self.array[0] += 1
        self.plain.add_(1)
        self.plain.data[0] = 7
        self.draws.random(), torch.rand(1, generator=self.generator)
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        type(self).seen = x
        type(self).history.append(x)
        self.calls.add_(1)
        self.rebound = self.rebound + 1
        self.steps = getattr(self, "steps", 0) + 1
        self.conv.extra = nn.Linear(1, 1)
        self.conv.register_forward_hook(print)
        self.conv._forward_hooks.clear()
        self.training = False
        return self.conv(x) + self.cache


class Undecided(Changing):
    """As `Changing`, but it cannot be traced: its attempts fail after it has changed everything."""

    def forward(self, x):
        y = super().forward(x)
        return y if y.shape[-1] > 2 else y * 2


def network(part):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), part, nn.ReLU(), nn.Conv2d(8, 4, 1), part).eval()


class Once(nn.Module):
    """A network with one changing part in the middle."""

    def __init__(self, part):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.part, self.last = nn.Conv2d(3, 8, 1), part, nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(torch.relu(self.part(torch.relu(self.first(x)))))


def picture(model):
    """Everything that can be reached from a model, by identity, and all values."""
    found = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            found[path, key] = value
            if isinstance(value, (dict, OrderedDict)):
                found[path, key, "items"] = list(value.items())
            elif isinstance(value, (list, deque, set)):
                found[path, key, "entries"] = list(value)
    part = model.part
    found["helper"] = (part.helper.calls, part.helper.last)
    found["space"] = (part.space.last, *part.space.inner)
    found["class"] = (Changing.seen, *Changing.history, *Changing.forward.__defaults__[0])
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    values |= {"plain": part.plain.clone(), "array": torch.from_numpy(part.array.copy())}
    states = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    own = (part.generator.get_state().tolist(), part.draws.getstate())
    training = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    return found, values, (states, own, torch.is_grad_enabled()), training


def same(before, after):
    found, values, states, training = before
    others, other_values, other_states, other_training = after

    def equal(a, b):
        return a is b or (isinstance(a, (list, tuple)) and len(a) == len(b) and all(map(equal, a, b)))

    assert found.keys() == others.keys()
    assert [key for key in found if not equal(found[key], others[key]) and found[key] != others[key]] == []
    assert values.keys() == other_values.keys()
    assert all(torch.equal(value, other_values[name]) for name, value in values.items())
    assert states == other_states
    assert all(equal(a, b) for a, b in zip(training, other_training, strict=True))


@pytest.mark.parametrize("kind", [Changing, Undecided])
def test_everything_that_traces_a_network_leaves_it_as_it_was(kind):
    """Also a module that only fails to be traced after it has changed things, and parts that run on random numbers."""
    model, x = Once(kind()).eval(), torch.randn(2, 3, 4, 4)
    model.last.weight.requires_grad_(False)
    model.first.weight.grad = torch.ones_like(model.first.weight)
    before = picture(model)
    graph = trace(model, x)
    same(before, picture(model))
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    problems = extract(graph, masks)
    made = plan(problems, masks, {name: solve(problem, time_limit=1) for name, problem in problems.items()})
    exported = export(model, x, made)
    same(before, picture(model))
    verify(model, exported, x)
    masked_copy(model, masks)
    load(made, model, model.state_dict(), x)
    same(before, picture(model))


def test_comparing_with_latencies_leaves_the_network_as_it_was():
    model, x = Once(Changing()).eval(), torch.randn(1, 3, 4, 4)
    before = picture(model)
    compare(model, x, solvers=["greedy"], time_limit=1, repeats=2)
    same(before, picture(model))


def test_a_failed_trace_and_an_interrupted_one_leave_the_network_as_it_was():
    class Failing(Once):
        def forward(self, x):
            y = super().forward(x)
            if isinstance(self.fault, BaseException):
                raise self.fault
            return y if y.sum() > 0 else -y

    model, x = Failing(Changing()).eval(), torch.randn(2, 3, 4, 4)
    model.fault = None
    before = picture(model)
    with pytest.raises(ModelError):
        trace(model, x)
    same(before, picture(model))
    model.fault = KeyboardInterrupt()
    before = picture(model)
    with pytest.raises(KeyboardInterrupt):
        trace(model, x)
    same(before, picture(model))


def test_the_network_runs_as_before_and_returns_tensors():
    """A cache that is made in the first call used to hold a stand-in of the trace from then on."""
    model, x = Once(Changing()).eval(), torch.randn(2, 3, 4, 4)
    expected = Once(Changing()).eval()(x)
    trace(model, x)
    assert model.part.cache is None
    assert torch.equal(model(x), expected) and isinstance(model.part.cache, torch.Tensor)


def test_gradients_hooks_and_memory_of_parameters_are_put_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    weight, memory = model[0].weight, model[0].weight.data_ptr()
    values = weight.detach().clone()
    with Preservation(model) as state:
        assert not state.changed()
        weight.data = torch.zeros(3, 3)
        model[0].bias.requires_grad_(False)
        model[1].bias.grad = torch.ones(2)
        model[1].weight.register_hook(lambda gradient: gradient)
        with torch.no_grad():
            model[1].weight.zero_()
        model.add_module("2", nn.ReLU())
        model.train()
        torch.set_grad_enabled(False)
        assert state.changed()
    assert weight.data_ptr() == memory and torch.equal(weight, values) and len(model) == 2
    assert model[0].bias.requires_grad and model[1].bias.grad is None and not model[1].weight._backward_hooks
    assert bool(model[1].weight.any()) and torch.is_grad_enabled()


def test_statistics_that_torch_writes_without_saying_so_are_put_back():
    norm = nn.BatchNorm1d(3)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    with Preservation(norm):
        norm(torch.randn(5, 3))
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


def test_a_snapshot_copies_no_tensor():
    model = nn.Linear(4, 4)
    snapshot = Snapshot([model])
    assert {tensor.data_ptr() for tensor in snapshot.tensors} == {model.weight.data_ptr(), model.bias.data_ptr()}


def test_results_that_modules_keep_do_not_stop_copies():
    """torch refuses to copy a tensor that was computed; a network may keep one since it was last run."""

    class Keeping(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return self.last

    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), Keeping(), nn.Conv2d(8, 4, 1)).eval(), torch.randn(2, 3, 4, 4)
    model(x)
    kept = model[1].last
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    assert export(model, x, masks=masks, baseline=True).verification.passed
    masked_copy(model, masks)
    assert model[1].last is kept


def test_a_layer_without_weights_is_one_sentence():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.LazyConv2d(4, 1)).eval()
    with pytest.raises(ModelError, match=r"1.weight has no shape yet; call it once with an example input"):
        trace(model, torch.zeros(1, 3, 4, 4))


def test_a_submodule_that_forward_makes_does_not_stay():
    class Late(nn.Module):
        def forward(self, x):
            if not hasattr(self, "made"):
                self.made = nn.Conv2d(8, 8, 1)
            return self.made(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Late(), nn.Conv2d(8, 4, 1)).eval()
    with contextlib.suppress(UpscaleError):
        trace(model, torch.zeros(1, 3, 4, 4))
    assert not hasattr(model[1], "made")
