"""Tests on torchvision's networks: nothing pinned but inputs and outputs, exports exact at three amounts.

Every network at every amount is the sweep of `benchmarks.coverage`; these are a few of each family.
"""

import pytest
import torch

from benchmarks.coverage.networks import input_shape
from solvers import solve
from upscale_opt import ModelReference, effective_masks, export, extract, l2_masks, load_model, plan, trace, verify

QUICK = ("resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5")
REST = (
    "regnet_x_400mf",
    *("densenet121", "googlenet", "convnext_tiny", "swin_t", "lraspp_mobilenet_v3_large"),
    *("resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "vgg11", "vgg16_bn", "alexnet"),
    *("mobilenet_v2", "mnasnet1_0", "efficientnet_b0", "efficientnet_v2_s", "inception_v3", "regnet_y_400mf"),
    *("vit_b_32", "swin_v2_t", "maxvit_t", "fcn_resnet50", "deeplabv3_mobilenet_v3_large"),
)
AMOUNTS = (0.1, 0.5, 0.9)

PINS = {
    **{f"swin_v2_{size}": {"no rule for _get_relative_position_bias"} for size in "tsb"},
    # Heads and windows share dimensions with the channels of queries, keys and values.
    "maxvit_t": {
        "einsum of split channels",
        "mul of split channels",
        "its number of channels is used in a computation",
    },
}
"""Why networks pin channels; nothing else may, and in networks that are not named here nothing."""


def check(name, amount, solver, time_limit, shape=None):
    x = torch.zeros(shape or input_shape(name))
    model = load_model(ModelReference(name))
    graph = trace(model, x)
    assert {pin.reason for pin in graph.unsupported} <= PINS.get(name, set())
    masks = effective_masks(graph, l2_masks(graph, amount)).masks
    problems = extract(graph, masks)
    results = {segment: solve(problem, solver=solver, time_limit=time_limit) for segment, problem in problems.items()}
    exported = export(model, x, plan(problems, masks, results), graph=graph)
    assert exported.verification.relative_error <= 1e-9
    assert exported.verification.negative_control > 1e-6


@pytest.mark.parametrize("name", QUICK)
def test_greedy_exports_of_quick_networks_are_exact(name):
    """Small images; the slow tests have large ones."""
    check(name, 0.5, "greedy", 1, (1, 3, 64, 64))


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 5), marks=pytest.mark.slow)])
def test_verification_is_well_conditioned_for_any_seed(seeds):
    """Random statistics once let rounding noise grow to 1e-6 behind saturated squeeze-and-excitation gates."""
    model, x = load_model(ModelReference("efficientnet_b0")), torch.zeros(1, 3, 64, 64)
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    problems = extract(graph, masks)
    results = {segment: solve(problem, solver="greedy") for segment, problem in problems.items()}
    exported = export(model, x, plan(problems, masks, results), graph=graph, verify=False)
    for seed in seeds:
        verification = verify(model, exported, x, seed=seed)
        assert verification.passed and verification.relative_error < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["greedy", "cp-sat"])
@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("name", QUICK + REST)
def test_exports_are_exact(name, amount, solver):
    check(name, amount, solver, 5)
