"""Tests that buffers stay buffers, in exports, in what is saved and in copies, and that fixed values are named."""

import copy
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import (
    PlanError,
    VerificationError,
    effective_masks,
    export,
    extract,
    l2_masks,
    load,
    plan,
    read_plan,
    save_plan,
    trace,
)
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.saving.written_forms import to_bytes
from upscale_opt.tracing.buffers import changing_buffers, frozen_statistics
from upscale_opt.tracing.fingerprints import fingerprint_of
from upscale_opt.verifying.masked_copies import masked_copy
from upscale_opt.verifying.verification import Verifier

C = 8
SHAPE = (2, 3, 8, 8)


class Net(nn.Module):
    """Three convolutions; behind the first stands what is tested."""

    def __init__(self, operation, **tensors):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, C, 1), nn.Conv2d(C, C, 3, padding=1)
        self.last, self.operation = nn.Conv2d(C, 4, 1), operation
        for name, make in tensors.items():
            self.register_buffer(name, make())

    def forward(self, x):
        x = self.operation(self, self.first(x))
        return self.last(torch.relu(self.second(x)))


def rand(*shape):
    return lambda: torch.rand(shape) + 0.5


def number(value):
    return lambda: torch.tensor(value)


def made(model, x):
    """A graph, masks, a plan of them, and a verified export."""
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    problems = extract(graph, masks)
    chosen = plan(problems, masks, {name: solve(problem, time_limit=1) for name, problem in problems.items()})
    return graph, masks, chosen, export(model, x, chosen, graph=graph)


def moved(graph):
    """Whether the channels of the first convolution may move."""
    return all(not block.pinned for block in graph.blocks if block.name.startswith("first"))


def distance(a, b, x):
    with torch.no_grad():
        a, b = copy.deepcopy(a)(x), copy.deepcopy(b)(x)
    return float((a - b).norm() / b.norm())


