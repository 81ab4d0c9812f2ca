"""Tests of masks that contradict each other or themselves, and of layers that share one weight in two ways."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import (
    AnalyticCosts,
    MaskError,
    Plan,
    PlanError,
    effective_masks,
    export,
    extract,
    l2_masks,
    l2_output_masks,
    masked_copy,
    normalise_masks,
    normalise_output_masks,
    plan,
    prune,
    trace,
)
from upscale_opt.latency.calibration import keys_of
from upscale_opt.masking.masked_graph import MaskedGraph

X = torch.zeros(1, 3, 8, 8)


def chain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)).eval()


def test_two_masks_of_one_consumer_must_be_the_same():
    graph = trace(chain(), X)
    with pytest.raises(MaskError, match=r"'1' and '1\.weight' name the same weight and have different masks"):
        normalise_masks(graph, {"1": [0, 1], "1.weight": [5]})
    with pytest.raises(MaskError, match=r"'module\.1' and '1' name the same weight"):
        extract(graph, {"module.1": [0, 1], "1": [5]})
    with pytest.raises(MaskError, match=r"'1' and '1\.weight' name the same weight"):
        export(chain(), X, masks={"1": [0, 1], "1.weight": [5]}, baseline=True)
    with pytest.raises(MaskError, match=r"'1' and '1\.weight' name the same weight"):
        masked_copy(chain(), {"1": [0, 1], "1.weight": [5]})
    with pytest.raises(MaskError, match=r"'0' and '0\.weight' name the same weight and have different output masks"):
        normalise_output_masks(graph, {"0": [0, 1], "0.weight": [5]})
    same = normalise_masks(graph, {"1": [0, 1], "1.weight": np.arange(8) < 2})
    assert np.flatnonzero(same["1.weight"]).tolist() == [0, 1]


def test_tied_weights_have_one_mask():
    model = chain()
    model[1].weight = model[2].weight = nn.Parameter(torch.randn(8, 8, 1, 1))
    model[2].bias = nn.Parameter(torch.zeros(8))
    graph = trace(model, X)
    with pytest.raises(MaskError, match=r"'1\.weight' and '2\.weight' name the same weight and have different masks"):
        effective_masks(graph, {"1.weight": [0, 1], "2.weight": [2]})
    assert list(normalise_masks(graph, {"1": [3], "2": [3]})) == ["1.weight"]


def test_lists_of_kept_channels_name_each_once():
    graph = trace(chain(), X)
    with pytest.raises(MaskError, match="channel 1 more than once"):
        normalise_masks(graph, {"1": [0, 1, 1]})
    with pytest.raises(MaskError, match="channel 0 more than once"):  # Booleans written as numbers
        normalise_masks(graph, {"1": [1, 0, 0, 1, 0, 0, 1, 1]})
    for outside in (8, -1):
        with pytest.raises(MaskError, match=rf"keeps channel {outside}, which does not exist; it has 8"):
            normalise_masks(graph, {"1": [0, outside]})
        with pytest.raises(MaskError, match=rf"keeps channel {outside}, which does not exist; it has 8"):
            normalise_output_masks(graph, {"0": [0, outside]})
    assert normalise_output_masks(graph, {"0": [7, 0]})["0.weight"].nonzero()[0].tolist() == [0, 7]
    pairs = normalise_output_masks(graph, [("0", 7), ("0.weight", 0)])
    assert np.flatnonzero(~pairs["0.weight"]).tolist() == [0, 7]
    with pytest.raises(MaskError, match=r"channel 8 of 0\.weight does not exist; it has 8 output channels"):
        normalise_output_masks(graph, [("0", 8)])
    assert normalise_output_masks(graph, effective_masks(graph, {})) == {}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("1", 8)], "channel 8 of 1.weight does not exist"),
        ([("1", True)], "pruned channel True of 1.weight is no whole number"),
        ([("1", 1.5)], "pruned channel 1.5 of 1.weight is no whole number"),
        ([("1", 1, 2)], "the masks hold a tuple; give a mapping"),
        ([(1, 1)], "a mask is given for 1; give masks by the names"),
        (["1"], "the masks hold '1'; give a mapping"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs, message):
    with pytest.raises(MaskError, match=message):
        normalise_masks(trace(chain(), X), pairs)


def test_pairs_of_one_consumer_add_up_whatever_they_call_it():
    found = normalise_masks(trace(chain(), X), [("1", 0), ("1.weight", np.int64(3)), ("module.1", 0)])
    assert np.flatnonzero(~found["1.weight"]).tolist() == [0, 3]


def test_masks_are_taken_in_every_form_wherever_they_are_taken():
    model, kept = chain(), [0, 2, 5]
    graph = trace(model, X)
    boolean = np.isin(np.arange(8), kept)
    forms = [kept, boolean, boolean.tolist(), torch.from_numpy(boolean), torch.from_numpy(boolean).bfloat16()]
    expected = export(model, X, masks={"1.weight": boolean}, baseline=True).plan
    for form in forms:
        assert export(model, X, masks={"1": form}, baseline=True).plan == expected
        assert (masked_copy(model, {"1": form})[1].weight[:, 1] == 0).all()
        assert prune(model, X, masks={"1": form}, graph=graph).floor()(X).shape == (1, 4, 8, 8)


def test_a_plan_has_masks_of_its_own():
    model = chain()
    made = export(model, X, masks={"1": [0]}, baseline=True).plan
    with pytest.raises(PlanError, match="masks and output_masks go with baseline=True and no plan"):
        export(model, X, made, masks={"1": [1]})
    with pytest.raises(PlanError, match=r"the mask of 1\.weight has shape \(\); it must be a vector"):
        Plan({"1.weight": 3}, {}, {})
    with pytest.raises(MaskError, match=r"the mask of 1\.weight must be Boolean"):
        plan({}, {"1.weight": [0, 5]}, {})


# One weight, two ways


class Autoencoder(nn.Module):
    """The decoder has the encoder's weight: a transposed convolution reads the rows that a convolution computes."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3)
        self.up, self.last = nn.ConvTranspose2d(8, 12, 3), nn.Conv2d(12, 4, 1)
        self.up.weight = self.down.weight

    def forward(self, x):
        return self.last(self.up(self.down(self.stem(x))))


