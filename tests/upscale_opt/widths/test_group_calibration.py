"""Calibration over both widths: what is timed, how well the rest is interpolated, and what is not timed again."""

import warnings

import networks
import numpy as np
import pytest
import torch
import width_networks
from measuring import QUICK
from width_networks import ALL, make

from upscale_opt import Effort, trace
from upscale_opt.latency.retained_memory import memory_kind
from upscale_opt.onnx_runtime.requirements import OnnxError, RemovedOperatorError
from upscale_opt.widths import group_calibration
from upscale_opt.widths.candidates import candidate_widths
from upscale_opt.widths.group_calibration import (
    LEAST_TIME,
    MOST_TICKS,
    TOLERANCE,
    adaptive_table,
    calibrate_groups,
    requests_of,
    totals,
)
from upscale_opt.widths.group_specimens import GroupSpecimens
from upscale_opt.widths.operator_groups import partition


class Fake:
    """Measures with a formula, and notes what it was asked."""

    def __init__(self, cost):
        self.cost, self.points, self.batches = cost, [], 0

    def __call__(self, points):
        assert points and len(set(points)) == len(points) and not set(points) & set(self.points)
        self.points += points
        self.batches += 1
        return {point: float(self.cost(*point)) for point in points}


WIDTHS = tuple(range(8, 257, 8))


def test_a_bilinear_cost_needs_corners_and_the_middles_of_the_four_sides():
    measure = Fake(lambda i, o: 1000 + 3 * i + 2 * o + 5 * i * o)
    table = adaptive_table(WIDTHS, WIDTHS, measure)
    assert len(measure.points) == 8 and measure.batches == 2
    assert (table.first, table.second) == ((8, 256), (8, 256))
    wanted = [[measure.cost(i, o) for o in WIDTHS] for i in WIDTHS]
    assert np.allclose(table.at(WIDTHS, WIDTHS), wanted)


def test_one_side_and_no_side():
    measure = Fake(lambda i, o: 10 + i)
    table = adaptive_table(WIDTHS, (0,), measure)
    assert len(measure.points) == 3 and table.second == (0,) and table.at((16,), (0,))[0, 0] == pytest.approx(26)
    measure = Fake(lambda i, o: 5)
    assert adaptive_table((0,), (0,), measure).nanoseconds.tolist() == [[5.0]] and len(measure.points) == 1
    measure = Fake(lambda i, o: 5 + i * o)
    assert adaptive_table((8, 16), (4, 8), measure).nanoseconds.shape == (2, 2) and len(measure.points) == 4


@pytest.mark.parametrize(
    "cost",
    [
        lambda i, o: 1000 + i * o + 4e5 * (i > 100),
        lambda i, o: 1000 + 64 * np.ceil(i / 64) * o + 100 * i,
        lambda i, o: 1e5 + i**2 * np.sqrt(o),
        lambda i, o: np.random.default_rng([i, o]).uniform(1e3, 1e5),
        lambda i, o: 1e4 + 300 * o - 200 * (i > 60) * o,
    ],
)
def test_bends_are_found_with_few_points(cost):
    measure = Fake(cost)
    table = adaptive_table(WIDTHS, WIDTHS, measure)
    assert len(table.first) <= MOST_TICKS and len(table.second) <= MOST_TICKS
    assert len(measure.points) <= MOST_TICKS**2 + 4 * 2 * MOST_TICKS
    # Every tick is what was measured, and on the edges everything probed is met while there is room for ticks.
    assert np.allclose(
        table.at(table.first, table.second), [[cost(i, o) for o in table.second] for i in table.first], atol=0.1
    )
    for axis, ticks in enumerate((table.first, table.second)):
        if len(ticks) < MOST_TICKS:
            for point in measure.points:
                other = (table.second, table.first)[axis]
                if point[1 - axis] in (other[0], other[-1]):
                    found = table.at((point[0],), (point[1],))[0, 0]
                    assert found == pytest.approx(cost(*point), rel=TOLERANCE * 1.01, abs=0.1)


def test_a_step_along_one_axis_is_enclosed():
    table = adaptive_table(WIDTHS, WIDTHS, Fake(lambda i, o: 1e6 + 1e6 * (i > 128)))
    low = max(tick for tick in table.first if tick <= 128)
    high = min(tick for tick in table.first if tick > 128)
    assert high - low <= 64 and table.second == (8, 256)


def test_totals_are_all_sums():
    graph = trace(make(networks.Dense)[0], torch.zeros(2, 3, 8, 8))
    names = [block.name for block in graph.blocks]
    stem, first = names.index("stem"), names.index("convs.0")
    assert totals(graph, (stem, first), {stem: (4, 8), first: (2, 6)}) == (6, 10, 14)
    assert totals(graph, (stem, first), {stem: (4, 8)}) == (10, 14)
    assert totals(graph, (), {}) == (0,)


@pytest.mark.parametrize("kind", ALL)
def test_requests_cover_every_total_and_are_shared_by_equal_groups(kind):
    model, inputs = make(kind)
    graph = trace(model, inputs)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts, step=2)
    specimens = GroupSpecimens(graph, parts.free)
    found = requests_of(graph, parts, candidates)
    assert len(found) == len(parts.groups)
    by_name = {}
    for group, request in zip(parts.groups, found, strict=True):
        assert by_name.setdefault(request.signature, request) is request
        assert specimens.signature(group) == specimens.signature(request.group)
        assert set(totals(graph, group.inputs, candidates)) <= set(request.first)
        assert set(totals(graph, group.outputs, candidates)) <= set(request.second)
        assert (request.first[-1], request.second[-1]) == specimens.sizes(request.group)


