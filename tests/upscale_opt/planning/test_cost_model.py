"""Proves the analytic tables to be what they say: whole, rising, on a line, true to the shapes of the trace."""

import math
from fractions import Fraction

import networks
import numpy as np
import pytest

from problems import Access, Block, Problem, objective_named
from upscale_opt import AnalyticCosts, UpscaleError, Workload, effective_masks, extract, trace
from upscale_opt.planning.workloads import workload

CONV = Workload(196, 64, 64 * 196, 2 * 64 * 196, 4)
JOINS = AnalyticCosts(launch_ns=100, piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
"""Joining is free and everything else is dear: pieces wherever there is more than one run."""


def _random(rng):
    """Costs, a workload and numbers of channels, over many orders of magnitude."""
    numbers = [int(10 ** rng.uniform(0, high)) for high in (6, 6, 7, 8)]
    rates = [int(10 ** rng.uniform(0, 5)) for _ in range(3)]
    stored = int(rng.integers(1, 300))
    costs = AnalyticCosts(int(rng.integers(0, 10_000)), int(rng.integers(0, 3_000)), *rates)
    return costs, Workload(*numbers, int(rng.choice([2, 4, 8]))), int(rng.integers(1, stored + 1)), stored


@pytest.mark.parametrize("seed", range(60))
def test_tables_are_concave_cover_every_span_and_follow_the_formula(seed):
    """Rising, concave (indeed a line), at most 8 ticks, and within a nanosecond per 8 channels of the exact model."""
    costs, work, kept, stored = _random(np.random.default_rng(seed))
    table = costs.table(work, kept=kept, stored=stored)
    assert table.read.covers(kept, stored) and table.read.is_concave
    assert len({(b - a) for a, b in zip(table.read.costs, table.read.costs[1:])}) <= 1
    assert table.denominator in (1, 2, 4, 8)
    for span in {kept, (kept + stored) // 2, stored}:
        moved = (span * (work.input_elements + work.weight_elements) + work.output_elements) * work.element_bytes
        exact = costs.launch_ns + Fraction(moved, costs.bytes_per_ns) + Fraction(work.flops * span, costs.flops_per_ns)
        found = Fraction(int(table.read.ticks(np.array(span), per_nanosecond=8)), 8)
        assert exact <= found <= exact + 1 + Fraction(span, 8)
    gathered = Fraction(2 * kept * work.input_elements * work.element_bytes, costs.gather_bytes_per_ns)
    assert table.copy == costs.launch_ns + math.ceil(gathered)


@pytest.mark.parametrize("seed", range(60))
def test_pieces_are_offered_exactly_where_they_beat_the_copy(seed):
    costs, work, kept, stored = _random(np.random.default_rng(seed))
    table = costs.table(work, kept=kept, stored=stored)
    joined = costs.launch_ns + math.ceil(
        Fraction(2 * kept * work.input_elements * work.element_bytes, costs.bytes_per_ns)
    )
    most = min(kept, stored - kept + 1)
    cheaper = [runs for runs in range(2, most + 1) if joined + runs * costs.piece_ns < table.copy]
    if table.pieces is None:
        assert not cheaper
        return
    assert (table.pieces.points[0], table.pieces.points[-1]) == (cheaper[0], cheaper[-1])
    found = table.pieces.ticks(np.array(cheaper), per_nanosecond=1)
    assert found.tolist() == [joined + runs * costs.piece_ns for runs in cheaper]


def test_more_work_costs_more():
    costs = AnalyticCosts()
    small = costs.table(CONV, kept=16, stored=32)
    for name in ("input_elements", "weight_elements", "output_elements", "flops", "element_bytes"):
        work = Workload(**{**vars(CONV), name: 100 * getattr(CONV, name)})
        assert all(a < b for a, b in zip(small.read.costs, costs.table(work, kept=16, stored=32).read.costs))
    assert AnalyticCosts.for_device("cuda") != AnalyticCosts.for_device("cpu") == AnalyticCosts()
    assert costs.name == "analytic" and "not measured" in str(costs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnalyticCosts(bytes_per_ns=0), "bytes_per_ns is 0"),
        (lambda: AnalyticCosts(launch_ns=-1), "launch_ns is -1"),
        (lambda: AnalyticCosts(flops_per_ns=1.5), "flops_per_ns is 1.5"),
        (lambda: Workload(1, 1, 0, 1, 4), "output_elements is 0"),
        (lambda: AnalyticCosts().table(CONV, kept=5, stored=4), "keeps 5 of 4"),
        (lambda: AnalyticCosts().table(CONV, kept=0, stored=4), "keeps 0 of 4"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(UpscaleError, match=message):
        make()


@pytest.mark.parametrize("kind", networks.ALL)
def test_every_access_of_every_network_gets_a_table(kind):
    """With tables the problems are otherwise the same; without a source of costs there are none."""
    graph = trace(*networks.make(kind))
    masks = effective_masks(graph).masks
    plain, priced = extract(graph, masks), extract(graph, masks, costs=AnalyticCosts())
    assert list(plain) == list(priced)
    for name, problem in priced.items():
        assert problem.blocks == plain[name].blocks
        assert all(access.table is None for access in plain[name].accesses)
        assert all(access.table is not None for access in problem.accesses)


def test_workloads_count_what_the_export_computes():
    """A 3x3 convolution, a linear layer behind a flatten, one in the middle of a sequence, and pruned outputs."""
    model, inputs = networks.make(networks.Flattened)
    graph = trace(model, inputs)
    reads = {read.name: read for read in graph.reads}
    assert workload(graph, reads["conv2"], 7) == Workload(64, 7 * 9, 7 * 64, 2 * 9 * 7 * 64, 4)
    assert workload(graph, reads["fc1"], 14) == Workload(9, 9 * 14, 14, 2 * 9 * 14, 4)
    doubled = trace(model.double(), tuple(x.double().repeat(3, 1, 1, 1) for x in inputs))
    assert workload(doubled, doubled.reads[1], 12) == Workload(3 * 64, 12 * 9, 3 * 12 * 64, 2 * 9 * 3 * 12 * 64, 8)

    graph = trace(*networks.make(networks.Residual))
    half = np.arange(16) < 8
    seen = []

    class Recorder(AnalyticCosts):
        def table(self, work, *, kept, stored):
            seen.append((work.output_elements, kept, stored))
            return super().table(work, kept=kept, stored=stored)

    masks = {f"blocks.{i}.conv{j}.weight": half for i in range(3) for j in (1, 2)} | {"down.weight": half}
    extract(graph, masks, costs=Recorder())
    reads = [access.name for problem in extract(graph, masks).values() for access in problem.accesses]
    found = dict(zip(reads, seen))
    assert found["stem"] == (8 * 64, 3, 3)  # eight of sixteen outputs are read by anybody
    assert found["blocks.0.conv1"] == (8 * 64, 8, 8) and found["blocks.0.conv2"] == (8 * 64, 8, 8)


def test_the_cheapest_mode_is_chosen():
    """One access, every mode in turn as the costs change."""
    kept = np.array([True, False] * 4 + [False] * 24)
    kept[31] = True
    latency = objective_named("latency")

    def mode(costs, span, runs):
        access = Access("a", (0,), kept, table=costs.table(CONV, kept=5, stored=32))
        Problem((Block("x", 32, removable=False),), (access,))
        return latency.mode(access, span, runs)

    assert mode(AnalyticCosts(), 5, 1) == "view"
    assert mode(AnalyticCosts(), 6, 2) == "over-read"
    assert mode(AnalyticCosts(), 32, 5) == "copy"
    assert mode(JOINS, 32, 5) == "pieces"
