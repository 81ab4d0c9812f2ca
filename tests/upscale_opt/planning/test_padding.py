"""Channels that are stored although no consumer keeps them: which, how many, and that exports stay exact."""

import networks
import numpy as np
import pytest
import torch
from measuring import masked
from torch import nn

from upscale_opt import (
    MaskedGraph,
    Plan,
    PlanError,
    effective_masks,
    export,
    l2_masks,
    load,
    plan,
    prune,
    read_plan,
    save_plan,
    trace,
)
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.padding import group_norms, paddable, padded, rounded_up, stored_widths, summary
from upscale_opt.planning.plan_files import plan_from_dict, plan_to_dict


def test_the_strongest_of_the_dropped_channels_are_stored():
    _, _, graph, masks = masked(networks.Residual)
    name, (stored, size) = next((name, own) for name, own in paddable(masks).items() if own[1] - own[0] > 2)
    wider = padded(masks, {name: stored + 2})
    b = next(b for b, block in enumerate(graph.blocks) if block.name == name)
    own = slice(graph.offsets[b], graph.offsets[b + 1])
    dropped, scores = np.flatnonzero(~masks.stored[own]), group_norms(graph)[own]
    assert wider.padding[name].tolist() == sorted(dropped[np.argsort(-scores[dropped])][:2].tolist())
    assert stored_widths(wider)[name] == stored + 2 <= size
    assert {n: w for n, w in stored_widths(wider).items() if n != name} == {
        n: w for n, w in stored_widths(masks).items() if n != name
    }


def test_group_norms_sum_the_squares_of_all_weights_that_read_a_channel():
    model, _, graph, _ = masked(networks.Shared)
    norms, expected = group_norms(graph), np.zeros(graph.offsets[-1])
    for read in graph.reads:
        weight = model.get_parameter(read.weight).detach().double().transpose(0, read.input_axis)
        squares = weight.reshape(weight.shape[0], -1).square().sum(1).numpy()
        np.add.at(expected, graph.numbers(read.input), squares)
    assert np.allclose(norms, expected, rtol=1e-5)


@pytest.mark.parametrize("multiple", [1, 4, 8, 1000])
def test_widths_are_rounded_up_to_a_multiple_or_to_all_there_are(multiple):
    _, _, _, masks = masked(networks.Residual)
    wider = padded(masks, rounded_up(masks, multiple))
    for name, (stored, size) in paddable(masks).items():
        width = stored_widths(wider)[name]
        assert stored <= width <= size and (width % multiple == 0 or width == size) and width - stored < multiple
    assert bool(wider.padding) == (multiple > 1)
    added = sum(map(len, wider.padding.values()))
    assert summary(wider).endswith(f"{added} of them to align" if added else "channels")


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted, networks.Flattened])
@pytest.mark.parametrize("objective", ["traffic", "copies"])
def test_padded_exports_compute_what_the_masked_network_computes(network, objective, tmp_path):
    model, inputs, graph, masks = masked(network)
    made = prune(model, inputs, masks=masks, graph=graph).align(8)
    assert made.padding
    exported = made.export(made.solve(objective=objective, time_limit=1))
    assert exported.verification.passed and exported.plan.padding.keys() == made.padding.keys()
    save_plan(exported.plan, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert again == exported.plan
    loaded = load(again, model, exported.module.state_dict(), inputs)
    with torch.inference_mode():
        assert torch.equal(loaded.module(*inputs), exported.module(*inputs))
    module = made.floor()
    assert module(*inputs).shape == model(*inputs).shape


def test_blocks_of_convolutions_with_groups_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 4, 1))
    graph = trace(model.eval(), torch.zeros(1, 3, 8, 8))
    masks = effective_masks(graph, l2_masks(graph, 0.5))
    grouped = {graph.blocks[b].name for read in graph.grouped for b in (*read.input.blocks, *read.output.blocks)}
    assert grouped and paddable(masks) and not grouped & paddable(masks).keys()


def test_alignment_is_taken_back_and_taken_anew():
    model, inputs, graph, masks = masked(networks.Residual)
    made = prune(model, inputs, masks=masks, graph=graph)
    assert not made.align(8).align("off").padding
    assert made.align(8).align(4).padding.keys() == made.align("4").padding.keys()
    for wrong in ("8.5", "much", 0, -4, True, 2.5):
        with pytest.raises(PlanError, match="to"):
            made.align(wrong)


def test_widths_that_cannot_be_are_refused():
    _, _, graph, masks = masked(networks.Residual)
    name, (stored, size) = next(iter(paddable(masks).items()))
    for width in (stored - 1, size + 1):
        with pytest.raises(PlanError, match=f"give {stored} to {size}"):
            padded(masks, {name: width})
    with pytest.raises(PlanError, match="not free"):
        padded(masks, {"nothing": 8})
    with pytest.raises(PlanError, match="no block 'nothing'"):
        MaskedGraph(graph, masks.masks, padding={"nothing": np.array([0])})
    with pytest.raises(PlanError, match="cannot be padded"):
        MaskedGraph(graph, masks.masks, padding={name: np.array([size])})


def test_plans_whose_padding_does_not_fit_are_refused():
    model, inputs, graph, masks = masked(networks.Residual)
    wider = padded(masks, rounded_up(masks, 8))
    problems = problems_of(wider)
    from solvers import solve

    chosen = plan(problems, masks.masks, {name: solve(own, solver="greedy") for name, own in problems.items()})
    assert chosen.padding.keys() == wider.padding.keys()
    name = next(iter(chosen.padding))
    bare = Plan(chosen.masks, chosen.orders, chosen.readings)
    with pytest.raises(PlanError, match="does not fit"):
        export(model, inputs, bare, graph=graph)
    document = plan_to_dict(chosen)
    document["padding"][name] = [10**6]
    with pytest.raises(Exception, match=f"pads block '{name}'"):
        plan_from_dict(document)
    with pytest.raises(Exception, match="'padding'"):
        plan_from_dict({**plan_to_dict(chosen), "version": 6})
