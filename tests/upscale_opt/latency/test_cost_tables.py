"""Measured tables: the file, the curves that solvers see, and the cheapest way to read."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from problems import Curve, ProblemError
from problems.files import locked
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import Case, Conditions, CostTables, Detail, Key, Timing, default_directory
from upscale_opt.latency.measured_costs import OWN, OWN_COPY, MeasuredCosts, MeasuredTable
from upscale_opt.latency.readings import fastest_kernels
from upscale_opt.planning.cost_model import AnalyticCosts, Workload
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.reading import Reading

LAYER = Layer("Conv2d", (1, 64, 14, 14), 1, 1, 24, (1, 1), (1, 1), (0, 0), (1, 1), False, ("BatchNorm2d",), (40, 24))
CONDITIONS = Conditions("a CPU", "float32", "contiguous", "eager", 2, "2.13.0")
KEY = Key(LAYER, 32, 64)


def timing(form, channels, *nanoseconds, runs=1, kernel="", late=False):
    """As many rounds as the first has; one figure stands for all."""
    figures = nanoseconds if len(nanoseconds) == 3 else 3 * nanoseconds
    return Timing(Case(Reading(form, kernel=kernel, late=late), channels, runs), figures)


TIMINGS = (
    timing("contiguous", 32, 900, 1000, 5000),
    timing("over-read", 32, 1100),
    timing("over-read", 32, 1050, kernel="matmul"),
    timing("over-read", 40, 1400),
    timing("over-read", 40, 1600, kernel="matmul"),
    timing("over-read", 48, 1300),
    timing("over-read", 64, 1500),
    timing("pieces", 32, 1200, runs=2),
    timing("pieces", 32, 1600, runs=4),
    timing("copy", 32, 1380),
)


def test_files_come_back_as_they_were(tmp_path):
    other = Key(LAYER, 40, 64)
    tables = CostTables(CONDITIONS, {KEY: TIMINGS, other: TIMINGS}, {KEY: Detail(6, 0.003, 2)})
    path = tables.save(tmp_path / "new")
    again = CostTables.load(tmp_path / "new", CONDITIONS)
    assert again.entries == tables.entries and again.conditions == CONDITIONS and again.details == tables.details
    assert path.name == CONDITIONS.file_name and json.loads(path.read_text())["version"] == 6


def test_timings_are_known_to_those_who_ask_for_no_more_care():
    tables = CostTables(CONDITIONS, {KEY: TIMINGS}, {KEY: Detail(6, 0.003, 2)})
    assert tables.known(KEY, Detail(6, 0.003, 2)) == tables.known(KEY, Detail(3, 0.001, 1)) == TIMINGS
    for more in (Detail(7, 0.003, 2), Detail(6, 0.004, 2), Detail(6, 0.003, 3)):
        assert tables.known(KEY, more) == ()
    assert CostTables(CONDITIONS, {KEY: TIMINGS}).known(KEY, Detail(1, 0.0, 1)) == (), "nobody knows how they were made"
    assert Detail(6, 0.001, 2).with_all_care_of(Detail(3, 0.003, 1)) == (6, 0.003, 2)


def test_other_conditions_have_another_file(tmp_path):
    CostTables(CONDITIONS, {KEY: TIMINGS}).save(tmp_path)
    for name, value in {
        "threads": 1,
        "memory_format": "channels_last",
        "torch": "2.11.0",
        "device": "a GPU",
        "memory": "retained",
    }.items():
        assert CostTables.load(tmp_path, replace(CONDITIONS, **{name: value})).entries == {}


DEFECTS = {
    "lacks the field 'kept'": lambda d: d["tables"][0].pop("kept"),
    "keeps 65 of 64": lambda d: d["tables"][0].update(kept=65),
    "'nanoseconds'": lambda d: d["tables"][0]["timings"][0].update(nanoseconds=[]),
    "a layer": lambda d: d["tables"][0]["layer"].update(colour="red"),
    "must list int": lambda d: d["tables"][0]["layer"].update(kernel=["1"]),
    "newer than the 6": lambda d: d.update(version=7),
    "'late'": lambda d: d["tables"][0]["timings"][0].update(late="no"),
    "other conditions": lambda d: d["conditions"].update(threads=7),
    "there are two": lambda d: d["tables"].append(d["tables"][0]),
    "has no timings": lambda d: d["tables"][0].update(timings=[]),
    "'form'": lambda d: d["tables"][0]["timings"][0].update(form="magic"),
    "kernels matmul": lambda d: d["tables"][0]["timings"][0].update(kernel="magic"),
    "it reads 65": lambda d: d["tables"][0]["timings"][0].update(channels=65),
    "in 0 runs": lambda d: d["tables"][0]["timings"][0].update(runs=0),
    "'channels' must be int": lambda d: d["tables"][0]["timings"][0].update(channels=True),
    "'kind'": lambda d: d["tables"][0]["layer"].update(kind="Dropout"),
    "'axis'": lambda d: d["tables"][0]["layer"].update(axis=4),
    "at least 1": lambda d: d["tables"][0]["layer"].update(outputs=0),
    "negative figures": lambda d: d["tables"][0].update(effort={"spans": -1, "seconds": 0.1, "copies": 1}),
    "not valid JSON": lambda d: d["tables"][0].update(effort={"spans": 1, "seconds": float("nan"), "copies": 1}),
    "unknown field 'speed'": lambda d: d["tables"][0].update(speed=1),
    "different numbers of figures": lambda d: d["tables"][0]["timings"][0].update(nanoseconds=[1, 2]),
}


@pytest.mark.parametrize("complaint", DEFECTS)
def test_every_defect_is_named(complaint, tmp_path):
    path = CostTables(CONDITIONS, {KEY: TIMINGS}).save(tmp_path)
    document = json.loads(path.read_text())
    DEFECTS[complaint](document)
    path.write_text(json.dumps(document))
    with pytest.raises(UpscaleError) as caught:
        CostTables.load(tmp_path, CONDITIONS)
    assert complaint in str(caught.value) and "calibrate again" in str(caught.value)


def test_two_calibrations_at_a_time_keep_each_others_tables(tmp_path):
    """What was written after this one had read the file stays, and this one knows of it from then on."""
    others = [Key(LAYER, kept, 64) for kept in range(1, 9)]
    first, second = CostTables.load(tmp_path, CONDITIONS), CostTables.load(tmp_path, CONDITIONS)
    for i, key in enumerate(others):
        own = (first, second)[i % 2]
        own.entries[key] = (timing("contiguous", key.kept, i + 1),)
        own.details[key] = Detail(6, 0.003, 2)
        own.save(tmp_path)
    found = CostTables.load(tmp_path, CONDITIONS)
    assert set(found.entries) == set(found.details) == set(others) == set(second.entries)
    assert all(found.entries[key][0].median == i + 1 for i, key in enumerate(others))


def test_what_is_changed_or_dropped_on_purpose_is_so_in_the_file(tmp_path):
    """Unless somebody else has measured it anew meanwhile."""
    other = Key(LAYER, 40, 64)
    CostTables(CONDITIONS, {KEY: TIMINGS, other: TIMINGS}, {KEY: Detail(6, 0.003, 2)}).save(tmp_path)
    tables, late = CostTables.load(tmp_path, CONDITIONS), CostTables.load(tmp_path, CONDITIONS)
    tables.entries[KEY] = TIMINGS[:1]
    del tables.entries[other]
    tables.save(tmp_path)
    assert CostTables.load(tmp_path, CONDITIONS).entries == {KEY: TIMINGS[:1]}
    late.entries[other] = TIMINGS[:2]
    late.save(tmp_path)
    assert CostTables.load(tmp_path, CONDITIONS).entries == {KEY: TIMINGS[:1], other: TIMINGS[:2]}


FULLER = {
    "more ways": (TIMINGS, Detail(6, 0.003, 2)),
    "more care": (TIMINGS[:4], Detail(6, 0.005, 2)),
    "known care": (TIMINGS[:4], Detail(6, 0.003, 2)),
    "more rounds": (tuple(replace(own, nanoseconds=2 * own.nanoseconds) for own in TIMINGS[:4]), Detail(6, 0.003, 2)),
}


@pytest.mark.parametrize("what", FULLER)
def test_of_two_measurements_of_a_shape_the_fuller_stays(what, tmp_path):
    """Whoever writes last; of two alike the last."""
    timings, detail = FULLER[what]
    lesser = None if what == "known care" else Detail(6, 0.003, 2)
    full = CostTables(CONDITIONS, {KEY: timings}, {KEY: detail})
    less = CostTables(CONDITIONS, {KEY: TIMINGS[:4]}, {} if lesser is None else {KEY: lesser})
    for order in ((full, less), (less, full)):
        for own in order:
            CostTables(CONDITIONS, dict(own.entries), dict(own.details)).save(tmp_path / str(order[0] is full))
        found = CostTables.load(tmp_path / str(order[0] is full), CONDITIONS)
        assert found.entries == full.entries and found.details == full.details
    again = (timing("contiguous", 32, 7), *TIMINGS[1:4])
    CostTables(CONDITIONS, {KEY: again}, {KEY: Detail(6, 0.003, 2)}).save(tmp_path / "alike")
    CostTables(CONDITIONS, {KEY: TIMINGS[:4]}, {KEY: Detail(6, 0.003, 2)}).save(tmp_path / "alike")
    assert CostTables.load(tmp_path / "alike", CONDITIONS).entries[KEY] == TIMINGS[:4]


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from test_cost_tables import CONDITIONS, LAYER, Key, timing
from upscale_opt.latency.cost_tables import CostTables, Detail

tables = CostTables.load(sys.argv[1], CONDITIONS)
for kept in range(int(sys.argv[2]), 60, 2):
    tables.entries[Key(LAYER, kept, 64)] = (timing("contiguous", kept, kept),)
    tables.details[Key(LAYER, kept, 64)] = Detail(6, 0.003, 2)
    tables.save(sys.argv[1])
"""


