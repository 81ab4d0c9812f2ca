"""Tests of amounts, L2 masks, accepted forms, and what happens to a mask that keeps nothing."""

import networks
import numpy as np
import pytest
import torch

from upscale_opt import MaskError, effective_masks, l2_masks, l2_output_masks, normalise_masks, trace
from upscale_opt.arguments.amounts import num_removed


@pytest.fixture
def graph():
    return trace(*networks.make(networks.Residual))


@pytest.mark.parametrize(
    ("amount", "channels", "removed"),
    [(0.5, 64, 32), (0.5, 7, 3), (0.9, 10, 9), (0.7, 10, 7), (0.29, 100, 29), (0, 5, 0), (0.999, 3, 2), ("0.1", 30, 3)],
)
def test_amounts_round_down_exactly_and_keep_one(amount, channels, removed):
    assert num_removed(amount, channels) == removed


@pytest.mark.parametrize("amount", [1, 1.0, -0.1, "half", float("nan"), float("inf")])
def test_amounts_outside_the_range_are_refused(amount):
    with pytest.raises(MaskError, match="share of channels to remove"):
        num_removed(amount, 10)


def test_l2_masks_drop_the_weakest_channels_of_convolutions_behind_the_stem(graph):
    masks = l2_masks(graph, 0.5)
    assert "stem.weight" not in masks and "head.weight" not in masks
    weight = graph.module.get_parameter("down.weight")
    norms = weight.detach().pow(2).sum((0, 2, 3))
    expected = np.zeros(16, dtype=bool)
    expected[norms.argsort(descending=True)[:8]] = True
    assert np.array_equal(masks["down.weight"], expected)


def test_l2_ties_go_to_the_lower_index(graph):
    with torch.no_grad():
        graph.module.get_parameter("down.weight").fill_(1.0)
    assert l2_masks(graph, 0.25)["down.weight"].tolist() == [False] * 4 + [True] * 12


def test_all_accepted_forms_mean_the_same(graph):
    kept = [0, 3, 5]
    boolean = np.zeros(16, dtype=bool)
    boolean[kept] = True
    pruned = [("down.weight", c) for c in range(16) if c not in kept]
    for form in (
        {"down.weight": boolean},
        {"down": torch.from_numpy(boolean)},
        {"down.weight": boolean.tolist()},
        {"down": kept},
        {"down.weight": boolean.astype(int)},
        pruned,
    ):
        result = normalise_masks(graph, form)
        assert list(result) == ["down.weight"] and np.array_equal(result["down.weight"], boolean)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"down.weight": np.ones(15, dtype=bool)}, "must have length 16"),
        ({"down": [16]}, "keeps channel 16"),
        ({"down": [-1]}, "channel -1, which does not exist"),
        ({"down": [0.5]}, "Boolean, or a list of kept channels"),
        ({"dawn": [0]}, "did you mean down"),
        ({"bn.weight": [0]}, "is no convolution"),
        ([("down.weight", 16)], "does not exist"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(graph, masks, message):
    with pytest.raises(MaskError, match=message):
        normalise_masks(graph, masks)


def test_effective_masks_take_every_form_and_refuse_unknown_names(graph):
    kept = np.arange(16) != 1
    for given in ({"down.weight": kept}, {"down": np.flatnonzero(kept).tolist()}, [("down.weight", 1)]):
        assert effective_masks(graph, given).masks["down.weight"].tolist() == kept.tolist()
    with pytest.raises(MaskError, match="nowhere"):
        effective_masks(graph, {"nowhere": kept})


def test_zeroed_input_channels_are_picked_up(graph):
    with torch.no_grad():
        graph.module.get_parameter("down.weight")[:, [2, 7]] = 0
    masks = effective_masks(graph).masks
    assert np.flatnonzero(~masks["down.weight"]).tolist() == [2, 7]
    assert masks["stem.weight"].all()


def test_tiny_weights_are_not_zero(graph):
    """A square of 1e-30 underflows."""
    with torch.no_grad():
        graph.module.get_parameter("down.weight")[:, 2] = 1e-30
    assert effective_masks(graph).masks["down.weight"].all()


def test_a_mask_that_keeps_nothing_keeps_the_strongest_channel_and_says_so(graph):
    result = effective_masks(graph, {"down.weight": np.zeros(16, dtype=bool)})
    norms = graph.module.get_parameter("down.weight").detach().pow(2).sum((0, 2, 3))
    assert np.flatnonzero(result.masks["down.weight"]).tolist() == [int(norms.argmax())]
    assert len(result.messages) == 1 and "down.weight keeps nothing" in result.messages[0]


def test_channels_that_nobody_computes_are_dropped_first():
    """Behind an output mask at 0.75, a consumer at 0.5 keeps all that is computed, and then its largest norms."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 1), torch.nn.Conv2d(16, 8, 1), torch.nn.Conv2d(8, 2, 1)).eval()
    graph = trace(model, torch.zeros(1, 3, 4, 4))
    outputs = l2_output_masks(graph, 0.75)
    masks = l2_masks(graph, 0.5, output_masks=outputs)
    assert outputs["0.weight"].sum() == 4 and masks["1.weight"].sum() == 8
    assert masks["1.weight"][outputs["0.weight"]].all()
    alone = l2_masks(graph, 0.5)
    assert not alone["1.weight"][outputs["0.weight"]].all()
    assert (masks["1.weight"] & ~outputs["0.weight"]).sum() == 4
