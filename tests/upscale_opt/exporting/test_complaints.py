"""The complaints that users of other channel pruners file most often, on small networks of the same shape.

Each test names the other project's issue. The oracle is the masked model in float64, computed here and not by
`upscale_opt.verify`: weight columns are zeroed, statistics and shifts are random, the outputs must agree to 1e-9.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from problems import Access, Block, Order, Problem, evaluate
from solvers import solve
from upscale_opt import (
    VerificationError,
    effective_masks,
    export,
    extract,
    l2_masks,
    load,
    plan,
    read_plan,
    trace,
)
from upscale_opt.models.loading import read_state_dict


def prepared(network, seed=0):
    """A network in eval mode in which no statistic, shift or bias is zero."""
    torch.manual_seed(seed)
    model = network.eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith("running_var") else -0.5))
    return model


def pruned(model, x, *, keep=0.5, seed=0, masks=None, solver="auto"):
    """The verified export under random masks of every convolution and linear layer (or given ones), and the masks."""
    graph = trace(model, x)
    if masks is None:
        rng = np.random.default_rng(seed)
        lengths = {name: len(mask) for name, mask in effective_masks(graph).masks.items()}
        masks = {name: rng.random(length) < keep for name, length in lengths.items()}
    masks = effective_masks(graph, masks).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, solver=solver, time_limit=5) for name, problem in problems.items()}
    return export(model, x, plan(problems, masks, results), graph=graph), masks


def require_equal(model, exported, masks, x):
    """The export computes what the model with zeroed columns computes, on other inputs and another batch size."""
    masked = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, mask in masks.items():
            masked.get_parameter(name)[:, torch.from_numpy(~mask)] = 0
        other = torch.randn(3, *x.shape[1:], dtype=torch.float64)
        expected, found = masked(other), copy.deepcopy(exported.module).double()(other)
    assert expected.shape == found.shape and expected.std() > 0
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


def check(network, shape, *, keep=0.5, seed=0, **settings):
    model, x = prepared(network), torch.zeros(1, *shape)
    exported, masks = pruned(model, x, keep=keep, seed=seed, **settings)
    require_equal(model, exported, masks, x)
    return model, exported, masks


def num_weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


class Net(nn.Module):
    """A network from its layers and a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x):
        return self.function(self.layers, x)


# Wrong results after pruning


