"""Calibration: every distinct shape once, resumable; specimens do what an export does there."""

import functools
from dataclasses import replace

import networks
import numpy as np
import pytest
import torch
from measuring import QUICK, masked
from torch import nn

from upscale_opt import ModelError, export, extract
from upscale_opt.comparing.pruning import prepare
from upscale_opt.latency.backends import BACKENDS, prepared
from upscale_opt.latency.calibration import Effort, calibrate, conditions_of, keys_of
from upscale_opt.latency.cost_tables import Case, CostTables, Key, Timing
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.latency.span_search import spans_to_time
from upscale_opt.latency.specimens import FUSED_PROLOGUES, Specimen, forms_of, inputs_of, positions_of
from upscale_opt.models.loading import in_memory_format
from upscale_opt.planning.cost_model import AnalyticCosts
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.plans import baseline_plan
from upscale_opt.planning.reading import FUSED, GATHERING, MATMUL, Reading


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Flattened, networks.Shared])
def test_all_distinct_shapes_are_measured_once_and_kept(network, tmp_path, monkeypatch):
    _, inputs, graph, masks = masked(network)
    keys = keys_of(masks)
    assert len(keys) == len(set(keys)) <= len(graph.reads)
    tables = calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    assert set(tables.entries) == set(keys)
    monkeypatch.setattr("upscale_opt.latency.calibration.measure", None)  # nothing is measured a second time
    again = calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    assert again.entries == tables.entries
    costs = MeasuredCosts(tables, AnalyticCosts())
    problems = extract(graph, masks.masks, costs=costs)
    assert costs.name == "measured" and all(a.table for p in problems.values() for a in p.accesses)


