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
        self.positions = nn.Linear(2, heads)
        self.register_buffer("places", torch.randn(3, 2))
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


def in_windows(net, x):
    """Swin V2: padded windows, a bias without that of the keys, and a layer that computes the table of positions."""
    n, tokens, width = x.shape
    x = functional.pad(x, (0, 0, 0, tokens % 2))
    windows = x.view(n, x.shape[1] // 2, 2, width).view(-1, 2, width)
    bias = torch.cat([net.q.bias, torch.zeros_like(net.k.bias), net.v.bias])
    y = functional.linear(windows, net.qkv.weight, bias)
    q, k, v = y.reshape(-1, 2, 3, net.heads, SIZE).permute(2, 0, 3, 1, 4).unbind(0)
    bias = net.positions(net.places)[net.index[:2, :2] % 3].permute(2, 0, 1)
    y = merged((scores(q, k) + bias).softmax(-1) @ v)
    return y.view(n, -1, width)[:, :tokens]


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
    "windows": (in_windows, {}),
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
    """Queries with several heads, and keys and values that all of them share."""

    def __init__(self, form):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(4, HEADS * SIZE), nn.Linear(4, 2 * SIZE), nn.Linear(HEADS * SIZE, 3)
        self.form = form

    def forward(self, x):
        return self.out(merged(self.form(self.q(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2), self.kv(x)[:, None])))


def by_bmm(q, kv):
    n, heads, length, _ = q.shape
    y = q.reshape(n * heads, length, SIZE) * 0.5
    weights = torch.softmax(torch.bmm(y, y.transpose(1, 2)), -1)
    weights = (weights.view(n, heads, length, length) + 1).view(-1, length, length)
    return torch.bmm(weights, q.flatten(0, 1)).view(n, heads, length, SIZE)


def mixed_with_the_batch(q, kv):
    y = q.flatten(0, 1)
    return (torch.bmm(y, y.mT).cumsum(0) @ y).view(q.shape)


@pytest.mark.parametrize(
    ("form", "is_pinned"),
    [
        (lambda q, kv: (q @ kv[..., :SIZE].mT).softmax(-1) @ kv[..., SIZE:], {"q": False, "kv": True}),
        (lambda q, kv: (q[:, :1] @ q.mT).softmax(-1) @ q, {"q": False}),
        (lambda q, kv: (q @ q.mT / q.shape[1]) @ q, {"q": True}),
        (by_bmm, {"q": False}),
        (mixed_with_the_batch, {"q": True}),
    ],
    ids=["shared keys", "one head for all", "counted heads", "heads in the batch", "mixed with the batch"],
)
def test_what_does_not_fit_is_pinned_and_exports_stay_exact(form, is_pinned):
    torch.manual_seed(0)
    model, x = Shared(form).eval(), torch.randn(2, TOKENS, 4)
    graph = trace(model, x)
    for producer, expected in is_pinned.items():
        own = [block.pinned for block, name in zip(graph.blocks, graph.producers, strict=True) if name == producer]
        assert own and all(pinned == expected for pinned in own)
    exported = export(model, x, masks={"out.weight": np.arange(12) // 3 % 2 == 0}, baseline=True, graph=graph)
    assert exported.verification.relative_error <= 1e-9
    assert exported.module.q.weight.shape[0] == HEADS * SIZE // (1 if is_pinned["q"] else 2)


class Layered(nn.Module):
    """`nn.MultiheadAttention` between layers. How it is called is a function of the network and its tokens."""

    def __init__(self, call, **options):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **options)
        self.register_buffer("later", torch.ones(TOKENS, TOKENS).triu(1) > 0)
        self.call = call

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.call(self.attention, self.norm(x), self.later))


def by_length(attention, x, later):
    x = x.transpose(0, 1)
    return attention(x, x, x, need_weights=False)[0].transpose(0, 1)


MODULES = {
    "weights not used": (lambda attention, x, later: attention(x, x, x)[0], {"batch_first": True}),
    "weights not asked for": (
        lambda attention, x, later: attention(x, x, x, need_weights=False, attn_mask=later)[0],
        {"batch_first": True, "dropout": 0.1},
    ),
    "a mask of numbers": (
        lambda attention, x, later: attention(x, x, x, attn_mask=later * -4.0)[0],
        {"batch_first": True, "dropout": 0.1},
    ),
    "length first": (by_length, {"bias": False}),
    "other widths": (
        lambda attention, x, later: attention(x, x[..., :7], x[..., :5])[0],
        {"batch_first": True, "kdim": 7, "vdim": 5},
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_heads_of_the_module_go(name):
    call, options = MODULES[name]
    torch.manual_seed(0)
    graph, exported = pruned(Layered(call, **options).eval(), torch.randn(2, TOKENS, 4))
    assert not any(pin.num_channels for pin in graph.unsupported)
    assert exported.module.attention.out_proj.weight.shape == (WIDTH, WIDTH // 2)
    assert not exported.training_notes
    if "dropout" in options:  # the export drops out in training, as the module does
        x = torch.randn(2, TOKENS, 4)
        assert not torch.equal(exported.module.train()(x), exported.module(x))


@pytest.mark.parametrize(
    "call",
    [
        lambda attention, x, later: attention(x, x + 1, x)[0],
        lambda attention, x, later: attention(x[0], x[0], x[0])[0] + x,
        lambda attention, x, later: sum(attention(x, x, x, average_attn_weights=False)[1].sum((1, 2)))[:, None] + x,
    ],
    ids=["other keys", "no batch", "weights are used"],
)
def test_heads_of_the_module_stay_where_they_cannot_be_followed(call):
    torch.manual_seed(0)
    model, x = Layered(call, batch_first=True).eval(), torch.randn(2, TOKENS, 4)
    masks = {"last.weight": np.arange(WIDTH) % 2 == 0}
    exported = export(model, x, masks=masks, baseline=True)
    assert exported.verification.relative_error <= 1e-9
    assert exported.module.attention.in_proj_weight.shape[0] == 3 * WIDTH


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qkv in one layer", "repeated keys", "windows"])
def test_saved_files_compute_the_same_for_any_batch(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    attend, options = ATTENTION[name]
    torch.manual_seed(0)
    _, exported = pruned(Attentive(attend, **options).eval(), torch.randn(2, TOKENS, 4))
    exported.save(tmp_path, forms=["pt2", "onnx"])
    x = torch.randn(3, TOKENS, 4)
    with torch.no_grad():
        expected = exported(x).numpy()
        assert np.allclose(torch.export.load(tmp_path / "model.pt2").module()(x).numpy(), expected, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("is_causal", [False, True])
def test_channels_in_the_place_of_the_sequence_keep_it_if_a_mask_is_causal(is_causal):
    """Attention over channels: a causal mask says that a channel sees those before it only, so none may move."""

    class OverChannels(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 4, 1)

        def forward(self, x):
            y = self.first(x)
            return self.last(functional.scaled_dot_product_attention(y, y, y, is_causal=is_causal))

    torch.manual_seed(0)
    model, x = OverChannels().eval(), torch.randn(2, 3, 6)
    graph = trace(model, x)
    (block,) = (own for own in graph.blocks if own.name == "first")
    assert block.pinned == is_causal
    assert any("a causal mask over channels" in pin.reason for pin in graph.pins) == is_causal
