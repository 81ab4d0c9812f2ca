"""Attention as people write it: heads are channels, which move and go together through queries, keys and values."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import constrained_masks, effective_masks, export, extract, plan, trace

TOKENS, WIDTH, HEADS, SIZE = 5, 12, 4, 3


class Attentive(nn.Module):
    """A residual block of attention between layers. How it attends is a function of the network and its tokens."""

    def __init__(self, attend, heads=HEADS, groups=HEADS):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * heads * SIZE), nn.Linear(heads * SIZE, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, n * SIZE) for n in (heads, groups, groups))
        self.norm_q, self.mix = nn.LayerNorm(SIZE), nn.Conv2d(heads, heads, 1)
        self.factor = nn.Parameter(torch.rand(heads, 1, 1))
        self.table = nn.Parameter(torch.randn(9, heads))
        self.register_buffer("index", torch.randint(9, (TOKENS, TOKENS)), persistent=False)
        self.heads, self.groups, self.attend = heads, groups, attend

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.proj(self.attend(self, self.norm(x))))


def joined(net, x):
    n, length, width = x.shape
    return net.qkv(x).reshape(n, length, 3, net.heads, width // net.heads).permute(2, 0, 3, 1, 4).unbind(0)


def apart(net, x):
    n, length, _ = x.shape
    return [layer(x).view(n, length, -1, SIZE).transpose(1, 2) for layer in (net.q, net.k, net.v)]


def merged(y):
    return y.transpose(1, 2).flatten(2)


def scores(q, k):
    return q * SIZE**-0.5 @ k.transpose(-2, -1)


def by_chunks(net, x):
    n, length, _ = x.shape
    q, k, v = (own.view(n, length, net.heads, -1) for own in net.qkv(x).chunk(3, -1))
    weights = torch.einsum("nqhd, nkhd -> nhqk", q, k).softmax(-1)
    return torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, length, -1)


def with_positions(net, x):
    """Swin's table of relative positions, and a learned temperature per head."""
    q, k, v = joined(net, x)
    bias = net.table[net.index.view(-1)].view(TOKENS, TOKENS, -1).permute(2, 0, 1).contiguous()
    weights = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT * net.factor.clamp(max=2).exp()
    return merged((weights + bias.unsqueeze(0)).softmax(-1) @ v)


def rotated(net, x):
    """Rotary positions turn pairs of channels within a head, whose channels keep their places."""
    q, k, v = apart(net, x)
    angle = torch.arange(TOKENS)[:, None] * 0.3

    def turned(y):
        first, second, rest = y[..., :1], y[..., 1:2], y[..., 2:]
        return torch.cat(
            [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos(), rest], -1
        )

    return merged(functional.scaled_dot_product_attention(turned(q), turned(k), v))


def of_first_token(net, x):
    n, length, _ = x.shape
    q = net.q(x[:, :1]).reshape(n, 1, net.heads, SIZE).permute(0, 2, 1, 3)
    k, v = (layer(x).reshape(n, length, net.heads, SIZE).permute(0, 2, 1, 3) for layer in (net.k, net.v))
    return (scores(q, k).softmax(-1) @ v).transpose(1, 2).reshape(n, 1, -1) + 0 * x[:, :, :1]


def grouped(net, x):
    return merged(functional.scaled_dot_product_attention(*apart(net, x), enable_gqa=True))


def repeated(net, x):
    """Grouped queries as LLaMA writes them: the keys of a group are repeated, in one of two ways."""
    q, k, v = apart(net, x)
    n, _, length, _ = k.shape
    k = k[:, :, None].expand(n, net.groups, 2, length, SIZE).reshape(n, net.groups * 2, length, SIZE)
    return merged(functional.scaled_dot_product_attention(q, k, v.repeat_interleave(2, dim=1), is_causal=True))


def talking(net, x):
    """Talking heads: a convolution over the heads computes others."""
    q, k, v = joined(net, x)
    return merged(net.mix(scores(q, k)).softmax(-1) @ v)


def normalised(net, x):
    q, k, v = joined(net, x)
    return merged(functional.scaled_dot_product_attention(net.norm_q(q), k, v, attn_mask=torch.ones(1, TOKENS) > 0))


ATTENTION = {
    "qkv in one layer": (lambda net, x: merged(scores(*joined(net, x)[:2]).softmax(-1) @ joined(net, x)[2]), {}),
    "three layers, causal": (
        lambda net, x: merged(functional.scaled_dot_product_attention(*apart(net, x), is_causal=True)),
        {},
    ),
    "chunks and einsum": (by_chunks, {}),
    "positions": (with_positions, {}),
    "rotary": (rotated, {}),
    "of the first token": (of_first_token, {}),
    "grouped queries": (grouped, {"groups": 2}),
    "repeated keys": (repeated, {"groups": 2}),
    "talking heads": (talking, {}),
    "normalised queries": (normalised, {}),
}


