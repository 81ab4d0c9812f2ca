"""Tests of regions without gradients or with autocast, of autograd functions and checkpoints: values and gradients."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from upscale_opt import ModelError, effective_masks, export, l2_masks, masked_copy, save_as, trace
from upscale_opt.capture.regions import regions_of
from upscale_opt.capture.shared_memory import written_by
from upscale_opt.operators import register
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.table import FUNCTION_RULES
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.tracing.prologues import prologues_of
from upscale_opt.verifying.verification import Verifier


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx, x, steps=8):
        return torch.round(x * steps) / steps

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Reversed(torch.autograd.Function):
    """Identity whose gradient is reversed; in torch's newer style."""

    @staticmethod
    def forward(x):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.seen = output.abs().max()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


straight = Straight.apply  # a name that keeps the method


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)

    @torch.no_grad()
    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Network(nn.Module):
    """Some convolutions, and a part between them that says how they are used."""

    def __init__(self, part):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(n, m, 1) for n, m in ((3, 8), (8, 8), (8, 8), (8, 4)))
        self.e, self.frozen, self.part = nn.Conv2d(8, 4, 1), Frozen(), part

    def forward(self, x):
        return self.part(self, x)


def backbone(net, x):
    with torch.no_grad():
        y = torch.relu(net.b(torch.relu(net.a(x))))
    return net.d(y) + net.e(y)


def decorated(net, x):
    y = net.a(x)
    return net.d(net.frozen(y) + net.b(y))


def enabled(net, x):
    with torch.no_grad():
        y = net.a(x)
        with torch.enable_grad():
            z = net.b(y)
        with torch.set_grad_enabled(False):
            w = net.c(y)
    return net.d(z + w) + net.e(z)


def disabled(net, x):
    y = net.a(x)
    with torch.set_grad_enabled(False):
        z = net.b(y)
        z.relu_()
    return net.d(y) + net.e(z)


def inference(net, x):
    with torch.inference_mode():
        y = net.b(torch.relu(net.a(x)))
    return net.d(y.clone())


def same_tensor(net, x):
    """What leaves the region is the tensor that entered it, with its gradient."""
    y = net.a(x)
    with torch.no_grad():
        z = y.contiguous()
    return net.d(z) + net.e(z) + net.d(net.b(z))


def shuffled(net, x):
    """A shuffle that changes nothing: what leaves the region would be what entered it."""
    y = net.a(x)
    with torch.no_grad():
        z = functional.channel_shuffle(y, 8)
    return net.d(z) + net.e(y)


def joined(net, x):
    with torch.no_grad():
        y = torch.cat([net.a(x)[:, :4], net.c(net.a(x))[:, :4]], 1)
    return net.d(y)


def without_autocast(net, x):
    y = net.a(x)
    with torch.autocast("cuda", enabled=False):
        z = torch.relu(net.b(y))
    return net.d(z)


def checkpointed(net, x):
    y = net.a(x)
    z = checkpoint(lambda own: torch.relu(net.b(own)), y, use_reentrant=False)
    return net.d(checkpoint(lambda own: net.c(own), z, use_reentrant=True))


def checkpointed_first(net, x):
    """Nothing that enters the checkpoint has a gradient, so that nothing in it learns."""
    y = checkpoint(lambda own: torch.relu(net.a(own)), x, use_reentrant=True)
    return net.d(net.b(y))


def straight_through(net, x):
    y = torch.relu(net.a(x))
    return net.d(straight(net.b(y), 16)) + net.e(Reversed.apply(net.c(y)))


def detached(net, x):
    y = net.a(x)
    return net.d(y.detach() + net.b(y))


PARTS = (
    *(backbone, decorated, enabled, disabled, inference, same_tensor, shuffled, joined, without_autocast),
    *(checkpointed, checkpointed_first, straight_through, detached),
)


def made(part, seed=0):
    torch.manual_seed(seed)
    return Network(part).double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)


