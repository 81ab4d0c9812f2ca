"""Stored widths by measurement: which operators a width touches, what is timed, and what is chosen."""

import json
from dataclasses import replace

import networks
import numpy as np
import pytest
import torch
from measuring import QUICK, masked
from torch import nn

from upscale_opt import UpscaleError, effective_masks, l2_masks, prune, trace
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.stored_widths import faster_widths, known_faster_widths, measure_widths, widths_to_try
from upscale_opt.latency.width_tables import PRODUCE, READ, WORK, WidthTables
from upscale_opt.latency.width_works import works_by_block
from upscale_opt.planning.padding import paddable


class Stream(nn.Module):
    """Two producers of one stream, normalised, activated, added, filtered by a depthwise convolution, read twice."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU()
        self.second = nn.Conv2d(24, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.left, self.right = nn.Conv2d(24, 8, 1), nn.Conv2d(24, 8, 3)

    def forward(self, x):
        y = self.act(self.norm(self.first(x)))
        y = self.depthwise(y + self.second(y))
        return self.left(y)[:, :, 1:-1, 1:-1] + self.right(y)


def stream():
    model, x = Stream().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    kept = np.arange(24) < 21
    return model, (x,), effective_masks(graph, dict.fromkeys(("second", "left", "right"), kept))


def test_every_operator_of_a_block_is_found_with_its_role():
    _, _, masks = stream()
    works = works_by_block(masks)["first"]
    found = sorted((work.role, work.layer.kind, work.channels) for work in works.elements())
    assert found == [
        (PRODUCE, "Conv2d", 3),
        (PRODUCE, "Conv2d", 21),
        (READ, "Conv2d", 21),
        (READ, "Conv2d", 21),
        (READ, "Conv2d", 21),
        (WORK, "BatchNorm2d", 0),
        (WORK, "ReLU", 0),
        (WORK, "add", 0),
        (WORK, "depthwise", 0),
    ]


def test_widths_are_measured_once_and_kept(tmp_path, monkeypatch):
    model, inputs, masks = stream()
    tables = measure_widths(masks, inputs, directory=tmp_path, effort=QUICK)
    (own,) = paddable(masks).values()
    assert own == (21, 24) and len(tables.entries) == 9
    for timings in tables.entries.values():
        assert tuple(timings) == widths_to_try(21, 24) == (21, 24)
        assert all(len(figures) == QUICK.rounds and min(figures) > 0 for figures in timings.values())
    monkeypatch.setattr("upscale_opt.latency.width_timings._measure", None)  # nothing is measured a second time
    again = measure_widths(masks, inputs, directory=tmp_path, effort=QUICK)
    assert again.entries == tables.entries
    assert set(known_faster_widths(masks, inputs, directory=tmp_path)) <= {"first"}
    made = prune(model, inputs, masks=masks).align(directory=tmp_path, effort=QUICK)
    assert set(made.padding) <= {"first"}


@pytest.mark.parametrize(("factor", "chosen"), [(0.5, {"first": 24}), (0.99, {}), (1.5, {})])
def test_a_block_is_padded_where_its_operators_are_clearly_faster_together(factor, chosen):
    _, inputs, masks = stream()
    tables = WidthTables(conditions_of(inputs))
    for work in works_by_block(masks)["first"]:
        tables.entries[work] = {21: (1000, 1100, 1000), 24: tuple(round(factor * t) for t in (1000, 1100, 1000))}
    assert faster_widths(masks, tables) == chosen
    tables.entries.popitem()
    assert faster_widths(masks, tables) == {}, "an operator that was not timed may be slower"


def test_operators_that_occur_more_often_count_more_often():
    _, inputs, masks = stream()
    tables = WidthTables(conditions_of(inputs))
    for work, number in works_by_block(masks)["first"].items():
        slower = 1400 if number == 1 and work.role == PRODUCE else 900
        tables.entries[work] = {21: (1000,) * 3, 24: (slower,) * 3}
    times = {
        width: sum(n * tables.entries[w][width][0] for w, n in works_by_block(masks)["first"].items())
        for width in (21, 24)
    }
    assert bool(faster_widths(masks, tables)) == (times[24] <= 0.98 * times[21])


def test_operators_timed_with_less_care_are_timed_again(tmp_path):
    _, inputs, masks = stream()
    less = measure_widths(masks, inputs, directory=tmp_path, effort=QUICK)
    more = measure_widths(masks, inputs, directory=tmp_path, effort=replace(QUICK, copies=2))
    assert set(more.details.values()) == {replace(QUICK, copies=2).detail} and more.entries != less.entries
    assert measure_widths(masks, inputs, directory=tmp_path, effort=QUICK).entries == more.entries


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted, networks.Flattened])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_all_operators_can_be_measured(network, memory_format, tmp_path):
    _, inputs, _, masks = masked(network)
    if inputs[0].ndim == 4:
        inputs = (inputs[0].contiguous(memory_format=memory_format),)
    tables = measure_widths(masks, inputs, directory=tmp_path, effort=QUICK)
    for name, (stored, size) in paddable(masks).items():
        for work in works_by_block(masks)[name] if len(widths_to_try(stored, size)) > 1 else ():
            assert set(widths_to_try(stored, size)) <= tables.entries[work].keys()


def test_files_come_back_as_they_were_and_merge(tmp_path):
    _, inputs, masks = stream()
    one, other = (WidthTables(conditions_of(inputs)) for _ in range(2))
    works = list(works_by_block(masks)["first"])
    one.entries[works[0]], other.entries[works[1]] = {21: (5, 6), 24: (7, 8)}, {21: (1, 2)}
    one.write(tmp_path)
    other.write(tmp_path)
    assert WidthTables.load(tmp_path, one.conditions).entries == {**one.entries, **other.entries}
    assert "2 operators" in str(WidthTables.load(tmp_path, one.conditions))


SPOILT = {
    "'nonsense'": lambda d: d.update(nonsense=1),
    "field 'role'": lambda d: d["operators"][0].update(role="sing"),
    "'channels'": lambda d: d["operators"][0].update(channels=-1),
    "whole nanoseconds": lambda d: d["operators"][0]["timings"].update({"24": [0]}),
    "equally many": lambda d: d["operators"][0]["timings"].update({"24": [1]}),
    "must be an object": lambda d: d.update(operators=[3]),
    "of other conditions": lambda d: d["conditions"].update(threads=99),
}


@pytest.mark.parametrize("message", SPOILT)
def test_spoilt_files_are_one_sentence_that_names_the_field(message, tmp_path):
    _, inputs, masks = stream()
    tables = WidthTables(conditions_of(inputs), {next(iter(works_by_block(masks)["first"])): {21: (5, 6), 24: (7, 8)}})
    path = tables.write(tmp_path)
    document = json.loads(path.read_text())
    SPOILT[message](document)
    path.write_text(json.dumps(document))
    with pytest.raises(UpscaleError) as caught:
        WidthTables.load(tmp_path, tables.conditions)
    assert message in str(caught.value) and "calibrate again" in str(caught.value)


def test_padding_by_widths_is_exact(tmp_path):
    """Made-up tables that like every wider width."""
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    masks = effective_masks(graph, l2_masks(graph, 0.4))
    tables = WidthTables(conditions_of(inputs if isinstance(inputs, tuple) else (inputs,)))
    for name, (stored, size) in paddable(masks).items():
        for work in works_by_block(masks)[name]:
            own = tables.entries.setdefault(work, {})
            own |= {width: (10_000 // width,) * 2 for width in widths_to_try(stored, size)}
    tables.details.update(dict.fromkeys(tables.entries, QUICK.detail))
    tables.write(tmp_path)
    made = prune(model, inputs, masks=masks, graph=graph).align(directory=tmp_path, effort=QUICK)
    assert made.padding and made.export(made.solve("greedy")).verification.passed