class Grouped(nn.Module):
    """One weight, once for all channels and once for two groups."""

    def __init__(self):
        super().__init__()
        self.stem, self.whole = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1)
        self.halves, self.last = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 6, 1)
        self.halves.weight = self.whole.weight

    def forward(self, x):
        return self.last(self.halves(self.whole(self.stem(x))))


@pytest.mark.parametrize(("network", "layers"), [(Autoencoder, ("down", "up")), (Grouped, ("whole", "halves"))])
def test_a_weight_that_is_used_in_two_ways_is_used_as_a_whole(network, layers):
    torch.manual_seed(0)
    model = network().eval()
    graph = trace(model, torch.zeros(1, 3, 12, 12))
    assert set(graph.consumers) == {"stem.weight", "last.weight"}
    assert {pin.node for pin in graph.unsupported} == set(layers)
    assert {own.path for own in graph.skipped} == set(layers)
    masks = {"last.weight": [0, 1, 2], "stem.weight": [0, 2]}
    exported = export(model, torch.zeros(1, 3, 12, 12), masks=masks, baseline=True, graph=graph)
    masked, x = masked_copy(model, masks).double(), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    assert torch.allclose(copy.deepcopy(exported.module).double()(x), masked(x), rtol=1e-12, atol=1e-12)


# Samples without a batch axis


class Samples(nn.Module):
    """Takes a batch apart and runs every sample alone, as torch.nn.Conv2d allows."""

    def __init__(self):
        super().__init__()
        self.a, self.deep = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.b, self.c = nn.Conv2d(12, 10, 3, padding=1), nn.ConvTranspose2d(10, 4, 2, stride=2)

    def one(self, x):
        return self.c(functional.relu(self.b(functional.relu(self.deep(self.a(x))))))

    def forward(self, x):
        return torch.stack([self.one(x[0]), self.one(x[1])])


def test_convolutions_of_single_samples_are_pruned_as_others_are():
    torch.manual_seed(0)
    model, x = Samples().eval(), torch.randn(2, 3, 10, 10)
    graph = trace(model, x)
    assert not graph.unsupported and {"b.weight", "c.weight"} <= set(graph.consumers)
    masks = l2_masks(graph, 0.5)
    assert not keys_of(MaskedGraph(graph, masks))  # what is measured has a batch axis
    assert masks.keys() == {"b.weight", "c.weight"}
    exported = export(model, x, masks=masks, baseline=True, graph=graph)
    assert exported.module.b.weight.shape == (5, 6, 3, 3) and exported.module.deep.groups == 6
    masked, x = masked_copy(model, masks).double(), x.double()
    assert torch.allclose(copy.deepcopy(exported.module).double()(x), masked(x), rtol=1e-12, atol=1e-12)


def test_a_network_of_one_sample_is_pruned_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(3, 12, 12)
    graph = trace(model, x)
    masks = l2_masks(graph, 0.5)
    assert masks.keys() == {"2.weight", "4.weight"}
    exported = export(model, x, masks=masks, baseline=True, graph=graph)
    assert exported.module.get_submodule("2").weight.shape == (4, 4, 3, 3)
    assert exported.verification.passed
    masked = masked_copy(model, masks)
    assert torch.allclose(exported.module(x), masked(x), atol=1e-5)


@pytest.mark.parametrize("objective", ["copies", "span", "runs", "latency"])
def test_orders_of_single_samples_are_exact_in_all_read_modes(objective, planned):
    torch.manual_seed(0)
    costs = AnalyticCosts() if objective == "latency" else None
    model, x = Samples().eval(), torch.randn(2, 3, 10, 10)
    graph, _, _, made = planned(model, x, objective=objective, costs=costs)
    assert export(model, x, made, graph=graph).verification.passed


def test_output_masks_of_single_samples_are_exact():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(3, 12, 12)
    graph = trace(model, x)
    exported = export(model, x, baseline=True, output_masks=l2_output_masks(graph, 0.5), graph=graph)
    assert exported.verification.passed and exported.module.get_submodule("2").weight.shape == (4, 4, 3, 3)
