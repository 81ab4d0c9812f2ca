"""Tests of training: an export learns what the masked model learns, and dropped columns stay zero."""

import copy

import networks
import numpy as np
import pytest
import torch
from torch import nn

from upscale_opt import ModelReference, export, l2_masks, load, load_model, masked_copy, trace
from upscale_opt.exporting.held_entries import HeldEntries
from upscale_opt.models.outputs import clones, tensors
from upscale_opt.tracing.training_modes import ModeSwitch

TRAINABLE = tuple(kind for kind in networks.ALL if kind is not networks.InPlace)  # autograd refuses that one itself


def at_rate_zero(model):
    """Dropout and stochastic depth are random, so exports are compared without them."""
    for module in model.modules():
        for rate in ("p", "rate"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    return model


def loss_of(module, inputs):
    outputs = module(*clones(inputs))
    outputs = getattr(outputs, "logits", outputs)  # GoogLeNet in training returns its auxiliary heads too
    return sum(
        (y * torch.linspace(-1, 1, y[0].numel(), dtype=y.dtype).reshape(y[0].shape)).square().mean()
        for y in tensors(outputs)
    )


def samples(inputs, size=4):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn((size, *x.shape[1:]), generator=generator, dtype=torch.float64) for x in inputs)


def optimisers(kind, *modules):
    if kind == "sgd":
        return [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1) for m in modules]
    return [torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1) for m in modules]


def assert_learns_the_same(exported, masked, inputs, optimiser="sgd", *, train, steps=3):
    """Loss, gradients and the state after each step; the masked model's own masks are put back after every step."""
    module = exported.module.double().train(train)
    masked.double().train(train)
    ours, theirs = optimisers(optimiser, module, masked)
    for _ in range(steps):
        for stepper in (ours, theirs):
            stepper.zero_grad()
        losses = loss_of(module, inputs), loss_of(masked, inputs)
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-9)
        for loss in losses:
            loss.backward()
        gradients = {name: p.grad for name, p in masked.named_parameters()}
        for name, parameter in module.named_parameters():
            if gradients[name] is None:
                assert parameter.grad is None
                continue
            piece = exported.slices.get(name)
            expected = gradients[name] if piece is None else piece.of(gradients[name])
            close(parameter.grad, expected, name)
        for stepper in (ours, theirs):
            stepper.step()
        restore_masks(masked, exported.plan.masks)
        expected = exported.state_of(masked.state_dict())
        for name, tensor in module.state_dict().items():
            close(tensor, expected[name], name)


def close(a, b, name):
    assert a.shape == b.shape, name
    assert float((a - b).abs().max()) <= 1e-9 * max(1.0, float(b.abs().max())), name


def restore_masks(masked, masks):
    with torch.no_grad():
        for name, mask in masks.items():
            masked.get_parameter(name)[:, torch.from_numpy(~mask)] = 0


def held(module):
    return {path: m.held_weight for path, m in module.named_modules() if hasattr(m, "held_weight")}


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("objective", ["copies", "span"])
@pytest.mark.parametrize("kind", TRAINABLE)
def test_exports_learn_as_the_masked_model_does(kind, objective, train, planned):
    """Over-reads, copies, views, shared weights; batch statistics in training mode and frozen ones in eval mode."""
    model, inputs = networks.make(kind)
    at_rate_zero(model)
    _, masks, _, plan = planned(model, inputs, objective=objective)
    exported = export(model, inputs, plan)
    assert_learns_the_same(exported, masked_copy(model, masks), samples(inputs), train=train)


def test_adam_learns_the_same(planned):
    model, inputs = networks.make(networks.Dense)
    _, masks, _, plan = planned(model, inputs, objective="span")
    exported = export(model, inputs, plan)
    assert_learns_the_same(exported, masked_copy(model, masks), samples(inputs), "adamw", train=True)


@pytest.fixture
def over_reading(planned):
    """An export with columns that must stay zero, and its inputs."""

    def build(kind=networks.Residual, seed=0):
        model, inputs = networks.make(kind)
        _, _, _, plan = planned(model, inputs, objective="span", seed=seed)
        return export(model, inputs, plan), model, samples(inputs)

    return build


def assert_zeros_stay(module, inputs, expected, optimiser="sgd"):
    """After steps with momentum and weight decay exactly the expected columns are zero; returns how many there are."""
    module.train()
    (stepper,) = optimisers(optimiser, module)
    for _ in range(3):
        stepper.zero_grad()
        loss_of(module, inputs).backward()
        stepper.step()
    assert held(module).keys() == expected.keys()
    for path, columns in expected.items():
        weight = module.get_parameter(f"{path}.weight")
        zero = columns.zero
        assert bool((weight.masked_select(zero) == 0).all()) and bool((weight.masked_select(~zero) != 0).any())
    return sum(int(columns.zero.sum()) for columns in expected.values())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("how", ["itself", "deepcopy", "float", "state_dict", "assign", "frozen", "pickle"])
def test_dropped_columns_stay_zero(how, optimiser, over_reading, tmp_path):
    """In the export and in whatever it is copied, converted or loaded to."""
    exported, _, inputs = over_reading()
    module = exported.module.double()
    expected = held(module)
    if how == "deepcopy":
        module = copy.deepcopy(copy.deepcopy(module))
    elif how == "float":
        module, inputs = module.float(), tuple(x.float() for x in inputs)
    elif how in ("state_dict", "assign"):
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        other, _ = networks.make(networks.Residual, seed=5)
        module = load(exported.plan, other, other.state_dict(), tuple(x[:1].float() for x in inputs)).module.double()
        module.load_state_dict(state, assign=how == "assign")
    elif how == "frozen":
        module = copy.deepcopy(module.requires_grad_(False)).requires_grad_(True)
    elif how == "pickle":
        torch.save(module, tmp_path / "module.pt")
        module = torch.load(tmp_path / "module.pt", weights_only=False)
    assert assert_zeros_stay(module, inputs, expected, optimiser) > 10


