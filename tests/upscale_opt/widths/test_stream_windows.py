"""Tests of windows of streams in `speedup`: which streams, times, alternation, exports and repair."""

import numpy as np
import pytest
import torch
from torch import nn
from window_choices import InvertedResiduals, PostActivation, PreActivation

from problems.windows.decision import Windows, evaluate_windows
from problems.windows.generators import random_windows
from solvers.widths.dispatch import choose_widths, widths_at
from solvers.windows.dispatch import choose_windows
from upscale_opt import MaskError, UpscaleError, export, trace
from upscale_opt.importance.fisher import block_losses
from upscale_opt.masking.windows import WindowChoice
from upscale_opt.widths.candidates import candidate_widths, masked_graph_of, windows_in
from upscale_opt.widths.choosers import WidthChooser, WindowChooser
from upscale_opt.widths.closed_loop import Choice, Loop, exported_widths, plan_of
from upscale_opt.widths.corrections import Correction
from upscale_opt.widths.group_tables import GroupTable, GroupTables
from upscale_opt.widths.macs import macs_tables
from upscale_opt.widths.measuring import size_of
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.results import Round
from upscale_opt.widths.speedup import speedup
from upscale_opt.widths.stream_windows import WINDOW_SHARE
from upscale_opt.widths.window_rounding import grown, rounded, without_unread
from upscale_opt.widths.window_streams import window_streams
from upscale_opt.widths.window_times import predicted_time

NO_CORRECTION = Correction(1.0, 0.0, (), (), 0.0)
KINDS = {PreActivation: 8, PostActivation: 16, InvertedResiduals: 16}


class Made:
    """A network with its programme of multiply-accumulates and its streams."""

    def __init__(self, kind):
        torch.manual_seed(0)
        self.model, size = kind().eval(), KINDS[kind]
        self.x = torch.zeros(1, 3, size, size)
        self.data = [(torch.randn(24, 3, size, size),)]
        self.graph = trace(self.model, self.x)
        parts = partition(self.graph)
        candidates = candidate_widths(self.graph, parts)
        tables = macs_tables(self.graph, parts, candidates)
        self.programme = Programme(self.graph, parts, candidates, block_losses(self.graph, self.data), tables)
        self.streams, self.left_out = window_streams(self.graph, parts, candidates, self.data)

    def export(self, widths, model=None):
        masked = masked_graph_of(self.graph, self.programme.scores, widths)
        return export(model or self.model, self.x, plan_of(masked, windows_in(self.graph, widths)))


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def made(request):
    return Made(request.param)


@pytest.fixture(scope="module")
def chosen(made):
    """Windows for half of the multiply-accumulates, and constrained widths."""
    constrained = WidthChooser("auto").choose(made.programme, NO_CORRECTION, 2.0, 5)
    return WindowChooser(made.streams).choose(made.programme, NO_CORRECTION, 2.0, 1), constrained


def test_dropping_a_channel_for_all_accesses_loses_what_the_block_loses(made):
    assert made.streams and not made.left_out
    for stream in made.streams:
        assert np.allclose(stream.problem.losses.total, made.programme.scores[stream.name], rtol=1e-5)


def test_full_windows_take_the_time_of_the_widths(made):
    rng = np.random.default_rng(0)
    streams = {stream.block: stream for stream in made.streams}
    for _ in range(5):
        widths = {b: int(rng.choice(own)) for b, own in made.programme.candidates.items()}
        windows = {own.name: own.choice(own.whole(np.arange(widths[b]))) for b, own in streams.items()}
        others = {b: width for b, width in widths.items() if b not in streams}
        assert predicted_time(made.programme, windows, others) == made.programme.predicted(widths)


def test_counted_tables_are_the_multiply_accumulates_of_exports(made):
    rng = np.random.default_rng(1)
    for _ in range(3):
        widths = {b: int(rng.choice(own)) for b, own in made.programme.candidates.items()}
        exported = exported_widths(made.programme, made.model, (made.x,), widths)
        assert size_of(exported.module, (made.x,)).macs == made.programme.predicted(widths)


def test_windows_lose_no_more_than_constrained_widths_and_keep_the_budget(made, chosen):
    windows, constrained = chosen
    assert windows.loss <= constrained.loss * (1 + 1e-5)
    assert windows.predicted >= 2 and windows.bound is None
    assert any(own.windows for own in windows_in(made.graph, windows.widths).values())


