"""Tests of held entries when other tensors are in the parameters' places, and where code owns the weights."""

import copy
import io
import pickle

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn import functional

from solvers import solve
from upscale_opt import effective_masks, export, extract, plan, save_as, trace, verify
from upscale_opt.capture.hooks import has_foreign_hooks
from upscale_opt.exporting.held_entries import HeldEntries, held

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Modules(nn.Module):
    """Four consumers of one tensor, so that some over-read it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.a, self.b, self.c = (nn.Conv2d(16, 4, 1) for _ in range(3))

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        return self.a(x) + self.b(x) * self.c(x)


class Container(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 16, 1, 1))


class Functions(nn.Module):
    """The weights are the network's own, or those of a module that is not run; one is used by both."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1)
        self.a, self.inner = nn.Parameter(torch.randn(4, 16, 1, 1)), Container()

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        y = functional.conv2d(x, self.a) * functional.conv2d(x, self.inner.weight)
        return y + self.shared(x) + functional.conv2d(x, self.shared.weight)


def over_reading(kind, seed=1, **options):
    torch.manual_seed(seed)
    model = kind().eval()
    graph = trace(model, X)
    generator = np.random.default_rng(seed)
    names = [name for name, read in graph.consumers.items() if not read.reads_network_input]
    masks = effective_masks(graph, {name: generator.random(16) < 0.6 for name in names}).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, objective="span", time_limit=1) for name, problem in problems.items()}
    return export(model, X, plan(problems, masks, results), graph=graph, **options), model


def zeros_of(exported):
    """Name of a parameter to its entries that are held; by the slices."""
    parameters = dict(exported.module.named_parameters())
    found = {
        name: exported.slices[name].held(tuple(p.shape)) for name, p in parameters.items() if name in exported.slices
    }
    found = {name: zero.expand(parameters[name].shape) for name, zero in found.items() if zero is not None}
    assert sum(int(zero.sum()) for zero in found.values()) > 3
    return found


def assert_held(gradients, zeros):
    for name, zero in zeros.items():
        assert gradients[name][..., zero].eq(0).all() and gradients[name][..., ~zero].ne(0).any(), name


HOW = {
    "itself": lambda module: module,
    "deepcopy": lambda module: copy.deepcopy(copy.deepcopy(module)),
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "traced by torch.fx": lambda module: torch.fx.symbolic_trace(module),
    "in another network": lambda module: nn.Sequential(module),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", [Modules, Functions])
def test_functional_calls_hold_too(kind, how):
    """Gradients, those of many samples and of many networks, second derivatives, and forward mode."""
    exported, _ = over_reading(kind)
    zeros, module = zeros_of(exported), HOW[how](exported.module)
    prefix = "0." if how == "in another network" else ""
    zeros = {prefix + name: zero for name, zero in zeros.items()}
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters, x):
        return functional_call(module, parameters, (x,)).square().sum()

    assert_held(grad(loss)(parameters, X), zeros)
    assert_held(vmap(grad(loss), (None, 0))(parameters, X[:, None]), zeros)
    several = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}
    assert_held(vmap(grad(loss), (0, None))(several, X), zeros)
    assert_held(jacrev(lambda p: functional_call(module, p, (X,)).sum((0, 2, 3)))(parameters), zeros)
    assert_held(grad(lambda p: sum(g.square().sum() for g in grad(loss)(p, X).values()))(parameters), zeros)
    tangents = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for name, zero in zeros.items():
        tangents[name][zero] = 1
    assert jvp(lambda p: loss(p, X), (parameters,), (tangents,))[1] == 0
    # By hand, with leaves of one's own, which keep their gradients and stay in the dictionary.
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    given = dict(leaves)
    loss(given, X).backward()
    assert all(given[name] is leaf for name, leaf in leaves.items())
    assert_held({name: leaf.grad for name, leaf in leaves.items()}, zeros)
    # And in the ordinary way, afterwards.
    module(X).square().sum().backward()
    assert_held({name: p.grad for name, p in module.named_parameters()}, zeros)
    assert not any("weight" in vars(m) for m in module.modules())


@pytest.mark.parametrize("kind", [Modules, Functions])
def test_parameters_that_are_assigned_are_held(kind):
    exported, _ = over_reading(kind)
    for name in zeros_of(exported):
        path, _, attribute = name.rpartition(".")
        own = exported.module.get_parameter(name)
        setattr(exported.module.get_submodule(path), attribute, nn.Parameter(own.detach().clone()))
    exported.module(X).square().sum().backward()
    assert_held({name: p.grad for name, p in exported.module.named_parameters()}, zeros_of(exported))