def test_an_interrupt_keeps_what_was_measured(tmp_path, monkeypatch):
    from upscale_opt.latency import calibration

    _, inputs, _, masks = masked(networks.Residual)
    honest, seen = calibration.measure, []

    def interrupted(key, *others):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(key)
        return honest(key, *others)

    monkeypatch.setattr(calibration, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    assert list(CostTables.load(tmp_path, conditions_of(inputs)).entries) == seen


def noted(monkeypatch):
    """The shapes that are timed from now on, and how many figures each had."""
    from upscale_opt.latency import calibration

    honest, seen = calibration.measure, []

    def noting(key, conditions, device, effort, known=()):
        seen.append((key, len(known[0].nanoseconds) if known else 0))
        return honest(key, conditions, device, effort, known)

    monkeypatch.setattr(calibration, "measure", noting)
    return seen


def test_all_shapes_are_timed_once_before_any_a_second_time(tmp_path, monkeypatch):
    _, inputs, _, masks = masked(networks.Residual)
    keys, seen = keys_of(masks), noted(monkeypatch)
    tables = calibrate(masks, inputs, directory=tmp_path, effort=replace(QUICK, rounds=5, sweeps=2))
    assert seen == [(key, 0) for key in keys] + [(key, 3) for key in keys]
    assert {len(own.nanoseconds) for timings in tables.entries.values() for own in timings} == {6}


def test_tables_with_fewer_figures_get_the_rest_in_the_ways_they_know(tmp_path, monkeypatch):
    """An interrupted calibration goes on with the next sweep; a calibration with less effort changes nothing."""
    _, inputs, _, masks = masked(networks.Residual)
    half = calibrate(masks, inputs, directory=tmp_path, effort=replace(QUICK, sweeps=1))
    seen = noted(monkeypatch)
    more = replace(QUICK, rounds=4, sweeps=2)
    full = calibrate(masks, inputs, directory=tmp_path, effort=more)
    assert seen == [(key, 2) for key in half.entries]
    for key, timings in full.entries.items():
        assert [replace(own, nanoseconds=own.nanoseconds[:2]) for own in timings] == list(half.entries[key])
    again = calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    assert again.entries == full.entries and len(seen) == len(half.entries)


def test_tables_made_with_less_care_are_made_again(tmp_path, monkeypatch):
    """Figures of short calls or of fewer spans do not stay in a table that is asked for with more effort."""
    _, inputs, _, masks = masked(networks.Residual)
    less = calibrate(masks, inputs, directory=tmp_path, effort=replace(QUICK, spans=1))
    seen = noted(monkeypatch)
    more = calibrate(masks, inputs, directory=tmp_path, effort=replace(QUICK, spans=6, copies=2))
    assert seen == [(key, 0) for key in less.entries]
    assert calibrate(masks, inputs, directory=tmp_path, effort=QUICK).entries == more.entries
    calibrate(masks, inputs, directory=tmp_path, effort=replace(QUICK, rounds=3, sweeps=1))
    assert set(CostTables.load(tmp_path, conditions_of(inputs)).details.values()) == {(6, QUICK.seconds, 2)}


def test_tables_that_lack_a_way_to_read_are_made_again(tmp_path, monkeypatch):
    """As those that the timing of layers for SPDY leaves in the same file."""
    _, inputs, _, masks = masked(networks.Residual)
    tables = calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    key = max(tables.entries, key=lambda own: len(tables.entries[own]))
    tables.entries[key] = tables.entries[key][:1]
    tables.save(tmp_path)
    seen = noted(monkeypatch)
    calibrate(masks, inputs, directory=tmp_path, effort=QUICK)
    assert seen == [(key, 0)]


def test_one_channel_may_be_in_either_format():
    x = torch.zeros(2, 1, 3, 3)
    assert conditions_of((x,)).memory_format == "contiguous"
    picture = torch.zeros(3, 4, 3).permute(2, 0, 1)[None]  # as images come: the stride of one sample says nothing
    for last in (x.to(memory_format=torch.channels_last), in_memory_format("channels_last", x), picture):
        assert conditions_of((last,)).memory_format == "channels_last"


def test_conditions_tell_memory_formats_and_batches_of_the_same_shape_apart():
    x = torch.zeros(2, 4, 3, 3)
    last = x.contiguous(memory_format=torch.channels_last)
    assert conditions_of((x,)).memory_format == "contiguous" != conditions_of((last,)).memory_format
    assert conditions_of((x.double(),)).dtype == "float64" and conditions_of((x,), backend="torchscript").backend


CONVOLUTION = Layer("Conv2d", (2, 12, 5, 5), 1, 1, 7, (1, 1), (1, 1), (0, 0), (1, 1), True)
BEHIND = replace(CONVOLUTION, kernel=(3, 3), padding=(1, 1), prologue=("BatchNorm2d", "relu"))
JOINED = replace(BEHIND, operands=(5, 4, 3))
POINTWISE = replace(CONVOLUTION, prologue=("BatchNorm2d", "relu"), operands=(5, 4, 3))
FLAT = Layer("Linear", (2, 48), 1, 4, 6, bias=True)


@pytest.mark.parametrize("layer", [CONVOLUTION, BEHIND, JOINED, POINTWISE, FLAT])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_specimens_read_the_channels_they_say(layer, memory_format):
    """With the weights of channels that are not read left out, all ways to read give the plain consumer's output."""
    cases = forms_of(layer, 5, 12, [5, 8, 12], [2, 4], gathering=True)
    kernels = {"", MATMUL, GATHERING} if layer.is_pointwise else {""}
    fuses = layer.is_pointwise and layer.prologue in FUSED_PROLOGUES
    assert {case.reading.kernel for case in cases} == (kernels | {FUSED} if fuses else kernels)
    assert {case.reading.late for case in cases if case.reading.kernel == MATMUL} == {
        CONVOLUTION: {False},
        POINTWISE: {False, True},
    }.get(layer, set())
    for case in cases:
        inputs = inputs_of(
            layer, case, 12, dtype=torch.float64, device=torch.device("cpu"), memory_format=memory_format
        )
        specimen = Specimen(layer, case, 12, np.random.default_rng(1)).double().eval()
        found = specimen(*inputs)
        positions = (
            positions_of(case, 12, np.random.default_rng(1)) if case.reading.mode != "contiguous" else np.arange(5)
        )
        entries = (positions[:, None] * layer.channel_size + np.arange(layer.channel_size)).ravel()
        x = torch.cat(inputs, layer.axis)
        select = functools.partial(torch.index_select, dim=layer.axis, index=torch.from_numpy(entries))
        prologue = [*specimen.prologue, *specimen.fused]
        for step in [*prologue, select] if case.reading.late else [select, *prologue]:
            x = step(x)
        plain = nn.Linear if layer.kind == "Linear" else nn.Conv2d
        expected = plain.forward(specimen.consumer, x)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10), str(case)
        assert len(positions) == case.channels
        if case.reading.mode == "over-read" and case.channels < 12:
            assert bool(positions[0] % 8) == case.shifted


def test_pieces_have_as_many_runs_as_they_say():
    for kept, stored in ((5, 12), (32, 49), (128, 237)):
        for runs in (2, 4, min(kept, stored - kept + 1)):
            positions = positions_of(Case(Reading("pieces"), kept, runs), stored, np.random.default_rng(0))
            assert len(positions) == kept == len(set(positions.tolist())) and positions[-1] < stored
            assert 1 + int((np.diff(positions) > 1).sum()) == runs


WIDE = Layer("Conv2d", (1, 256, 4, 4), 1, 1, 8, (3, 3), (1, 1), (1, 1), (1, 1), True)


