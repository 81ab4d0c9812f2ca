"""Tests of output-side pruning: where producers' masks apply, what is zero behind them, and that exports are exact."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from problems import Order, evaluate
from solvers import solve
from upscale_opt import MaskError, PlanError, effective_masks, export, extract, plan, trace
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.output_masks import l2_output_masks, maskable_producers, normalise_output_masks
from upscale_opt.modules.writes import RangeAdd, ScatterAdd
from upscale_opt.planning.plan_files import plan_from_dict, plan_to_dict
from upscale_opt.tracing.writes import writes_of, zero_channels


def random_outputs(graph, rng, keep=0.5):
    masks = {}
    for weight, write in maskable_producers(graph).items():
        masks[weight] = rng.random(sum(graph.blocks[b].size for b in write.layout.blocks)) < keep
        masks[weight][rng.integers(len(masks[weight]))] = True
    return masks


def exported(model, inputs, masks, outputs, rng, objective):
    """An export in random orders, verified."""
    from random_plans import random_plan

    graph = trace(model, inputs)
    problems = extract(graph, masks, output_masks=outputs)
    chosen = random_plan(problems, masks, rng, objective)
    chosen = plan_from_dict(plan_to_dict(type(chosen)(chosen.masks, chosen.orders, chosen.readings, None, outputs)))
    return export(model, inputs, chosen, graph=graph)


@pytest.mark.parametrize("kind", [networks.Residual, networks.Dense, networks.Inverted, networks.Sliced, networks.Two])
@pytest.mark.parametrize("objective", ["copies", "span"])
@pytest.mark.parametrize("both", [False, True], ids=["output", "both"])
def test_exports_of_output_masks_are_exact(kind, objective, both, planned):
    for seed in range(3):
        model, inputs = networks.make(kind, seed)
        rng = np.random.default_rng(seed)
        graph, masks, *_ = planned(model, inputs, seed=seed, keep=0.8 if both else 1.0)
        assert exported(model, inputs, masks, random_outputs(graph, rng, 0.7), rng, objective).verification.passed


def test_writes_are_views_over_writes_and_scatters():
    """The three forms of a write in an export: a range, a range with rows of zeros, and an index."""
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    masks = effective_masks(graph).masks
    outputs = {weight: np.arange(16) % 2 == 0 for weight in ("blocks.0.conv2.weight", "blocks.1.conv2.weight")}
    outputs["blocks.2.conv2.weight"] = np.arange(16) < 6
    problems = extract(graph, masks, output_masks=outputs)
    for objective, modes in (("copies", ["copy", "copy", "view"]), ("span", ["over-read", "over-read", "view"])):
        evaluations = {
            name: evaluate(problem, Order.identity(problem), objective) for name, problem in problems.items()
        }
        found = {access.name: access.mode for own in evaluations.values() for access in own.accesses}
        assert [found[f"write blocks.{i}.conv2"] for i in range(3)] == modes
    rng = np.random.default_rng(0)
    for objective, kinds in (("copies", {ScatterAdd}), ("span", {RangeAdd})):
        module = exported(model, inputs, masks, outputs, rng, objective).module
        assert {type(own) for own in module.modules()} & {ScatterAdd, RangeAdd} == kinds


def test_masks_apply_behind_the_last_module_of_the_chain():
    model, inputs = networks.make(networks.Inverted)
    writes = writes_of(trace(model, inputs))
    assert writes["expand.weight"].module == "depthwise" and writes["expand.weight"].addition is None
    assert writes["project.weight"].module == "project" and writes["project.weight"].addition == "add"


def test_zeros_pass_what_keeps_them_and_stop_at_biases():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(n, 6, 1) for n in (3, 6, 12))
            self.bn = nn.BatchNorm2d(12)

        def forward(self, x):
            x = torch.relu(self.a(x))
            y = self.b(x)
            return self.c(self.bn(torch.cat([x, y], 1)))

    graph = trace(Net().eval(), torch.zeros(1, 3, 4, 4))
    zeros = zero_channels(graph, {"a.weight": np.arange(6) < 4})
    assert zeros["relu"].tolist() == [False] * 4 + [True] * 2
    assert zeros["cat"].tolist() == [False] * 4 + [True] * 2 + [False] * 6
    assert "bn" not in zeros
    masked = MaskedGraph(graph, {}, {"a.weight": np.arange(6) < 4})
    kept = {read.name: int(masked.kept(read).sum()) for read in graph.reads}
    assert kept == {"a": 3, "b": 4, "c": 12}


def test_what_an_addition_in_place_overwrites_is_not_taken_for_zero():
    model, inputs = networks.make(networks.InPlace)
    graph = trace(model, inputs)
    zeros = zero_channels(graph, {"stem.weight": np.arange(8) < 4})
    assert "getitem" not in zeros


def test_a_producer_of_which_nothing_is_stored_is_dropped():
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    some = np.arange(16) < 8
    readers = ("blocks.0.conv1.weight", "blocks.1.conv1.weight", "blocks.2.conv1.weight", "down.weight")
    masks = effective_masks(graph, dict.fromkeys(readers, some)).masks
    rng = np.random.default_rng(0)
    result = exported(model, inputs, masks, {"blocks.1.conv2.weight": ~some}, rng, "copies")
    assert "blocks_1_conv2" not in [node.name for node in result.module.graph.nodes]


def test_l2_output_masks_remove_the_weakest_rows_and_leave_pinned_ones():
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    masks = l2_output_masks(graph, 0.25)
    assert {weight: int((~mask).sum()) for weight, mask in masks.items()} == {
        "stem.weight": 4,
        **{f"blocks.{i}.conv{j}.weight": 4 for i in range(3) for j in (1, 2)},
        "down.weight": 6,
    }
    norms = model.down.weight.detach().flatten(1).norm(dim=1).numpy()
    assert norms[~masks["down.weight"]].max() < norms[masks["down.weight"]].min()


def test_output_masks_that_do_not_fit_are_refused():
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    with pytest.raises(MaskError, match="did you mean down"):
        normalise_output_masks(graph, {"dwn": np.ones(24, dtype=bool)})
    with pytest.raises(MaskError, match="must have length 24"):
        normalise_output_masks(graph, {"down": np.ones(23, dtype=bool)})
    with pytest.raises(MaskError, match="keep at least one"):
        normalise_output_masks(graph, {"down": np.zeros(24, dtype=bool)})
    masks = effective_masks(graph).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, solver="identity") for name, problem in problems.items()}
    chosen = plan(problems, masks, results, output_masks={"x": np.ones(24, dtype=bool)})
    with pytest.raises(PlanError, match="cannot be"):
        export(model, inputs, chosen, graph=graph)
