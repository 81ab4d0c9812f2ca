"""Tests that exports compute what the masked model computes, and are what they claim to be."""

import subprocess
import sys

import networks
import numpy as np
import pytest
import torch

from problems import Order, evaluate
from upscale_opt import (
    AnalyticCosts,
    PlanError,
    VerificationError,
    export,
    load,
    masked_copy,
    read_plan,
    save_plan,
    trace,
)
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.memory_formats import is_channels_last
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.plans import Plan

OBJECTIVES = ("copies", "span", "traffic", "runs")
JOINS = AnalyticCosts(launch_ns=0, piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
"""Joining is free and everything else is dear: pieces wherever there is more than one run."""


@pytest.mark.parametrize("kind", networks.ALL)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_random_orders_and_masks_export_exactly(kind, objective, planned):
    """The oracle is the masked model in float64, with random statistics, on every odd network."""
    model, inputs = networks.make(kind)
    for seed, keep in enumerate((0.15, 0.5, 0.9)):
        plan = planned(model, inputs, seed=seed, keep=keep, objective=objective)[-1]
        exported = export(model, inputs, plan)
        assert exported.verification.passed and exported.verification.relative_error <= 1e-9
        assert exported.verification.negative_control is None or exported.verification.negative_control > 1e-6


@pytest.mark.parametrize("kind", networks.ALL)
def test_reads_in_pieces_export_exactly(kind, planned):
    """Concatenations of contiguous runs, also of whole channels behind a flatten, against the masked model."""
    model, inputs = networks.make(kind)
    for seed, keep in enumerate((0.15, 0.5, 0.9)):
        plan = planned(model, inputs, seed=seed, keep=keep, objective="latency", costs=JOINS)[-1]
        assert {own.mode for own in plan.readings.values()} <= {"view", "pieces"}
        exported = export(model, inputs, plan)
        assert exported.verification.passed and exported.verification.relative_error <= 1e-9
        if keep == 0.5:
            assert plan.count("pieces")


def test_pieces_are_as_many_narrows_as_there_are_runs(planned):
    """And a plan may ask for pieces where there is a single run, or for any mode but a view anywhere."""
    model, inputs = networks.make(networks.Residual)
    _, masks, problems, plan = planned(model, inputs, objective="latency", costs=JOINS)
    exported = export(model, inputs, plan)
    nodes = {node.name: node for node in exported.module.graph.nodes}
    for problem in problems.values():
        order = Order([plan.orders[block.name] for block in problem.blocks])
        for access in evaluate(problem, order).accesses:
            if plan.readings[access.name].mode == "pieces":
                joined = nodes[access.name.replace(".", "_")].args[0]
                assert joined.target is torch.cat and len(joined.args[0]) == access.runs
                widths = [piece.args[3] for piece in joined.args[0]]
                assert sum(widths) == access.kept and min(widths) > 0
    for mode in ("pieces", "over-read", "copy"):
        same = export(model, inputs, Plan(masks, plan.orders, dict.fromkeys(plan.readings, mode)))
        assert same.verification.passed


def test_pieces_keep_the_memory_format_and_a_dynamic_batch(planned):
    model, inputs = networks.make(networks.Residual)
    _, masks, _, plan = planned(model, inputs, objective="latency", costs=JOINS)
    exported = export(model, inputs, plan, verify=False)
    seen = []
    for node in exported.module.graph.nodes:
        if node.op == "call_module" and node.args[0].target is torch.cat:
            convolution = exported.module.get_submodule(node.target)
            convolution.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    exported.module.to(memory_format=torch.channels_last)(x)
    assert seen and all(y.is_contiguous(memory_format=torch.channels_last) for y in seen if y.ndim == 4)
    clean = export(model, inputs, plan, verify=False)
    program = torch.export.export(clean.module, (x.contiguous(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    y = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(y), masked_copy(model, masks)(y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", networks.ALL)
def test_the_real_weights_give_the_masked_models_output(kind, planned):
    """Independent of `verify`: run both networks as they are, with another batch size than the example's."""
    model, inputs = networks.make(kind)
    _, masks, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan, verify=False)
    batch = tuple(torch.randn(3, *x.shape[1:]) for x in inputs)
    with torch.no_grad():
        expected, found = masked_copy(model, masks)(*batch), exported(*batch)
    pairs = zip(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(expected), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in networks.ALL if kind is not networks.Odd])
def test_the_export_traces_again_to_smaller_weights(kind, planned):
    """A re-trace of the export finds consistent shapes and no module larger than before."""
    model, inputs = networks.make(kind)
    _, _, _, plan = planned(model, inputs, keep=0.3)
    exported = export(model, inputs, plan, verify=False)
    before = dict(model.named_parameters())
    after = dict(exported.module.named_parameters())
    assert all(after[name].numel() <= before[name].numel() for name in after)
    assert sum(p.numel() for p in after.values()) < sum(p.numel() for p in before.values())
    for path, module in exported.module.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups)
            assert tuple(module.weight.shape[:2]) == shape, path


def test_the_given_model_is_untouched(planned):
    model, inputs = networks.make(networks.Residual)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan)
    with torch.no_grad():
        for parameter in exported.module.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_views_and_over_reads_are_narrows_and_copies_are_gathers(planned):
    model, inputs = networks.make(networks.Residual)
    _, _, _, plan = planned(model, inputs, objective="copies")
    exported = export(model, inputs, plan, verify=False)
    gathers = [path for path, module in exported.module.named_modules() if isinstance(module, Gather)]
    assert gathers == [f"{name}_gather" for name, own in plan.readings.items() if own.mode == "copy"]
    _, _, _, plan = planned(model, inputs, objective="span")
    exported = export(model, inputs, plan, verify=False)
    assert not any(isinstance(module, Gather) for module in exported.module.modules())
    assert any(node.target == "narrow" for node in exported.module.graph.nodes)


def test_the_baseline_keeps_the_original_order_and_gathers(planned):
    model, inputs = networks.make(networks.Residual)
    _, masks, problems, plan = planned(model, inputs)
    exported = export(model, inputs, plan, baseline=True)
    assert exported.verification.passed
    for problem in problems.values():
        for block, stored in zip(problem.blocks, problem.stored, strict=True):
            assert np.array_equal(exported.plan.orders[block.name], stored)
    assert exported.plan.readings["down"].mode == "copy"
    same = export(model, inputs, masks=masks, baseline=True, verify=False)
    assert same.plan == exported.plan


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gather_keeps_the_memory_format(channels_last):
    x = torch.randn(2, 6, 4, 5)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    index = torch.tensor([4, 0, 3])
    y = Gather(index, 1)(x)
    assert torch.equal(y, x[:, [4, 0, 3]])
    assert y.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_an_export_keeps_the_memory_format_of_the_weights(planned):
    """A convolution whose input is channels_last and whose weight is not converts the weight in every call."""
    model, inputs = networks.make(networks.Residual)
    graph, _, _, plan = planned(model.to(memory_format=torch.channels_last), inputs)
    exported = export(model, inputs, plan, graph=graph)
    weights = {name: x for name, x in exported.module.named_parameters() if x.ndim == 4}
    assert exported.verification.passed and weights and all(map(is_channels_last, weights.values()))
    assert any(x.shape != dict(model.named_parameters())[name].shape for name, x in weights.items())


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gather_from_a_slice_keeps_the_memory_format(channels_last):
    """As behind a chunk: a slice of a channels_last tensor is stored pixel by pixel, with gaps."""
    x = torch.randn(2, 12, 4, 5)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    half = x.narrow(1, 6, 6)
    y = Gather(torch.tensor([4, 0, 3]), 1)(half)
    assert torch.equal(y, half[:, [4, 0, 3]])
    assert y.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_exports_survive_torch_export_with_a_dynamic_batch(planned):
    model, inputs = networks.make(networks.Residual)
    _, masks, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan, verify=False)
    x = torch.randn(2, 3, 8, 8)
    program = torch.export.export(exported.module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    y = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(y), masked_copy(model, masks)(y), rtol=1e-4, atol=1e-5)


