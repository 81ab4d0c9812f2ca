"""Tests of the spellings of ATen operators: they compute the same, and have no names of ATen."""

import operator

import pytest
import torch
from torch import fx
from torch.nn import functional

from upscale_opt.lifting.calls import spelled

ATEN = torch.ops.aten
X = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(1))
VECTOR = torch.rand(6, generator=torch.Generator().manual_seed(2)) + 0.5

CALLS = {
    "add": (ATEN.add.Tensor, (X, X), {"alpha": 2}),
    "add a number": (ATEN.add.Tensor, (X, 1), {}),
    "rsub": (ATEN.rsub.Scalar, (X, 1), {}),
    "power of a number": (ATEN.pow.Scalar, (2, X), {}),
    "convolution": (ATEN.conv2d.default, (X, WEIGHT, None, [2, 2], [1, 1]), {}),
    "convolution with a text": (ATEN.conv2d.padding, (X, WEIGHT, None, [1, 1], "same"), {}),
    "transposed": (ATEN.conv_transpose2d.input, (X, torch.ones(6, 2, 3, 3), None, [2, 2], [1, 1], [1, 1], 1), {}),
    "batch norm": (ATEN.batch_norm.default, (X, VECTOR, VECTOR, VECTOR, VECTOR, False, 0.1, 1e-5, False), {}),
    "group norm": (ATEN.group_norm.default, (X, 3, VECTOR, VECTOR), {}),
    "layer norm": (ATEN.layer_norm.default, (X, [8, 8]), {}),
    "slice": (ATEN.slice.Tensor, (X, -3, 1, 5), {}),
    "slice with a step": (ATEN.slice.Tensor, (X, 1, 0, 2**63 - 1, 2), {}),
    "index": (ATEN.index.Tensor, (X, [None, torch.tensor([2, 0])]), {}),
    "cat": (ATEN.cat.default, ([X, X], 1), {}),
    "where": (ATEN.where.self, (X > 0, X, -X), {}),
    "gelu": (ATEN.gelu.default, (X,), {"approximate": "tanh"}),
    "hardtanh": (ATEN.hardtanh.default, (X, 0, 6), {}),
    "elu": (ATEN.elu.default, (X, 0.5), {}),
    "sigmoid": (ATEN.special_expit.default, (X,), {}),
    "max pool": (ATEN.max_pool2d.default, (X, [2, 2]), {}),
    "avg pool": (ATEN.avg_pool2d.default, (X, [3, 3], [2, 2], [1, 1], False, False), {}),
    "adaptive pool": (ATEN.adaptive_avg_pool2d.default, (X, [1, 1]), {}),
    "nearest": (ATEN.upsample_nearest2d.vec, (X, None, [2.0, 2.0]), {}),
    "bilinear": (ATEN.upsample_bilinear2d.vec, (X, [5, 7], False, None), {}),
    "pad": (ATEN.pad.default, (X, [1, 1, 0, 2]), {}),
    "reflect": (ATEN.pad.default, (X, [1, 1, 0, 2], "reflect"), {}),
    "softmax": (ATEN.softmax.int, (X, 1), {}),
    "mean": (ATEN.mean.dim, (X, [2, 3], True), {}),
    "norm": (ATEN.linalg_vector_norm.default, (X, 2.0, [1], True), {}),
    "view": (ATEN.view.default, (X, [2, 6, 64]), {}),
    "permute": (ATEN.permute.default, (X, [0, 2, 3, 1]), {}),
    "split": (ATEN.split.Tensor, (X, 4, 1), {}),
    "chunk": (ATEN.chunk.default, (X, 3, 1), {}),
    "einsum": (ATEN.einsum.default, ("nchw,kchw->nk", [X, X]), {}),
    "attention": (ATEN.scaled_dot_product_attention.default, (X, X, X), {"is_causal": True}),
    "to": (ATEN.to.dtype, (X, torch.float64), {}),
    "embedding": (ATEN.embedding.default, (torch.randn(9, 4), torch.tensor([[1, 2]])), {}),
    "normalise": (ATEN.clamp_min.default, (X, 0.1), {}),
    "interleave": (ATEN.pixel_shuffle.default, (X[:, :4], 2), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_spellings_compute_the_same_and_have_no_names_of_aten(name):
    target, args, kwargs = CALLS[name]
    graph, given = fx.Graph(), []

    def entered(x):
        if not isinstance(x, torch.Tensor):
            return x
        node = graph.placeholder(f"x{len(given)}")
        node.meta["val"] = x
        given.append(x)
        return node

    moved = fx.node.map_aggregate((args, kwargs), entered)
    made = spelled(graph, target, moved[0], moved[1])
    graph.output(made)
    module = fx.GraphModule(torch.nn.Module(), graph)
    assert not any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)
    results = [y if isinstance(y, (tuple, list)) else [y] for y in (module(*given), target(*args, **kwargs))]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, check_dtype=True)


def test_whole_slices_and_checks_vanish():
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = X
    assert spelled(graph, ATEN.slice.Tensor, (x, 0, 0, 2**63 - 1), {}) is x
    assert spelled(graph, ATEN.alias.default, (x,), {}) is x
    assert spelled(graph, ATEN.relu_.default, (x,), {}).target == "relu_"
    assert spelled(graph, ATEN.silu_.default, (x,), {}).target is functional.silu
    assert spelled(graph, ATEN.mul.Tensor, (x, x), {}).target is operator.mul