def timed_by(cost, monkeypatch, layer=WIDE, kept=64, stored=256):
    """A calibration of one shape with made-up costs. It notes the cases that are timed together."""
    from upscale_opt.latency import calibration

    key, together = Key(layer, kept, stored), []

    def figures(bench, cases, rounds):
        together.append((list(cases), rounds))
        return [(round(cost(case)),) * rounds for case in cases]

    monkeypatch.setattr(calibration._Bench, "figures", figures)
    monkeypatch.setattr(calibration, "keys_of", lambda masked: [key])
    return key, together


def spans_of(timings):
    return sorted({own.case.channels for own in timings if own.case.reading == Reading("over-read")})


@pytest.fixture
def residual():
    _, inputs, _, masks = masked(networks.Residual)
    return masks, inputs


def test_a_straight_line_needs_both_ends_and_the_middle(residual, tmp_path, monkeypatch):
    masks, inputs = residual
    key, together = timed_by(lambda case: 1000 + 10 * case.channels, monkeypatch)
    effort = Effort(spans=6, rounds=8, sweeps=2)
    tables = calibrate(masks, inputs, directory=tmp_path, effort=effort)
    assert spans_of(tables.entries[key]) == [64, 160, 256]
    assert [len(cases) for cases, _ in together] == [3] + [len(tables.entries[key])] * 2
    assert tables.made == {"search": 3 * 3, "timed": 8 * len(tables.entries[key])}
    assert {len(own.nanoseconds) for own in tables.entries[key]} == {8}, "figures of the search are not kept"
    again = calibrate(masks, inputs, directory=tmp_path, effort=effort)
    assert again.made.total() == 0 and len(together) == 3


@pytest.mark.parametrize("step", [72, 104, 160, 168, 224, 248])
@pytest.mark.parametrize("kernel", ["", MATMUL])
def test_a_step_is_found_within_the_number_of_spans(step, kernel, residual, tmp_path, monkeypatch):
    """In the reading that is the fastest; the other one says nothing."""
    masks, inputs = residual
    layer = replace(WIDE, kernel=(1, 1), padding=(0, 0))

    def cost(case):
        return 1000 + case.channels + 500 * (case.channels > step) + 9000 * (case.reading.kernel != kernel)

    key, _ = timed_by(cost, monkeypatch, layer)
    tables = calibrate(masks, inputs, directory=tmp_path, effort=Effort(spans=6))
    spans = np.array(spans_of(tables.entries[key]))
    assert len(spans) <= 8 and not (spans % 8).any()
    below, above = spans[spans <= step].max(), spans[spans > step].min()
    assert above - below <= 16, "the step is known to two multiples of 8"
    assert tables.made["search"] == 3 * 2 * 3 * (len(spans) - 2)


def test_a_full_read_without_a_copy_is_told_from_ranges_beside_it(residual, tmp_path, monkeypatch):
    """Ranges are copied inside the convolution, the whole tensor is not: both lines are followed."""
    masks, inputs = residual
    key, _ = timed_by(lambda case: (10 if case.channels == 256 else 15) * case.channels, monkeypatch)
    spans = spans_of(calibrate(masks, inputs, directory=tmp_path, effort=Effort(spans=6)).entries[key])
    assert 248 in spans and len(spans) <= 6


def test_a_resumed_calibration_times_the_spans_that_were_chosen_first(residual, tmp_path, monkeypatch):
    """The second sweep makes no search, and its readings are those of the first one."""
    masks, inputs = residual
    key, together = timed_by(lambda case: 1000 + 500 * (case.channels > 104), monkeypatch)
    half = calibrate(masks, inputs, directory=tmp_path, effort=Effort(rounds=4, sweeps=1))
    searched, own = half.made["search"], [timing.case for timing in half.entries[key]]
    assert searched > 0 and len(half.entries[key][0].nanoseconds) == 4
    together.clear()
    monkeypatch.setattr("upscale_opt.latency.calibration.search", None)
    full = calibrate(masks, inputs, directory=tmp_path, effort=Effort(rounds=8, sweeps=2))
    assert together == [(own, 4)] and [timing.case for timing in full.entries[key]] == own
    assert full.made == {"timed": 4 * len(own)}


def test_tables_with_more_spans_stay_valid(residual, tmp_path, monkeypatch):
    """As tables that were made with evenly distributed spans."""
    masks, inputs = residual
    key, together = timed_by(lambda case: 1000 + case.channels, monkeypatch)
    cases = forms_of(key.layer, key.kept, key.stored, range(64, 257, 8), [2, 4])
    tables = CostTables(conditions_of(inputs), {key: tuple(Timing(case, (9,) * 8) for case in cases)})
    tables.details[key] = Effort(spans=30).detail
    tables.save(tmp_path)
    assert calibrate(masks, inputs, directory=tmp_path).entries == tables.entries and not together