def test_two_processes_lose_nothing(tmp_path):
    """Both write thirty times, as fast as they can, every time with a table that the other has not seen."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(here.parents[2])}
    writers = [subprocess.Popen([*command, str(first), str(here)], env=environment) for first in (1, 2)]
    assert [own.wait(120) for own in writers] == [0, 0]
    found = CostTables.load(tmp_path, CONDITIONS)
    assert {key.kept for key in found.entries} == set(range(1, 60))
    assert all(timings[0].median == key.kept for key, timings in found.entries.items())


def test_a_lock_is_waited_for_and_ends_with_its_holder(tmp_path):
    """A second thread gets it only after the first has let go; a file where the lock should be is no obstacle."""
    order = []

    def second():
        with locked(tmp_path / "a.json"):
            order.append("second")

    with locked(tmp_path / "a.json"):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    with pytest.raises(ProblemError, match="cannot write"), locked(tmp_path / "none" / "a.json"):
        pass


def test_the_cache_directory_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.delenv("UPSCALE_OPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_directory() == tmp_path / "cache" / "upscale_opt"


def test_curves_are_monotone_through_medians_and_capped_by_reading_everything():
    """Of the two kernels the faster; 1400 and 1300 pool to 1350 (isotonic regression); at most the 1500 of it all."""
    table = MeasuredTable(KEY, TIMINGS)
    assert table.contiguous == 1000
    spans, costs = table.ranges[OWN]
    assert spans.tolist() == [32, 40, 48] and costs.tolist() == [1100, 1350, 1350]
    seen = table.to_cost_table()
    assert seen.read.points == (32, 40, 48, 64) and seen.read.costs[0] == 1050 and seen.read.costs[-1] <= 1504
    assert all(b >= a for a, b in zip(seen.read.costs, seen.read.costs[1:]))
    assert seen.denominator == 1, "whole nanoseconds per channel: one tick is a nanosecond"
    assert seen.copy == 1380 - 1050
    assert seen.pieces == Curve((2,), (150,)), "four runs cost more than the copy"


@pytest.mark.parametrize(
    ("span", "runs", "expected"),
    [
        (32, 1, (Reading("view", kernel="matmul"), 1050)),
        (40, 2, (Reading("pieces"), 1200)),
        (40, 9, (Reading("over-read"), 1350)),
        (64, 9, (Reading("copy"), 1380)),
    ],
)
def test_the_cheapest_way_to_read(span, runs, expected):
    assert MeasuredTable(KEY, TIMINGS).cheapest(span, runs) == expected


def test_times_are_those_of_a_quiet_round():
    """Two of four rounds took twice as long, whatever was timed; one figure of one way was hit by itself."""
    rounds = (timing("contiguous", 32), timing("over-read", 32), timing("over-read", 64), timing("copy", 32))
    figures = ((1000, 2000, 1000, 2000), (1100, 2200, 1100, 2200), (1500, 3000, 1500, 3000), (1200, 2400, 9999, 2400))
    table = MeasuredTable(KEY, tuple(replace(t, nanoseconds=own) for t, own in zip(rounds, figures, strict=True)))
    assert table.contiguous == 1000 and table.whole[OWN] == 1500 and table.copies[OWN_COPY] == 1200
    assert table.timings[0].nanoseconds == figures[0], "raw figures are kept"


def test_tables_whose_rounds_differ_are_refused():
    with pytest.raises(UpscaleError, match="lacks timings; delete it and calibrate again"):
        MeasuredTable(KEY, (*TIMINGS[:-1], replace(TIMINGS[-1], nanoseconds=(1380,))))


def test_a_faster_matrix_product_counts_after_copies_and_pieces_and_for_the_floor():
    """The product of what is kept takes 300 less than the convolution: so do a copy and pieces that hand it that."""
    faster = tuple(
        replace(t, nanoseconds=3 * (700,)) if (t.case.reading.kernel, t.case.channels) == ("matmul", 32) else t
        for t in TIMINGS
    )
    table = MeasuredTable(KEY, faster)
    assert table.least == (Reading("view", kernel="matmul"), 700) and fastest_kernels({"x": table}) == {"x": "matmul"}
    assert (
        table.copies == {OWN_COPY: 1380, Reading("copy", kernel="matmul"): 1080}
        and table.time_of(Reading("copy"), width=32, runs=9) == 1380
    )
    assert table.time_of(Reading("pieces", kernel="matmul"), width=32, runs=2) == 900
    assert fastest_kernels({"x": MeasuredTable(KEY, TIMINGS)}) == {}


def test_channels_are_selected_behind_what_serves_the_consumer_alone_where_that_is_faster():
    late = (timing("over-read", 40, 1340, late=True), timing("copy", 32, 1290, late=True))
    table = MeasuredTable(KEY, (*TIMINGS, *late))
    assert table.cheapest(64, 9) == (Reading("copy", late=True), 1290) and table.to_cost_table().copy == 1290 - 1050
    assert table.cheapest(40, 9) == (Reading("copy", late=True), 1290)
    assert [table.time_of(Reading("copy", late=late), width=32, runs=9) for late in (False, True)] == [1380, 1290]
    assert MeasuredTable(KEY, (*TIMINGS, late[0])).cheapest(40, 9) == (Reading("over-read", late=True), 1340)
    assert table.time_of(Reading("over-read", late=True), width=64, runs=9) == 1500, "everything is read alike"


def test_tables_of_older_versions_are_measured_again(tmp_path):
    path = CostTables(CONDITIONS, {KEY: TIMINGS}).save(tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"version": 4}))
    assert CostTables.load(tmp_path, CONDITIONS).entries == {}


def test_everything_is_read_where_that_is_cheapest():
    fast = (*TIMINGS[:6], timing("over-read", 64, 1010), *TIMINGS[7:])
    assert MeasuredTable(KEY, fast).cheapest(48, 9) == (Reading("over-read", 64), 1010)
    assert MeasuredTable(KEY, fast).to_cost_table().read.costs == (1010, 1010, 1010, 1010)


def test_widths_are_rounded_up_where_multiples_of_8_are_faster():
    key = Key(LAYER, 37, 64)
    slow_start = (timing("contiguous", 37, 900), timing("over-read", 37, 2000), timing("over-read", 40, 1000))
    rest = (timing("over-read", 56, 1800), timing("over-read", 64, 3000))
    table = MeasuredTable(key, slow_start + rest)
    assert (
        table.aligned == {OWN}
        and table.cheapest(41, 9).reading.width == 48
        and table.cheapest(37, 1).reading.width == 40
    )
    assert table.cheapest(57, 9) == (Reading("over-read"), 1950), "all that is stored is no rounded width"


def test_a_way_is_rounded_up_only_where_it_is_faster_itself():
    """The module's own operator likes multiples of 8; the matrix product and what is selected late do not."""
    own = (timing("contiguous", 37, 900), timing("over-read", 37, 2000), timing("over-read", 40, 1500))
    product = tuple(timing("over-read", n, t, kernel="matmul") for n, t in ((37, 1000), (40, 1400), (56, 1600)))
    table = MeasuredTable(Key(LAYER, 37, 64), (*own, *product, timing("over-read", 64, 3000)))
    assert table.aligned == {OWN} and table.cheapest(37, 1) == (Reading("view", kernel="matmul"), 1000)


