"""Networks on which exports were once wrong or refused, shortened; found by ``python -m benchmarks.random_networks``.

Each is exported with random masks, orders and read modes, and compared with its masked model in float64.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.random_networks import Program, Verdict, check
from benchmarks.random_networks.program import Input, Step
from problems import Order, evaluate
from upscale_opt import AnalyticCosts, MaskError, effective_masks, export, extract, trace
from upscale_opt.planning.plans import Plan, baseline_plan


def program(*lines, init, output, shape=(3, 4, 4), batch=2, fixed_batch=False, high=None):
    """A network from the lines of its ``__init__`` and ``forward``."""
    steps = tuple(Step(line, tuple(line.split(" = ")[0].split(", ")) if " = " in line else ()) for line in lines)
    return Program((Input("x", (batch, *shape), high),), tuple(init), steps, output, batch, fixed_batch, 0)


CONV = "self.conv = nn.Conv2d(3, 6, 1)"
NEXT = "self.next = nn.Conv2d(6, 4, 1)"
NETWORKS = {
    "cat of what chunk returns": program(
        "a = self.conv(x)", "b = torch.cat(a.chunk(2, 1), 1)", "c = self.next(b)", init=(CONV, NEXT), output="c"
    ),
    "stack of what unbind returns": program(
        "a = self.conv(x)", "b = torch.stack(a.unbind(1), 2).sum(-1)", "c = self.next(b.transpose(1, 2).unsqueeze(1))",
        init=(CONV, "self.next = nn.Conv2d(1, 4, 1)"), output="c",
    ),
    "a tensor read along two axes": program(
        "a = self.conv(x)", "b = self.last(x)", init=(CONV, "self.last = nn.Linear(4, 5)"), output="(a, b)"
    ),
    "two modules with one weight": program(
        "a = self.conv(x)", "b = self.first(a)", "c = self.second(a)", "d = self.head(b + c)",
        init=(CONV, "self.first = nn.Conv2d(6, 6, 1)", "self.second = nn.Conv2d(6, 6, 1)",
              "self.second.weight = self.first.weight", "self.head = nn.Conv2d(6, 2, 1)"),
        output="d",
    ),
    "a weight used as a number, too": program(
        "a = self.conv(x)", "b = self.next(a) * self.next.weight.mean()", init=(CONV, NEXT), output="b"
    ),
    "a weight used by a function, too": program(
        "a = self.conv(x)", "b = self.next(a)", "c = F.conv2d(a, self.next.weight)", "d = self.head(b) + c",
        init=(CONV, NEXT, "self.head = nn.Conv2d(4, 4, 1)"), output="d",
    ),
    "an affine parameter used twice": program(
        "a = self.norm(self.conv(x))", "b = a * self.norm.weight.view(1, -1, 1, 1)", "c = self.next(b)",
        init=(CONV, "self.norm = nn.BatchNorm2d(6)", NEXT), output="c",
    ),
    "an ellipsis that stands for nothing": program(
        "a = self.conv(x)", "b = self.last(a.flatten(2).transpose(1, 2))", "c = b[:, 0:13, ..., :1]",
        init=(CONV, "self.last = nn.Linear(6, 5)"), output="c",
    ),
    "groups of a norm that go through a channel": program(
        "a = self.conv(x)", "b = self.norm(torch.flatten(a, 1, 2))", "c = self.next(b)",
        init=("self.conv = nn.Conv2d(3, 4, 1)", "self.norm = nn.GroupNorm(3, 24)", "self.next = nn.Conv1d(24, 4, 1)"),
        shape=(3, 6, 6), output="c",
    ),
    "a shuffled tensor changed in place, seen through its origin": program(
        "a = self.conv(x)", "b = a.view(a.size(0), 2, 3, 4, 4).transpose(1, 2).contiguous()",
        "c = b.view(a.size(0), 6, 4, 4)", "c.add_(a)", "d = self.next(b.flatten(1, 2))",
        init=(CONV, NEXT), output="(c, d)",
    ),
    "a constant of computed length": program(
        "a = self.conv(x)", "b = a + torch.arange(a.size(-1))", "c = self.next(b)", init=(CONV, NEXT), output="c"
    ),
    "a batch size of one in the code": program(
        "a = self.conv(x)", "b = torch.cat([a, torch.zeros(1, 2, 4, 4)], 1)", "c = self.next(b)",
        init=(CONV, "self.next = nn.Conv2d(8, 4, 1)"), output="c", batch=1, fixed_batch=True,
    ),
    "a norm whose output cancels": program(
        "a = self.conv(x)", "b = self.norm(a)", "c = F.adaptive_avg_pool2d(b, 1)", "d = self.next(c)",
        init=(CONV, "self.norm = nn.LayerNorm(4, elementwise_affine=False)", NEXT), output="[d, a]",
    ),
    "integer inputs, one sample": program(
        "a = self.embedding(x)", "b = self.first(a)", "c = self.second(torch.relu(b))",
        init=("self.embedding = nn.Embedding(10, 6)", "self.first = nn.Linear(6, 8)", "self.second = nn.Linear(8, 3)"),
        output="c", shape=(5,), high=10, batch=1,
    ),
    "a channel added to its neighbour": program(
        "a = self.conv(x)", "b = a[:, 0:1] + a[:, 1:2]", "c = self.head(a)",
        init=(CONV, "self.head = nn.Conv2d(6, 2, 1)"), output="(b, c)",
    ),
    "slices that make their channels one": program(
        "a = self.conv(x)", "b = a[:, 0:5] * torch.sigmoid(a[:, 1:6])", "c = self.next(b)",
        init=("self.conv = nn.Conv2d(3, 9, 1)", "self.next = nn.Conv2d(5, 4, 1)"), output="c",
    ),
}  # fmt: skip


UNPROVABLE = ("a norm whose output cancels",)
"""Right, but what is swapped may show in nothing but rounding noise."""


def outcomes(name):
    return [check(NETWORKS[name], seed, modes=("input",)) for seed in range(4)]


def test_output_masks_where_slices_make_their_channels_one():
    """The slices are one channel of five entries; the tensor they are cut from has four others."""
    for mode in ("output", "both"):
        for seed in range(3):
            outcome = check(NETWORKS["slices that make their channels one"], seed, modes=(mode,))
            assert outcome.verdict is not Verdict.WRONG, f"{outcome.reason}\n{outcome.detail}"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_were_wrong_once(name):
    fine = (Verdict.RIGHT, Verdict.UNPROVEN) if name in UNPROVABLE else (Verdict.RIGHT,)
    for outcome in outcomes(name):
        assert outcome.verdict in fine, f"{outcome.reason}\n{outcome.detail}"


class Pyramid(nn.Module):
    """One head on two resolutions, and a second reader that keeps every channel stored."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.side = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 4, 3), nn.Conv2d(64, 2, 1)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        return self.head(x), self.head(functional.max_pool2d(x, 8)), self.side(x)