def flat(spans):
    return np.full((len(spans), 3), 100.0)


def test_spans_are_ends_and_multiples_of_8():
    assert spans_to_time(64, 64, 4, flat) == [64] and spans_to_time(5, 7, 3, flat) == [5, 7]
    assert spans_to_time(37, 64, 0, flat) == [37, 64]
    assert spans_to_time(37, 48, 6, None) == [37, 40, 48], "so few are timed without a search"
    assert spans_to_time(37, 1000, 1, None) == [37, 40, 1000], "whether 40 channels are faster than 37"
    spans = spans_to_time(37, 1000, 6, lambda spans: np.array([[100.0 + s**2] * 3 for s in spans]))
    assert spans[:2] == [37, 40] and spans[-1] == 1000 and len(spans) == 8
    assert all(span % 8 == 0 for span in spans[1:-1])


def test_noise_and_slow_rounds_are_no_bends():
    """Rounds of different speeds cancel in the ratio to the ends; a figure that varies itself proves no bend."""
    rng = np.random.default_rng(0)

    def drifting(spans):
        return np.array(spans)[:, None] * rng.uniform(1, 4, 3)

    def noisy(spans):
        middle = [[90.0, 100.0, 125.0] if 64 < s < 256 else [60.0 + s / 4] * 3 for s in spans]
        return np.array(middle)

    assert spans_to_time(64, 256, 6, drifting) == [64, 160, 256]
    assert spans_to_time(64, 256, 6, noisy) == [64, 160, 256]


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_backends_run_what_they_are_given(backend):
    module, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), torch.randn(2, 3, 4, 4)
    with torch.inference_mode():
        assert torch.allclose(prepared(module, (x,), backend)(), module(x))


def test_backends_that_are_not_there_are_refused():
    module, x = nn.ReLU(), torch.zeros(1)
    with pytest.raises(ModelError, match="choose one of " + ", ".join(BACKENDS)):
        prepared(module, (x,), "magic")
    with pytest.raises(ModelError, match="needs a CUDA device"):
        prepared(module, (x,), "cuda-graph")


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted])
def test_plans_read_in_the_ways_that_the_tables_find_cheapest_and_compute_the_same(network, tmp_path):
    """Made-up tables, each way the cheapest in turn, so that exports of all of them are verified."""
    model, inputs, graph, masks = masked(network, seed=1)
    conditions = conditions_of(inputs)
    for cheap in ("over-read", "pieces", "copy", "whole", "late over-read", "late copy", MATMUL, "late matmul"):
        entries = {}
        for key in keys_of(masks):
            cases = forms_of(key.layer, key.kept, key.stored, range(key.kept, key.stored + 1), [2, 4])
            entries[key] = tuple(Timing(case, (_cost(case, key.stored, cheap),)) for case in cases)
        costs = MeasuredCosts(CostTables(conditions, entries), AnalyticCosts())
        made = prepare(model, inputs, masks, graph=graph, objective="latency", costs=costs)
        plan = made.read_cheaply(baseline_plan(made.problems, made.masks))
        free = {name for name, table in made.tables.items() if table.key.kept < table.key.stored}
        exported = export(model, inputs, plan, graph=graph)
        assert exported.verification.passed and free
        readings = {name: plan.readings[name] for name in free}
        products = {name for name, own in readings.items() if own.kernel == MATMUL}
        modes = {own.mode for own in readings.values()}
        able = {name for name in free if made.tables[name].key.layer.has_prologue}
        pointwise = {name for name in free if made.tables[name].key.layer.is_pointwise}
        late = able & products if cheap == "late matmul" else able if cheap.startswith("late") else set()
        assert {name for name in able if readings[name].late} == late
        if cheap == "whole":
            assert all(readings[name].width == made.tables[name].key.stored for name in free)
        elif cheap == "copy":
            assert modes == {"copy"}
        elif cheap == MATMUL:
            assert products == pointwise
        elif cheap == "late matmul":
            assert late <= pointwise and bool(late) == bool(able & pointwise)


def _cost(case, stored, cheap):
    if case.reading.mode == "over-read" and case.channels == stored:
        return 1000 if cheap == "whole" else 9000
    if case.reading.kernel == MATMUL:
        return 1000 if cheap == ("late matmul" if case.reading.late else MATMUL) else 9000
    form = f"late {case.reading.mode}" if case.reading.late else case.reading.mode
    return 1000 if form == cheap else 5000 + 10 * case.channels
