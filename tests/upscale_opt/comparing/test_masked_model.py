"""Tests of masked models: chosen or given masks, and a road on which every step hangs on the one before."""

import networks
import numpy as np
import pytest
import torch

from problems import ProblemError
from solvers import SolverError, Status
from upscale_opt import (
    AnalyticCosts,
    MaskedModel,
    MaskError,
    ModelReference,
    Plan,
    constrained_masks,
    effective_masks,
    importance_masks,
    l2_masks,
    l2_output_masks,
    load,
    prune,
    trace,
    verify,
)


@pytest.fixture(scope="module")
def network():
    return networks.make(networks.Residual)


@pytest.fixture(scope="module")
def masked(network):
    return prune(*network, 0.5)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_masks_are_those_of_the_functions_that_choose_them(network):
    model, x = network
    graph = trace(model, x)
    assert same(prune(model, x).masks, effective_masks(graph, l2_masks(graph, 0.5)).masks)
    assert same(prune(model, x, 0.3, graph=graph).masks, effective_masks(graph, l2_masks(graph, 0.3)).masks)
    l1 = effective_masks(graph, importance_masks(graph, "l1", 0.4, scope="global")).masks
    assert same(prune(model, x, 0.4, importance="l1", scope="global").masks, l1)
    agreed = constrained_masks(graph, 0.5, round_to=4)
    assert same(prune(model, x, 0.5, mode="constrained", round_to=4).masks, effective_masks(graph, agreed).masks)
    produced = prune(model, x, 0.5, mode="output")
    assert same(produced.output_masks, l2_output_masks(graph, 0.5)) and produced.masks["down.weight"].all()
    both = prune(model, x, 0.5, mode="both")
    assert same(both.output_masks, l2_output_masks(graph, 0.5)) and not both.masks["down.weight"].all()


@pytest.mark.parametrize("mode", ["input", "output", "both", "constrained"])
def test_exports_of_every_mode_are_exact(network, mode):
    masked = prune(*network, 0.5, mode=mode)
    for exported in (masked.export(), masked.export(masked.solve("greedy")), masked.export(masked.baseline_plan())):
        assert exported.verification.passed and exported.verification.relative_error < 1e-12
        assert same(exported.plan.masks, masked.masks) and same(exported.plan.output_masks, masked.output_masks)


def test_every_step_hangs_on_the_one_before(network, masked):
    model, x = network
    results = masked.solve(objective="traffic")
    assert results.keys() == masked.problems.keys()
    assert all(result.status is Status.OPTIMAL for result in results.values())
    chosen = masked.plan(results)
    assert isinstance(chosen, Plan) and chosen == masked.plan(results)
    exported = masked.export(chosen, verify=False)
    assert exported.verification is None and verify(model, exported, x).passed
    assert masked.verifier().check(exported).passed
    again = load(chosen, model, model.state_dict(), x)
    assert torch.equal(again.module(*x), exported.module(*x))
    for name, mask in masked.masks.items():
        weight = masked.masked_copy().get_parameter(name)
        assert not weight[:, torch.from_numpy(~mask)].any()
    assert masked.floor()(*x).shape == exported.module(*x).shape


def test_objectives_that_use_tables_get_them(masked):
    assert masked.costs is None and masked.for_objective("copies") is masked
    priced = masked.for_objective("latency")
    assert priced.costs == AnalyticCosts() and priced.for_objective("latency") is priced
    results = masked.solve(objective="latency", time_limit=2)
    assert all(result.evaluation.ticks >= 1 for result in results.values())
    assert masked.solve("greedy", objective="latency", costs=AnalyticCosts()).keys() == results.keys()


def test_solvers_are_compared(masked):
    comparison = masked.compare(("greedy", "auto"), objective="span", measure=False)
    assert comparison.masked is masked and comparison.solvers == ("greedy", "auto")
    assert set(comparison.exports) == {"baseline", "greedy", "auto"}
    assert "greedy" in str(comparison) and comparison.to_dict()["objective"] == "span"


def test_masks_can_be_given(network, masked):
    given = prune(*network, masks={"down": [0, 1, 2]})
    assert given.masks["down.weight"].sum() == 3
    rows = prune(*network, output_masks={"stem": [0, 5]})
    assert rows.output_masks["stem.weight"].sum() == 2 and rows.export().verification.passed


def test_what_is_short_is_shown_short(masked):
    assert isinstance(masked, MaskedModel)
    assert repr(masked).startswith("<MaskedModel Residual: ") and len(repr(masked)) < 120


def test_what_does_not_go_together_is_one_sentence(network, masked):
    with pytest.raises(MaskError, match="give either masks or an amount, not both"):
        prune(*network, 0.5, masks={"down": [0]})
    with pytest.raises(MaskError, match="there is no mode 'inputs'; choose from input, "):
        prune(*network, 0.5, mode="inputs")
    with pytest.raises(MaskError, match="seed"):
        prune(*network, 0.5, importance="random", seed=-1)
    with pytest.raises(SolverError, match="no solver 'gurobi'"):
        masked.solve("gurobi")
    with pytest.raises(ProblemError, match="no objective 'time'"):
        masked.solve(objective="time")


def test_a_plan_may_say_how_to_build_the_model_again():
    model, inputs = networks.make(networks.Residual)
    masked, reference = prune(model, inputs, 0.5), ModelReference("resnet18")
    assert masked.plan(masked.solve("greedy"), model=reference).model == reference
