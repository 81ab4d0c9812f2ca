"""What serves a consumer alone is found, and an export selects in front of it: in a concat, before normalisation."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from problems.objectives import COPY, OVER_READ, PIECES
from upscale_opt import export, trace
from upscale_opt.tracing.prologues import Prologue, prologues_of

MODES = (COPY, PIECES, OVER_READ)


def test_a_concat_and_a_normalisation_for_one_consumer_are_its_prologue():
    graph = trace(*networks.make(networks.Dense))
    found = prologues_of(graph)
    assert found["convs.1"] == Prologue(("norms_1", "relu_1"), "cat_1")
    assert found["last"] == Prologue((), "cat_3")


@pytest.mark.parametrize("mode", MODES)
def test_channels_are_selected_inside_the_concat(mode, planned):
    """The normalisation shrinks to what the consumer reads, and the whole concat is gone; the result is the same."""
    model, inputs = networks.make(networks.Dense)
    graph, _, _, plan = planned(model, inputs, seed=3, objective="span")
    plan = plan.with_readings(mode=mode)
    early = export(model, inputs, plan, graph=graph)
    late = export(model, inputs, plan.with_readings(late=True), graph=graph)
    assert early.verification.passed and late.verification.passed
    able = prologues_of(graph)
    assert [{name for name in able if own.plan.readings[name].late} for own in (early, late)] == [set(), set(able)]
    narrower = [
        name
        for name in ("norms.0", "norms.1", "norms.2")
        if early.module.get_submodule(name).num_features < late.module.get_submodule(name).num_features
    ]
    assert narrower
    for name in narrower:
        norm = early.module.get_submodule(name)
        assert norm.num_features == len(norm.weight) == len(norm.running_mean)


class PreActivation(nn.Module):
    """A stream whose readers normalise it each for itself."""

    def __init__(self, *, inplace=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.norm, self.relu, self.conv = nn.BatchNorm2d(12), nn.ReLU(inplace), nn.Conv2d(12, 6, 3)
        self.first, self.other = nn.ReLU(inplace), nn.Conv2d(12, 6, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.conv(self.relu(self.norm(x))) + self.other(self.first(x))


def test_a_tensor_with_other_readers_is_where_a_prologue_begins(planned):
    torch.manual_seed(0)
    model, x = PreActivation().eval(), torch.zeros(1, 3, 6, 6)
    graph, _, _, plan = planned(model, x, objective="copies")
    assert prologues_of(graph) == {"conv": Prologue(("norm", "relu"), None), "other": Prologue(("first",), None)}
    exported = export(model, x, plan, graph=graph)
    assert exported.verification.passed
    assert exported.module.norm.num_features == exported.module.conv.in_channels


def test_what_works_in_place_is_not_handed_a_view_of_a_tensor_that_others_read(planned):
    """An activation in place behind a selection would overwrite channels of the others; behind a normalisation not."""
    torch.manual_seed(0)
    model, x = PreActivation(inplace=True).eval(), torch.zeros(1, 3, 6, 6)
    assert "other" not in prologues_of(trace(model, x))
    for objective in ("copies", "span"):
        graph, _, _, plan = planned(model, x, objective=objective)
        assert export(model, x, plan, graph=graph).verification.passed


class Straight(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.second(torch.relu(self.norm(self.first(x))))


def test_nothing_is_selected_behind_a_producer_that_one_consumer_reads():
    """There the producer's own channels are pruned, which is better."""
    assert prologues_of(trace(Straight().eval(), torch.zeros(1, 3, 4, 4))) == {}


class Borrowed(PreActivation):
    def forward(self, x):
        return super().forward(x) * self.norm.weight.mean()


def test_a_normalisation_whose_parameters_are_used_elsewhere_is_no_prologue():
    found = prologues_of(trace(Borrowed().eval(), torch.zeros(1, 3, 6, 6)))
    assert "conv" not in found or "norm" not in found["conv"].nodes


def test_kept_channels_behind_a_concat_may_all_be_of_one_operand(planned):
    """The others drop out, and a view of the operand is left."""
    model, inputs = networks.make(networks.Dense)
    graph, masks, _, _ = planned(model, inputs)
    masks = {**masks, "last.weight": np.arange(26) < 5}
    from upscale_opt import extract
    from upscale_opt.planning.plans import baseline_plan

    plan = baseline_plan(extract(graph, masks), masks).with_readings(late=False)
    assert export(model, inputs, plan, graph=graph).verification.passed


class Overwritten(nn.Module):
    """What a concat copied is changed in place before the concat is read."""

    def __init__(self):
        super().__init__()
        self.stem, self.side, self.conv = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        stem = self.stem(x)
        both = torch.cat([stem, self.side(x)], 1)
        stem.div_(2)
        return self.conv(both)


@pytest.mark.parametrize("kept", [[1, 2, 3], [1, 5], [2, 9, 10]])
@pytest.mark.parametrize("mode", MODES)
def test_a_concat_is_a_copy_even_if_a_view_of_one_operand_is_left_of_it(kept, mode):
    """Random network 247: the consumer saw what was written into the operand later."""
    from upscale_opt import effective_masks, extract
    from upscale_opt.planning.plans import baseline_plan

    torch.manual_seed(0)
    model, x = Overwritten().eval(), torch.randn(1, 3, 4, 4)
    graph = trace(model, x)
    masks = effective_masks(graph, {"conv.weight": np.isin(np.arange(12), kept)}).masks
    plan = baseline_plan(extract(graph, masks), masks)
    plan = plan.with_readings(late=False).with_readings(["conv"], mode=mode)
    assert export(model, x, plan, graph=graph).verification.passed
