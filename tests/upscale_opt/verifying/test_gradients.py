"""Tests of verified gradients: what the export learns, what is said where there is nothing to compare."""

import gc
import operator
import weakref
from contextlib import contextmanager

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import VerificationError, effective_masks, export, extract, l2_masks, plan, trace, verify
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.double_precision import in_double_precision
from upscale_opt.models.preservation import Preservation
from upscale_opt.rewriting.exports import Verification
from upscale_opt.verifying.gradients import FLOOR, Gradients
from upscale_opt.verifying.verification import Verifier


def pruned(model, inputs, *, output_masks=None, objective="span", seed=0, **options):
    """The export under random masks that keep six tenths, without a verification of its own."""
    from solvers import solve

    rng = np.random.default_rng(seed)
    graph = trace(model, inputs)
    sizes = {name: dict(model.named_parameters())[name].shape[r.input_axis] for name, r in graph.consumers.items()}
    first = {name for name, read in graph.consumers.items() if read.reads_network_input}
    masks = effective_masks(graph, {n: rng.random(size) < 0.6 for n, size in sizes.items() if n not in first}).masks
    problems = extract(graph, masks, output_masks=output_masks)
    results = {name: solve(problem, objective=objective, time_limit=1) for name, problem in problems.items()}
    chosen = plan(problems, masks, results, output_masks=output_masks)
    return export(model, inputs, chosen, graph=graph, **options)


class Between(nn.Module):
    """Two convolutions, and a function in between."""

    def __init__(self, function, width=8):
        super().__init__()
        self.function = function
        self.stem, self.head = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        return self.head(self.function(self.stem(x)))


X = torch.zeros(1, 3, 6, 6)


@pytest.mark.parametrize("kind", networks.ALL)
def test_gradients_of_exports_are_those_of_the_masked_model(kind, planned):
    """Over-reads, copies, shared weights, groups; or the network has none, and that is said."""
    model, inputs = networks.make(kind)
    _, _, _, chosen = planned(model, inputs, objective="span")
    found = export(model, inputs, chosen).verification
    if kind is networks.InPlace:
        assert found.gradients is None and "the masked model has no backward pass" in found.gradients_reason
        assert "gradients not verified: the masked model has no backward pass" in str(found)
    else:
        assert found.gradients <= 1e-9 and found.gradients_reason is None
        assert found.gradient_control is None or found.gradient_control > 1e-6
        assert f"gradients {found.gradients:.1e}" in str(found)


def test_output_masks_have_gradients_too(planned):
    """What a masked producer writes beside what it keeps is held at zero."""
    from upscale_opt import l2_output_masks

    model, inputs = networks.make(networks.Residual)
    outputs = l2_output_masks(trace(model, inputs), 0.4)
    for objective in ("span", "copies"):
        found = pruned(model, inputs, output_masks=outputs, objective=objective).verification
        assert outputs and found.passed and found.gradients <= 1e-9


def swapped_for(exported, old, new):
    """Another function in the place of one, in an export's graph: as a trace does that loses a backward pass."""
    for node in exported.module.graph.nodes:
        if node.target == old:
            node.target = new
    exported.module.recompile()
    return exported


DIFFERENT_BACKWARD = {
    "none": lambda x: torch.tanh(x.detach()),
    "reversed": lambda x: 2 * torch.tanh(x.detach()) - torch.tanh(x),
    "a thousandth more": lambda x: torch.tanh(x) + 1e-3 * (torch.tanh(x) - torch.tanh(x).detach()),
    "one channel": lambda x: torch.cat([torch.tanh(x[:, :1].detach()), torch.tanh(x[:, 1:])], 1),
    "one sample": lambda x: torch.cat([torch.tanh(x[:1].detach()), torch.tanh(x[1:])]),
}