@pytest.mark.parametrize("kind", [Modules, Functions])
def test_what_is_held_stays_held_in_an_export_of_an_export(kind):
    """Everything is kept by the second one's masks, so that all zeros are the first one's."""
    first, _ = over_reading(kind)
    graph = trace(first.module, X)
    assert not graph.unsupported and {read.weight for read in graph.reads} == {
        read.weight for read in trace(kind().eval(), X).reads
    }
    number = {name: int(zero.sum()) for name, zero in zeros_of(first).items()}
    problems = extract(graph, {})
    results = {name: solve(problem, solver="identity") for name, problem in problems.items()}
    second = export(first.module, X, plan(problems, {}, results), graph=graph)
    parameters = {name: p.detach() for name, p in second.module.named_parameters()}
    found = grad(lambda p: functional_call(second.module, p, (X,)).square().sum())(parameters)
    assert {name: int(found[name].eq(0).sum()) for name in number} == number
    second.module(X).square().sum().backward()
    assert {name: int(second.module.get_parameter(name).grad.eq(0).sum()) for name in number} == number


@pytest.mark.parametrize("kind", [Modules, Functions])
def test_holding_changes_no_output_no_names_and_nothing_without_gradients(kind):
    """The modules' types stay, their names in the state_dict, and what a saved form computes with."""
    exported, model = over_reading(kind)
    assert set(exported.module.state_dict()) == set(model.state_dict())
    with torch.no_grad():
        expected = exported(X)
        program = torch.export.export(exported.module, (X,))
    assert torch.equal(exported(X), expected)
    assert "fill" not in str(program.graph)
    learning = torch.export.export(exported.module, (X,))
    assert torch.equal(learning.module()(X), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Modules, Functions])
def test_saved_forms_and_compiled_ones(kind, tmp_path):
    pytest.importorskip("onnx")
    exported, _ = over_reading(kind)
    for form in ("pt2", "torchscript", "onnx"):
        save_as(exported, tmp_path / form, form)
    zeros = zeros_of(exported)
    compiled = torch.compile(exported.module, backend="aot_eager")
    compiled(X).square().sum().backward()
    assert_held({name: p.grad for name, p in exported.module.named_parameters()}, zeros)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exported.module.zero_grad()
        exported.module(X).float().square().sum().backward()
    assert_held({name: p.grad for name, p in exported.module.named_parameters()}, zeros)
    torch.save(exported.module, (buffer := io.BytesIO()))
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(X), exported(X)) and verify_held(again, zeros)


def verify_held(module, zeros):
    module(X).square().sum().backward()
    assert_held({name: p.grad for name, p in module.named_parameters()}, zeros)
    return True


def test_infinite_activations_do_not_reach_held_columns_in_functional_calls():
    exported, _ = over_reading(Modules)
    zeros = zeros_of(exported)
    parameters = {name: p.detach() for name, p in exported.module.named_parameters()}
    found = grad(lambda p: functional_call(exported.module, p, (X * float("inf"),)).sum())(parameters)
    assert all(bool(found[name][zero].eq(0).all()) for name, zero in zeros.items())


def test_a_failed_forward_leaves_nothing_behind():
    exported, _ = over_reading(Modules)
    parameters = {name: p.detach() for name, p in exported.module.named_parameters()}
    with pytest.raises(RuntimeError):
        functional_call(exported.module, parameters, (X[:, :2],))
    parameters["a.weight"] = parameters["a.weight"][:, :1]
    with pytest.raises(RuntimeError):
        functional_call(exported.module, parameters, (X,))
    assert not any("weight" in vars(m) for m in exported.module.modules())
    assert verify_held(exported.module, zeros_of(exported))


def test_only_own_hooks_are_known():
    exported, _ = over_reading(Modules)
    holding = [m for m in exported.module.modules() if isinstance(vars(m).get("held_weight"), HeldEntries)]
    assert holding and not any(map(has_foreign_hooks, holding))
    holding[0].register_forward_hook(lambda *_: None)
    assert has_foreign_hooks(holding[0])


def test_held_without_gradients_is_the_weight_itself():
    weight, zero = torch.ones(2, 3), torch.tensor([False, True, False])
    assert held(weight, zero).tolist() == [[1, 0, 1], [1, 0, 1]]
    with torch.no_grad():
        assert held(weight, zero) is weight


def test_exports_of_functional_networks_are_verified_with_gradients(planned):
    model, inputs = networks.make(networks.Residual)
    assert verify(model, export(model, inputs, planned(model, inputs)[-1], verify=False), inputs).gradients <= 1e-9
    exported, _ = over_reading(Functions)
    assert exported.verification.gradients <= 1e-9