def gradients(module, x):
    """Output and gradients of one loss."""
    module.zero_grad()
    y = module(x)
    (y.double() * torch.linspace(-1, 1, y[0].numel(), dtype=torch.float64).reshape(y[0].shape)).sum().backward()
    return y.detach(), {name.removeprefix("_orig_mod."): own.grad for name, own in module.named_parameters()}


def assert_same_gradients(exported, module, masked, x, tolerance=1e-9):
    expected, theirs = gradients(masked, x)
    found, ours = gradients(module, x)
    assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance)
    for name, gradient in ours.items():
        if theirs[name] is None:
            assert gradient is None, name
            continue
        wanted = exported.slices.get(name, ParameterSlice()).of(theirs[name])
        assert gradient is not None and torch.allclose(gradient, wanted, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("objective", ["copies", "span"])
def test_exports_have_the_gradients_of_the_masked_model(part, objective, planned):
    model, x = made(part)
    for seed in range(3):
        _, masks, _, plan = planned(model, (x,), seed=seed, objective=objective)
        exported = export(model, x, plan)
        assert_same_gradients(exported, exported.module, masked_copy(model, masks), x)


@pytest.mark.parametrize("part", PARTS)
def test_gathers_and_what_is_left_whole_have_the_gradients_of_the_masked_model(part):
    model, x = made(part)
    graph = trace(model, x)
    for amount in (0.0, 0.5):
        masks = effective_masks(graph, l2_masks(graph, amount)).masks
        exported = export(model, x, masks=masks, baseline=True)
        assert_same_gradients(exported, exported.module, masked_copy(model, masks), x)


@pytest.mark.parametrize("part", [backbone, decorated, enabled, inference, without_autocast, checkpointed])
def test_what_is_in_a_region_is_pruned(part):
    graph = trace(*made(part))
    assert not graph.unsupported
    assert sum(not block.pinned for block in graph.blocks) >= 2


def test_masks_of_producers_keep_their_side_of_a_border():
    """A factor behind the region would have a gradient that the mask inside it has not, and the other way round."""

    class Bordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b, self.d = (
                nn.Conv2d(3, 8, 1),
                nn.GroupNorm(2, 8),
                nn.Conv2d(3, 8, 1),
                nn.Conv2d(8, 4, 1),
            )

        def forward(self, x):
            y = self.norm(self.a(x))
            with torch.no_grad():
                z = y.contiguous()
            return self.d(z + self.b(x))

    torch.manual_seed(0)
    model, x = Bordered().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph = trace(model, x)
    outputs = {"a.weight": np.arange(8) % 2 == 0}
    exported = export(model, x, masks=effective_masks(graph).masks, output_masks=outputs, baseline=True)
    masked = copy.deepcopy(model)
    kept = torch.from_numpy(outputs["a.weight"]).reshape(1, -1, 1, 1)
    masked.norm.register_forward_hook(lambda module, inputs, y: torch.where(kept, y, 0))
    assert_same_gradients(exported, exported.module, masked, x)


def test_prologues_end_at_the_border_of_a_region():
    def part(net, x):
        with torch.no_grad():
            y = torch.relu(torch.cat([net.a(x), net.b(net.a(x))], 1))
        return net.wide(y)

    model, x = made(part)
    model.wide = nn.Conv2d(16, 4, 1).double()
    assert not prologues_of(trace(model, x))


def test_autocast_regions_are_computed_in_their_precision():
    def part(net, x):
        y = net.a(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = net.b(y)
        return net.d(z.float())

    model, x = made(part)
    model, x = model.float(), x.float()
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    exported, masked = export(model, x, masks=masks, baseline=True), masked_copy(model, masks)
    seen = []
    exported.module.b.register_forward_hook(lambda module, inputs, y: seen.append(y.dtype))
    assert_same_gradients(exported, exported.module, masked, x, tolerance=5e-2)
    assert seen == [torch.bfloat16]
    assert "with torch.autocast('cpu', dtype=torch.bfloat16, enabled=True, cache_enabled=None):" in graph.module.code


def device_of_a_tensor(net, x):
    y = net.a(x)
    with torch.autocast(device_type=y.device.type, dtype=torch.bfloat16):
        z = net.b(y)
    with torch.autocast(x.device.type, enabled=False):
        return net.d(torch.relu(z.float()))


def test_autocast_on_the_device_of_a_tensor():
    model, x = made(device_of_a_tensor)
    model, x = model.float(), x.float()
    exported = export(model, x, masks={}, baseline=True)
    for module in (exported.module, pickle.loads(pickle.dumps(exported.module))):
        assert_same_gradients(exported, module, model, x)
        seen = []
        module.b.register_forward_hook(lambda own, inputs, y, seen=seen: seen.append(y.dtype))
        module(x)
        assert seen == [torch.bfloat16]


class Inferring(Network):
    @torch.inference_mode()
    @torch.autocast("cpu", dtype=torch.float16, enabled=False)
    def forward(self, x, scale: float = 2.0):
        return super().forward(x) * scale


def test_a_decorated_forward_of_the_network_itself():
    torch.manual_seed(0)
    model, x = Inferring(decorated).double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    exported = export(model, x, masks={}, baseline=True)
    assert exported.module(x).is_inference() and not exported.graph.unsupported
    assert torch.equal(exported.module(x), model(x))


@pytest.mark.parametrize("part", PARTS)
def test_copies_pickles_interpreters_and_second_exports_keep_regions(part):
    model, x = made(part)
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    exported = export(model, x, masks=masks, baseline=True)
    masked = masked_copy(model, masks)
    copies = [copy.deepcopy(exported.module), pickle.loads(pickle.dumps(exported.module))]
    for module in copies:
        assert_same_gradients(exported, module, masked, x)
        assert set(regions_of(module).values()) == set(regions_of(exported.module).values())
    again = export(exported.module, x, masks={}, baseline=True)
    assert_same_gradients(again, again.module, exported.module, x)
    with torch.no_grad():
        assert torch.allclose(fx.Interpreter(exported.module).run(x), masked(x))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("inside", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_errors_inside_a_region_leave_it(inside):
    def part(net, x):
        with inside():
            y = net.a(x)
        return net.d(net.b(y.clone()))

    model, x = made(part)
    module = trace(model, x).module
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            before = torch.is_grad_enabled()
            with pytest.raises(RuntimeError):
                module(torch.zeros(1, 5, 4, 4, dtype=torch.float64))
            assert torch.is_grad_enabled() is before and not torch.is_inference_mode_enabled()
    with pytest.raises(ModelError, match="give inputs that it accepts"):
        trace(model, torch.zeros(1, 5, 4, 4))
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_regions_in_which_nothing_happens_leave_no_nodes():
    def part(net, x):
        with torch.no_grad(), torch.autocast("cpu"):
            torch.zeros(3).mean()
        return net.d(net.a(x))

    model, x = made(part)
    with torch.no_grad():  # around the trace, not part of it
        graph = trace(model, x)
    assert "with" not in graph.module.code


@pytest.mark.parametrize("part", [straight_through])
def test_autograd_functions_are_pinned_by_name_or_have_a_rule(part):
    model, x = made(part)
    graph = trace(model, x)
    assert {pin.reason for pin in graph.unsupported} == {"no rule for Straight", "no rule for Reversed"}
    register(Straight, elementwise)
    register(Reversed, elementwise)
    try:
        graph = trace(model, x)
        assert not graph.unsupported
        masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
        exported = export(model, x, masks=masks, baseline=True)
        assert_same_gradients(exported, exported.module, masked_copy(model, masks), x)
    finally:
        del FUNCTION_RULES[Straight], FUNCTION_RULES[Reversed]
    assert "functions" not in " ".join(dict(model.named_modules()))  # the model is left as it was
    assert torch.autograd.Function.apply.__func__.__code__.co_name == "apply"
    y = torch.ones(2, requires_grad=True)
    straight(y).sum().backward()
    assert torch.equal(y.grad, torch.ones(2))


class Holder(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.a, self.inner, self.b = nn.Conv2d(3, 8, 1), inner, nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(self.inner(self.a(x)))


class Switching(nn.Module):
    def forward(self, x):
        torch.set_grad_enabled(False)
        y = x * 2
        torch.set_grad_enabled(True)
        return y


class Packing(nn.Module):
    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda y: y, lambda y: y):
            return x * 2


class Hooking(nn.Module):
    def forward(self, x):
        y = x * 2
        if torch.is_grad_enabled():
            y.register_hook(lambda gradient: gradient * 2)
        return y


class Assigning(nn.Module):
    def forward(self, x):
        x.data = x.data * 2
        return x


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Switching, "switched without a with statement"),
        (Packing, "saved_tensors_hooks"),
        (Hooking, "gradient hook"),
        (Assigning, "'data' of a tensor is assigned"),
    ],
)
def test_what_a_trace_would_lose_makes_its_module_a_leaf_that_is_named(kind, reason):
    model, x = Holder(kind()).eval(), torch.randn(2, 3, 4, 4)
    graph = trace(model, x)
    assert [reason in pin.reason and kind.__name__ in pin.reason for pin in graph.unsupported] == [True]
    assert torch.is_grad_enabled()
    with pytest.raises(ModelError, match=reason):
        trace(kind().eval(), x)
    assert torch.is_grad_enabled()