@pytest.mark.parametrize("how", DIFFERENT_BACKWARD)
def test_another_backward_pass_is_found_and_the_parameter_named(how):
    """Outputs agree to the last bit."""
    model = Between(torch.tanh).eval()
    broken = swapped_for(pruned(model, X, verify=False), torch.tanh, DIFFERENT_BACKWARD[how])
    found = verify(model, broken, X)
    assert found.relative_error <= 1e-12 and not found.passed and found.gradients > 1e-6
    assert found.first_difference in ("input 0", "stem.weight", "stem.bias")
    assert f"the gradient of {found.first_difference} does not" in found.message or how == "none"
    with pytest.raises(VerificationError, match=r"gradient|frozen"):
        Verifier(model, X, MaskedGraph(broken.graph, broken.plan.masks)).require(broken)
    without = verify(model, broken, X, gradients=False)
    assert without.passed and without.gradients is None and "gradients not verified: not asked for" in str(without)


def test_a_parameter_frozen_on_one_side_is_found():
    model = Between(torch.relu).eval()
    model.stem.bias.requires_grad_(False)
    exported = pruned(model, X)
    assert exported.verification.gradients <= 1e-9
    exported.module.stem.bias.requires_grad_(True)
    assert "stem.bias is frozen in one" in verify(model, exported, X).message


def test_held_columns_that_learn_are_found(planned):
    """The hook of an over-read's columns is taken away."""
    from upscale_opt.exporting.held_entries import HeldEntries

    model, inputs = networks.make(networks.Residual)
    exported = pruned(model, inputs, verify=False)
    owners = [m for m in exported.module.modules() if isinstance(m.__dict__.get("held_weight"), HeldEntries)]
    assert owners and verify(model, exported, inputs).passed
    for owner in owners:
        del owner.__dict__["held_weight"]
    assert "is not held at zero" in verify(model, exported, inputs).message


REASONS = {
    "integers": (lambda x: x, lambda y: y.argmax(1), "no output depends on a parameter or an input"),
    "no_grad": (lambda x: x, torch.no_grad()(lambda y: y * 2), "no output depends on a parameter or an input"),
    "zero": (lambda x: x, lambda y: y.sign(), "every gradient of the masked model is zero"),
    "infinite": (lambda x: (x - x).abs().sqrt() + x, lambda y: y, "is not finite"),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_cannot_be_compared_is_said(case):
    """Never silent, never an error of somebody else's; the outputs are verified as ever."""
    first, last, reason = REASONS[case]

    class Net(Between):
        def forward(self, x):
            return last(super().forward(x))

    model = Net(first).eval()
    exported = pruned(model, X, verify=False)
    gradients = Gradients(model.double(), (torch.randn(2, 3, 6, 6).double(),), running, {})
    assert reason in gradients.reason
    found = gradients.compare(exported.module, exported, ())
    assert (found.error, found.message) == (None, None) and reason in found.reason


@contextmanager
def running(_module):
    yield


class Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("no derivative here")


def test_whatever_a_backward_pass_raises_is_told():
    model = Between(Raising.apply).eval()
    gradients = Gradients(model.double(), (torch.randn(2, 3, 6, 6).double(),), running, {})
    assert "the masked model has no backward pass (" in gradients.reason and "no derivative here" in gradients.reason
    fine = Between(lambda x: x * 2).eval()
    fine.load_state_dict(model.state_dict())
    exported = pruned(fine.float(), X, verify=False)
    broken = swapped_for(exported, operator.mul, lambda x, _: Raising.apply(x))
    found = verify(fine, broken, X)
    assert not found.passed and "the export has none" in found.message


class Keys(nn.Module):
    """The bias of a key has a gradient of zero, which rounding makes 1e-17: no reason to be alarmed."""

    def __init__(self):
        super().__init__()
        self.embed, self.head, self.norm = nn.Linear(6, 16), nn.Linear(8, 4), nn.LayerNorm(8)
        self.query, self.key, self.value = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x):
        x = self.embed(x)
        return self.head(self.norm(functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))))