def test_holding_changes_no_names_and_no_graph(over_reading):
    exported, model, _ = over_reading()
    assert set(exported.module.state_dict()) == set(model.state_dict())
    assert all(isinstance(columns, HeldEntries) for columns in held(exported.module).values())
    assert {type(m) for m in exported.module.modules()} - {type(exported.module)} <= {
        *(type(m) for m in model.modules()),
        nn.Module,
        ModeSwitch,  # of the dropout, not of what is held
    }
    assert "narrow" in exported.module.code


def test_loaded_states_are_masked(over_reading):
    """Values in dropped columns, from the original or by hand, do not get in."""
    exported, model, inputs = over_reading()
    state = {name: torch.ones_like(tensor) for name, tensor in exported.module.state_dict().items()}
    again = load(exported.plan, model, state, tuple(x[:1].float() for x in inputs))
    for path, columns in held(again.module).items():
        assert bool((again.module.get_parameter(f"{path}.weight").masked_select(columns.zero) == 0).all())


def test_infinite_gradients_do_not_reach_dropped_columns():
    layer = nn.Linear(3, 2)
    columns = HeldEntries(layer.weight, torch.tensor([[False, True, False]]))
    (layer(torch.full((1, 3), torch.inf))).sum().backward()
    gradient = layer.weight.grad
    assert gradient.masked_select(columns.zero).eq(0).all() and gradient.masked_select(~columns.zero).isinf().all()


@pytest.mark.slow
def test_compiled_exports_hold_columns_too(over_reading):
    exported, _, inputs = over_reading()
    module = exported.module.double()
    compiled = torch.compile(module, backend="aot_eager")
    assert_zeros_stay(module, inputs, held(module))
    loss = loss_of(compiled, inputs)
    loss.backward()
    for path, columns in held(module).items():
        assert bool((module.get_parameter(f"{path}.weight").grad.masked_select(columns.zero) == 0).all())


@pytest.mark.parametrize("objective", ["span", "copies", "runs"])
@pytest.mark.parametrize("kind", networks.ALL)
def test_exports_are_traced_masked_and_exported_again(kind, objective, planned):
    """The second export computes what the masked first one computes, keeps its zeros, and learns; nothing is pinned."""
    model, inputs = networks.make(kind)
    at_rate_zero(model)
    _, _, _, plan = planned(model, inputs, objective=objective, keep=0.7)
    first = export(model, inputs, plan)
    hooks = [len(p._backward_hooks or ()) for p in first.module.parameters()]
    graph, masks, _, second_plan = planned(first.module, inputs, objective=objective, keep=0.7, seed=1)
    second = export(first.module, inputs, second_plan, graph=graph)
    assert second.verification.relative_error <= 1e-9
    assert [len(p._backward_hooks or ()) for p in first.module.parameters()] == hooks
    assert graph.unsupported == () or kind in (networks.Odd, networks.Sliced)
    assert {name for name, _ in second.module.named_parameters()} == {name for name, _ in model.named_parameters()}
    for path, columns in held(second.module).items():
        weight = second.module.get_parameter(f"{path}.weight")
        assert columns.weight is weight and torch.broadcast_shapes(columns.zero.shape, weight.shape) == weight.shape
    if kind in TRAINABLE:
        assert_learns_the_same(second, masked_copy(first.module, masks), samples(inputs), train=True, steps=1)


class Headed(nn.Module):
    """An auxiliary head that only runs in training."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.aux = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_what_is_not_in_the_export_is_named(planned):
    model, inputs = Headed().eval(), (torch.randn(1, 3, 8, 8),)
    _, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan)
    assert exported.unused == ("aux",)
    assert "not exported, nor is its loss: aux" in str(exported)
    again = load(plan, model, model.state_dict(), inputs)
    assert torch.equal(again(*inputs), exported(*inputs))
    assert export(exported.module, inputs, baseline=True).unused == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "densenet121", "mobilenet_v3_large", "resnet50"])
def test_torchvision_networks_learn_the_same(name, planned):
    """One step with batch statistics; the loss of auxiliary heads is left out on both sides."""
    size = 96 if name != "inception_v3" else 299
    model, inputs = at_rate_zero(load_model(ModelReference(name))), (torch.zeros(1, 3, size, size),)
    graph = trace(model, inputs)
    _, masks, _, plan = planned(model, inputs, objective="span")
    exported = export(model, inputs, plan, graph=graph)
    heads = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
    assert exported.unused == heads.get(name, ())
    assert set(masks) >= set(l2_masks(graph, 0.5)) and np.any([~mask.all() for mask in masks.values()])
    assert_learns_the_same(exported, masked_copy(model, masks), samples(inputs, 2), train=True, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "densenet121", "shufflenet_v2_x1_0", "regnet_y_400mf"])
def test_torchvision_exports_are_exported_again(name, planned):
    model, inputs = load_model(ModelReference(name)), (torch.zeros(1, 3, 64, 64),)
    _, _, _, plan = planned(model, inputs, keep=0.7)
    first = export(model, inputs, plan)
    graph, _, _, plan = planned(first.module, inputs, keep=0.7, seed=1)
    second = export(first.module, inputs, plan, graph=graph)
    assert second.verification.relative_error <= 1e-9
    count = [sum(p.numel() for p in module.parameters()) for module in (model, first.module, second.module)]
    assert count[0] > count[1] > count[2]
