"""Tests of importance scores: equal to those computed by hand, and to the published definitions on random weights."""

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import IMPORTANCES, MaskError, importance_scores, trace


class Pair(nn.Module):
    """Two pointwise convolutions, the first with the identity as its weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.a.weight.copy_(torch.eye(3)[:, :, None, None])
            self.b.weight.copy_(torch.tensor([[3.0, 0.0, 1.0], [4.0, 0.0, 1.0]])[:, :, None, None])

    def forward(self, x):
        return self.b(self.a(x))


class Scaled(nn.Module):
    """BatchNorms in front of everything that a channel can go through."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.gated = nn.Conv2d(4, 2, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.raw = nn.Conv2d(4, 2, 1)
        self.joined = nn.Conv2d(8, 2, 1)
        self.part = nn.Conv2d(2, 2, 1)
        self.head = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.stem_bn.weight.copy_(torch.tensor([1.0, -2.0, 3.0, 0.0]))
            self.bn.weight.copy_(torch.tensor([0.5, 0.25, -1.0, 4.0]))

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.stem_bn(self.stem(x))), 2)
        y = functional.relu6(self.bn(self.conv(x)))
        out = self.gated(y * torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(y, 1))))
        out = out + self.raw(self.depthwise(y)) + self.joined(torch.cat([y, x], 1)) + self.part(x[:, 1:3])
        return self.head(x + y) + out


INPUTS = torch.zeros(1, 3, 8, 8)


def scores(model, importance, x=INPUTS, **options):
    return importance_scores(trace(model.eval(), x), importance, **options)


def test_norms_are_those_computed_by_hand():
    model = Pair()
    assert set(scores(model, "l1")) == {"b.weight"} and set(scores(model, "l1", mode="output")) == {"a.weight"}
    assert scores(model, "l1")["b.weight"].tolist() == [7, 0, 2]
    assert scores(model, "l2")["b.weight"] == pytest.approx([5, 0, 2**0.5])
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[2.0, 0, 0], [0, -3.0, 4.0], [0, 0, 0]])[:, :, None, None])
    assert scores(model, "l1", mode="output")["a.weight"].tolist() == [2, 7, 0]
    assert scores(model, "l2", mode="output")["a.weight"].tolist() == [2, 5, 0]


def test_lamp_is_the_square_by_the_squares_that_are_not_weaker():
    model = Pair()
    assert scores(model, "lamp")["b.weight"] == pytest.approx([1, 0, 2 / 27])
    assert scores(model, "lamp", mode="output")["a.weight"] == pytest.approx([1 / 3, 1 / 2, 1])  # ties by index
    with torch.no_grad():
        model.b.weight.zero_()
    assert scores(model, "lamp")["b.weight"].tolist() == [0, 0, 0]


def test_fpgm_is_the_sum_of_distances_to_the_other_slices():
    model = Pair()
    expected = [5 + 13**0.5, 5 + 2**0.5, 13**0.5 + 2**0.5]
    assert scores(model, "fpgm")["b.weight"] == pytest.approx(expected, rel=1e-12)
    assert scores(model, "fpgm", mode="output")["a.weight"] == pytest.approx([8**0.5] * 3, rel=1e-12)


@pytest.mark.parametrize("mode", ["input", "output"])
def test_scores_of_weights_equal_their_definitions_on_random_networks(mode):
    """Loops over channels, as the papers write them, transposed and grouped axes by name."""
    graph = trace(*networks.make(networks.Inverted))
    found = {name: importance_scores(graph, name, mode=mode) for name in ("l1", "l2", "lamp", "fpgm")}
    assert len(found["l1"]) == 5
    for name in found["l1"]:
        weight = graph.module.get_parameter(name).detach().double()
        rows = list(weight.movedim(1 if mode == "input" else 0, 0).flatten(1))
        squares = [float((row**2).sum()) for row in rows]
        assert found["l1"][name] == pytest.approx([float(row.abs().sum()) for row in rows])
        assert found["l2"][name] == pytest.approx([square**0.5 for square in squares])
        assert found["lamp"][name] == pytest.approx([s / sum(t for t in squares if t >= s) for s in squares])
        assert found["fpgm"][name] == pytest.approx([sum(float((a - b).norm()) for b in rows) for a in rows])


def test_hrank_is_the_mean_rank_of_what_enters_a_consumer():
    eye, ones, zeros = torch.eye(4), torch.ones(4, 4), torch.zeros(4, 4)
    data = [torch.stack([eye, ones, zeros])[None], torch.stack([ones, eye, ones])[None]]
    assert scores(Pair(), "hrank", data[0], data=data)["b.weight"].tolist() == [2.5, 2.5, 0.5]
    assert scores(Pair(), "hrank", data[0], data=torch.cat(data))["b.weight"].tolist() == [2.5, 2.5, 0.5]
    outputs = scores(Pair(), "hrank", data[0], mode="output", data=[(data[0], torch.tensor([1]))])
    assert outputs["a.weight"].tolist() == [4, 1, 0]


