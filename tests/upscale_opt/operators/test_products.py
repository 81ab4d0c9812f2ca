"""Tests of linear layers that are written as products with a parameter, as GPT-2 in transformers has them.

Tuples of sizes are joined by `+` here on purpose: this spelling is tested (RUF005 would write it another way).
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import ModelError, constrained_masks, effective_masks, export, trace


class Product(nn.Module):
    """A weight with inputs as rows."""

    def __init__(self, i, o, form):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(i, o) / i**0.5), nn.Parameter(torch.randn(o))
        self.form, self.o = form, o

    def forward(self, x):
        return FORMS[self.form](self, x)


def as_rows(m, x):
    return torch.addmm(m.bias, x.view(-1, x.size(-1)), m.weight).view(x.size()[:-1] + (m.o,))  # noqa: RUF005


FORMS = {
    "addmm of rows": as_rows,
    "@": lambda m, x: x @ m.weight + m.bias,
    "matmul": lambda m, x: m.bias + torch.matmul(x, m.weight),
    "addmm as a method": lambda m, x: m.bias.addmm(x.flatten(0, 1), m.weight, beta=1).unflatten(0, (-1, 5)),
    "aten": lambda m, x: torch.ops.aten.addmm.default(m.bias, x.flatten(0, 1), m.weight).unflatten(0, (-1, 5)),
}


def net(form):
    torch.manual_seed(0)
    return nn.Sequential(
        Product(6, 16, form), nn.ReLU(), Product(16, 24, form), nn.LayerNorm(24), Product(24, 6, form)
    ).eval()


@pytest.mark.parametrize("form", FORMS)
def test_a_product_with_a_parameter_is_a_linear_layer(form):
    model, x = net(form), torch.randn(2, 5, 6)
    graph = trace(model, x)
    assert {name: read.input_axis for name, read in graph.consumers.items()} == dict.fromkeys(
        ("0.weight", "2.weight", "4.weight"), 0
    )
    assert {own.reason for own in graph.pins} == {"network input", "network output"}
    masks = effective_masks(graph, {"2.weight": torch.arange(16) % 3 > 0}).masks
    exported = export(model, x, masks=masks, baseline=True, graph=graph)
    state = exported.module.state_dict()
    assert state["0.weight"].shape == (6, 10) and state["2.weight"].shape == (10, 24) and exported.verification.passed


@pytest.mark.parametrize("scaled", [{"beta": 2}, {"alpha": 2}])
def test_scaled_sums_of_products_are_left_whole(scaled, monkeypatch):
    form = "scaled"
    monkeypatch.setitem(
        FORMS, form, lambda m, x: m.bias.addmm(x.flatten(0, 1), m.weight, **scaled).unflatten(0, (-1, 5))
    )
    assert not trace(net(form), torch.randn(2, 5, 6)).consumers


class Joined(nn.Module):
    """Sizes and parts as tuples that are joined."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = self.a(x)
        parts = (x[:, :4],) + x.chunk(2, 1) if x.shape[1:2] + (1,) == (8, 1) else ()  # noqa: RUF005
        whole = torch.cat(x.chunk(2, 1) + (x[:, :4],), 1)  # noqa: RUF005
        return self.b(whole.view(whole.shape[:2] + (-1,)).view((-1,) + whole.shape[1:])), len(parts)  # noqa: RUF005


def test_tuples_of_sizes_and_of_parts_are_joined_entry_by_entry():
    model, x = Joined().eval(), torch.randn(2, 3, 6, 6)
    graph = trace(model, x)
    assert len(graph.consumers) == 2 and not graph.unsupported
    exported = export(model, x, masks=constrained_masks(graph, 0.5), baseline=True, graph=graph)
    assert exported.verification.passed and exported.module(torch.randn(3, 3, 4, 4))[1] == 3


def test_a_product_of_the_wrong_size_is_refused():
    with pytest.raises(ModelError, match="rejects inputs of shape"):
        trace(net("@"), torch.randn(2, 5, 7))


class Table(nn.Embedding):
    """A subclass, as transformers has them: positions begin at two."""

    def forward(self, x):
        return super().forward(x + 2)


def test_tables_that_a_function_looks_up_lose_columns():
    torch.manual_seed(0)
    model = nn.Sequential(Table(12, 16), nn.Linear(16, 4)).eval()
    graph = trace(model, torch.randint(0, 10, (2, 5)))
    assert {own.reason for own in graph.pins} == {"network output"}
    masks = constrained_masks(graph, 0.5)
    exported = export(model, torch.randint(0, 10, (2, 5)), masks=masks, baseline=True, graph=graph)
    assert exported.verification.passed and exported.module.state_dict()["0.weight"].shape == (12, 8)


class SameDepthwise(nn.Conv2d):
    """A depthwise convolution that pads by itself, as timm's networks from TensorFlow have it."""

    def forward(self, x):
        own = functional.pad(x, (0, 1, 0, 1))
        return functional.conv2d(own, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 3), SameDepthwise(12, 12, 2, groups=12), nn.Conv2d(12, 4, 1)
        self.weight = nn.Parameter(torch.randn(12, 1, 3, 3))

    def forward(self, x):
        x = self.b(self.a(x))
        return self.c(x + functional.conv2d(x, self.weight, padding=1, groups=x.shape[1]))


def test_the_groups_of_a_functional_depthwise_convolution_follow_its_channels():
    torch.manual_seed(0)
    model, x = Grouped().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    assert {own.reason for own in graph.pins} == {"network input", "network output"}
    exported = export(model, x, masks=constrained_masks(graph, 0.5), baseline=True, graph=graph)
    assert exported.verification.passed
    assert exported.module.a.out_channels == 6
