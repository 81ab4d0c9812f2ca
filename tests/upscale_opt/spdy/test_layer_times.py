"""Layer times for SPDY: which layers, which counts, measured once; layers that sum to more than the model."""

import math
from dataclasses import replace

import networks
import pytest
import torch
from torch import nn

from problems import LayerTimes, TimingTable, UnreachableSpeedupError, allocation_problem, sparsity_grid
from upscale_opt import MaskError, trace
from upscale_opt.latency.calibration import Effort
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.spdy import layer_times as module
from upscale_opt.spdy.layer_times import case_times, guarded_table, layer_times
from upscale_opt.spdy.prunable_layers import levels_of, listed_layers, prunable_layers

QUICK = Effort(rounds=2, seconds=0.0, copies=1)
GRID = sparsity_grid(steps=6)


def layers_of(network, **options):
    model, (x, *_) = networks.make(network)
    graph = trace(model, x)
    return model, x, graph, prunable_layers(graph, **options)


def test_layers_are_convolutions_with_one_group_that_do_not_read_the_input():
    _, _, _, layers = layers_of(networks.Residual)
    assert [own.name for own in layers] == [*(f"blocks.{i}.conv{k}" for i in range(3) for k in (1, 2)), "down"]
    assert layers[0].weight == "blocks.0.conv1.weight" and layers[-1].shape.outputs == 24
    assert layers[0].counts((0, 0.4, 0.99)) == (16, 10, 1)
    _, _, _, layers = layers_of(networks.Residual, linear=True, ignore=["blocks.*"])
    assert [own.name for own in layers] == ["down", "head"]
    _, _, _, layers = layers_of(networks.Inverted)
    assert "depthwise" not in [own.name for own in layers]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.head(self.head(self.stem(x)))


def test_a_layer_that_is_called_twice_is_refused_by_name():
    graph = trace(Twice().eval(), torch.randn(1, 3, 4, 4))
    with pytest.raises(MaskError, match="'head' is called twice"):
        prunable_layers(graph)
    with pytest.raises(MaskError, match="no layer is left"):
        prunable_layers(graph, ignore=["head"])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_times_are_measured_once_and_kept(tmp_path, monkeypatch, memory_format):
    model, _ = networks.make(networks.Residual)
    model, x = model.to(memory_format=memory_format), torch.randn(2, 3, 8, 8).to(memory_format=memory_format)
    layers = prunable_layers(trace(model, x))
    found = layer_times(model, x, layers, GRID, directory=tmp_path, effort=QUICK, repeats=2)
    assert [own.name for own in found.table.layers] == [own.name for own in layers]
    assert all(own.sparsities == GRID and min(own.seconds) > 0 for own in found.table.layers)
    assert len({own.seconds for own in found.table.layers}) == 3  # shapes: conv1, conv2, down
    monkeypatch.setattr(module, "case_times", None)  # nothing is measured a second time
    again = layer_times(model, x, layers, GRID, directory=tmp_path, effort=QUICK, repeats=2)
    raw = [[t / own.scale for layer in own.table.layers for t in layer.seconds] for own in (found, again)]
    assert raw[0] == pytest.approx(raw[1], rel=1e-12)
    assert "layers take" in str(found)
    monkeypatch.undo()
    layer_times(model, x, layers, GRID, directory=tmp_path, effort=replace(QUICK, copies=2), repeats=2)
    details = CostTables.load(tmp_path, found.conditions).details.values()
    assert {own.copies for own in details} == {2}, "with more care they are measured again"
    problem = allocation_problem(found.table, counts={own.name: own.counts(GRID) for own in layers})
    assert problem.max_speedup >= 1


def test_an_interrupt_keeps_what_was_timed(tmp_path, monkeypatch):
    model, x, _, layers = layers_of(networks.Residual)
    seen = []

    def interrupted(shape, *others):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(shape)
        return case_times(shape, *others)

    monkeypatch.setattr(module, "case_times", interrupted)
    with pytest.raises(KeyboardInterrupt):
        layer_times(model, x, layers, GRID, directory=tmp_path, effort=QUICK, repeats=2)
    resumed = []
    monkeypatch.setattr(module, "case_times", lambda *given: resumed.append(given[0]) or case_times(*given))
    layer_times(model, x, layers, GRID, directory=tmp_path, effort=QUICK, repeats=2)
    assert len(resumed) == 2 and seen[0] not in resumed


def test_layers_that_sum_to_more_than_the_model_are_scaled_down():
    seconds = {"a": (3.0, 2.0), "b": (1.0, 1.5)}
    table, scale = guarded_table(seconds, (0, 0.5), base=2.0)
    assert scale == 0.5 and table.base == 2.0
    assert [own.seconds for own in table.layers] == [(1.5, 1.0), (0.5, 0.75)]
    problem = allocation_problem(table)
    assert problem.fixed == 0 and math.isclose(problem.max_speedup, 2 / 1.5)
    assert guarded_table(seconds, (0, 0.5), base=4.5)[1] == 1.0


def test_tables_of_others_are_matched_by_name():
    model, _, _, layers = layers_of(networks.Residual)
    table = TimingTable((LayerTimes("stem", (0,), (0.2,)), LayerTimes("down", (0, 0.5, 0.9), (0.3, 0.2, 0.1))), base=1)
    listed = listed_layers(layers, table, model)
    assert [own.name for own in listed] == ["down"]
    assert levels_of(listed, table) == {"down": (0, 0.5, 0.9)}
    with pytest.raises(UnreachableSpeedupError, match=r"1\.25"):
        allocation_problem(table, 2, dense=["stem"])
    with pytest.raises(MaskError, match="'layer1'"):
        listed_layers(layers, TimingTable((LayerTimes("layer1", (0,), (1,)),), base=1), model)
    with pytest.raises(MaskError, match="none of the layers"):
        listed_layers(layers, TimingTable((LayerTimes("stem", (0,), (1,)),), base=1), model)