def test_hrank_on_the_output_side_sees_what_the_mask_multiplies():
    """Behind normalisation and activation: a map that the activation cuts off has rank 0."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([-100.0, 100.0]))
    found = scores(model, "hrank", mode="output", data=torch.randn(2, 3, 8, 8))
    assert found["0.weight"].tolist() == [0, 8]


def test_hrank_adds_up_groups_and_averages_calls():
    graph = trace(*networks.make(networks.Odd))
    x = torch.randn(3, 3, 8, 8)
    found = importance_scores(graph, "hrank", data=x)
    maps = graph.module.get_submodule("stem")(x)
    ranks = torch.linalg.matrix_rank(maps).double().mean(0)
    assert found["grouped.weight"] == pytest.approx(ranks.reshape(3, 4).sum(0).numpy())
    model, _ = networks.make(networks.Shared)
    first = model.stem(x)
    second = torch.relu(model.bn(model.conv(first)))
    ranks = torch.linalg.matrix_rank(torch.cat([first, second])).double()
    assert scores(model, "hrank", data=x)["conv.weight"] == pytest.approx(ranks.mean(0).numpy())


def test_batch_norm_scales_come_through_activations_pooling_slices_and_joins():
    found = scores(Scaled(), "bn-scale", ignore=["raw"])
    stem, own = [1, 2, 3, 0], [0.5, 0.25, 1, 4]
    assert found["conv.weight"].tolist() == stem
    assert found["gate.weight"].tolist() == own == found["gated.weight"].tolist()
    assert found["joined.weight"].tolist() == own + stem
    assert found["part.weight"].tolist() == [2, 3]
    assert found["head.weight"].tolist() == [1.5, 2.25, 4, 4]
    outputs = scores(Scaled(), "bn-scale", mode="output", ignore=["gate"])
    assert outputs["stem.weight"].tolist() == stem and outputs["conv.weight"].tolist() == own


def test_a_channel_without_a_batch_norm_is_an_error_that_names_the_layer():
    """Behind a depthwise convolution the scale says nothing any more."""
    with pytest.raises(MaskError, match=r"every channel that raw reads comes from a BatchNorm; ignore raw"):
        scores(Scaled(), "bn-scale")
    with pytest.raises(MaskError, match="that gate computes"):
        scores(Scaled(), "bn-scale", mode="output")


def test_taylor_is_that_computed_by_hand():
    """Of a loss that sums the outputs, the gradient of a weight is the sum of what it multiplies."""
    x = torch.zeros(2, 3, 2, 2)
    x[0, 0], x[1, 0], x[0, 2] = 1.0, 2.0, -1.0

    def loss(outputs, labels):
        return outputs.sum() / len(outputs)

    found = scores(Pair(), "taylor", x, data=x, loss=loss)["b.weight"]
    assert found == pytest.approx([(7 * 4 * 1.5) ** 2, 0, (2 * 4 * -0.5) ** 2])
    halves = scores(Pair(), "taylor", x, data=[x[:1], x[1:]], loss=loss)["b.weight"]
    assert halves == pytest.approx(found)
    # On the output side: row c of the identity times its gradient, what channel c reads times the column sums of b.
    outputs = scores(Pair(), "taylor", x, mode="output", data=x, loss=loss)["a.weight"]
    assert outputs == pytest.approx([(7 * 4 * 1.5) ** 2, 0, (2 * 4 * -0.5) ** 2])


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted])
def test_taylor_is_the_squared_derivative_by_a_gate_on_the_channel(network):
    """The definition: what the cross-entropy changes if the channel's slice is scaled."""
    model, _ = networks.make(network)
    wrapped = nn.Sequential(model, nn.Flatten()).eval()
    x = torch.randn(6, 3, 8, 8)
    labels = torch.arange(6) % 4
    graph = trace(wrapped, x[:1])
    found = importance_scores(graph, "taylor", data=[(x[:2], labels[:2]), (x[2:], labels[2:])])
    for name, score in found.items():
        weight = wrapped.get_parameter(name).detach()
        gate = torch.ones(1, weight.shape[1], 1, 1, requires_grad=True)
        outputs = torch.func.functional_call(wrapped, {name: weight * gate}, (x,))
        (slope,) = torch.autograd.grad(functional.cross_entropy(outputs, labels), gate)
        assert score == pytest.approx((slope.flatten() ** 2).numpy(), rel=1e-3, abs=1e-9)


def test_random_scores_depend_on_the_seed_the_layer_and_the_side_alone():
    graph, fewer = trace(*networks.make(networks.Residual)), trace(*networks.make(networks.Residual, seed=1))
    first = importance_scores(graph, "random", seed=3)
    again = importance_scores(fewer, "random", seed=3, ignore=["blocks.0.*"])
    assert all(np.array_equal(first[name], again[name]) for name in again) and len(again) < len(first)
    assert not np.array_equal(first["down.weight"], importance_scores(graph, "random", seed=4)["down.weight"])
    assert not np.array_equal(first["blocks.0.conv1.weight"], first["blocks.1.conv1.weight"])
    outputs = importance_scores(graph, "random", seed=3, mode="output")
    assert not np.array_equal(first["blocks.0.conv1.weight"], outputs["blocks.0.conv1.weight"])


def test_every_importance_says_what_it_needs():
    needs = {name: (own.needs_data, own.needs_gradients, own.needs_labels) for name, own in IMPORTANCES.items()}
    names = ["l1", "l2", "lamp", "fpgm", "hrank", "bn-scale", "taylor", "fisher", "empirical-fisher", "random"]
    assert list(needs) == names
    assert needs.pop("fisher") == (True, False, False) and needs.pop("empirical-fisher") == (True, False, True)
    assert needs.pop("hrank") == (True, False, False) and needs.pop("taylor") == (True, True, True)
    assert set(needs.values()) == {(False, False, False)}
    assert str(IMPORTANCES["hrank"]) == "hrank (Lin et al., CVPR 2020; needs data)"