def test_every_window_holds_a_share_of_the_strongest_channels(made, chosen):
    windows, constrained = chosen
    for stream in made.streams:
        choice, size = windows.widths[stream.block], stream.problem.num_channels
        number = min(constrained.widths[stream.block], int(np.ceil(WINDOW_SHARE * size)))
        strongest = set(np.argsort(-stream.problem.losses.total, kind="stable")[:number].tolist())
        assert all(strongest <= set(choice.channels(name).tolist()) for name in choice.windows)


def test_exports_of_windows_copy_nothing_and_need_what_was_predicted(made, chosen):
    widths = chosen[0].widths
    exported = made.export(widths)  # verified
    called = {getattr(node.target, "__name__", str(node.target)) for node in exported.module.graph.nodes}
    assert not called & {"gather", "index_select", "cat", "concat", "index"} and not exported.moved
    windows = windows_in(made.graph, widths)
    others = {b: own for b, own in widths.items() if isinstance(own, int)}
    predicted = predicted_time(made.programme, windows, others)
    assert size_of(exported.module, (made.x,)).macs == predicted
    assert made.programme.predicted({}) / predicted == pytest.approx(chosen[0].predicted)


def test_windows_off_the_grid_take_as_long_as_the_next_width_of_measured_tables(made):
    counted = made.programme
    tables = GroupTables(made.programme.tables.conditions.__class__("a", "b", "c", "d", 1, "e"), counted.tables.entries)
    measured = Programme(counted.graph, counted.parts, counted.candidates, counted.scores, tables)
    stream = made.streams[0]
    size, step = stream.problem.num_channels, stream.step
    reader = next(own.name for own in stream.problem.accesses if own.role == "reader" and not own.pinned)
    narrow, wide = (WindowChoice(np.arange(size), {reader: (0, width)}) for width in (size - 2 * step + 1, size - step))
    assert predicted_time(measured, {stream.name: narrow}, {}) == predicted_time(measured, {stream.name: wide}, {})
    assert predicted_time(counted, {stream.name: narrow}, {}) < predicted_time(counted, {stream.name: wide}, {})


def test_repair_respects_what_producers_do_not_write(made, chosen):
    from upscale_opt.widths.repairing import repaired, repaired_copy

    widths = chosen[0].widths
    masked = masked_graph_of(made.graph, made.programme.scores, widths)
    assert masked.output_masks
    state = repaired(made.graph, masked.masks, made.data, output_masks=masked.output_masks, ridge=1e-6)
    ignoring = repaired(made.graph, masked.masks, made.data, ridge=1e-6)
    (x,) = made.data[0]
    errors = []
    for own in (state, ignoring, None):
        model = made.model if own is None else repaired_copy(made.model, own)
        with torch.no_grad():
            errors.append(float((made.export(widths, model).module(x) - made.model(x)).square().mean()))
    assert errors[0] < min(errors[1:])


def test_repair_with_whole_output_masks_changes_nothing():
    from upscale_opt.widths.repairing import repaired

    made = Made(PreActivation)
    masks = {"second.0.weight": np.ones(16, dtype=bool)}
    state = repaired(made.graph, {}, made.data, output_masks=masks)
    assert all(torch.equal(state[name], own) for name, own in made.model.state_dict().items())


def test_streams_that_cannot_have_windows_are_named_with_the_reason():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.mix = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            x = self.stem(x)
            return self.head((x + self.mix(x)).mean([2, 3]))

    graph = trace(Tied().eval(), torch.zeros(1, 3, 8, 8))
    parts = partition(graph)
    streams, left_out = window_streams(graph, parts, candidate_widths(graph, parts), [torch.randn(4, 3, 8, 8)])
    assert not streams and "both reads and writes it" in left_out["stem"]
    with pytest.raises(MaskError, match=r"no stream that can have windows.*both reads and writes"):
        speedup(Tied().eval(), torch.zeros(1, 3, 8, 8), torch.randn(4, 3, 8, 8), 2, method="windows", budget="macs")


def test_unknown_blocks_and_budgets_are_refused(made):
    with pytest.raises(UpscaleError, match="there is no block 'nowhere'"):
        predicted_time(made.programme, {"nowhere": WindowChoice([0])}, {})
    with pytest.raises(MaskError, match="there is no budget 'bytes'"):
        speedup(made.model, made.x, made.data[0][0], 2, budget="bytes")


