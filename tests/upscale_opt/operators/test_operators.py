"""Tests of the operator table: what each operator leaves free, and that exports through it are exact."""

import numpy as np
import pytest
import torch
from random_plans import random_masks, random_plan
from torch import nn
from torch.nn import functional

from upscale_opt import ModelError, export, extract, trace
from upscale_opt.operators import register
from upscale_opt.operators.table import FUNCTION_RULES

FREE, NEEDED, PINNED = "free", "needed", "pinned"


def swapped(_, x):
    """The parts of a tensor in another order."""
    first, second = x.split([3, 9], 1)
    return torch.cat([second, first], 1)


def multiplied(_, x):
    """The halves of a tensor, multiplied: channels i and i + 6 of one producer move together."""
    first, second = x.chunk(2, 1)
    return first * second


def unpooled(_, x):
    """Max pooling and its inverse, as in SegNet."""
    values, indices = functional.max_pool2d(x, 2, return_indices=True)
    return functional.max_unpool2d(torch.tanh(values), indices, 2, output_size=x.size())


def resampled(_, x):
    """Every image is turned."""
    turned = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).to(x).expand(x.shape[0], 2, 3)
    return functional.grid_sample(x, functional.affine_grid(turned, (x.shape[0], 1, 6, 6), False), align_corners=False)


class Net(nn.Module):
    """A convolution, the operator, and a convolution that reads what comes out of it."""

    def __init__(self, operation, outputs, module):
        super().__init__()
        self.first, self.operation, self.module = nn.Conv2d(3, 12, 1), operation, module
        self.second = nn.Conv2d(outputs, 5, 1)
        self.scale = nn.Parameter(torch.rand(12, 1, 1) + 0.5)
        self.weight, self.bias = nn.Parameter(torch.randn(12, 12, 1, 1)), nn.Parameter(torch.randn(12))

    def forward(self, x):
        x = self.first(x)
        return self.second(self.operation(self, x))


