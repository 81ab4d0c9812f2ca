"""Tests of argument names: every rule asks for what its operators have, and calls mean the same however written."""

import ast
import inspect
import textwrap

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt import effective_masks, export, masked_copy, trace
from upscale_opt.capture.argument_names import _SYNONYMS, arguments_of, normalise, signatures_of
from upscale_opt.operators.table import FUNCTION_RULES, METHOD_RULES, MODULE_RULES


def names_asked_for(rule, seen=()):
    """The names that a rule, and the functions of its module that it calls, ask a flow for."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    module = inspect.getmodule(rule)
    names = set()
    for call in (own for own in ast.walk(tree) if isinstance(own, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "argument":
            given = call.args[1]
            names |= {given.value} if isinstance(given, ast.Constant) else strings_in(tree)
        called = getattr(module, call.func.id, None) if isinstance(call.func, ast.Name) else None
        if inspect.isfunction(called) and called.__module__ == module.__name__ and called not in seen:
            names |= names_asked_for(called, (*seen, called))
    return names


def strings_in(tree):
    """Names that are gone through in a loop."""
    tuples = (own for own in ast.walk(tree) if isinstance(own, ast.Tuple))
    return {own.value for each in tuples for own in each.elts if isinstance(own, ast.Constant)} - {None}


def known_names(target):
    """Names of all parameters of an operator, as rules see them."""
    return {_SYNONYMS.get(name, name) for own in signatures_of(target) for name in own.names}


def test_rules_ask_for_arguments_that_their_operators_have():
    """Positions are those of torch's signatures: rules have none, and a name that does not exist is never given."""
    asked = {}
    for target, rule in {**FUNCTION_RULES, **METHOD_RULES}.items():
        if target is getattr or getattr(rule, "__name__", "") in ("<lambda>", "rule"):
            continue  # these ask for nothing; `x.shape` shares its rule with `x.size(dim)`
        if rule not in asked:
            asked[rule] = names_asked_for(rule)
        assert asked[rule] <= known_names(target), (target, asked[rule] - known_names(target))


def test_module_rules_ask_for_parameters_of_forward():
    for kind, rule in MODULE_RULES.items():
        if rule.__name__ == "multi_head_attention":
            assert names_asked_for(rule) & {"query", "key", "value"} <= known_names(kind)


def test_arguments_of_transposed_convolutions_are_where_torch_has_them():
    for dims in (1, 2, 3):
        function = getattr(functional, f"conv_transpose{dims}d")
        graph = fx.Graph()
        x, weight = graph.placeholder("x"), graph.placeholder("w")
        node = graph.call_function(function, (x, weight, None, 2, 1, 1, 4, 3))
        found = arguments_of(node)
        assert (found["output_padding"], found["groups"], found["dilation"]) == (1, 4, 3)


CALLS = {
    "reduction, numpy's names": ("{y}.mean(axis=(2, 3), keepdims=True)", "{y}.mean((2, 3), True)"),
    "sum": ("torch.sum({y}, axis=-1)[..., None]", "{y}.sum(-1).unsqueeze(-1)"),
    "maximum": ("torch.amax({y}, axis=2, keepdims=True)", "{y}.amax(2, True)"),
    "values": ("torch.max({y}, axis=2, keepdims=True)[0]", "{y}.max(2, True)[0]"),
    "variance": ("{y}.var(axis=(2, 3), unbiased=False, keepdims=True)", "{y}.var((2, 3), False, True)"),
    "deviation": ("torch.std(input={y}, dim=3, correction=0, keepdim=True)", "{y}.std(3, False, True)"),
    "norm": ("torch.linalg.vector_norm({y}, axis=2, keepdims=True)", "torch.norm({y}, 2, 2, True)"),
    "no axes": ("{y} + {y}.sum(axis=[])", "{y} + {y}.sum()"),
    "concat": ("torch.cat(tensors=[{y}, {y}], axis=1)[:, :8]", "torch.cat([{y}, {y}], 1)[:, :8]"),
    "concatenate": ("torch.concatenate([{y}, {y}], axis=3)", "torch.cat([{y}, {y}], 3)"),
    "stack": (
        "torch.stack(tensors=[{y}, {y}], axis=2).flatten(start_dim=2, end_dim=3)",
        "torch.stack([{y}, {y}], 2).flatten(2, 3)",
    ),
    "chunk": ("torch.chunk(input={y}, chunks=2, axis=2)[0]", "{y}.chunk(2, 2)[0]"),
    "split": ("torch.split({y}, split_size_or_sections=2, dim=2)[1]", "{y}.split(2, 2)[1]"),
    "unbind": ("torch.unbind({y}, axis=2)[0].unsqueeze(axis=2)", "{y}.unbind(2)[0].unsqueeze(2)"),
    "narrow": ("torch.narrow({y}, axis=3, start=1, length=2)", "{y}.narrow(3, 1, 2)"),
    "softmax": ("torch.softmax(input={y}, axis=2)", "{y}.softmax(2)"),
    "log_softmax": ("functional.log_softmax(input={y}, dim=3)", "{y}.log_softmax(3)"),
    "transpose": ("torch.transpose({y}, dim0=2, dim1=3)", "{y}.transpose(2, 3)"),
    "swapaxes": ("torch.swapaxes({y}, axis1=3, axis0=2)", "{y}.swapaxes(2, 3)"),
    "swapdims": ("{y}.swapdims(dim0=2, dim1=3)", "{y}.swapdims(2, 3)"),
    "permute": ("{y}.permute(dims=(0, 1, 3, 2))", "{y}.permute(0, 1, 3, 2)"),
    "reshape": ("torch.reshape(input={y}, shape=({y}.shape[0], -1, 4, 4))", "{y}.reshape({y}.shape[0], -1, 4, 4)"),
    "view": ("{y}.view(size=({y}.size(dim=0), -1, 4, 4))", "{y}.view({y}.size(0), -1, 4, 4)"),
    "unflatten": ("{y}.unflatten(sizes=(2, 2), dim=3).flatten(3)", "{y}.unflatten(3, (2, 2)).flatten(3)"),
    "expand": (
        "{y}.mean(axis=3, keepdims=True).expand(size=(-1, -1, -1, 4))",
        "{y}.mean(3, True).expand(-1, -1, -1, 4)",
    ),
    "repeat": ("{y}.repeat(repeats=(1, 1, 2, 1))", "{y}.repeat(1, 1, 2, 1)"),
    "pad": ("functional.pad(input={y}, pad=(1, 1), mode='constant')", "functional.pad({y}, (1, 1))"),
    "addition": ("torch.add(input={y}, other={y}, alpha=2)", "{y} + 2 * {y}"),
    "addition, numpy's names": ("torch.add(x1={y}, x2={y})", "{y} + {y}"),
    "normalize": ("functional.normalize({y}, dim=2)", "functional.normalize({y}, 2.0, 2)"),
    "group norm": ("functional.group_norm({y}, eps=1e-5, num_groups=2)", "functional.group_norm({y}, 2)"),
    "leaf": ("functional.relu(inplace=False, input={y})", "torch.relu({y})"),
}