def test_repeated_layers_share_a_request():
    model, inputs = make(networks.Residual)
    graph = trace(model, inputs)
    parts = partition(graph)
    found = requests_of(graph, parts, candidate_widths(graph, parts))
    assert len({request.signature for request in found}) == 5 < len(found)


def test_groups_of_which_none_is_the_largest_have_tables_of_their_own():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Conv2d(*own, 1) for own in ((3, 8), (8, 16), (16, 8)))
            self.head = torch.nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.head(self.c(self.b(self.a(x))))

    graph = trace(Net().eval(), torch.zeros(1, 3, 4, 4))
    parts = partition(graph)
    found = {own.group.name: own for own in requests_of(graph, parts, candidate_widths(graph, parts))}
    assert found["b"].signature.endswith("; up to 8 and 16 channels")
    assert found["c"].signature.endswith("; up to 16 and 8 channels")


def counted(monkeypatch):
    """The names of all groups that are timed from now on."""
    timed = []
    real = group_calibration._Timer

    class Counting(real):
        def __enter__(self):
            timed.append(self.group.name)
            return super().__enter__()

    monkeypatch.setattr(group_calibration, "_Timer", Counting)
    return timed


@pytest.mark.parametrize("kind", [width_networks.FlattenedLinear, networks.Dense, networks.Two, width_networks.Chunked])
def test_a_calibration_measures_every_group_once_and_goes_on_where_it_ended(kind, tmp_path, monkeypatch):
    model, inputs = make(kind)
    graph = trace(model, inputs)
    parts = partition(graph)
    narrow = candidate_widths(graph, parts, step=2, least=0.5)
    timed = counted(monkeypatch)

    def calibrated(candidates=narrow, effort=QUICK):
        timed.clear()
        return calibrate_groups(graph, parts, candidates, inputs, directory=tmp_path, effort=effort)

    wanted = len({own.signature for own in requests_of(graph, parts, narrow)})
    first = calibrated()
    assert len(timed) == wanted == len(first.entries)
    again = calibrated()
    assert not timed
    for name, own in first.entries.items():
        assert np.array_equal(again.entries[name].nanoseconds, own.nanoseconds)
        assert (own.nanoseconds > 0).all()
    for own in requests_of(graph, parts, narrow):
        assert first.entries[own.signature].at(own.first, own.second).shape == (len(own.first), len(own.second))
    wide = candidate_widths(graph, parts, step=2, least=0.1)
    calibrated(wide)
    assert 0 < len(timed) <= wanted
    calibrated()
    assert not timed, "what was covered stays covered"
    calibrated(effort=Effort(spans=2, rounds=2, sweeps=1, seconds=1e-9, copies=1))
    assert len(timed) == wanted


def test_tables_of_both_kinds_of_memory_are_kept_apart(tmp_path, monkeypatch):
    model, inputs = make(networks.Residual)
    graph = trace(model, inputs)
    parts = partition(graph)
    timed = counted(monkeypatch)
    for retained in (True, False):
        how = {"directory": tmp_path, "effort": QUICK, "retained": retained}
        found = calibrate_groups(graph, parts, candidate_widths(graph, parts), inputs, **how)
        assert found.conditions.memory == (memory_kind("cpu") if retained else "")
    number = len(found.entries)
    assert len(timed) == (2 * number if memory_kind("cpu") else number)


def computed(monkeypatch, refusal=None):
    """In ONNX Runtime, a call that does nothing takes 400 ns, and a part 1000 more; parts may be refused."""

    def parts(make, inputs, copies, backend, pool=None, *, alone=False):
        if alone:
            return [lambda: 400 if isinstance(make(), torch.nn.Identity) else 900] * copies
        if refusal is not None:
            raise refusal("as it happens")
        return [lambda: 1400] * copies

    monkeypatch.setattr(group_calibration, "prepared_parts", parts)
    monkeypatch.setattr(group_calibration, "interleaved", lambda calls, *_: [[own[0]()] * 3 for own in calls])


@pytest.mark.parametrize(("refusal", "wanted"), [(None, 1000), (RemovedOperatorError, LEAST_TIME), (OnnxError, 500)])
def test_groups_in_onnx_runtime_take_no_time_to_be_called(refusal, wanted, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    computed(monkeypatch, refusal)
    model, inputs = make(networks.Residual)
    graph = trace(model, inputs)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = calibrate_groups(
            graph, parts, candidates, inputs, backend="onnxruntime", directory=tmp_path, effort=QUICK
        )
    assert all((own.nanoseconds == wanted).all() for own in found.entries.values())
    said = [str(own.message) for own in caught if "a network of its own" in str(own.message)]
    assert len(said) == (len(found.entries) if refusal is OnnxError else 0)


def test_an_interrupted_calibration_keeps_what_it_measured(tmp_path, monkeypatch):
    model, inputs = make(width_networks.FlattenedLinear)
    graph = trace(model, inputs)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts)
    timed = counted(monkeypatch)
    real = group_calibration.adaptive_table

    def interrupted(*arguments):
        if len(timed) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(group_calibration, "adaptive_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate_groups(graph, parts, candidates, inputs, directory=tmp_path, effort=QUICK)
    monkeypatch.setattr(group_calibration, "adaptive_table", real)
    begun = list(timed)
    calibrate_groups(graph, parts, candidates, inputs, directory=tmp_path, effort=QUICK)
    assert timed[3:] == [*begun[2:], *timed[4:]] and len(timed) == len(begun) + 2