CASES = {
    "grouped convolution": (lambda m, x: m.module(x), 8, nn.Conv2d(12, 8, 3, padding=1, groups=4), FREE),
    "depthwise convolution": (lambda m, x: m.module(x), 12, nn.Conv2d(12, 12, 3, padding=1, groups=12), FREE),
    "transposed convolution": (lambda m, x: m.module(x), 8, nn.ConvTranspose2d(12, 8, 2), FREE),
    "functional convolution": (lambda m, x: functional.conv2d(x, m.weight, m.bias), 12, None, FREE),
    "channel shuffle": (lambda m, x: m.module(x), 12, nn.ChannelShuffle(3), FREE),
    "shuffle by hand": (
        lambda m, x: x.view(x.size(0), 3, 4, 6, 6).transpose(1, 2).contiguous().view(x.size(0), -1, 6, 6),
        *(12, None, FREE),
    ),
    "group norm": (lambda m, x: m.module(x), 12, nn.GroupNorm(3, 12), NEEDED),
    "instance norm": (lambda m, x: m.module(x), 12, nn.InstanceNorm2d(12, affine=True), FREE),
    "layer norm": (lambda m, x: m.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 12, nn.LayerNorm(12), NEEDED),
    "linear on the last axis": (
        lambda m, x: m.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        *(7, nn.Linear(12, 7), FREE),
    ),
    "parametric relu": (lambda m, x: m.module(x), 12, nn.PReLU(12), FREE),
    "layer scale": (lambda m, x: x + m.scale * torch.sin(x), 12, None, FREE),
    "chunk, both parts": (multiplied, 6, None, FREE),
    "chunk, one part": (lambda m, x: x.chunk(3, 1)[1], 4, None, FREE),
    "split": (swapped, 12, None, FREE),
    "stack": (lambda m, x: torch.stack([x, torch.relu(x)], 1).flatten(1, 2), 24, None, FREE),
    "concat with itself": (lambda m, x: torch.cat([x, x], 1), 24, None, FREE),
    "excitation by view": (
        lambda m, x: x * torch.sigmoid(m.module(x.mean((2, 3))).view(x.size(0), x.size(1), 1, 1)),
        *(12, nn.Linear(12, 12), FREE),
    ),
    "interpolation": (lambda m, x: functional.interpolate(x, scale_factor=2.0), 12, None, FREE),
    "padding": (lambda m, x: functional.pad(x, (1, 1, 2, 0)), 12, None, FREE),
    "padding of channels": (lambda m, x: functional.pad(x, (0, 0, 0, 0, 1, 1)), 14, None, FREE),
    "softmax over channels": (lambda m, x: torch.softmax(x, 1), 12, None, NEEDED),
    "normalize": (lambda m, x: functional.normalize(x), 12, None, NEEDED),
    "norm over pixels": (lambda m, x: x / (1 + x.norm(p=2, dim=(2, 3), keepdim=True)), 12, None, FREE),
    "local response norm": (lambda m, x: m.module(x), 12, nn.LocalResponseNorm(3), PINNED),
    "pixel shuffle": (lambda m, x: m.module(x), 3, nn.PixelShuffle(2), FREE),
    "roll": (lambda m, x: x.roll(5, 1), 12, None, FREE),
    "flip": (lambda m, x: x.flip(1), 12, None, PINNED),
    "cumsum": (lambda m, x: x.cumsum(1), 12, None, PINNED),
    "one channel": (lambda m, x: x * x[:, 3:4], 12, None, FREE),
    "a parameter as large as": (lambda m, x: x * m.scale.expand_as(x), 12, None, FREE),
    "a number as large as": (lambda m, x: x + torch.full((1, 1, 1), 0.5).expand_as(x), 12, None, FREE),
    "itself as large as": (lambda m, x: x[:, :, :1].expand_as(x) + x, 12, None, FREE),
    "a constant as large as": (lambda m, x: x * torch.arange(12.0)[:, None, None].expand_as(x), 12, None, FREE),
    "towards a constant": (lambda m, x: torch.lerp(x, torch.ones_like(x, dtype=torch.float32), 0.3), 12, None, FREE),
    "a grid of two types": (
        lambda m, x: x + torch.meshgrid(m.bias, torch.arange(6.0), indexing="ij")[0][..., None],
        *(12, None, FREE),
    ),
    "a parameter viewed as": (lambda m, x: x * m.bias.repeat(36).view_as(x), 12, None, PINNED),
    "a parameter asked for channels": (lambda m, x: x + m.bias[x.argmax(1)][:, None], 12, None, PINNED),
    "unpooling": (unpooled, 12, None, FREE),
    "resampling": (resampled, 12, None, FREE),
    "windows of pixels": (lambda m, x: functional.unfold(x, 2, stride=2).unsqueeze(-1), 48, None, FREE),
    "windows along one axis": (lambda m, x: x.unfold(2, 2, 2).mean(-1), 12, None, PINNED),
    "some rows": (lambda m, x: x[:, :, [4, 0]], 12, None, FREE),
    "one pixel of every sample": (lambda m, x: x[torch.arange(len(x)), ..., -1:], 12, None, FREE),
    "pixels apart from each other": (lambda m, x: x[:, :, [1, 2], [3, 0]].unsqueeze(-1), 12, None, FREE),
    "some channels": (lambda m, x: x[:, [1, 3, 5]], 3, None, PINNED),
    "a slice of parts": (lambda m, x: sum(x.split(4, 1)[1:]), 4, None, FREE),
    "softmax of images": (lambda m, x: m.module(x), 12, nn.Softmax2d(), NEEDED),
    "a module that pads channels": (lambda m, x: m.module(x), 15, nn.ConstantPad3d((0, 0, 0, 0, 1, 2), 0.5), FREE),
    "a module that splits an axis": (lambda m, x: m.module(x).mean(3), 12, nn.Unflatten(2, (2, 3)), FREE),
    "another norm over pixels": (
        lambda m, x: x / (1 + torch.linalg.norm(x.flatten(2), dim=-1)[..., None, None]),
        *(12, None, FREE),
    ),
    "another channel of the same producer": (lambda m, x: x[:, :6] + x[:, 6:], 6, None, FREE),
}


@pytest.mark.parametrize("name", CASES)
def test_exports_through_operators_are_exact_and_free_what_they_can(name):
    operation, outputs, module, expected = CASES[name]
    for seed in range(3):
        torch.manual_seed(seed)
        model, x = Net(operation, outputs, module).eval(), torch.randn(1, 3, 6, 6)
        graph = trace(model, x)
        blocks = [block for block in graph.blocks if block.name.startswith("first")]
        assert blocks and all(block.pinned == (expected == PINNED) for block in blocks)
        assert (
            expected == PINNED
            or all(block.removable == (expected == FREE) for block in blocks)
            or name == "one channel"
        )
        assert bool(graph.unsupported) == (expected == PINNED)
        rng = np.random.default_rng(seed)
        masks = random_masks(graph, rng, 0.6)
        problems = extract(graph, masks)
        for objective in ("copies", "span"):
            exported = export(model, x, random_plan(problems, masks, rng, objective), graph=graph)
            assert exported.verification.relative_error <= 1e-9