def made(line):
    """A network with a statement between two convolutions, with a further consumer of the first."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c, self.d, self.e = (nn.Conv2d(n, m, 1) for n, m in ((3, 8), (8, 4), (8, 4), (8, 4)))

        def forward(self, x):
            y = torch.relu(self.a(x))
            z = eval(line.format(y="y"), {"torch": torch, "functional": functional}, {"y": y})
            return self.c(z).mean((2, 3)) + self.d(y).mean((2, 3)) + self.e(z).mean((2, 3))

    torch.manual_seed(0)
    return Net().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)


@pytest.mark.parametrize("name", CALLS)
def test_calls_by_keyword_are_followed_as_those_by_position(name):
    by_name, by_position = CALLS[name]
    model, x = made(by_name)
    twin, _ = made(by_position)
    assert torch.allclose(model(x), twin(x))
    graph, other = trace(model, x), trace(twin, x)
    assert graph.blocks == other.blocks
    assert [pin.reason for pin in graph.unsupported] == [pin.reason for pin in other.unsupported]
    rng = np.random.default_rng(0)
    masks = {weight: rng.random(8) < 0.5 for weight in ("c.weight", "d.weight", "e.weight")}
    masks = effective_masks(graph, masks).masks
    exported = export(model, x, masks=masks, baseline=True)
    assert torch.allclose(exported.module(x), masked_copy(model, masks)(x), rtol=1e-9, atol=1e-12)


def test_calls_are_brought_into_one_form():
    class Calls(nn.Module):
        def forward(self, x):
            y = torch.cat(axis=1, tensors=[x, x])
            z = torch.add(x, other=y, alpha=2)
            w = x.add(other=1, alpha=3)
            v = x.var(dim=1, keepdim=True, unbiased=False)
            return functional.relu(inplace=True, input=z) + w + v + x.sum(keepdim=True, dim=2)

    traced = fx.symbolic_trace(Calls())
    before = traced(torch.ones(1, 1, 1))
    normalise(traced)
    traced.recompile()
    assert torch.equal(traced(torch.ones(1, 1, 1)), before)
    nodes = [node for node in traced.graph.nodes if node.op in ("call_function", "call_method")]
    calls = {getattr(n.target, "__name__", n.target): (n.args[1:], dict(n.kwargs)) for n in reversed(nodes)}
    assert calls["cat"] == ((1,), {})
    assert calls["add"][1] == {"alpha": 2}  # by keyword only, in torch's parser
    assert calls["var"] == ((1,), {"keepdim": True, "unbiased": False})  # two overloads have it in other places
    assert calls["sum"] == ((2, True), {})


def test_an_operator_whose_arguments_cannot_be_read_is_pinned(monkeypatch):
    model, x = made("{y}.mean((2, 3), True)")
    monkeypatch.setattr("upscale_opt.channels.nodes.arguments_of", lambda node, module=None: None)
    assert "mean, called in a way that cannot be read" in {pin.reason for pin in trace(model, x).unsupported}