def test_what_was_not_measured_is_computed_and_both_are_named():
    costs = MeasuredCosts(CostTables(CONDITIONS, {KEY: TIMINGS}), AnalyticCosts())
    work = Workload(196, 24, 24 * 196, 2 * 24 * 196, 4, LAYER)
    assert costs.table(work, kept=32, stored=64).read.costs[0] == 1050 and costs.name == "measured"
    other = costs.table(work, kept=31, stored=64)
    assert other == AnalyticCosts().table(work, kept=31, stored=64)
    assert costs.name == "measured (1 of 2 shapes, else analytic)"
    empty = MeasuredCosts(CostTables(CONDITIONS), AnalyticCosts())
    empty.table(work, kept=32, stored=64)
    assert empty.name == "analytic"


def test_a_table_that_lacks_a_timing_is_refused():
    for lacking in (TIMINGS[1:], TIMINGS[:1], [t for t in TIMINGS if t.case.channels != 64]):
        with pytest.raises(UpscaleError, match="lacks timings"):
            MeasuredTable(KEY, tuple(lacking))


def test_layers_come_back_from_their_dictionaries():
    assert Layer.from_dict(json.loads(json.dumps(LAYER.to_dict()))) == LAYER
    assert "concat of 2" in str(LAYER) and "BatchNorm2d" in str(LAYER)


