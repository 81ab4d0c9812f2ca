"""Tests of weights that are no numbers: the tensor is named, wherever a network comes in."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from upscale_opt import (
    Importance,
    MaskError,
    ModelError,
    compare,
    constrained_masks,
    effective_masks,
    export,
    extract,
    importance_masks,
    importance_scores,
    l2_masks,
    l2_output_masks,
    trace,
    verify,
)
from upscale_opt.spdy.prunable_layers import prunable_layers
from upscale_opt.tracing.finite import require_finite

NAN, INF = float("nan"), float("inf")


def spoiled(name, value=NAN, index=0):
    """A residual network with one bad entry, its inputs and its trace."""
    model, inputs = networks.make(networks.Residual)
    with torch.no_grad():
        dict(model.state_dict())[name].view(-1)[index] = value
    return model, inputs, trace(model, inputs)


DOORS = {
    "effective_masks": lambda graph: effective_masks(graph),
    "l2_masks": lambda graph: l2_masks(graph, 0.5),
    "l2_output_masks": lambda graph: l2_output_masks(graph, 0.5),
    "constrained_masks": lambda graph: constrained_masks(graph, 0.5),
    "importance_masks": lambda graph: importance_masks(graph, "lamp", 0.5, scope="global"),
    "importance_scores": lambda graph: importance_scores(graph, "random"),
    "extract": lambda graph: extract(graph, {}),
    "prunable_layers": lambda graph: prunable_layers(graph),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_every_door_names_the_tensor(door, value):
    """A weight that the ranking itself does not look at, too: a bias."""
    for name in ("blocks.0.conv1.weight", "blocks.1.conv2.weight", "stem.bias"):
        _, _, graph = spoiled(name, value)
        with pytest.raises(ModelError, match=rf"{name} is not finite: 1 of its \d+ entries are (NaN|infinite)"):
            DOORS[door](graph)


@pytest.mark.parametrize("name", ["norm.running_var", "norm.running_mean", "norm.weight"])
def test_statistics_are_weights_too(name):
    model = nn.Sequential()
    model.stem, model.norm, model.head = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
    x = torch.zeros(1, 3, 4, 4)
    for value in (NAN, INF):
        with torch.no_grad():
            dict(model.eval().state_dict())[name].fill_(1)[3] = value
        with pytest.raises(ModelError, match=rf"{name} is not finite"):
            require_finite(trace(model, x))


def test_networks_are_refused_before_anything_is_solved_or_compared(planned, monkeypatch):
    model, inputs = networks.make(networks.Residual)
    graph, masks, _, plan = planned(model, inputs)
    exported = export(model, inputs, plan, graph=graph)
    with torch.no_grad():
        model.stem.weight[0] = NAN
    for action in (
        lambda: export(model, inputs, plan),
        lambda: export(model, inputs, masks=masks, baseline=True, verify=False),
        lambda: verify(model, exported, inputs),
        lambda: compare(model, inputs, masks=masks),
    ):
        with pytest.raises(ModelError, match=r"stem\.weight is not finite"):
            action()


class Causal(nn.Module):
    """Attention's mask of minus infinity is a buffer, or a parameter that is not trained."""

    def __init__(self, parameter):
        super().__init__()
        self.embed, self.key, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        mask = torch.full((5, 5), -INF).triu(1)
        if parameter:
            self.mask = nn.Parameter(mask, requires_grad=False)
        else:
            self.register_buffer("mask", mask)

    def forward(self, x):
        x = self.embed(x)
        return self.head(torch.softmax(self.key(x) @ x.transpose(1, 2) + self.mask, -1) @ x)


@pytest.mark.parametrize("parameter", [False, True])
def test_masks_of_minus_infinity_are_fine_but_not_nan(parameter):
    model, x = Causal(parameter).eval(), torch.randn(1, 5, 6)
    assert export(model, x, masks={}, baseline=True).verification.passed
    with torch.no_grad():
        model.mask[0, 0] = NAN
    with pytest.raises(ModelError, match="mask is not finite: 1 of its 25 entries are NaN"):
        require_finite(trace(model, x))


def test_large_half_precision_weights_are_finite_and_meta_weights_have_no_values():
    """60000 * 8 is more than float16 holds."""
    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)).eval(), torch.zeros(1, 3, 4, 4)
    with torch.no_grad():
        model[1].weight.fill_(60000)
    require_finite(trace(model.half(), x.half()))
    require_finite(trace(model.to("meta"), x.half().to("meta")))


def test_scores_that_are_nan_are_refused():
    model, inputs = networks.make(networks.Residual)

    def function(evidence, weight):
        scores = np.ones(len(evidence.slices(weight)))
        scores[:2] = NAN
        return scores

    own = Importance("own", function, "here")
    with pytest.raises(MaskError, match=r"the importance own gives 2 of the \d+ channels of .* the score NaN"):
        importance_masks(trace(model, inputs), own, 0.5)