def test_widths_at_a_multiplier_are_the_best_by_enumeration():
    made = Made(PreActivation)
    problem = made.programme.problem(1.0)
    for share in (0.0, 0.3, 1.0, 3.0):
        multiplier = share * 2**40 / problem.base
        found = problem.evaluate(widths_at(problem, multiplier))
        constrained = choose_widths(problem.with_budget(found.time))
        assert constrained.loss == found.loss  # on the lower hull, a choice is the best of its own time


@pytest.mark.parametrize("seed", range(6))
def test_rounding_keeps_windows_valid_and_never_costs_more(seed):
    problem = random_windows(24, 5, price=0.3, seed=seed)
    before = choose_windows(problem, "local-search", time_limit=0.2).windows

    def value(own):
        own.require_valid(problem)
        steps = -(-own.widths // 4) * 4
        return evaluate_windows(problem, own).loss + float(steps @ problem.prices)

    after = rounded(problem, before, 4, value)
    assert value(after) <= value(before) + problem.tolerance
    assert len(without_unread(problem, after).order) == len(after.order)


@pytest.mark.parametrize("seed", range(3))
def test_growing_uses_the_budget_and_lowers_the_loss(seed):
    problem = random_windows(24, 5, price=0.5, seed=seed)
    before = choose_windows(problem, "local-search", time_limit=0.2).windows

    def time(windows):
        return float(windows[0].widths.sum())

    budget = time((before,)) + 8
    (after,) = grown([problem], (before,), [4], time, budget)
    after.require_valid(problem)
    assert time((after,)) <= budget
    assert evaluate_windows(problem, after).loss <= evaluate_windows(problem, before).loss
    whole = Windows(np.arange(24), [0] * 5, [24] * 5)
    assert grown([problem], (whole,), [4], time, 1e9)[0] is whole


def test_turns_with_windows_come_back_from_the_journal(made, chosen):
    class Notes(dict):
        def recall(self, name):
            return self.get(name)

        def note(self, name, value):
            import json

            self[name] = json.loads(json.dumps(value))

    class Once:
        def choose(self, *_):
            return chosen[0]

    notes = Notes()
    loop = Loop(2.0, rounds=1, chooser=Once(), label="windows ")
    first = loop.run(made.programme, NO_CORRECTION, lambda widths: 2.0, notes, lambda line: None)
    again = loop.run(made.programme, NO_CORRECTION, lambda widths: 0.0, notes, lambda line: None)
    assert list(notes) == ["windows round 0"] and isinstance(again[0], Choice)
    assert again[0].round == first[0].round and "no bound" in str(again[0].round)
    before, after = (windows_in(made.graph, own[0].widths) for own in (first, again))
    assert {n: dict(own.windows) for n, own in before.items()} == {n: dict(own.windows) for n, own in after.items()}


def test_rounds_without_a_bound_say_so():
    own = Round(2.0, 2.0, 2.0, 1.0, None, {})
    assert own.gap is None and "no bound" in own.bound_text


@pytest.mark.slow
def test_best_makes_both_and_takes_the_one_nearer_to_the_dense_network(tmp_path):
    made = Made(PreActivation)
    found = speedup(
        made.model, made.x, torch.randn(48, 3, 8, 8), 2.0,
        method="best", budget="macs", repeats=3, time_limit=4, directory=tmp_path,
    )  # fmt: skip
    (other,) = found.others
    assert {found.method, other.method} == {"joint", "windows"}
    assert found.reached and (not other.reached or found.repaired.kl <= other.repaired.kl)
    assert f"compared with {other.method}" in found.report() and found.measured == found.chosen.predicted
    assert (tmp_path / "plan.json").exists()
    assert found.to_dict()["budget"] == "macs" and len(found.to_dict()["others"]) == 1


def test_tables_of_groups_whose_widths_hang_together_are_counted_everywhere():
    class Squares(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.mix = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1)
            self.head = nn.Conv2d(16, 4, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.mix(x))

    graph = trace(Squares().eval(), torch.zeros(1, 3, 4, 4))
    parts = partition(graph)
    candidates = candidate_widths(graph, parts)
    tables = macs_tables(graph, parts, candidates)
    squares = [own for own in tables.entries.values() if isinstance(own, GroupTable) and len(own.first) > 2]
    assert [round(float(own.at([10], [0])[0, 0])) for own in squares] == [10 * 10 * 16]