def pruned(model, inputs):
    """The graph of a network, and its verified export with half of the channels."""
    graph = trace(model, inputs)
    masks = effective_masks(graph, constrained_masks(graph, 0.5)).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, solver="greedy") for name, problem in problems.items()}
    exported = export(model, inputs, plan(problems, masks, results), graph=graph)
    assert exported.verification.relative_error <= 1e-9 and exported.verification.gradients <= 1e-9
    return graph, exported


@pytest.mark.parametrize("name", ATTENTION)
def test_whole_heads_go_with_their_queries_keys_values_and_positions(name):
    attend, options = ATTENTION[name]
    torch.manual_seed(0)
    graph, exported = pruned(Attentive(attend, **options).eval(), torch.randn(2, TOKENS, 4))
    assert not any(pin.num_channels for pin in graph.unsupported)
    shapes = {own: tuple(tensor.shape) for own, tensor in exported.module.state_dict().items()}
    assert shapes["proj.weight"] == (WIDTH, HEADS // 2 * SIZE)
    for own, rows in {"qkv": 18, "q": 6, "k": 6, "v": 6}.items():
        if f"{own}.weight" in shapes:
            assert shapes[f"{own}.weight"][0] == rows // (2 if own in "kv" and options else 1)
    assert shapes.get("factor", (2,))[0] == 2


def test_a_head_stays_as_long_as_the_projection_reads_one_of_its_channels():
    torch.manual_seed(0)
    model, x = Attentive(ATTENTION["three layers, causal"][0]).eval(), torch.randn(2, TOKENS, 4)
    graph = trace(model, x)
    mask = np.zeros(HEADS * SIZE, dtype=bool)
    mask[[1, 9]] = True  # a channel of the first and one of the last head
    exported = export(model, x, masks={"proj.weight": mask}, baseline=True, graph=graph)
    assert exported.module.q.weight.shape == (2 * SIZE, WIDTH) and exported.verification.gradients <= 1e-9


class Pixels(nn.Module):
    """Attention between pixels, by convolutions."""

    def __init__(self, attend):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.q, self.k, self.v, self.proj = (nn.Conv2d(8, 8, 1) for _ in range(4))
        self.attend = attend

    def forward(self, x):
        x = self.first(x)
        n, _, height, width = x.shape
        return self.last(x + self.proj(self.attend(self.q(x), self.k(x), self.v(x)).reshape(n, -1, height, width)))


def non_local(q, k, v):
    q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)
    return v @ torch.bmm(q.transpose(1, 2), k).softmax(-1).mT


def several_heads(q, k, v):
    q, k, v = (own.view(own.size(0), 4, 2, -1) for own in (q, k, v))
    return (v @ (q.mT @ k).softmax(-1).mT).flatten(1, 2)


def cross_covariance(q, k, v):
    q, k, v = (own.unflatten(1, (4, 2)).flatten(3) for own in (q, k, v))
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@pytest.mark.parametrize(("attend", "rows"), [(non_local, 8), (several_heads, 4), (cross_covariance, 4)])
def test_attention_between_pixels(attend, rows):
    """With one head, its queries and keys stay, as their product needs all of them; its values go."""
    torch.manual_seed(0)
    graph, exported = pruned(Pixels(attend).eval(), torch.randn(2, 3, 4, 4))
    assert not any(pin.num_channels for pin in graph.unsupported)
    assert exported.module.q.weight.shape[0] == exported.module.k.weight.shape[0] == rows
    assert exported.module.v.weight.shape[0] == 4 and exported.module.proj.weight.shape[1] == 4


class Shared(nn.Module):
    """All heads of the queries meet the same keys and values, or the heads of keys are those of another tensor."""

    def __init__(self, form):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(4, 12), nn.Linear(4, 6), nn.Linear(12, 3)
        self.form = form

    def forward(self, x):
        return self.out(merged(self.form(self.q(x).unflatten(-1, (4, 3)).transpose(1, 2), self.kv(x), x)))


@pytest.mark.parametrize(
    ("form", "heads_pinned"),
    [
        (lambda q, kv, x: (q @ kv[:, None, :, :3].mT).softmax(-1) @ kv[:, None, :, 3:], False),
        (lambda q, kv, x: (q @ x[:, :, None, :3].transpose(1, 3) * 0 + q.sum(-1, True)).mul(kv[:, None, :, 3:]), True),
        (lambda q, kv, x: functional.scaled_dot_product_attention(q.mT, q.mT, q.mT, is_causal=True).mT, False),
        (lambda q, kv, x: torch.einsum("nhld,nhmd->nhlm", q, q).diagonal(dim1=2, dim2=3)[..., None] * q, True),
    ],
)
def test_what_does_not_fit_is_pinned_and_exports_stay_exact(form, heads_pinned):
    torch.manual_seed(0)
    model, x = Shared(form).eval(), torch.randn(2, TOKENS, 4)
    graph = trace(model, x)
    heads = [block for block, name in zip(graph.blocks, graph.producers, strict=True) if name == "q"]
    assert heads and any(block.pinned for block in heads) == heads_pinned
    masks = {"out.weight": np.arange(12) // 3 % 2 == 0}
    assert export(model, x, masks=masks, baseline=True, graph=graph).verification.passed