def test_a_wrong_weight_is_found_and_the_first_module_named(planned):
    """Break the rewriting itself: a consumer's columns in the wrong order."""
    from dataclasses import replace

    from upscale_opt.rewriting.exports import ParameterSlice
    from upscale_opt.verifying.verification import Verifier

    model, inputs = networks.make(networks.Residual)
    graph, masks, _, plan = planned(model, inputs, keep=0.9)
    exported = export(model, inputs, plan, verify=False)
    right = exported.slices["blocks.1.conv1.weight"]
    wrong = ParameterSlice({**right.indices, 1: np.roll(right.indices[1], 1)}, right.masks)
    broken = replace(exported, slices={**exported.slices, "blocks.1.conv1.weight": wrong})
    broken.module.load_state_dict(broken.state_of(model.state_dict()))
    verification = Verifier(model, inputs, MaskedGraph(graph, masks)).check(broken)
    assert not verification.passed and verification.first_difference == "blocks.1.conv1"
    with pytest.raises(VerificationError, match=r"blocks\.1\.conv1"):
        Verifier(model, inputs, MaskedGraph(graph, masks)).require(broken)


def test_changed_weights_are_found(planned):
    from upscale_opt import verify

    model, inputs = networks.make(networks.Residual)
    _, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan)
    with torch.no_grad():
        exported.module.down.weight[0, 0] += 1
    verification = verify(model, exported, inputs)
    assert not verification.passed and "down.weight" in verification.message