def test_time_of_a_given_way_is_that_way_s_even_if_another_is_cheaper():
    table = MeasuredTable(KEY, TIMINGS)
    assert table.time_of(Reading("over-read", kernel="matmul"), width=40, runs=9) == 1600
    assert table.time_of(Reading("over-read"), width=64, runs=9) == 1500
    assert table.time_of(Reading("copy"), width=32, runs=9) == 1380
    assert np.isclose(table.time_of(Reading("pieces"), width=32, runs=3), 1400)


def test_what_reads_all_there_is_may_be_a_matrix_product():
    """Then there is nothing to select, but a faster way to compute."""
    key = Key(replace(LAYER, prologue=(), operands=()), 64, 64)
    slow = MeasuredTable(key, (timing("contiguous", 64, 900), timing("over-read", 64, 1000, kernel="matmul")))
    fast = MeasuredTable(key, (timing("contiguous", 64, 900), timing("over-read", 64, 600, kernel="matmul")))
    assert slow.cheapest(64, 1) == slow.least == (Reading("view"), 900)
    assert fast.cheapest(64, 1) == fast.least == (Reading("view", kernel="matmul"), 600)
    for late in (False, True):
        assert [fast.time_of(Reading("view", kernel=k, late=late), width=64, runs=1) for k in ("", "matmul")] == [
            900,
            600,
        ]
    assert fast.to_cost_table().read.costs == (600,)
    assert fastest_kernels({"fast": fast, "slow": slow}) == {"fast": "matmul"}