def test_gradients_that_are_zero_but_for_rounding_are_no_errors():
    model, x = Keys().eval(), torch.zeros(1, 5, 6)
    for seed in range(3):
        exported = pruned(model, x, seed=seed)
        assert exported.verification.gradients <= 1e-9
    verifier = Verifier(model, x, MaskedGraph(exported.graph, exported.plan.masks))
    bias = verifier.gradients.expected["key.bias"].abs().max()
    assert 0 < float(bias) < 1e-6 * FLOOR * verifier.gradients.size


def test_kinks_that_rounding_decides_are_no_errors():
    """A ReLU of what is zero but for rounding: it lets gradients through or not, and nobody can tell."""

    class Kinked(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
            self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.head(torch.relu(3 * self.a(x) - self.b(x)) + self.a(x))

    model = Kinked().double().eval()
    model.b.load_state_dict({name: 3 * own for name, own in model.a.state_dict().items()})
    x = torch.randn(2, 3, 6, 6).double()
    gradients = Gradients(model, (x,), running, {})
    noise = gradients._noise(["b.weight", "head.bias"])
    assert noise["b.weight"] > 1e-3 and noise["head.bias"] <= 1e-9


def test_frozen_networks_are_compared_by_their_inputs_and_one_backward_pass_serves_all_exports(monkeypatch):
    model = Between(torch.relu).eval().requires_grad_(False)
    exported = pruned(model, X)
    assert exported.verification.gradients <= 1e-9 and exported.verification.gradient_control is None
    verifier = Verifier(model, X, MaskedGraph(exported.graph, exported.plan.masks))
    calls = []
    original = Gradients.__init__
    monkeypatch.setattr(Gradients, "__init__", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    assert verifier.check(exported).passed and verifier.check(exported).passed and calls == [1]


def test_the_model_keeps_its_gradients():
    model = Between(torch.relu).eval()
    model(X).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    exported = pruned(model, X)
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in exported.module.parameters())


def test_a_verification_tells_what_was_not_compared():
    told = "verified, relative error 1.0e-15, gradients"
    assert str(Verification(1e-15, 1.0, None)) == f"{told} not verified: not asked for"
    assert str(Verification(1e-15, 1.0, None, gradients=2e-14)) == f"{told} 2.0e-14"


class NoDerivative(torch.autograd.Function):
    """Twice the input; its gradient is no number in one place."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        gradient = 2 * gradient
        gradient[0, 0, 0, 0] = float("nan")
        return gradient


def test_a_gradient_that_is_no_number_in_the_export_alone_is_an_error():
    model = Between(lambda x: x * 2).eval()
    broken = swapped_for(pruned(model, X, verify=False), operator.mul, lambda x, _: NoDerivative.apply(x))
    found = verify(model, broken, X)
    assert (
        not found.passed and found.gradients == float("inf") and "outputs agree, but the gradient of" in found.message
    )


class Lengths(nn.Module):
    """hypot has no derivative at (0, 0), where it puts the channels that a mask of outputs drops."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = torch.zeros_like(self.stem(x)) + self.branch(self.stem(x))
        return self.head(torch.hypot(y, functional.relu(y)))


def test_masks_of_outputs_multiply_gradients_too():
    """A gradient that is no number stays so behind a product with zero, in the masked model and in an export."""
    model = Lengths().eval()
    outputs = {"branch.weight": np.arange(8) % 2 == 0}
    found = pruned(model, X, output_masks=outputs).verification
    assert found.passed and found.gradients is None
    assert "the masked model's gradient of" in found.gradients_reason and "is not finite" in found.gradients_reason


@pytest.mark.parametrize("mode", [in_double_precision, lambda: Preservation(nn.Linear(1, 1))])
@pytest.mark.parametrize("write", [lambda x: x.mul_(2), lambda x: torch._foreach_mul_([x], 2)])
def test_dispatch_modes_count_what_is_written(mode, write):
    """A backward pass that needs overwritten values is an error, whether torch counts inside or outside of a mode."""
    x, weight = torch.ones(3, 4), torch.ones(2, 4, requires_grad=True)
    with mode():
        y = functional.linear(x, weight)
        write(x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_group_norms_without_a_gradient_of_their_input_do_not_bring_the_process_down():
    """In channels_last torch 2.13 crashes there (without a dispatch mode)."""
    x, weight = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last), torch.ones(4, requires_grad=True)
    with in_double_precision():
        functional.group_norm(x, 2, weight).sum().backward()
    assert weight.grad.shape == (4,) and weight.grad.isfinite().all()


def test_values_overwritten_through_a_list_are_not_compared():
    """The masked model's own backward pass is an error there; an export that reads a copy has one."""

    class Overwriting(Between):
        def forward(self, x):
            y = self.stem(x)
            z = self.head(y)
            torch._foreach_add_([y], 0.5)
            return z

    found = pruned(Overwriting(None).eval(), X, verify=True).verification
    assert found.message is None and "has no backward pass" in found.gradients_reason


class Overwritten(nn.Module):
    """Forward writes into what its backward pass needs: autograd does not see it, or refuses."""

    def __init__(self, write):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.write = write

    def forward(self, x):
        y = self.stem(x)
        z = self.body(y)
        self.write(y, z)
        return self.head(z)


WRITES = {
    "what was read, behind autograd": lambda y, z: y.data.mul_(0.5),
    "the result of an exponential, behind autograd": lambda y, z: z.exp_().data.mul_(0.5),
}


@pytest.mark.parametrize("sides", ["inputs", "outputs"])
@pytest.mark.parametrize("how", WRITES)
def test_gradients_of_overwritten_values_are_not_compared(how, sides):
    """What is learned depends on whether a layer reads a copy; outputs are right anyway."""
    model = Overwritten(WRITES[how]).eval()
    outputs = {"stem.weight": np.arange(8) % 3 > 0} if sides == "outputs" else None
    found = pruned(model, X, output_masks=outputs).verification
    assert found.passed and found.relative_error <= 1e-9
    assert found.gradients is not None or "writes into what its own backward pass needs" in found.gradients_reason


def test_a_wrong_gradient_of_a_network_that_overwrites_nothing_stays_one():
    """Also where a mask of outputs copies: the product with one changes nothing."""
    model = Between(lambda x: x * 2).eval()
    exported = pruned(model, X, output_masks={"stem.weight": np.arange(8) % 3 > 0}, verify=False)
    broken = swapped_for(exported, operator.mul, lambda x, factor: x.detach() * factor)
    found = verify(model, broken, X)
    assert not found.passed and found.gradients > 1e-3


def test_nobody_keeps_a_masked_model_that_has_done_its_work():
    """Without garbage collection: those of large networks would fill the memory until it comes to be."""
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    verifier = Verifier(model, (x,), MaskedGraph(graph, l2_masks(graph, 0.5)))
    assert verifier.gradients.reason is None
    masked = weakref.ref(verifier.masked)
    gc.collect()
    gc.disable()
    try:
        del verifier
        assert masked() is None
    finally:
        gc.enable()


class Cached(nn.Module):
    """In eval mode, rows of a parameter are picked once and kept, as timm does with biases of attention."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.biases = nn.Parameter(torch.randn(6))
        self.register_buffer("places", torch.arange(8) % 6, persistent=False)
        self.known = {}

    def forward(self, x):
        if "all" not in self.known:
            self.known["all"] = self.biases[self.places]
        return self.last(self.first(x).relu() + self.known["all"].view(1, 8, 1, 1))


def test_what_a_network_keeps_between_calls_has_gradients_in_the_masked_model_too():
    model, x = Cached().eval(), (torch.randn(2, 3, 4, 4),)
    found = export(model, x, masks={"last.weight": np.arange(8) % 2 == 0}, baseline=True).verification
    assert found.gradients is not None and found.gradients <= 1e-9
    assert not model.known