def test_the_shift_of_a_pruned_batch_norm_channel_is_kept():
    """nni#2130, nni#3010, nni#5095: masked and sped-up outputs differ because a pruned channel's beta is not zero."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.bn, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
            self.c, self.d = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = functional.relu(self.bn(self.a(x)))
            return self.d(self.b(x)) + self.c(functional.avg_pool2d(x, 3, 1))

    for seed in range(4):
        check(Shifted(), (3, 8, 8), seed=seed)


def test_a_producer_of_zeros_still_adds_its_shift():
    """nni#2130 again: rows of a convolution that are zero leave a constant channel, beta, and not nothing."""
    model = prepared(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    model[0].weight.data[:5] = 0
    model[1].bias.data[:5] = 2.0
    x = torch.zeros(1, 3, 6, 6)
    exported, masks = pruned(model, x, keep=0.9)
    require_equal(model, exported, masks, x)


def test_squeezenets_concatenations():
    """distiller#424: SqueezeNet has 54 % before thinning and 0 % after; every network with a concat fails."""

    class Fire(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.squeeze = nn.Conv2d(channels, 4, 1)
            self.one, self.three = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)

        def forward(self, x):
            x = functional.relu(self.squeeze(x))
            return torch.cat([functional.relu(self.one(x)), functional.relu(self.three(x))], 1)

    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), Fire(8), nn.MaxPool2d(3, 2), Fire(12), Fire(12))
    network.extend([nn.Dropout(), nn.Conv2d(12, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    for keep in (0.4, 0.6, 0.8):
        model, exported, _ = check(network, (3, 24, 24), keep=keep)
        assert num_weights(exported.module) < num_weights(model)


def test_a_tensor_concatenated_with_itself():
    """Torch-Pruning#146 (open): torch.cat([x, x]) fails with a channel mismatch. Its halves may keep other channels."""
    network = Net(
        lambda m, x: m["b"](torch.cat([y := torch.relu(m["a"](x)), y], 1)),
        a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(12, 4, 1),
    )  # fmt: skip
    halves = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0], dtype=bool)
    _, exported, _ = check(network, (3, 6, 6), masks={"layers.b.weight": halves})
    assert exported.module.layers.a.weight.shape[0] == 3


def test_concat_operands_are_not_one_group():
    """Torch-Pruning#481 (open): the inputs of a concat are merged into one group and lose the same channels."""
    network = Net(
        lambda m, x: m["c"](torch.cat([m["a"](x), m["b"](x)], 1)),
        a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(3, 6, 1), c=nn.Conv2d(12, 4, 1),
    )  # fmt: skip
    kept = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    _, exported, _ = check(network, (3, 4, 4), masks={"layers.c.weight": kept})
    assert exported.module.layers.a.weight.shape[0] == 5 and exported.module.layers.b.weight.shape[0] == 1


class WindowAttention(nn.Module):
    """Swin's block in small: a norm, windows, attention with a position bias, a perceptron; channels last."""

    def __init__(self, width, heads, window):
        super().__init__()
        self.heads, self.window = heads, window
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.bias = nn.Parameter(torch.randn(heads, window * window, window * window))

    def forward(self, x):
        n, h, w, c = x.shape
        s = self.window
        y = self.norm1(x).view(n, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        qkv = self.qkv(y).reshape(-1, s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5 + self.bias
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, s * s, c))
        y = y.view(n, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = x + y
        return x + self.mlp(self.norm2(x))


@pytest.mark.parametrize("keep", [0.9, 0.6, 0.3, 0.1])
def test_swin_below_one_half(keep):
    """Torch-Pruning#490 (open): Swin works at pruning ratios above 0.5 and breaks below."""

    class Swin(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.block = nn.Conv2d(3, 8, 2, stride=2), WindowAttention(8, 2, 2)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

        def forward(self, x):
            x = self.block(self.patch(x).permute(0, 2, 3, 1))
            return self.head(self.norm(x).mean((1, 2)))

    check(Swin(), (3, 8, 8), keep=keep)


def test_a_convolution_with_one_output_is_not_depthwise():
    """Torch-Pruning#179: a convolution with one output channel is treated as depthwise, and one with one input."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 1, 1), nn.Tanh(), nn.Conv2d(1, 6, 1))
    network.extend([nn.Conv2d(6, 4, 1)])
    _, exported, masks = check(network, (3, 6, 6))
    assert exported.module.get_submodule("2").weight.shape[:2] == (1, int(masks["2.weight"].sum()))
    assert exported.module.get_submodule("2").groups == 1


def test_the_networks_output_is_never_shrunk():
    """nni#5717: the speed-up shrank the network's output from 10 features to 5."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    for seed in range(3):
        _, exported, _ = check(network, (3, 6, 6), keep=0.2, seed=seed)
        assert exported(torch.zeros(1, 3, 6, 6)).shape == (1, 10)


# Slower after pruning, channel multiples, sizes


def test_an_export_is_never_costlier_than_the_naive_one():
    """PocketFlow#83, Torch-Pruning#382: channel selection in front of each convolution costs more than it saves.

    By the objective, not by time: the chosen order copies no more channels than gathers in the original order do.
    """
    network = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)])
    model, x = prepared(network), torch.zeros(1, 3 + 5, 6, 6)
    graph = trace(model, x)
    problems = extract(graph, effective_masks(graph, l2_masks(graph, 0.5)).masks)
    for problem in problems.values():
        naive = sum(access.num_kept for access in problem.accesses)
        assert solve(problem, solver="auto", time_limit=5).value <= naive
        assert solve(problem, solver="greedy").value <= naive


def test_what_was_asked_for_is_what_is_done():
    """nncf#269: asked for 19 filters, got 16. Nothing is rounded silently: every consumer keeps what its mask says."""
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1))
    mask = np.arange(32) < 19
    _, exported, masks = check(network, (3, 6, 6), masks={"2.weight": mask})
    assert masks["2.weight"].sum() == 19
    assert exported.module.get_submodule("0").out_channels == 19 == exported.module.get_submodule("2").in_channels


# Saving and loading