def test_solvers_see_the_times_that_are_predicted_where_a_way_was_timed_at_fewer_spans():
    own = (timing("over-read", span, 1000 + 100 * span) for span in (32, 40, 48, 64))
    product = (timing("over-read", span, time, kernel="matmul") for span, time in ((32, 600), (40, 640), (64, 880)))
    table = MeasuredTable(KEY, (timing("contiguous", 32, 900), *own, *product))
    read = table.to_cost_table().read
    assert dict(zip(read.points, read.costs, strict=True)) == {32: 600, 40: 640, 48: 720, 64: 880}
    for width, cost in zip(read.points, read.costs, strict=True):
        assert table.time_of(Reading("over-read", kernel="matmul"), width=width, runs=9) == cost


def test_reading_everything_as_a_matrix_product_is_late_nowhere():
    table = MeasuredTable(KEY, (*TIMINGS, timing("over-read", 64, 1450, kernel="matmul")))
    times = [
        table.time_of(Reading("over-read", kernel="matmul", late=late), width=64, runs=9) for late in (False, True)
    ]
    assert times == [1450, 1450]


def test_copies_behind_the_prologue_may_feed_the_matrix_product():
    late = (timing("copy", 32, 1290, late=True), timing("over-read", 40, 1330, kernel="matmul", late=True))
    fast = tuple(
        replace(own, nanoseconds=3 * (600,)) if own.case.reading.kernel and own.case.channels == 32 else own
        for own in TIMINGS
    )
    table = MeasuredTable(KEY, (*fast, *late))
    assert table.least.nanoseconds == 600 and table.copies[Reading("copy", kernel="matmul", late=True)] == 1290 - 400
    assert table.cheapest(64, 9) == (Reading("copy", kernel="matmul", late=True), 890)


