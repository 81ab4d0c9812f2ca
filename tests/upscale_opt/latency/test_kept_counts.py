"""Kept counts by measurement: what is timed, what is chosen from tables made by hand, and that exports stay exact."""

import json

import networks
import numpy as np
import pytest
import torch
from measuring import QUICK
from torch import nn

from upscale_opt import MaskError, effective_masks, l2_masks, prune, trace
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.kept_counts import faster_counts, measure_counts, smaller_counts
from upscale_opt.latency.width_tables import KEEP, WidthTables
from upscale_opt.latency.width_works import works_by_consumer
from upscale_opt.masking.counts import with_counts
from upscale_opt.masking.rounding import share_of_weakest, summary


class Twins(nn.Module):
    """Two consumers of one tensor; the second is called twice, on images of two sizes. Twenty channels matter."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.one, self.two = nn.Conv2d(24, 8, 1), nn.Conv2d(24, 8, 3, padding=1)
        self.head = nn.Linear(8 * 4, 2)
        with torch.no_grad():
            for own in (self.one, self.two):
                own.weight[:, 20:] *= 1e-3

    def forward(self, x):
        y = self.stem(x)
        small = nn.functional.avg_pool2d(y, 2)
        z = nn.functional.avg_pool2d(self.one(y) + self.two(y), 4) + nn.functional.avg_pool2d(self.two(small), 2)
        return self.head(z.flatten(1))


def twins(kept=21):
    torch.manual_seed(0)
    model, x = Twins().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    masks = effective_masks(graph, dict.fromkeys(("one", "two"), np.arange(24) < kept))
    return model, (x,), masks


def tables_of(masks, inputs, cost, counts=range(1, 33)):
    """Tables with a made-up time for every count."""
    tables = WidthTables(conditions_of(inputs))
    for weight, works in works_by_consumer(masks).items():
        for work in works:
            tables.entries[work] = {count: (round(cost(weight, count)),) * 3 for count in counts}
            tables.details[work] = QUICK.detail
    return tables


def test_every_call_of_a_consumer_is_an_operator_over_its_kept_count():
    """A consumer behind a flatten is left out, and so are the groups of a grouped convolution."""
    _, _, masks = twins()
    works = works_by_consumer(masks)
    assert list(works) == ["stem.weight", "one.weight", "two.weight"]
    assert [works["two.weight"].total(), works["one.weight"].total()] == [2, 1]
    assert {(own.role, own.channels, own.others) for own in works["two.weight"]} == {(KEEP, 0, 0)}
    assert {own.layer.outputs for own in works["one.weight"]} == {8}
    grouped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 4, 1)).eval()
    masks = effective_masks(trace(grouped, torch.zeros(1, 3, 4, 4)))
    assert masks.graph.grouped and list(works_by_consumer(masks)) == ["0.weight", "2.weight"]


def test_counts_are_measured_once_and_kept(tmp_path, monkeypatch):
    _, inputs, masks = twins()
    tables = measure_counts(masks, inputs, nearest=True, directory=tmp_path, effort=QUICK)
    found = {work.layer.kernel: tuple(timings) for work, timings in tables.entries.items()}
    assert found == {(1, 1): (20, 21, 24), (3, 3): (20, 21, 24)}, "16 drops too much; the stem keeps everything"
    assert all(len(own) == QUICK.rounds for timings in tables.entries.values() for own in timings.values())
    assert WidthTables.load(tmp_path, tables.conditions).entries == tables.entries
    monkeypatch.setattr("upscale_opt.latency.width_timings._measure", None)  # nothing is measured a second time
    assert measure_counts(masks, inputs, directory=tmp_path, effort=QUICK).entries == tables.entries


@pytest.mark.parametrize(
    ("time", "chosen"),
    [
        ({21: 100, 24: 99}, 24),
        ({21: 100, 24: 100}, 24),
        ({21: 100, 24: 101}, 21),
        ({20: 10, 21: 100, 24: 101}, 21),
    ],
)
def test_a_count_is_raised_where_that_takes_no_more_time(time, chosen):
    """Never lowered by `auto`, however fast that is."""
    _, inputs, masks = twins()
    tables = tables_of(masks, inputs, lambda weight, count: time[count] if weight == "one.weight" else count, time)
    assert faster_counts(masks, tables) == ({"one.weight": chosen} if chosen != 21 else {})


@pytest.mark.parametrize(
    ("kept", "time", "chosen"),
    [
        (21, {20: 97, 21: 100, 24: 101}, 20),
        (21, {20: 99, 21: 100, 24: 101}, 21),
        (21, {20: 97, 21: 100, 24: 98}, 24),
        (20, {16: 10, 20: 100, 24: 101}, 20),
    ],
)
def test_a_count_is_lowered_if_asked_for_and_clearly_faster_and_hardly_anything_goes(kept, time, chosen):
    """The last one: channels 16 to 19 are a fifth of the norm."""
    _, inputs, masks = twins(kept)
    cost = dict.fromkeys(range(1, 33), 1000) | time
    tables = tables_of(masks, inputs, lambda weight, count: cost[count] if weight == "one.weight" else 1000 + count)
    found = faster_counts(masks, tables, nearest=True)
    assert found.get("one.weight", kept) == chosen
    assert faster_counts(masks, tables, nearest=True, min_channels=kept).get("one.weight", kept) >= kept


def test_consumers_that_were_not_timed_everywhere_stay():
    _, inputs, masks = twins()
    tables = tables_of(masks, inputs, lambda weight, count: 100 - count)
    assert faster_counts(masks, tables) == {"one.weight": 24, "two.weight": 24}
    work = next(iter(works_by_consumer(masks)["two.weight"]))
    tables.entries[work] = {21: (1, 1, 1)}
    assert faster_counts(masks, tables) == {"one.weight": 24}


def test_smaller_counts_are_multiples_not_far_below():
    assert smaller_counts(131) == (128,) and smaller_counts(497) == (496, 480, 448)
    assert smaller_counts(64) == () and smaller_counts(3) == () and smaller_counts(497, least=481) == (496,)


def test_counts_change_the_weakest_channels_and_the_report():
    model, _, masks = twins()
    weight = model.one.weight.detach().double().pow(2).sum((0, 2, 3)).numpy()
    found = with_counts(masks, {"one.weight": 20, "two.weight": 24})
    assert np.flatnonzero(masks.masks["one.weight"] & ~found.masks["one.weight"]).tolist() == [20]
    assert found.masks["two.weight"].all()
    share = share_of_weakest(masks.graph, "one.weight", masks.masks["one.weight"], 1)
    assert np.isclose(share, weight[20] / weight[:21].sum()) and 0 < share < 1e-5
    report = {own.weight: own for own in found.report}
    assert (report["one.weight"].asked, report["one.weight"].kept, report["one.weight"].dropped) == (21, 20, 1)
    assert np.isclose(report["one.weight"].dropped_share, share)
    assert (report["two.weight"].asked, report["two.weight"].kept, report["two.weight"].dropped) == (21, 24, 0)
    line = summary(found.report, round_to="auto-nearest")
    assert line.endswith("rounding by measured times raised 1 of 4 consumers, dropped 1 of one.weight (0.0 %)")
    for counts in ({"one.weight": 0}, {"one.weight": 25}, {"nothing": 3}):
        with pytest.raises(MaskError):
            with_counts(masks, counts)


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Flattened, networks.Shared])
@pytest.mark.parametrize("to", ["auto", "auto-nearest", 4])
def test_exports_with_rounded_counts_are_exact(network, to, tmp_path):
    """Made-up tables that like multiples of 4, below and above."""
    model, inputs = networks.make(network)
    graph = trace(model, inputs)
    masks = effective_masks(graph, l2_masks(graph, 0.4))
    own = inputs if isinstance(inputs, tuple) else (inputs,)
    tables = tables_of(masks, own, lambda weight, count: 1000 + 500 * (count % 4 > 0) + count)
    tables.write(tmp_path)
    made = prune(model, inputs, masks=masks, graph=graph)
    rounder = made.round(to, directory=tmp_path, effort=QUICK)
    exported = rounder.export(rounder.solve("greedy"))
    assert exported.verification.passed
    plain = {own.weight: own.kept for own in made.report}
    for kept in rounder.report:
        assert kept.kept >= plain[kept.weight] - kept.dropped and (to == "auto-nearest" or not kept.dropped)
        assert kept.kept == int(rounder.masks[kept.weight].sum()) or network is networks.Flattened


def test_rounding_drops_the_padding_and_counts_what_is_stored_again(tmp_path):
    model, inputs, masks = twins()
    tables_of(masks, inputs, lambda weight, count: 100 - count).write(tmp_path)
    made = prune(model, inputs, masks=masks).align(22)
    assert made.padding
    rounder = made.round(directory=tmp_path, effort=QUICK)
    assert not rounder.padding and rounder.stored.sum() == rounder.stored.size
    assert rounder.problems.keys() == made.problems.keys()


@pytest.mark.parametrize("wrong", ["off", "much", 0, -8, 1.5, None])
def test_what_is_no_rounding_is_refused(wrong):
    model, inputs, masks = twins()
    with pytest.raises(MaskError, match="to is"):
        prune(model, inputs, masks=masks).round(wrong)


def test_prune_says_which_function_measures():
    model, inputs, _ = twins()
    with pytest.raises(MaskError, match=r"prune\(...\).round\('auto'\)"):
        prune(model, inputs, round_to="auto")


def test_files_of_version_1_are_read(tmp_path):
    _, inputs, masks = twins()
    tables = tables_of(masks, inputs, lambda weight, count: count, (20, 21))
    path = tables.write(tmp_path)
    document = json.loads(path.read_text())
    assert document["version"] == 2 and {own["role"] for own in document["operators"]} == {KEEP}
    path.write_text(json.dumps({**document, "version": 1}))
    assert WidthTables.load(tmp_path, tables.conditions).entries == tables.entries
