"""Tests of the reference figures: what apple-upscale 0.1.1 does on the same masks, and never more with cp-sat."""

import pytest
import torch

from solvers import solve
from upscale_opt import ModelReference, effective_masks, extract, l2_masks, load_model, trace

REFERENCES = {"resnet18": (4, 256), "resnet50": (10, 3584), "mobilenet_v2": (5, 208)}


@pytest.mark.parametrize(("name", "expected"), REFERENCES.items())
def test_greedy_copies_what_upscale_copies_and_cp_sat_never_more(name, expected):
    """Seed 0, per-consumer L2 masks at 50 %, objective copies; single-block segments are proven optimal."""
    model = load_model(ModelReference(name))
    graph = trace(model, torch.zeros(1, 3, 224, 224))
    problems = extract(graph, effective_masks(graph, l2_masks(graph, 0.5)).masks)
    greedy = {segment: solve(problem, solver="greedy") for segment, problem in problems.items()}
    copies = sum(result.evaluation.copies for result in greedy.values())
    channels = sum(result.evaluation.copied_channels for result in greedy.values())
    assert (copies, channels) == expected
    for segment, problem in problems.items():
        result = solve(problem, solver="cp-sat", time_limit=60)
        assert result.value <= greedy[segment].value
        assert len(problem.blocks) > 1 or result.status.value == "OPTIMAL"