def test_tables_of_linear_layers_come_back_as_they_were(tmp_path):
    """They have no kernel, no padding, and here nothing in front of them."""
    key = Key(Layer("Linear", (1, 64), 1, 1, 10), 32, 64)
    CostTables(CONDITIONS, {key: TIMINGS[:4]}).save(tmp_path)
    assert CostTables.load(tmp_path, CONDITIONS).entries == {key: TIMINGS[:4]}


def shifted(form, channels, nanoseconds, **how):
    own = timing(form, channels, nanoseconds, **how)
    return replace(own, case=replace(own.case, shifted=True))


def test_ranges_that_begin_between_multiples_of_8_cost_more_where_that_was_measured():
    """The matrix product takes five times as long there, the convolution a tenth longer; a copy is far dearer."""
    spans = tuple(
        timing("over-read", n, t, kernel=k)
        for n, t, k in ((32, 1100, ""), (48, 1400, ""), (32, 1000, "matmul"), (48, 1200, "matmul"))
    )
    slow = (shifted("over-read", 32, 1210), shifted("over-read", 32, 5000, kernel="matmul"))
    rest = (timing("contiguous", 32, 900), timing("over-read", 64, 9000), timing("copy", 32, 9000))
    table = MeasuredTable(KEY, (*rest, *spans, *slow))
    assert table.shifts[OWN] == 1.1 and table.shifts[Reading("over-read", kernel="matmul")] == 5.0
    assert table.cheapest(32, 1, start=8) == (Reading("view", kernel="matmul"), 1000)
    assert table.cheapest(32, 1, start=9) == (Reading("view", 40, kernel="matmul"), 1100), "from 8 to 48"
    assert table.time_of(Reading("view", kernel="matmul"), width=32, runs=1, start=9) == 5000
    assert table.time_of(Reading("view", 40, kernel="matmul"), width=40, runs=1, start=9, span=32) == 1100
    assert table.time_of(Reading("view"), width=32, runs=1, start=16) == 1100


def test_what_begins_where_was_not_measured_costs_alike_everywhere():
    table = MeasuredTable(KEY, TIMINGS)
    assert set(table.shifts.values()) == {1.0}
    assert table.cheapest(32, 1, start=3) == table.cheapest(32, 1, start=8) == (Reading("view", kernel="matmul"), 1050)