def test_a_saved_export_loads_into_the_original_class(tmp_path):
    """Torch-Pruning#139, #428, #29, nni#4780: the pruned state_dict does not fit the original class any more."""

    def make():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1))

    model, x = prepared(make()), torch.randn(1, 3, 6, 6)
    exported, _ = pruned(model, x)
    exported.save(tmp_path)
    fresh = prepared(make(), seed=9)
    again = load(read_plan(tmp_path / "plan.json"), fresh, read_state_dict(tmp_path / "model.safetensors"), x)
    assert torch.equal(again(x), exported(x))


def test_the_file_is_smaller(tmp_path):
    """nni#3984, nncf#1038: the file has the same size as before."""
    model, x = prepared(nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 4, 1))), None
    x = torch.zeros(1, 3, 8, 8)
    exported, _ = pruned(model, x, keep=0.3)
    exported.save(tmp_path)
    torch.save(model.state_dict(), tmp_path / "before.pt")
    assert (tmp_path / "model.safetensors").stat().st_size < 0.5 * (tmp_path / "before.pt").stat().st_size


# Tracing and operators


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + torch.zeros(1, 6, 1, 1),
        lambda x: torch.cat([x, x.new_zeros(x.size(0), 6, 4, 4)], 1)[:, :6],
        lambda x: x * torch.full((6, 1, 1), 0.5),
        lambda x: x.transpose(2, 3),
        lambda x: functional.relu(x),
        lambda x: torch.sigmoid(x),
        lambda x: x + torch.arange(4.0),
        lambda x: x * torch.arange(1.0, 7.0).view(1, 6, 1, 1),
        lambda x: x + torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")[0],
        lambda x: x + torch.ones_like(x),
        lambda x: functional.interpolate(x, size=x.shape[-2:]),
    ],
)
def test_constants_transposes_and_functions_are_traced(operation):
    """aimet#4011, aimet#964, nni#4885: zeros, full, transpose, F.relu, sigmoid, arange and meshgrid are refused."""
    network = Net(lambda m, x: m["b"](operation(m["a"](x))), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 4, 1))
    check(network, (3, 4, 4))


def test_what_cannot_be_pruned_is_reported_with_its_operator():
    """OTO#57, Model-Optimizer#176: nothing found to prune, and nothing said; do warnings affect correctness?"""
    network = Net(
        lambda m, x: m["b"](torch.cumsum(torch.roll(m["a"](x), 1, 1), 1)), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 4, 1)
    )
    graph = trace(prepared(network), torch.zeros(1, 3, 4, 4))
    assert graph.unsupported
    told = " ".join(f"{pin.node}: {pin.reason}" for pin in graph.unsupported)
    assert "roll" in told or "cumsum" in told
    assert all(pin.num_channels > 0 for pin in graph.unsupported)
    check(network, (3, 4, 4))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_convolutions(groups):
    """Torch-Pruning#9 (since 2020), #328, nni#4648 (UnBalancedGroupError), OTO#39."""
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.ReLU())
    network.extend([nn.Conv2d(12, 12, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv2d(12, 4, 1)])
    for seed in range(3):
        check(network, (3, 6, 6), seed=seed)


def test_mobilenets_blocks():
    """Torch-Pruning#328: MobileNetV3, depthwise convolutions with a squeeze-and-excitation gate through reshapes."""

    class Gate(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.down, self.up = nn.Linear(channels, 4), nn.Linear(4, channels)

        def forward(self, x):
            b, c, _, _ = x.size()
            y = functional.adaptive_avg_pool2d(x, 1).view(b, c)
            return x * functional.hardsigmoid(self.up(functional.relu(self.down(y)))).view(b, c, 1, 1)

    depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Hardswish(), depthwise, Gate(12), nn.Conv2d(12, 4, 1))
    for keep in (0.3, 0.7):
        check(network, (3, 6, 6), keep=keep)


def test_channel_shuffles():
    """TinyNN#260, Torch-Pruning's skip list: ShuffleNet."""

    class Unit(nn.Module):
        def __init__(self, channels):
            super().__init__()
            half = channels // 2
            self.a, self.c = nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 1)
            self.b, self.bn = nn.Conv2d(half, half, 3, padding=1, groups=half), nn.BatchNorm2d(half)

        def forward(self, x):
            left, right = x.chunk(2, dim=1)
            x = torch.cat([left, functional.relu(self.c(self.bn(self.b(self.a(right)))))], 1)
            n, c, h, w = x.size()
            return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Unit(8), Unit(8), nn.Conv2d(8, 4, 1))
    for keep in (0.3, 0.7):
        check(network, (3, 8, 8), keep=keep)


