"""Tests of exports with windows: exact, by views and additions to ranges only, in place where that is safe."""

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from window_choices import InvertedResiduals, PostActivation, PreActivation, random_choices, windowed

from problems.objectives import OVER_READ, VIEW
from upscale_opt import AnalyticCosts, prepare, trace
from upscale_opt.masking.windows import WindowChoice, window_masks
from upscale_opt.modules.selections import Gather
from upscale_opt.modules.writes import RangeAdd, ScatterAdd
from upscale_opt.planning.window_plans import window_plan
from upscale_opt.rewriting.write_forms import IN_COPY, IN_PLACE, PADDED, WHOLE
from upscale_opt.saving.written_forms import to_bytes

PADDING = AnalyticCosts(launch_ns=0, flops_per_ns=1)
"""Times with which the first writer of a stream is always padded."""


def exported_windows(kind, seed, costs=None):
    torch.manual_seed(seed)
    model, x = kind().eval(), torch.randn(1, 3, 16, 16)
    graph = trace(model, x)
    choices = random_choices(graph, np.random.default_rng(seed), smallest=8)
    masked, _ = windowed(model, x, choices, graph)
    return masked.export(window_plan(masked, masked.problems, choices, costs=costs)), choices


def require_ranges_only(exported):
    nodes = list(exported.module.graph.nodes)
    called = [exported.module.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    assert not any(isinstance(own, (Gather, ScatterAdd)) for own in called)
    assert torch.cat not in [node.target for node in nodes]
    assert "index_select" not in [node.target for node in nodes]
    assert {reading.mode for reading in exported.plan.readings.values()} <= {VIEW, OVER_READ}


@pytest.mark.parametrize("kind", [PostActivation, PreActivation, InvertedResiduals])
@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("costs", [None, PADDING], ids=["whole", "padded"])
def test_random_windows_are_exact_and_need_ranges_only(kind, seed, costs):
    exported, _ = exported_windows(kind, seed, costs)
    assert exported.verification.passed and exported.verification.gradients is not None
    require_ranges_only(exported)
    forms = {own.form for own in exported.writes}
    assert IN_PLACE in forms and IN_COPY not in forms
    assert (PADDED in forms) == (costs is PADDING)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PostActivation, PreActivation, InvertedResiduals])
def test_more_random_windows_are_exact(kind):
    for seed in range(5, 25):
        exported, _ = exported_windows(kind, seed, PADDING if seed % 2 else None)
        assert exported.verification.passed
        require_ranges_only(exported)


class _Recorder(TorchDispatchMode):
    """Records the names of all operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [PostActivation, PreActivation, InvertedResiduals])
def test_a_call_without_gradients_runs_no_operator_that_copies(kind):
    exported, _ = exported_windows(kind, 2)
    with torch.no_grad(), _Recorder() as recorder:
        exported(torch.randn(1, 3, 16, 16))
    copying = {"clone", "cat", "copy_", "_to_copy", "index_select", "index", "gather", "slice_scatter", "index_add"}
    assert not copying & set(recorder.names)
    assert "add_" in recorder.names


def test_an_addition_to_a_range_moves_nothing_else_without_gradients_and_copies_with_them():
    x, y = torch.randn(2, 6, 3, 3), torch.randn(2, 2, 3, 3)
    before, add = x.clone(), RangeAdd(1, 1, 2, 3, inplace=True)
    expected = x.clone()
    expected[:, 1:3] += y
    recorded = add(x, y)
    assert torch.equal(recorded, expected) and torch.equal(x, before)
    with torch.no_grad():
        assert add(x, y) is x and torch.equal(x, expected)
        kept = x.clone().requires_grad_()
        assert add(kept, y) is not kept


@pytest.mark.parametrize("write", [RangeAdd(1, 1, 2, 3, inplace=True), ScatterAdd(torch.tensor([1, 2]), 1, True)])
def test_a_sum_has_the_wider_dtype_of_its_operands(write):
    x, y = torch.ones(2, 6, 3, 3, dtype=torch.bfloat16), torch.full((2, 2, 3, 3), 1e-3)
    with torch.no_grad():
        total = write(x, y)
    assert total.dtype == torch.float32 and total[0, 1, 0, 0] == 1 + torch.tensor(1e-3)


class _Blocks(nn.Module):
    """A stream with two additions. What else happens to it is up to the subclass."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second, self.head = (
            nn.Conv2d(n, m, 1) for n, m in ((3, 8), (8, 8), (8, 8), (8, 4))
        )
        self.side = nn.Conv2d(8, 4, 1)


class _Chain(_Blocks):
    def forward(self, x):
        x = self.stem(x)
        x = x + self.first(x)
        return self.head(x + self.second(x))


class _Kept(_Blocks):
    def forward(self, x):
        x = self.stem(x)
        y = x + self.first(x)
        z = y + self.second(y)
        return self.head(z) + self.side(torch.relu(x))


class _Grown(_Blocks):
    def forward(self, x):
        x = torch.relu(self.stem(x).mean([2, 3], keepdim=True)).expand(-1, -1, 8, 8)
        return self.head(x + self.first(x))


class _Frozen(_Blocks):
    def forward(self, x):
        with torch.no_grad():
            x = self.stem(x)
            x = x + self.first(x)
        return self.head(x + self.second(x))


