"""Tests of memory: what nodes write into, what shares memory, and networks that change tensors in place."""

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt import effective_masks, export, masked_copy, trace
from upscale_opt.capture.shared_memory import Memory, written_by
from upscale_opt.capture.traced_module import Retracer
from upscale_opt.tracing.writes import writes_of, zero_channels


class Whole(Retracer):
    """Traces into no module."""

    def is_leaf_module(self, m, module_qualified_name):
        return True


@fx.wrap
def anything(x, y):
    return x.add_(y)


class Module(nn.Module):
    def forward(self, x):
        return x.mul_(2)


def traced(function, **modules):
    """The graph of a function of tensors x, y and modules."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, module in modules.items():
                self.add_module(name, module)

        def forward(self, x, y):
            return function(self, x, y)

    model = Net().eval()
    return fx.GraphModule(model, Whole().trace(model))


WRITES = {
    "operator": (lambda net, x, y: x.__iadd__(y), "x"),
    "power": (lambda net, x, y: x.__ipow__(y), "x"),
    "method": (lambda net, x, y: x.add_(y), "x"),
    "method without a rule": (lambda net, x, y: x.addcmul_(y, y), "x"),
    "function": (lambda net, x, y: torch.relu_(y), "y"),
    "functional, by keyword": (lambda net, x, y: functional.relu(y, inplace=True), "y"),
    "functional, by position": (lambda net, x, y: functional.dropout(x, 0.5, False, True), "x"),
    "a flag that is no inplace": (lambda net, x, y: torch.mean(x, 1, True), ""),
    "out": (lambda net, x, y: torch.add(x, 1.0, out=y), "y"),
    "out of several": (lambda net, x, y: torch.max(x, 1, out=(x, y)), "xy"),
    "foreach": (lambda net, x, y: torch._foreach_add_([x, y], 1.0), "xy"),
    "item": (lambda net, x, y: operator_setitem(x, y), "x"),
    "overload": (lambda net, x, y: torch.ops.aten.copy_.default(x, y), "x"),
    "module": (lambda net, x, y: net.relu(y), "y"),
    "module of somebody's": (lambda net, x, y: net.own(x), "x"),
    "function of somebody's": (lambda net, x, y: anything(y, x), "xy"),
    "pure": (lambda net, x, y: torch.where(x > 0, x, y), ""),
    "module that does not": (lambda net, x, y: net.norm(x), ""),
}


def operator_setitem(x, y):
    x[:, 0] = y
    return x


@pytest.mark.parametrize("name", WRITES)
def test_what_a_node_writes_into(name):
    function, expected = WRITES[name]
    module = traced(function, relu=nn.ReLU(inplace=True), own=Module(), norm=nn.BatchNorm2d(3))
    written = {x.name for node in module.graph.nodes for x in written_by(module, node)}
    assert written == set(expected)


VIEWS = {
    "view": lambda net, x, y: x.view(2, -1),
    "slice": lambda net, x, y: x[:, 1:],
    "transposed": lambda net, x, y: x.transpose(1, 2),
    "attribute": lambda net, x, y: x.mT,
    "data": lambda net, x, y: x.data,
    "part": lambda net, x, y: x.chunk(2, 1)[0],
    "part of parts": lambda net, x, y: torch.unbind(x, 1)[1],
    "expanded": lambda net, x, y: x.expand_as(y),
    "dropout in eval mode": lambda net, x, y: net.drop(x),
    "identity": lambda net, x, y: x.contiguous(),
    "of the same type": lambda net, x, y: x.type_as(y),
    "changed in place": lambda net, x, y: x.add_(1),
    "unknown, second argument": lambda net, x, y: anything(1, x),
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_shares_memory(name):
    module = traced(VIEWS[name], drop=nn.Dropout())
    nodes = list(module.graph.nodes)
    memory = Memory(module)
    assert memory.share(nodes[-2], nodes[0])


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x, y: x + y,
        lambda net, x, y: torch.cat([x, y]),
        lambda net, x, y: y.view_as(x),
        lambda net, x, y: y - x,
    ],
)
def test_what_does_not_share_memory(function):
    module = traced(function)
    nodes = list(module.graph.nodes)
    assert not Memory(module).share(nodes[-2], nodes[0])


def test_who_sees_a_change():
    def function(net, x, y):
        a = x + 1
        view = a[:, 1:]
        b = a * 2
        a += y
        return view + b + a

    module = traced(function)
    nodes = {node.name: node for node in module.graph.nodes}
    memory, change = Memory(module), nodes["iadd"]
    assert memory.is_seen_after(nodes["add"], change)  # through the view
    assert memory.is_seen_after(nodes["mul"], change)  # it is read afterwards, too
    assert memory.is_seen_after(nodes["x"], change)  # by the caller
    assert memory.is_overwritten_after(nodes["getitem"], nodes["mul"])
    assert not memory.is_overwritten_after(nodes["getitem"], change)


class Net(nn.Module):
    """Two convolutions with statements between them."""

    def __init__(self, body):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.body = body

    def forward(self, x):
        return self.body(self, x)


def other_name(net, x):
    y = z = net.a(x)
    y **= 2
    return net.b(z)


def every_operator(net, x):
    y = z = net.a(x) + 3
    y //= 0.5
    y %= 7
    y /= 2
    y -= 1
    w = v = y > 0
    w &= y > 0.1
    w |= y < 0.5
    w ^= y < -1
    return net.b(z * v)


def of_an_attribute(net, x):
    y = net.a(x)
    t = y.mT
    t += 1
    t **= 2
    return net.b(y)


def items(net, x):
    y = net.a(x)
    y[:, :, 0] = 3.0
    y[:, 2:4] = y[:, :2]
    return net.b(y)


def lengths(net, x):
    n = x.shape[2]
    n **= 2
    n //= 4
    n %= 5
    return net.b(net.a(x) * n)


def filled(net, x):
    total = torch.zeros(1, 8, 1, 1, dtype=torch.float64)
    total += net.a(x).mean((2, 3), keepdim=True).mean(0, keepdim=True)
    parts = torch.zeros(2, 8, 4, 4, dtype=torch.float64)
    parts[:, :4] = net.b(net.a(x))[:, :4]
    return net.c(net.b(net.a(x)) + total), net.c(parts)


def out(net, x):
    y = net.a(x)
    torch.add(y, 1.0, out=y)
    z = torch.zeros(2, 8, 4, 4, dtype=torch.float64)
    torch.cat([y[:, 4:], y[:, :4]], 1, out=z)
    return net.b(y) + net.b(z)


def data(net, x):
    y = net.a(x)
    y.data.mul_(2)
    return net.b(torch.relu(y))


def foreach(net, x):
    y, z = net.a(x), net.b(net.a(x))
    torch._foreach_mul_([y, z], 0.5)
    return net.c(y) + net.c(z)


BODIES = (other_name, every_operator, of_an_attribute, items, lengths, filled, out, data, foreach)


@pytest.mark.parametrize("body", BODIES)
def test_tensors_that_are_changed_in_place(body, planned):
    torch.manual_seed(0)
    model, x = Net(body).double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        for seed in range(4):
            _, masks, _, plan = planned(model, (x,), seed=seed)
            exported = export(model, (x,), plan)
            masked = masked_copy(model, masks)
            for _ in range(2):  # what one call writes is not what the next one starts with
                for found, expected in zip(exported.module(x), masked(x), strict=True):
                    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def view_before(net, x):
    y = net.a(x)
    view = y[:, :, 1:]
    y += net.b(y)
    return net.c(view) + net.c(y)[:, :, 1:]


def transposed_before(net, x):
    y = net.a(x)
    view = y.mT
    y.add_(net.b(y))
    return net.c(view) + net.c(y)


def part_before(net, x):
    y = net.a(x)
    first, _ = y.chunk(2, 2)
    y += net.b(y)
    return net.c(first).mean((2, 3)) + net.c(y).mean((2, 3))


def not_seen(net, x):
    y = net.a(x)
    y += net.b(y)
    return net.c(y)


def out_after(net, x):
    y = net.a(x)
    torch.add(y, 1.0, out=y)
    return net.c(net.b(y))


def product_into_another(net, x):
    y, z = net.a(x), torch.sigmoid(x).repeat(1, 3, 1, 1)[:, :8]
    torch.mul(z, z, out=y)
    return net.c(y)


@pytest.mark.parametrize(
    "body", [view_before, transposed_before, part_before, not_seen, out_after, product_into_another]
)
def test_output_masks_and_what_is_written_in_place(body):
    torch.manual_seed(0)
    model, x = Net(body).double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        graph = trace(model, x)
        rng = np.random.default_rng(0)
        outputs = {weight: rng.random(8) < 0.5 for weight in ("a.weight", "b.weight") if weight in writes_of(graph)}
        assert outputs
        exported = export(model, x, masks=effective_masks(graph).masks, output_masks=outputs, baseline=True)
        masked = Net(body).double().eval()
        masked.load_state_dict(model.state_dict())
        for weight, mask in outputs.items():
            kept = torch.from_numpy(mask).reshape(1, -1, 1, 1)
            masked.get_submodule(weight.rpartition(".")[0]).register_forward_hook(
                lambda module, inputs, y, kept=kept: torch.where(kept, y, 0)
            )
        assert torch.allclose(exported.module(x), masked(x), rtol=1e-9, atol=1e-12)
    written = {write.addition for write in writes_of(graph).values()} - {None}
    assert written == ({"iadd"} if body is not_seen else set())


def test_zeros_are_forgotten_where_somebody_writes():
    torch.manual_seed(0)
    for body in (out_after, product_into_another):
        graph = trace(Net(body).eval(), torch.randn(2, 3, 4, 4))
        zeros = zero_channels(graph, {"a.weight": np.arange(8) < 4})
        assert "a" not in zeros
