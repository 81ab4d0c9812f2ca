"""Tests of hooks: those of the network itself are in its trace, others pin, and what cannot be kept is refused."""

import copy
import functools
import pickle
import types

import pytest
import torch
from torch import nn

from upscale_opt import ModelError, effective_masks, export, l2_masks, masked_copy, trace


def made():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()), nn.Conv2d(8, 4, 1)]
    return nn.Sequential(*layers).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)


def assert_exact(model, x):
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    exported = export(model, x, masks=masks, baseline=True)
    expected = masked_copy(model, masks)(x)
    for module in (exported.module, copy.deepcopy(exported.module), pickle.loads(pickle.dumps(exported.module))):
        assert torch.allclose(module(x), expected, rtol=1e-9, atol=1e-12)
    assert "forward" not in vars(model) or model.__dict__["forward"] is not None
    return graph


def normalised(module, inputs):
    return ((inputs[0] - 0.5) / 0.2,)


def scaled(module, inputs, output):
    return output * 3


calls = []


def observed(module, *gradients):
    calls.append(module)


def doubled(model, x):
    return model[2](model[0](x)) * 2


def increased(inner, x):
    return inner(x) + 1


def with_names(module, args, kwargs):
    return (args[0] + 1,), kwargs


@pytest.mark.parametrize(
    "register",
    [
        lambda model: model.register_forward_pre_hook(normalised),
        lambda model: model.register_forward_hook(scaled),
        lambda model: model.register_forward_pre_hook(with_names, with_kwargs=True),
        lambda model: [model.register_forward_hook(scaled), model.register_forward_pre_hook(normalised)],
        lambda model: model[1].register_forward_hook(scaled),
    ],
    ids=["before", "behind", "with keywords", "both", "of a container"],
)
def test_forward_hooks_are_traced_with_the_network(register):
    model, x = made()
    plain = model(x)
    register(model)
    assert not torch.allclose(model(x), plain)
    assert not assert_exact(model, x).unsupported
    assert "forward" not in vars(model)


def test_a_forward_that_was_set_on_the_network_is_what_is_traced():
    for set_on in (
        lambda model: types.MethodType(doubled, model),
        lambda model: functools.partial(increased, model.forward),
        lambda model: lambda *inputs, inner=model.forward: inner(*inputs) - 1,
    ):
        model, x = made()
        model.forward = set_on(model)
        expected = model(x)
        assert torch.allclose(trace(model, x).module(x), expected)
        model.register_forward_hook(scaled)
        assert torch.allclose(trace(model, x).module(x), 3 * expected)
    model.forward = lambda: None
    with pytest.raises(ModelError, match="does not take the 1 example inputs"):
        trace(model, x)


@pytest.mark.parametrize("index", [0, 1], ids=["layer", "container"])
@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_modules_with_backward_hooks_are_pinned_and_keep_them(index, kind):
    model, x = made()
    calls.clear()
    getattr(model[index], kind)(observed)
    graph = assert_exact(model, x)
    assert f"{type(model[index]).__name__} with backward hooks" in {pin.reason for pin in graph.unsupported}
    exported = export(model, x, masks={}, baseline=True)
    exported.module(x).sum().backward()
    assert calls


def test_backward_hooks_of_the_network_and_hooks_of_all_modules_are_refused():
    model, x = made()
    handle = model.register_full_backward_hook(lambda module, *gradients: None)
    with pytest.raises(ModelError, match="the model has backward hooks"):
        trace(model, x)
    handle.remove()
    trace(model, x)
    for register, hook in (
        (torch.nn.modules.module.register_module_forward_hook, lambda module, inputs, output: None),
        (torch.nn.modules.module.register_module_forward_pre_hook, lambda module, inputs: None),
        (torch.nn.modules.module.register_module_full_backward_hook, lambda module, *gradients: None),
    ):
        handle = register(hook)
        try:
            with pytest.raises(ModelError, match="hooks of all modules are registered"):
                trace(model, x)
        finally:
            handle.remove()
    trace(model, x)