class _Returned(_Blocks):
    def forward(self, x):
        x = self.stem(x)
        y = self.head(x + self.first(x))
        return y, self.side(x.relu())


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        (_Chain, {"write first": "", "write second": ""}),
        (_Kept, {"write first": "needed again", "write second": ""}),
        (_Grown, {"write first": "memory of its own"}),
        (_Frozen, {"write first": "regions", "write second": "regions"}),
        (_Returned, {"write first": "needed again"}),
    ],
)
def test_additions_are_in_place_only_where_nobody_needs_the_old_values(kind, reasons):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 8, 8)
    graph = trace(model, x)
    rows = {name.removeprefix("write ") + ".weight": np.arange(8) < 5 for name in reasons}
    exported = prepare(model, x, output_masks=rows, graph=graph).export()
    assert exported.verification.passed and exported.verification.gradients is not None
    forms = {own.name: own for own in exported.writes}
    for name, reason in reasons.items():
        assert forms[name].form == (IN_COPY if reason else IN_PLACE)
        assert reason in forms[name].reason
        assert (name in exported.moved) == bool(reason)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 16), nn.GroupNorm(4, 16), nn.Softmax(1)])
@pytest.mark.parametrize("kept", [np.arange(16) < 9, np.arange(16) % 3 == 0], ids=["range", "scattered"])
def test_chains_whose_modules_mix_channels_are_exact(norm, kept):
    class Net(_Blocks):
        def __init__(self):
            super().__init__()
            self.stem, self.first, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
            self.norm = norm

        def forward(self, x):
            x = torch.relu(self.stem(x))
            return self.head(x + self.norm(self.first(x)))

    torch.manual_seed(0)
    masked = prepare(Net().eval(), torch.randn(1, 3, 8, 8), output_masks={"first.weight": kept})
    assert masked.export().verification.passed


def test_the_earlier_operand_is_written_into_the_later_one_if_that_is_whole():
    torch.manual_seed(0)
    model, x = PostActivation().eval(), torch.randn(1, 3, 16, 16)
    graph = trace(model, x)
    name = next(block.name for block in graph.blocks if block.size == 24)
    windows = dict.fromkeys(("layer2.1.conv1", "head", "write layer2.0.down.0"), (0, 20))
    choice = {name: WindowChoice(np.arange(24), {**windows, "write layer2.0.conv2": (4, 10)})}
    masked, plan = windowed(model, x, choice, graph)
    forms = {own.name: own for own in masked.export(plan).writes}
    assert forms["write layer2.0.conv2"].form == IN_PLACE and forms["write layer2.0.down.0"].form == WHOLE


@pytest.mark.parametrize(
    "form", ["torchscript", *(pytest.param(own, marks=pytest.mark.slow) for own in ("pt2", "onnx"))]
)
def test_saved_forms_agree(form):
    exported, _ = exported_windows(PostActivation, 2, PADDING)
    if form == "onnx":
        onnx = pytest.importorskip("onnx")
        operators = [node.op_type for node in onnx.load(io.BytesIO(to_bytes(exported, form))).graph.node]
        assert "ScatterND" not in operators and "Transpose" not in operators
        return
    assert to_bytes(exported, form)


def test_an_export_with_windows_can_be_exported_again_saved_and_loaded(tmp_path):
    from upscale_opt import export, load, read_plan

    exported, _ = exported_windows(PostActivation, 2, PADDING)
    x = torch.randn(1, 3, 16, 16)
    again = prepare(exported.module, x).export()
    with torch.no_grad():
        assert torch.allclose(again(x), exported(x), atol=1e-5)
    exported.save(tmp_path)
    plan = read_plan(tmp_path / "plan.json")
    torch.manual_seed(2)
    model = PostActivation().eval()
    loaded = load(plan, model, exported.module.state_dict(), x)
    with torch.no_grad():
        assert torch.equal(loaded(x), exported(x))
    assert export(model, x, plan).writes == exported.writes


def test_a_pruned_network_with_windows_can_be_trained():
    exported, _ = exported_windows(PostActivation, 2, PADDING)
    module, x = exported.module.train(), torch.randn(4, 3, 16, 16)
    module(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_masks_of_windows_keep_other_masks_and_drop_whole_ones():
    torch.manual_seed(0)
    model, x = PreActivation().eval(), torch.randn(1, 3, 8, 8)
    graph = trace(model, x)
    inner = next(own.weight for own in graph.reads if own.name == "second.0")
    found = window_masks(
        graph,
        {"stem": WindowChoice([3, 1, 2], {"first.0": (0, 2), "write second.0": (1, 3)})},
        masks={inner: np.arange(8) < 5},
    )
    assert np.flatnonzero(found.masks["first.0.weight"]).tolist() == [1, 3]
    assert np.flatnonzero(found.masks["head.weight"]).tolist() == [1, 2, 3]
    assert np.flatnonzero(found.masks[inner]).tolist() == [0, 1, 2, 3, 4]
    assert {name: np.flatnonzero(own).tolist() for name, own in found.output_masks.items()} == {
        "second.0.weight": [1, 2]
    }


def test_only_a_write_that_is_not_in_place_pays_for_a_copy_of_the_stream():
    costs = AnalyticCosts(launch_ns=0, bytes_per_ns=1)
    tables = {}
    for kind in (_Chain, _Kept):
        torch.manual_seed(0)
        model, x = kind().eval(), torch.randn(1, 3, 8, 8)
        rows = {"first.weight": np.arange(8) < 5}
        problems = prepare(model, x, output_masks=rows, objective="latency", costs=costs).problems
        accesses = [own for problem in problems.values() for own in problem.accesses]
        tables[kind] = next(own.table for own in accesses if own.name == "write first")
    difference = np.array(tables[_Kept].read.costs) - np.array(tables[_Chain].read.costs)
    assert (difference == 2 * 8 * 64 * 4).all()