def test_a_constant_output_proves_nothing(planned):
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.b(self.a(x)) * 0 + 1

    model = Constant().eval()
    _, _, _, plan = planned(model, (torch.zeros(1, 3, 4, 4),))
    with pytest.raises(VerificationError, match="does not vary"):
        export(model, torch.zeros(1, 3, 4, 4), plan)


def test_plans_round_trip_through_a_file(planned, tmp_path):
    model, inputs = networks.make(networks.Sliced)
    _, _, _, plan = planned(model, inputs)
    save_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("pruned", [False, True])
def test_load_takes_the_original_or_the_pruned_state_dict(planned, pruned):
    model, inputs = networks.make(networks.Inverted)
    _, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan, verify=False)
    state = exported.module.state_dict() if pruned else model.state_dict()
    other, _ = networks.make(networks.Inverted, seed=5)
    again = load(plan, other, state, inputs)
    assert again.module.code == exported.module.code
    for name, tensor in exported.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor)
    assert torch.equal(again(*inputs), exported(*inputs))


def test_load_refuses_a_foreign_state_dict(planned):
    model, inputs = networks.make(networks.Inverted)
    other, _ = networks.make(networks.Residual)
    _, _, _, plan = planned(model, inputs)
    with pytest.raises(PlanError, match="neither the original model's nor the export's"):
        load(plan, model, other.state_dict(), inputs)


def test_plans_that_do_not_fit_are_refused(planned):
    model, inputs = networks.make(networks.Residual)
    _, masks, _, plan = planned(model, inputs, objective="copies")
    other, other_inputs = networks.make(networks.Dense)
    with pytest.raises(PlanError, match="made for another model"):
        export(other, other_inputs, plan)
    with pytest.raises(PlanError, match="has length 3"):
        export(model, inputs, Plan({**masks, "down.weight": np.ones(3, dtype=bool)}, plan.orders, plan.readings))
    with pytest.raises(PlanError, match="not a permutation"):
        export(model, inputs, Plan(masks, {**plan.orders, "stem": plan.orders["stem"][1:]}, plan.readings))
    name = next(name for name, own in plan.readings.items() if own.mode == "copy")
    with pytest.raises(PlanError, match="not contiguous"):
        export(model, inputs, Plan(masks, plan.orders, {**plan.readings, name: "view"}))
    with pytest.raises(PlanError, match="needs a plan"):
        export(model, inputs)


@pytest.mark.slow
def test_another_process_recreates_the_export_without_ortools(planned, tmp_path):
    """From plan file and weights alone; OR-Tools is made impossible to import."""
    model, inputs = networks.make(networks.Dense)
    _, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan)
    exported.save(tmp_path)
    torch.save({"x": inputs[0], "y": exported(*inputs)}, tmp_path / "expected.pt")
    script = f"""
import sys
sys.modules["ortools"] = None
sys.path.insert(0, {str(networks.__file__).rpartition("/")[0]!r})
import networks, torch, upscale_opt
from upscale_opt.models.loading import read_state_dict
torch.set_num_threads({torch.get_num_threads()})
expected = torch.load({str(tmp_path / "expected.pt")!r})
model, _ = networks.make(networks.Dense, seed=9)
plan = upscale_opt.read_plan({str(tmp_path / "plan.json")!r})
state = read_state_dict({str(tmp_path / "model.safetensors")!r})
again = upscale_opt.load(plan, model, state, expected["x"])
assert torch.equal(again(expected["x"]), expected["y"])
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_verification_can_be_left_out(planned):
    model, inputs = networks.make(networks.Residual)
    graph, _, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan, verify=False, graph=graph)
    assert exported.verification is None and "not verified" in str(exported)
    assert trace(model, inputs).consumers.keys() == graph.consumers.keys()