FOLLOWED = {
    "view": (lambda m, x: x * m.w.view(1, -1, 1, 1), {"w": rand(C)}),
    "view of a length": (lambda m, x: x * m.w.view(1, m.w.shape[0], 1, 1) / m.w.size(0), {"w": rand(C)}),
    "index with None": (lambda m, x: x - m.w[None, :, None, None], {"w": rand(C)}),
    "unsqueeze": (lambda m, x: x * m.w.unsqueeze(-1).unsqueeze(-1), {"w": rand(C)}),
    "permute": (lambda m, x: x + m.w.permute(0, 2, 1).unsqueeze(-1), {"w": rand(1, 1, C)}),
    "expand": (lambda m, x: x + m.w.expand(1, C, 8, 8), {"w": rand(1, C, 1, 1)}),
    "type": (lambda m, x: x * m.w.view(1, -1, 1, 1).to(torch.float32).detach(), {"w": rand(C)}),
    "type of another": (lambda m, x: x * m.w.view(1, -1, 1, 1).to(x.dtype), {"w": rand(C)}),
    "device": (lambda m, x: x * m.w.view(1, -1, 1, 1) + torch.zeros(1, device=m.w.device), {"w": rand(C)}),
    "elementwise": (lambda m, x: x * torch.sigmoid(m.w + 2 * m.v).view(1, C, 1, 1), {"w": rand(C), "v": rand(C)}),
    "attribute": (lambda m, x: x + m.w.T.reshape(1, -1, 1, 1), {"w": rand(C, 1)}),
    "rows": (lambda m, x: sum((x * row.view(1, -1, 1, 1) for row in m.w), x), {"w": rand(3, C)}),
    "statistics": (lambda m, x: functional.batch_norm(x, m.w, m.v), {"w": rand(C), "v": rand(C)}),
    "interpolate": (lambda m, x: x + functional.interpolate(m.w, size=(8, 8)), {"w": rand(1, C, 4, 4)}),
    "table": (lambda m, x: x + m.w[m.i].view(1, C, 1, 1), {"w": rand(5, C), "i": number([2])}),
    "concat": (lambda m, x: x + torch.cat([m.w, m.v]).view(1, -1, 1, 1), {"w": rand(3), "v": rand(C - 3)}),
    "product": (lambda m, x: x + (m.w @ m.v).view(1, -1, 1, 1), {"w": rand(C, C), "v": rand(C)}),
    "softmax": (lambda m, x: x * m.w.softmax(0).view(1, -1, 1, 1), {"w": rand(C)}),
    "whole and by channel": (lambda m, x: x * (m.w / m.w.norm()).view(1, -1, 1, 1), {"w": rand(C)}),
    "cumulative": (lambda m, x: x * torch.cumsum(m.w, 0).flip(0).view(1, -1, 1, 1), {"w": rand(C)}),
    "concatenated with": (lambda m, x: torch.cat([x, m.w.cumsum(1).expand(2, C, 1, 8)], 2), {"w": rand(1, C, 1, 8)}),
    "blur": (lambda m, x: functional.conv2d(x, m.w.expand(C, 1, 3, 3), padding=1, groups=C), {"w": rand(1, 1, 3, 3)}),
    "mask": (lambda m, x: x + m.w.nonzero().sum(), {"w": number([1.0, 0, 1, 0])}),
    "running mean": (
        lambda m, x: (m.w.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1), x - m.w.view(1, -1, 1, 1))[1],
        {"w": rand(C)},
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_computed_from_buffers_keeps_channels_free_and_the_buffers(name):
    """Loaded into a fresh network, from either state_dict, it is the same network; copies and pickles compute alike."""
    operation, tensors = FOLLOWED[name]
    torch.manual_seed(0)
    model, x = Net(operation, **tensors).eval(), torch.randn(SHAPE)
    graph, masks, chosen, exported = made(model, x)
    assert moved(graph) and graph.used == () and exported.verification.relative_error <= 1e-12
    assert exported.module.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert distance(exported.module, masked_copy(model, masks), x) < 1e-5
    torch.manual_seed(9)
    fresh = Net(operation, **tensors).eval()
    for state in (model.state_dict(), exported.module.state_dict()):
        state = {name: tensor.clone() for name, tensor in state.items()}
        assert distance(load(chosen, fresh, state, x).module, exported.module, x) < 1e-6
    file = io.BytesIO()
    torch.save(exported.module, file)
    again = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for buffer in again.buffers():
        buffer.copy_(buffer + 1 if buffer.is_floating_point() else buffer)
    for buffer in exported.module.buffers():
        buffer.copy_(buffer + 1 if buffer.is_floating_point() else buffer)
    assert distance(again, exported.module, x) == 0


class Frozen(nn.Module):
    """Normalisation with statistics that are never estimated again, as in detection backbones."""

    def __init__(self, channels):
        super().__init__()
        for name, start in (("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((channels,), start))

    def forward(self, x):
        weight, bias, mean, var = (own.reshape(1, -1, 1, 1) for own in (self.weight, self.bias, self.mean, self.var))
        scale = weight * (var + 1e-5).rsqrt()
        return x * scale + (bias - mean * scale)


class Detector(nn.Module):
    """In the manner of DETR: a backbone with frozen statistics, sine positions, a transformer layer, queries."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.rand(3))
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)])
        self.norms = nn.ModuleList(Frozen(16) for _ in self.convs)
        self.project, self.queries = nn.Conv2d(16, 16, 1), nn.Embedding(5, 16)
        self.register_buffer("frequencies", 100 ** (torch.arange(16) // 2 / 8.0), persistent=False)
        self.layer, self.boxes = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        x = x - self.pixel_mean.view(1, 3, 1, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        x = self.project(x).flatten(2).transpose(1, 2)
        place = torch.arange(x.shape[1], device=x.device)[:, None] / self.frequencies
        x = x + torch.stack([place[:, 0::2].sin(), place[:, 1::2].cos()], 2).flatten(1)
        queries = self.queries.weight[None].expand(x.shape[0], -1, -1)
        return self.boxes(self.layer(queries, x, x, need_weights=False)[0])


def test_a_detector_with_frozen_statistics():
    torch.manual_seed(0)
    model, x = Detector().eval(), torch.randn(2, 3, 16, 16)
    for norm in model.norms:
        for name in ("weight", "var"):
            getattr(norm, name).uniform_(0.5, 1.5)
        norm.mean.normal_(), norm.bias.normal_()
    graph, _, chosen, exported = made(model, x)
    assert exported.verification.relative_error <= 1e-12
    assert exported.module.state_dict().keys() == model.state_dict().keys()
    free = {block.name for block in graph.blocks if not block.pinned and block.removable}
    assert {"convs.0", "convs.1", "convs.2"} <= free
    fresh = Detector().eval()
    for state in (model.state_dict(), exported.module.state_dict()):
        assert distance(load(chosen, fresh, state, x).module, exported.module, x) < 1e-6


def test_frozen_statistics_are_randomised_and_variances_stay_positive():
    """All of a fresh network's are equal: an export that mixes them up could not be told from a right one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Frozen(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(2, 3, 8, 8)
    graph, masks, _, exported = made(model, x)
    assert set(frozen_statistics(graph)) == {"1.weight", "1.bias", "1.mean", "1.var"}
    verifier = Verifier(model, x, MaskedGraph(graph, masks))
    assert all(len(verifier.state[f"1.{name}"].unique()) == 8 for name in ("weight", "bias", "mean", "var"))
    assert bool((verifier.state["1.var"] > 0).all())
    stored = exported.slices["1.mean"].indices[0]
    exported.slices["1.mean"].indices[0][:] = stored[::-1].copy()
    assert not verifier.check(exported).passed


FIXED = {
    "a condition": (lambda m, x: x * 2 if m.k > 1 else x, number(2), number(5)),
    "a loop": (lambda m, x: sum((x * (i + 1) for i in range(int(m.k))), x), number(2), number(3)),
    "an index of Python": (lambda m, x: sum((x * (i + 1) for i in range(m.k)), x), number(2), number(3)),
    "a number": (lambda m, x: x * float(m.k), number(2.5), number(2.6)),
    "item": (lambda m, x: x * m.k.item(), number(2.5), number(2.6)),
    "tolist": (lambda m, x: x * m.k.tolist()[1], number([1.0, 2.0]), number([1.0, 3.0])),
    "numpy": (lambda m, x: x * torch.from_numpy(np.asarray(m.k)).view(1, -1, 1, 1), rand(C), rand(C)),
    "membership": (lambda m, x: x * 2 if 3 in m.k else x, number([1, 3]), number([1, 2])),
    "of what is computed": (lambda m, x: x * 2 if (m.k * 2).sum() > 7 else x, number([1.0, 3.0]), number([1.0, 2.0])),
}


@pytest.mark.parametrize("name", FIXED)
def test_values_that_python_asks_for_are_named_and_load_checks_them(name, tmp_path):
    operation, value, other = FIXED[name]
    torch.manual_seed(0)
    model, x = Net(operation, k=value).eval(), torch.randn(SHAPE)
    graph, _, chosen, exported = made(model, x)
    assert moved(graph) and graph.used == ("k",) and "is valid only for the values of k" in str(graph)
    assert "k" in exported.module.state_dict() and exported.verification.passed
    save_plan(chosen, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == chosen and "k" in chosen.fixed
    same = Net(operation, k=lambda: model.k.clone()).eval()
    for state in (model.state_dict(), exported.module.state_dict()):
        assert distance(load(chosen, same, state, x).module, exported.module, x) < 1e-6
        for nameless in (chosen, plan_without_values(chosen)):
            with pytest.raises(PlanError, match="'k' has other values"):
                load(nameless, Net(operation, k=other).eval(), state, x)
    changed = model.state_dict() | {"k": other()}
    with pytest.raises(PlanError, match="the state_dict is of a model where 'k' has other values"):
        load(chosen, same, changed, x)


def plan_without_values(chosen):
    return replace(chosen, fixed={})


def test_the_shape_and_type_of_a_buffer_fix_nothing():
    def operation(m, x):
        assert m.k.shape == (C,) and len(m.k) == C and m.k.dim() == 1 and m.k.dtype == torch.float32
        return x * m.k.view(1, m.k.numel(), 1, 1) if m.k.is_floating_point() else x

    torch.manual_seed(0)
    graph = trace(Net(operation, k=rand(C)).eval(), torch.randn(SHAPE))
    assert graph.used == () and not graph.fixed and moved(graph)


PLAIN = {
    "direct": lambda m, x: x * m.table,
    "computed": lambda m, x: x * (m.table * 2),
    "number": lambda m, x: x * float(m.table.sum()),
    "in a list": lambda m, x: x * m.tables[1],
}


@pytest.mark.parametrize("name", PLAIN)
def test_tensors_that_are_no_buffers_are_checked(name):
    """No state_dict has them: the plan remembers them."""

    def build():
        model = Net(PLAIN[name]).eval()
        model.table = torch.rand(1, C, 1, 1)
        model.tables = [torch.rand(1), torch.rand(1, C, 1, 1)]
        return model

    torch.manual_seed(0)
    model, x = build(), torch.randn(SHAPE)
    graph, _, chosen, exported = made(model, x)
    assert moved(graph)
    place = "tables[1]" if name == "in a list" else "table"
    assert place in chosen.fixed
    twin = build()
    twin.load_state_dict(model.state_dict())
    with pytest.raises(PlanError, match="has other values than in this model"):
        load(chosen, twin, model.state_dict(), x)
    twin.table, twin.tables = model.table.clone(), [own.clone() for own in model.tables]
    assert distance(load(chosen, twin, model.state_dict(), x).module, exported.module, x) < 1e-6


def test_buffers_outside_of_the_state_dict_stay_outside_and_are_checked():
    class Hidden(Net):
        def __init__(self):
            super().__init__(lambda m, x: x * m.inner.w.view(1, -1, 1, 1) + m.own)
            self.register_buffer("own", torch.ones(()), persistent=False)
            self.inner = nn.Module()
            self.inner.register_buffer("w", torch.rand(C), persistent=False)

    torch.manual_seed(0)
    model, x = Hidden().eval(), torch.randn(SHAPE)
    graph, _, chosen, exported = made(model, x)
    file = io.BytesIO()
    torch.save(exported.module, file)
    again = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for module in (exported.module, copy.deepcopy(exported.module), again, copy.deepcopy(again)):
        assert module.state_dict().keys() == model.state_dict().keys()
        assert {"own", "inner.w"} <= dict(module.named_buffers()).keys()
    with pytest.raises(PlanError, match=r"'inner\.w' has other values"):
        load(chosen, Hidden().eval(), model.state_dict(), x)
    twin = Hidden().eval()
    twin.inner.w.copy_(model.inner.w)
    assert distance(load(chosen, twin, model.state_dict(), x).module, exported.module, x) < 1e-6
    assert moved(graph) and len(dict(exported.module.named_buffers())["inner.w"]) < C


COUNTERS = {
    "in place": lambda m, x: (m.n.add_(1), x * m.n)[1],
    "+=": lambda m, x: (add_one(m), x * m.n)[1],
    "replaced": lambda m, x: (setattr(m, "n", m.n + 1), x * m.n)[1],
    "read before and after": lambda m, x: (x * m.n, setattr(m, "n", m.n + 1))[0] * m.n,
}


def add_one(module):
    module.n += 1


@pytest.mark.parametrize("name", COUNTERS)
def test_buffers_that_forward_changes_go_on_changing(name):
    """A trace does not advance them, an export does as the network does, and verification begins anew."""
    torch.manual_seed(0)
    model, x = Net(COUNTERS[name], n=number(3)).eval(), torch.randn(SHAPE)
    graph, masks, _, exported = made(model, x)
    assert int(model.n) == 3 == int(exported.module.n) and exported.verification.passed
    assert changing_buffers(graph) == {"n"}
    masked = masked_copy(model, masks)
    with torch.no_grad():
        for calls in range(1, 4):
            assert float((masked(x) - exported.module(x)).abs().max()) < 1e-4
            assert int(masked.n) == int(exported.module.n) == 3 + calls
        model(x)
    verifier = Verifier(model, x, MaskedGraph(graph, masks))
    assert verifier.check(exported).passed, "the state has moved on, the weights have not"
    for form in ("pt2", "torchscript"):
        to_bytes(exported, form)
    assert int(exported.module.n) == 6


@pytest.mark.slow
def test_an_onnx_file_of_a_network_that_counts_is_refused_with_the_reason():
    torch.manual_seed(0)
    model, x = Net(COUNTERS["in place"], n=number(3)).eval(), torch.randn(SHAPE)
    exported = made(model, x)[-1]
    with pytest.raises(VerificationError, match="forward changes n, and an ONNX file keeps nothing between calls"):
        to_bytes(exported, "onnx")


def test_what_a_part_that_is_left_whole_does_to_its_buffers_is_not_known():
    """A value read behind it is not the one at trace time: the reader is left whole, too."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", torch.tensor(0))

        def forward(self, x):
            self.n += 1
            return x if x.stride(0) > 2 else x * 2

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Counting()

        def forward(self, x):
            x = self.part(x)
            return x * 3 if self.part.n > 0 else x

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), Reader(), nn.Conv2d(8, 4, 1)).eval(), torch.randn(SHAPE)
    graph, _, _, exported = made(model, x)
    assert [pin.reason.partition(",")[0] for pin in graph.unsupported] == ["Reader"]
    assert exported.verification.passed and int(model[1].part.n) == 0


def test_fingerprints_tell_values_apart_but_not_roundings():
    table = torch.randn(64, 32)
    assert fingerprint_of(table).matches(fingerprint_of(table.double()))
    assert fingerprint_of(table).matches(fingerprint_of(table * (1 + 1e-7)))
    assert not fingerprint_of(table).matches(fingerprint_of(table.flip(0)))
    assert not fingerprint_of(table).matches(fingerprint_of(table.reshape(32, 64)))
    assert not fingerprint_of(table).matches(fingerprint_of(table + 1e-2))
    assert not fingerprint_of(torch.arange(99)).matches(fingerprint_of(torch.arange(99).flip(0)))
    assert not fingerprint_of(torch.zeros(2)).matches(fingerprint_of(torch.zeros(2, dtype=torch.int64)))
    assert not fingerprint_of(torch.tensor([0.0, -math.inf])).matches(fingerprint_of(torch.tensor([-math.inf, 0.0])))
    assert fingerprint_of(torch.zeros(0)).matches(fingerprint_of(torch.zeros(0)))


def test_what_a_part_that_is_left_whole_keeps_is_checked_unless_it_replaces_it():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.last = torch.rand(1, C, 1, 1), None

        def forward(self, x):
            self.last = x * self.table
            return self.last if x.stride(0) > 2 else x

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, C, 1), Odd(), nn.Conv2d(C, 4, 1)).eval(), torch.randn(SHAPE)
    with torch.no_grad():
        model(x)
    graph, _, chosen, exported = made(model, x)
    assert set(graph.fixed) == {"1.table"}
    twin = nn.Sequential(nn.Conv2d(3, C, 1), Odd(), nn.Conv2d(C, 4, 1)).eval()
    with pytest.raises(PlanError, match=r"'1\.table' has other values"):
        load(chosen, twin, model.state_dict(), x)
    twin[1].table = model[1].table
    assert distance(load(chosen, twin, model.state_dict(), x).module, exported.module, x) < 1e-6


def test_a_buffer_that_is_returned_and_then_replaced_is_returned_as_it_was():
    class Returning(Net):
        def forward(self, x):
            before = self.n
            self.n = self.n + 1
            return super().forward(x), before

    torch.manual_seed(0)
    model, x = Returning(lambda m, x: x, n=number(3.0)).eval(), torch.randn(SHAPE)
    exported = made(model, x)[-1]
    assert exported.verification.passed
    assert float(exported.module(x)[1]) == 3.0 and float(exported.module.n) == 4.0


def test_values_that_only_a_part_that_is_left_whole_looks_at_are_not_fixed():
    class Odd(nn.Module):
        def __init__(self, mode):
            super().__init__()
            self.register_buffer("mode", torch.tensor(mode))

        def forward(self, x):
            x = x * 2 if self.mode > 1 else x
            return x if x.stride(0) > 2 else -x

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, C, 1), Odd(2), nn.Conv2d(C, 4, 1)).eval(), torch.randn(SHAPE)
    graph, _, chosen, exported = made(model, x)
    assert graph.used == () and not graph.fixed
    twin = nn.Sequential(nn.Conv2d(3, C, 1), Odd(0), nn.Conv2d(C, 4, 1)).eval()
    assert distance(load(chosen, twin, model.state_dict(), x).module, exported.module, x) < 1e-6


def test_a_table_that_another_module_hands_out_may_be_looked_at_by_its_type():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.rand(2, C, 1, 1))

        def forward(self, row):
            return self.table[row]

    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv = Table(), nn.Conv2d(C, C, 1)

        def forward(self, x):
            row = self.table(1)
            if not isinstance(row, torch.Tensor):
                raise TypeError("a tensor is wanted")
            return self.conv(x + row)

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, C, 1), Adding(), nn.Conv2d(C, 4, 1)).eval(), torch.randn(SHAPE)
    graph, _, _, exported = made(model, x)
    assert graph.used == () and len(graph.consumers) == 3
    assert exported.verification.passed and "1.table.table" in exported.module.state_dict()