def test_a_head_on_two_resolutions_may_be_read_in_two_modes():
    """Cost tables depend on the resolution: gathering costs a launch, over-reading costs bandwidth."""
    torch.manual_seed(0)
    model, x = Pyramid().eval(), torch.zeros(1, 3, 64, 64)
    graph = trace(model, x)
    kept = np.arange(64) % 4 == 0
    masks = effective_masks(graph, {"head.weight": kept}).masks
    costs = AnalyticCosts(launch_ns=20_000, piece_ns=100_000)
    problems = extract(graph, masks, costs=costs)
    orders = {name: Order.identity(problem) for name, problem in problems.items()}
    reads = {
        access.name: access.mode
        for name, problem in problems.items()
        for access in evaluate(problem, orders[name], "latency").accesses
    }
    assert reads["head"] != reads["head#2"]
    channels = {b.name: orders[name][i] for name, problem in problems.items() for i, b in enumerate(problem.blocks)}
    exported = export(model, x, Plan(masks, channels, reads))
    assert exported.verification.passed


class Squeezed(nn.Module):
    """Without arguments, squeeze removes the batch axis if there is one sample, and the linear layers see a matrix."""

    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv1d(3, 4, 3), nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.second(self.first(self.conv(x).squeeze()))


def test_axes_that_vanish_for_one_sample_only_pin_what_follows():
    """Random network 1656: the output channels of a linear layer were thought to be on an axis that was not there."""
    torch.manual_seed(0)
    model, x = Squeezed().eval(), torch.randn(1, 3, 8)
    graph = trace(model, x)
    assert "a number of axes that depends on the batch" in {pin.reason for pin in graph.pins}
    with pytest.raises(MaskError, match="is no convolution or linear layer"):
        effective_masks(graph, {"second.weight": np.arange(8) % 2 == 0})
    masks = effective_masks(graph, {"conv.weight": np.arange(3) > 0}).masks
    assert export(model, x, masks=masks, baseline=True).verification.passed


class Scaled(nn.Module):
    """A normalisation whose scale is used a second time, outside of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm.weight.mean()


def test_rows_of_parameters_used_elsewhere_are_not_made_zero():
    """Random network 1907: a mask of outputs made rows of the scale zero, whose mean was another one then."""
    torch.manual_seed(0)
    model, x = Scaled().eval(), torch.randn(2, 3, 4, 4)
    outputs = {"conv.weight": np.array([True, False, False, True])}
    masks = effective_masks(trace(model, x)).masks
    assert export(model, x, masks=masks, output_masks=outputs, baseline=True).verification.passed


class Stacked(nn.Module):
    """A masked tensor on top of one that is not, along another axis than the channels."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 8, 1)

    def forward(self, x):
        return self.second(torch.cat([self.first(x), x], 2))


def test_channels_are_zero_behind_a_concat_along_another_axis_only_if_they_are_in_all_operands():
    """Random network 7546: the network input, which has no known channels, was counted as no channels."""
    torch.manual_seed(0)
    model, x = Stacked().eval(), torch.randn(2, 12, 5, 5)
    outputs = {"first.weight": np.arange(12) < 4}
    masks = effective_masks(trace(model, x)).masks
    assert export(model, x, masks=masks, output_masks=outputs, baseline=True).verification.passed


