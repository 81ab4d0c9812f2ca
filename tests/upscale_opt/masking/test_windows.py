"""Tests of windows that do not fit."""

import numpy as np
import pytest
import torch
from window_choices import PreActivation

from upscale_opt import MaskError, PlanError, prepare, trace
from upscale_opt.masking.windows import WindowChoice, window_masks
from upscale_opt.planning.window_plans import window_plan


@pytest.fixture(scope="module")
def traced():
    model, x = PreActivation().eval(), torch.zeros(1, 3, 8, 8)
    return model, x, trace(model, x)


@pytest.mark.parametrize(
    ("order", "windows", "message"),
    [
        ([1, 1], {}, "every stored channel once"),
        ([], {}, "at least one channel"),
        ([0, 1], {"head": (0, 3)}, "within the 2 positions"),
        ([0, 1], {"head": (1, 1)}, "within the 2 positions"),
        ([0, 1], {"head": 1}, "first position"),
        ([0, 1], {"head": (0.0, 1)}, "first position"),
    ],
)
def test_windows_are_ranges_of_an_order(order, windows, message):
    with pytest.raises(MaskError, match=message):
        WindowChoice(order, windows)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"stm": WindowChoice([0])}, "did you mean stem"),
        ({"stem": WindowChoice([16])}, "has 16 channels"),
        ({"stem": WindowChoice([0], {"write first.0": (0, 1)})}, "no access 'write first.0'; did you mean"),
        ({"stem": [0, 1]}, "give a WindowChoice"),
    ],
)
def test_choices_that_do_not_fit_are_refused(traced, choices, message):
    with pytest.raises(MaskError, match=message):
        window_masks(traced[2], choices)


def test_a_plan_refuses_windows_whose_masks_are_others(traced):
    model, x, graph = traced
    masked = prepare(model, x, window_masks(graph, {"stem": WindowChoice(np.arange(9))}), graph=graph)
    with pytest.raises(PlanError, match="channel 8 of block 'stem' is stored"):
        window_plan(masked, masked.problems, {"stem": WindowChoice(np.arange(8))})