def test_a_transformer_needs_no_patching_by_hand():
    """Torch-Pruning#101, #340, #393: num_heads and hidden_dim must be patched after pruning."""

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

        def forward(self, x):
            n, length, width = x.shape
            y = self.norm1(x)
            q, k, v = (
                layer(y).view(n, length, self.heads, width // self.heads).transpose(1, 2)
                for layer in (self.q, self.k, self.v)
            )
            y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
            x = x + self.out(y)
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    network = nn.Sequential(nn.Linear(6, 8), Block(8, 2), Block(8, 2), nn.LayerNorm(8), nn.Linear(8, 3))
    for keep in (0.2, 0.6):
        model, exported, _ = check(network, (5, 6), keep=keep)
        assert num_weights(exported.module) < num_weights(model)


def test_torchs_own_attention():
    """Torch-Pruning#101: nn.MultiheadAttention keeps working next to pruned layers, and is reported if it is pinned."""

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x):
            x = self.embed(x)
            x = x + self.attention(x, x, x, need_weights=False)[0]
            return self.down(functional.relu(self.up(x)))

    _, exported, _ = check(Attending(), (5, 6), keep=0.4)
    assert exported.module.up.out_features < 16


def test_a_recurrent_layer_is_pruned():
    """Torch-Pruning#44, #276, #404: LSTMs are silently not pruned."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Linear(6, 8), nn.LSTM(8, 8, batch_first=True)
            self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 3)

        def forward(self, x):
            x, _ = self.lstm(self.embed(x))
            return self.down(functional.relu(self.up(x)))

    model, exported, _ = check(Recurrent(), (5, 6), keep=0.2)
    assert not exported.graph.unsupported
    assert exported.module.lstm.hidden_size < model.lstm.hidden_size
    assert exported.module.up.out_features < 12


# Solvers


def overlapping(num_channels=40, num_accesses=5, seed=0):
    """A problem that takes a constraint program some work."""
    rng = np.random.default_rng(seed)
    accesses = tuple(Access(f"a{i}", (0,), rng.random(num_channels) < 0.4) for i in range(num_accesses))
    return Problem((Block("x", num_channels),), accesses)


@pytest.mark.parametrize("objective", ["copies", "span"])
def test_constraint_programs_are_reproducible(objective):
    """or-tools#3851, #4195, #4783: more than one worker and a wall-clock limit are never deterministic."""
    first, second = (solve(overlapping(), solver="cp-sat", objective=objective, time_limit=2, seed=3) for _ in range(2))
    assert first.value == second.value and first.bound == second.bound
    assert first.status != "OPTIMAL" or first.order == second.order


@pytest.mark.parametrize("solver", ["cp-sat", "auto", "greedy"])
def test_every_solution_is_evaluated_again(solver):
    """or-tools#3842: optimal with one worker, infeasible with eight: check every solution yourself."""
    for seed in range(3):
        problem = overlapping(seed=seed)
        result = solve(problem, solver=solver, objective="span", time_limit=2)
        order = Order([result.order[b] for b in range(len(problem.blocks))])
        assert sorted(order[0].tolist()) == problem.stored[0].tolist()
        assert evaluate(problem, order, "span").value == result.value
        assert result.bound is None or math.floor(result.bound) <= result.value


def test_a_wrong_export_is_refused(monkeypatch):
    """Torch-Pruning and others count a forward pass that runs as success: here a wrong weight raises."""
    from upscale_opt.rewriting import read_rewriting

    original = read_rewriting.ReadRewriter._slice_weight

    def wrong(self, read, columns):
        original(self, read, columns[::-1].copy())

    monkeypatch.setattr(read_rewriting.ReadRewriter, "_slice_weight", wrong)
    model = prepared(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1)))
    with pytest.raises(VerificationError, match="first module that differs"):
        pruned(model, torch.zeros(1, 3, 4, 4), keep=0.9)
