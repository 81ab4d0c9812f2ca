"""Tests that Python's questions about sizes, types and arguments are answered from the example inputs."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import ModelError, export, trace

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, part):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.small, self.part = nn.Conv2d(4, 4, 1), part

    def forward(self, x):
        return self.c(functional.relu(self.b(self.part(self, self.a(x)))))


def halved(graph):
    """Masks that drop every other input channel of every consumer that may lose some."""
    reads = {name: read for name, read in graph.consumers.items() if not read.reads_network_input}
    return {name: np.arange(graph.module.get_parameter(name).shape[1]) % 2 == 0 for name in reads}


def proven(model, inputs=X):
    graph = trace(model.eval(), inputs)
    exported = export(model, inputs, masks=halved(graph), baseline=True, graph=graph)
    assert exported.verification.passed and exported.verification.gradients is not None
    return graph, exported


def listed(m, x):
    parts = list(x.chunk(2, 1))
    parts.extend(m.small(parts[-1]) for _ in range(2))
    return torch.cat(parts, 1)[:, :8]


def starred(m, x):
    first, *rest = x.split([2, 2, 4], 1)
    return torch.cat([*rest, first], 1)


def types_and_c_functions(m, x):
    """torch.pow and torch.where ask for the type of their arguments in C: there a proxy is no tensor."""
    parts = x.chunk(2, 1)
    assert isinstance(parts, Sequence) and x.__class__ is torch.Tensor and torch.is_tensor(x)
    match x:
        case torch.Tensor():
            return torch.where(x > 0, torch.pow(x, 3.0), x) if isinstance(torch.pow(x, 2.0), torch.Tensor) else -x
    return -x


ANY = "holds for any batch, height and width"
FREE = {
    "a list of chunks": listed,
    "a star": starred,
    "a loop": lambda m, x: torch.cat([part * (i + 1) for i, part in enumerate(x.chunk(2, 1))], 1),
    "the length of a tuple": lambda m, x: x / len(x.chunk(2, 1)),
    "the number of axes": lambda m, x: x * 2 if x.dim() == 4 and x.ndim == 4 else x,
    "the number of channels": lambda m, x: x * 2 if x.shape[1] in (8, 16) else x,
    "a dtype and a device": lambda m, x: x * 2 if x.is_floating_point() and x.device.type == "cpu" else -x,
    "isinstance": lambda m, x: x * 2 if isinstance(x, torch.Tensor) and isinstance(x.shape[2], int) else x[0],
    "types and C functions": types_and_c_functions,
    "tensors of these sizes": lambda m, x: x + torch.arange(x.shape[3]) + torch.ones(len(x.shape), 1, 1)[:1],
    "numbers of channels": lambda m, x: x * {8: 0.5}.get(x.shape[1], 3.0) * int(x.shape[1] / 2),
}
BOUND = {
    "the number of entries": (lambda m, x: x * 2 if x.numel() < 2**31 else x, ("batch", "height", "width")),
    "an image size": (lambda m, x: x * 2 if x.shape[2] > 8 else x, ("height",)),
    "a batch": (lambda m, x: x * 2 if x.shape[0] > 1 else x, ("batch",)),
    "the length of a tensor": (lambda m, x: x / len(x), ("batch",)),
    "a loop over rows": (lambda m, x: torch.stack([row * 2 for row in x.unbind(2)], 2), ("height",)),
    "whole shapes": (lambda m, x: x + m.b(x) if x.shape == m.b(x).shape else x, ("batch", "height", "width")),
    "int": (lambda m, x: functional.adaptive_avg_pool2d(x, (int(x.shape[2] / 2), 4)), ("height",)),
    "round and max": (lambda m, x: x * max(round(x.shape[3] / 3), 2), ("width",)),
    "a text": (lambda m, x: {f"{x.shape[2]}": x, "else": -x}[f"{x.shape[2]}"], ("height",)),
    "a key": (lambda m, x: x * {8: 0.5, 16: 0.6}.get(x.shape[3], 3.0), ("width",)),
    "NumPy": (lambda m, x: x[:, :, : int(np.ceil(x.shape[2] / 3))], ("height",)),
}


def some_slow(names, fast):
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


FAST = {"a list of chunks", "isinstance", "types and C functions", "tensors of these sizes"}


@pytest.mark.parametrize("name", some_slow(FREE, FAST))
def test_what_does_not_depend_on_sizes_of_inputs_leaves_them_free(name):
    graph, exported = proven(Net(FREE[name]))
    assert str(graph.validity) == ANY and len(graph.consumers) >= 3 and graph.unsupported == ()
    assert exported.module(torch.randn(3, 3, 20, 12)).shape[0] == 3


@pytest.mark.parametrize("name", some_slow(BOUND, {"an image size", "a key"}))
def test_what_depends_on_sizes_of_inputs_is_noted_with_its_line(name):
    part, axes = BOUND[name]
    graph, exported = proven(Net(part))
    assert {axis for own in graph.validity.conditions.values() for axis in own} == set(axes)
    assert all(own.place.file == __file__ and "x" in own.place.text for own in graph.settled)
    assert f"({' and '.join(axes)})" in str(graph) or len(axes) == 3
    exported.module(X)


def test_exports_check_what_they_take_for_granted():
    _, exported = proven(Net(BOUND["an image size"][0]))
    exported.module(torch.randn(5, 3, 12, 20))
    with pytest.raises(ValueError, match=r"exported for inputs of another size: in line \d+ of test_questions.py"):
        exported.module(torch.randn(2, 3, 6, 6))


@pytest.mark.slow
def test_channels_may_go_though_a_condition_counts_them():
    graph, exported = proven(Net(BOUND["whole shapes"][0]))
    assert sum(block.size for block in graph.blocks if not block.pinned) == 8
    exported.module(torch.randn(3, 3, 12, 12))


class Optional(Net):
    """An argument of every kind that may be left out."""

    def __init__(self):
        super().__init__(None)

    def forward(self, x, weight=None, features=False, steps=2, *, how="sum"):
        x = self.a(x)
        x = x if weight is None else x * weight
        for _ in range(steps):
            x = x + 0.1 * x.tanh()
        x = self.b(x.relu() if how == "sum" else x)
        return (self.c(x), x) if features else self.c(x)


@pytest.mark.slow
@pytest.mark.parametrize("rest", [(), (None,), (torch.rand(2, 1, 16, 16),), (None, True), (None, False, 3)])
def test_optional_arguments_are_constants_unless_they_are_tensors(rest):
    model = Optional()
    _, exported = proven(model, (X, *rest))
    found, expected = exported.module(X, *rest), model(X, *rest)
    assert isinstance(found, tuple) == isinstance(expected, tuple)


def test_exports_refuse_other_constants():
    _, exported = proven(Optional())
    for other in ((torch.rand(2, 1, 16, 16),), (None, True), (None, False, 3)):
        with pytest.raises(ValueError, match="this network was exported for"):
            exported.module(X, *other)
    _, steps = proven(Optional(), (X, None, False, 3))
    with pytest.raises(ValueError, match="another size"):
        steps.module(X, None, False, 4)


@pytest.mark.slow
def test_numbers_that_are_given_stay_numbers():
    class Scaled(Net):
        def forward(self, x, scale):
            return self.c(self.b(self.a(x) * scale))

    model = Scaled(None)
    _, exported = proven(model, (X, 0.5))
    whole = export(model, (X, 0.5), masks={}, baseline=True).module
    torch.testing.assert_close(whole(X, 3.0), model(X, 3.0))
    exported.module(X, 2.0)


@dataclasses.dataclass(frozen=True)
class Record:
    left: torch.Tensor
    right: torch.Tensor
    weight: torch.Tensor | None = None


class Named(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Nested(Net):
    def __init__(self):
        super().__init__(None)

    def forward(self, given):
        if isinstance(given, dict):
            values = [given[key] for key in sorted(given)] if "left" in given else []
        elif dataclasses.is_dataclass(given):
            values = [given.left, given.right] if given.weight is None else []
        else:
            values = [*given]
        return self.c(self.b(sum(self.a(x) for x in values) / len(values)))


@pytest.mark.parametrize(
    "given",
    [
        {"left": X, "right": X + 1},
        *(pytest.param(own, marks=pytest.mark.slow) for own in ([X, X + 1], (X, X + 1), Record(X, X + 1))),
        pytest.param(Named(X, X + 1), marks=pytest.mark.slow),
    ],
    ids=lambda own: type(own).__name__,
)
def test_nested_inputs_are_what_the_forward_expects(given):
    model = Nested()
    graph, exported = proven(model, (given,))
    assert len(graph.consumers) == 3
    whole = export(model, (given,), masks={}, baseline=True).module
    torch.testing.assert_close(whole(given), model(given))
    with pytest.raises(ValueError, match="this network was exported for given="):
        exported.module([X])


@pytest.mark.slow
def test_dictionaries_that_a_part_left_whole_returns_are_opened():
    class Whole(nn.Module):
        def forward(self, x):
            return {"out": x * 2, "aux": x} if x.mean() < 1e9 else {}

    class Reading(Net):
        def __init__(self):
            super().__init__(None)
            self.whole = Whole()

        def forward(self, x):
            found = self.whole(self.a(x))
            return self.c(self.b(sum(value for _, value in found.items()) if "out" in found else x))

    graph, _ = proven(Reading())
    assert {pin.reason.partition(",")[0] for pin in graph.unsupported} == {"Whole"}


def test_a_part_that_is_left_whole_caches_nothing_of_a_question():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = None

        def forward(self, x):
            if self.cache is None:
                self.cache = torch.ones(1, 8, 1, 1)
            return x * self.cache if x.mean() < 1e9 else x

    class Asking(Net):
        def __init__(self):
            super().__init__(None)
            self.part = Caching()

        def forward(self, x):
            x = self.part(self.a(x))
            return self.c(self.b(x) if x.shape[2] > 3 else x)

    model = Asking()
    proven(model)
    assert model.part.cache is None


@pytest.mark.slow
def test_a_trace_that_asked_for_the_batch_size_is_proven_at_this_size():
    model, x = Net(BOUND["a batch"][0]).eval(), X[:1]
    graph, exported = proven(model, x)
    torch.testing.assert_close(exported.module(x).shape, model(x).shape)
    with pytest.raises(ValueError, match="another size"):
        exported.module(X)
    with pytest.raises(ModelError, match="another size"):
        export(model, X, masks=halved(graph), baseline=True, graph=graph)


def asked_by_name(forward):
    """A decorator as those of transformers: it looks at what was given by name, and adds some."""

    @functools.wraps(forward)
    def call(self, *args, **kwargs):
        assert len(args) == 1 and "scale" not in kwargs and "flag" not in kwargs
        return forward(self, *args, **kwargs, half=True)

    return call


class Decorated(Net):
    @asked_by_name
    def forward(self, x, scale=None, *, flag=False, **options):
        x = super().forward(x)
        return {"out": x / 2 if options["half"] and not flag and scale is None else x}


def test_a_decorated_forward_is_called_as_its_user_calls_it():
    graph, exported = proven(Decorated(lambda m, x: x * 2))
    assert len(graph.consumers) >= 3 and graph.unsupported == ()
    assert set(exported.module(X)) == {"out"}