class Branches(nn.Module):
    """Two readers of one tensor want the same channels, one of them behind an activation that comes first."""

    def __init__(self, *, in_place=False):
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.in_place = in_place

    def forward(self, x):
        x = self.stem(x)
        active = torch.sigmoid(x)
        right = self.right(x)
        if self.in_place:
            x.mul_(3)
        return self.left(active) + right + self.right(x)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_shared_gather_stands_where_its_tensor_is_made_unless_somebody_writes_into_that(in_place):
    """Random network 6799: it stood behind one of the nodes that use it."""
    torch.manual_seed(0)
    model, x = Branches(in_place=in_place).eval(), torch.randn(1, 3, 4, 4)
    kept = np.arange(8) % 2 == 0
    graph = trace(model, x)
    masks = effective_masks(graph, {"left.weight": kept, "right.weight": kept}).masks
    plan = baseline_plan(extract(graph, masks), masks)
    copies = plan.with_readings(mode="copy", late=False)
    assert export(model, x, copies, graph=graph).verification.passed


class Reciprocal(nn.Module):
    """What is zero behind a mask is divided by."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 1), nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(self.conv(x)).reciprocal().clamp(-2, 2)


def test_masked_channels_are_plus_zero():
    """Random network 12115: negative values times zero are -0, and their reciprocals minus infinity."""
    torch.manual_seed(0)
    model, x = Reciprocal().eval(), torch.randn(2, 3, 4, 4)
    outputs = {"conv.weight": np.arange(6) % 2 == 0}
    masks = effective_masks(trace(model, x)).masks
    exported = export(model, x, masks=masks, output_masks=outputs, baseline=True)
    assert exported.verification.passed
    assert any(type(module).__name__ == "Factor" for module in exported.module.modules())


class Forgotten(nn.Module):
    """Channels are cut in two axes for a tensor that nobody uses."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 8), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.conv(x)
        y = self.linear(x.permute(0, 2, 3, 1))
        y.view(y.size(0), y.size(1), y.size(2), 2, -1)
        return self.head(x)


def test_a_rearrangement_that_nobody_uses_needs_its_channels_all_the_same():
    """Random network 14522: nobody kept the channels, so they were removed, and the view failed."""
    torch.manual_seed(0)
    model, x = Forgotten().eval(), torch.randn(1, 3, 4, 4)
    masks = effective_masks(trace(model, x)).masks
    assert export(model, x, masks=masks, baseline=True).verification.passed


class Shuffled(nn.Module):
    """A channel shuffle, which copies, of a tensor that is changed in place afterwards; or the other way round."""

    def __init__(self, *, source):
        super().__init__()
        self.conv, self.head, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
        self.source = source

    def forward(self, x):
        x = self.conv(x)
        y = x.view(x.size(0), 2, 2, x.size(2), x.size(3)).transpose(1, 2).contiguous().view(x.shape)
        functional.relu(x if self.source else y, inplace=True)
        return self.head(y) + self.side(x)


@pytest.mark.parametrize("source", [True, False])
def test_a_shuffle_of_one_channel_is_a_copy_too(source):
    """Random network 16162: the selection of the only channel that was left was the tensor itself."""
    torch.manual_seed(0)
    model, x = Shuffled(source=source).eval(), torch.randn(1, 3, 4, 4)
    kept = {"head.weight": np.arange(4) == 3, "side.weight": np.arange(4) == 3}
    masks = effective_masks(trace(model, x), kept).masks
    assert export(model, x, masks=masks, baseline=True).verification.passed


class Tied(nn.Module):
    """Neighbouring channels of a convolution are compared, so that all of them are one channel of several entries."""

    def __init__(self, joined):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(6 if joined else 3)
        self.next = nn.Conv2d(6 if joined else 3, 5, 1)
        self.joined = joined

    def forward(self, x):
        a, b = self.first(x), self.second(x)
        a, b = torch.maximum(a[:, 1:], a[:, :-1]), torch.maximum(b[:, 1:], b[:, :-1])
        return self.next(self.norm(torch.cat([a, b], 1) if self.joined else a)), a, b


@pytest.mark.parametrize("mode", ["view", "over-read", "pieces", "copy"])
@pytest.mark.parametrize("joined", [False, True])
def test_channels_of_several_entries_are_selected_in_front_of_a_normalisation(joined, mode):
    """The normalisation got one parameter per channel, not per entry."""
    torch.manual_seed(0)
    model, x = Tied(joined).eval(), torch.randn(1, 3, 4, 4)
    graph = trace(model, x)
    for kept in ([True] * 6, [True] * 3 + [False] * 3) if joined else ([True] * 3,):
        masks = effective_masks(graph, {"next.weight": np.array(kept)}).masks
        problems = extract(graph, masks)
        baseline = baseline_plan(problems, masks)
        chosen = baseline.with_readings(["next"], mode=mode, late=False)
        assert export(model, x, chosen, graph=graph).verification.relative_error <= 1e-9