def test_memory_that_saving_hooks_move_is_not_part_of_a_trace():
    def part(net, x):
        with torch.autograd.graph.save_on_cpu():
            return net.d(net.a(x))

    assert not trace(*made(part)).unsupported


class Energy(nn.Module):
    """What it returns is the gradient of what it computes."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b, self.c = (
            nn.Conv2d(3, 8, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 1, 1),
        )

    def forward(self, x):
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            energy = self.c(torch.tanh(self.b(torch.tanh(self.norm(self.a(x)))))).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]


def test_networks_that_compute_gradients_on_the_way_are_pruned_and_verified(planned):
    torch.manual_seed(0)
    model, x = Energy().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph, masks, _, plan = planned(model, (x,))
    assert sum(not block.pinned for block in graph.blocks) >= 2
    exported = export(model, x, plan)
    assert_same_gradients(exported, exported.module, masked_copy(model, masks), x)
    assert all(not tensor.requires_grad for tensor in Verifier(model, x).masked.buffers())


@pytest.mark.parametrize("part", [backbone, decorated, checkpointed_first, straight_through])
def test_compiled_exports_keep_regions(part):
    model, x = made(part)
    exported = export(model, x, masks={}, baseline=True)
    torch._dynamo.reset()
    assert_same_gradients(exported, torch.compile(exported.module, backend="aot_eager"), model, x)


class Operators(nn.Module):
    """Operators of torch.library, one of which writes into what it is given."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = torch.relu(self.b(doubled(self.a(x))))
        shifted(y)
        return self.c(y)


@torch.library.custom_op("upscale_opt_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("upscale_opt_tests::shifted", mutates_args=("x",))
def shifted(x: torch.Tensor) -> None:
    x.add_(1)


def test_operators_of_the_library_are_pinned_by_name_and_known_to_write():
    torch.manual_seed(0)
    model, x = Operators().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph = trace(model, x)
    reasons = {pin.reason for pin in graph.unsupported}
    assert reasons == {"no rule for doubled.default", "no rule for shifted.default"}
    written = [x.name for node in graph.module.graph.nodes for x in written_by(graph.module, node)]
    assert written == ["relu"]
    assert torch.equal(pickle.loads(pickle.dumps(graph.module))(x), model(x))


@pytest.mark.parametrize("form", ["pt2", "torchscript"])
@pytest.mark.parametrize("part", [backbone, enabled, without_autocast, checkpointed])
def test_saved_forms_compute_what_regions_compute(part, form, tmp_path):
    model, x = made(part)
    exported = export(model, x, masks={}, baseline=True)
    save_as(exported, tmp_path / "saved", form)
    assert (tmp_path / "saved").stat().st_size