FIXED = {
    "a constant": lambda m: torch.arange(1.0, 13).view(1, 12, 1, 1),
    "a parameter": lambda m: m.scale[None],
    "a computed parameter": lambda m: m.scale.exp()[None],
}
USERS = {
    "entries of several channels": lambda x, y: torch.cat([y[..., 0, 0], x[..., :2, 0].flatten(1)], 1)[..., None, None],
    "a sum along the channels": lambda x, y: torch.cat([y.expand_as(x), x, x], 1).cumsum(1),
    "a sum that pins": lambda x, y: (x + y).roll(1, 1),
    "unequal lengths in a stack": lambda x, y: torch.stack([y.expand_as(x)[:, :6], x[:, 6:]], 1).flatten(1, 2),
    "clamped between tensors": lambda x, y: torch.clamp(x, -y, y),
    "interpolated": lambda x, y: torch.lerp(x, y.expand_as(x).to(x), 0.3),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("fixed", FIXED)
def test_fixed_tensors_reach_users_without_a_rule_whole(fixed, user):
    """An export may select from a constant for a user whose channels are known; others are given all of it."""
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(1, 3, 6, 6)
        width = Net(lambda m, x: USERS[user](x, FIXED[fixed](m)), 12, None).eval()
        with torch.no_grad():
            outputs = width.operation(width, width.first(x)).shape[1]
        model = Net(width.operation, outputs, None).eval()
        graph = trace(model, x)
        rng = np.random.default_rng(seed)
        masks = random_masks(graph, rng, 0.3)
        exported = export(model, x, random_plan(extract(graph, masks), masks, rng, "copies"), graph=graph)
        assert exported.verification.relative_error <= 1e-9


def test_the_stream_around_attention_may_be_permuted_but_not_removed():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.head = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.token = nn.Parameter(torch.randn(1, 1, 8))
            self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x):
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1)
            y = self.norm(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return self.head((x + self.down(functional.gelu(self.up(x))))[:, 0])

    for seed in range(3):
        torch.manual_seed(seed)
        model, x = Layer().eval(), torch.randn(1, 5, 6)
        graph = trace(model, x)
        read = {own.name: graph.blocks[own.input.blocks[0]] for own in graph.reads}
        assert not read["up"].pinned and not read["up"].removable
        assert all(read[own].removable and not read[own].pinned for own in ("attention.out_proj", "down"))
        rng = np.random.default_rng(seed)
        masks = random_masks(graph, rng, 0.5)
        exported = export(model, x, random_plan(extract(graph, masks), masks, rng, "copies"), graph=graph)
        assert exported.verification.relative_error <= 1e-9


@torch.fx.wrap
def doubled(x):
    return 2 * x


def test_users_teach_the_tracer_operators():
    """Unknown it pins and is named; with a rule its channels pass."""
    model, x = Net(lambda m, x: doubled(x), 12, None).eval(), torch.zeros(1, 3, 6, 6)
    assert [pin.reason for pin in trace(model, x).unsupported] == ["no rule for doubled"]
    register(doubled, lambda flow, node: flow.layout(flow.source(node)) or flow.unknown(node))
    try:
        assert trace(model, x).unsupported == ()
    finally:
        del FUNCTION_RULES[doubled]
    with pytest.raises(ModelError, match="no module class, function or method name"):
        register(3, None)


@torch.fx.wrap
def looked_up(table, x):
    return table[x.abs().clamp(max=2).long()]


def test_a_rule_that_knows_nothing_of_its_first_argument_pins_what_is_known_of_others():
    model, x = Net(lambda m, x: x + looked_up(m.bias, x), 12, None).eval(), torch.zeros(1, 3, 6, 6)
    register(looked_up, lambda flow, node: flow.opaque(node))
    try:
        assert next(pin.reason for pin in trace(model, x).unsupported) == "no rule for looked_up"
    finally:
        del FUNCTION_RULES[looked_up]


def test_a_parameter_that_is_used_as_a_whole_keeps_its_channels():
    model = Net(lambda m, x: x * m.scale + m.scale.mean(), 12, None).eval()
    graph = trace(model, torch.zeros(1, 3, 6, 6))
    assert all(block.pinned for block in graph.blocks if block.name == "first")


def test_convolutions_with_groups_lose_the_same_number_of_every_group():
    model, x = (
        Net(CASES["grouped convolution"][0], 8, nn.Conv2d(12, 8, 3, padding=1, groups=4)).eval(),
        torch.zeros(1, 3, 6, 6),
    )
    graph = trace(model, x)
    masks = {"module.weight": np.array([True, False, True]), "second.weight": np.arange(8) != 3}
    problems = extract(graph, masks)
    stored = {b.name: len(s) for p in problems.values() for b, s in zip(p.blocks, p.stored, strict=True)}
    assert [stored[f"first[{3 * g}:{3 * g + 3}]"] for g in range(4)] == [2] * 4
    assert [stored[f"module[{2 * g}:{2 * g + 2}]"] for g in range(4)] == [2] * 4
