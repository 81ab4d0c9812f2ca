"""SPDY as a whole: budgets hold, the search is never worse than equal coefficients, exports verify."""

import networks
import numpy as np
import pytest
import torch

import solvers
from problems import (
    LayerTimes,
    TimingTable,
    UnreachableSpeedupError,
    allocation_problem,
    read_sparsity_profile,
    read_timing_table,
    sparsity_grid,
)
from upscale_opt import MaskError, UpscaleError, normalise_masks, read_masks, trace
from upscale_opt.latency.calibration import Effort
from upscale_opt.models.loading import read_state_dict
from upscale_opt.spdy.allocation import allocate
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.choices import CoefficientSearch
from upscale_opt.spdy.global_adaprune import Tuning
from upscale_opt.spdy.journal import Journal
from upscale_opt.spdy.outer_rounds import Exporting, Round, realised_times, retimed, solved_export
from upscale_opt.spdy.prunable_layers import prunable_layers
from upscale_opt.spdy.reconstructions import Repair

GRID = sparsity_grid(steps=5, highest=0.9)
QUICK = Exporting(solver="greedy", objective="copies", repeats=2, effort=Effort(rounds=2, seconds=0.0, copies=1))
SHORT = CoefficientSearch(num_random=6, patience=6)
LEAST_SQUARES = Repair("least-squares")


def example(network=networks.Residual, num_images=48):
    model, (x, *_) = networks.make(network)
    images = torch.randn(num_images, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    return model, x, CalibrationData((images,)).labelled_by(model)


def proportional(model, x, base=None, rest=0.2):
    """A table in which every layer takes a time in proportion to its work; `rest` of the model is fixed."""
    layers = prunable_layers(trace(model, x))
    own = [
        LayerTimes(
            layer.name,
            GRID,
            tuple(1e-6 * layer.shape.outputs * n * np.prod(layer.shape.kernel) for n in layer.counts(GRID)),
        )
        for layer in layers
    ]
    return TimingTable(tuple(own), sum(layer.seconds[0] for layer in own) / (1 - rest) if base is None else base)


@pytest.mark.parametrize("network", [networks.Residual, networks.Inverted])
def test_the_whole_road_keeps_the_budget_and_beats_equal_coefficients(network):
    model, x, data = example(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    table = proportional(model, x)
    found = allocate(model, x, data, 1.5, table=table, repair=LEAST_SQUARES, search=SHORT, rounds=0, held_out=data)
    assert found.predicted <= found.target * (1 + 1e-9) and found.predicted == found.predicted_by_table
    assert found.score <= found.uniform_score and found.final_score == found.score
    assert found.held_out == (found.dense_score, pytest.approx(found.score))
    assert found.rounds == () and found.exported is None
    assert set(found.masks) == {f"{own.name}.weight" for own in table.layers}
    for name, mask in found.masks.items():
        assert (found.state[name][:, ~mask] == 0).all()
        sparsity = found.profile[name.removesuffix(".weight")]
        assert mask.sum() == len(mask) - int(sparsity * len(mask))
    assert set(found.state) == set(before)
    assert all(torch.equal(before[name], own) for name, own in model.state_dict().items())
    again = allocate(model, x, data, 1.5, table=table, repair=LEAST_SQUARES, search=SHORT, rounds=0)
    assert (again.profile, again.score) == (found.profile, found.score)


def test_rounds_and_the_export():
    model, x, data = example()
    table = proportional(model, x)
    found = allocate(model, x, data, 1.5, table=table, repair=LEAST_SQUARES, search=SHORT, rounds=2, how=QUICK)
    assert 1 <= len(found.rounds) <= 2 and found.exported.verification.passed
    for own in found.rounds:
        assert own.predicted <= own.base / 1.5 * (1 + 1e-9)
        assert own.score <= own.uniform_score
        assert own.measured > 0 and own.dense > 0 and own.error < 1e-9
    assert found.allocation in [own.allocation for own in found.rounds]
    x = torch.randn(3, 3, 8, 8)
    masked = networks.make(networks.Residual)[0]
    masked.load_state_dict(found.state)
    assert torch.allclose(found.exported.module(x), masked(x), atol=1e-4)
    text = str(found)
    assert "round 1: predicted" in text and "at most" in text
    assert found.to_dict()["rounds"][0]["measured"] == found.rounds[0].measured


def test_times_are_measured_where_none_are_given(tmp_path):
    """A speedup below 1 is always within reach, however noisy the times are; everything may stay dense."""
    model, x, data = example()
    found = allocate(
        model, x, data, 0.5, grid=GRID, repair=LEAST_SQUARES, search=SHORT, rounds=1, how=QUICK, tables=tmp_path
    )
    assert all(mask.all() for mask in found.masks.values()) and found.score == found.dense_score
    assert list(tmp_path.iterdir()) and "layers take" in found.notes[0]
    assert found.table.base == found.base and found.rounds[0].error < 1e-9


def test_a_second_run_in_the_same_directory_measures_nothing_again(tmp_path, monkeypatch):
    from upscale_opt.spdy import allocation, outer_loop

    model, x, data = example()
    options = {"grid": GRID, "repair": LEAST_SQUARES, "search": SHORT, "how": QUICK, "tables": tmp_path / "tables"}
    found = allocate(model, x, data, 0.5, rounds=1, directory=tmp_path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(allocation, "layer_times", None)
        measured = []
        honest = outer_loop.measured_beside
        patch.setattr(outer_loop, "measured_beside", lambda *a, **k: measured.append(1) or honest(*a, **k))
        again = allocate(model, x, data, 0.5, rounds=1, directory=tmp_path, **options)
        assert not measured and again.rounds[0].to_dict() == found.rounds[0].to_dict()
        assert again.table == found.table and "delete it to begin anew" in again.notes[1]
        assert again.exported.verification.passed
        more = allocate(model, x, data, 0.5, rounds=2, directory=tmp_path, **options)
        assert len(measured) == len(more.rounds) - 1 and more.rounds[0].measured == found.rounds[0].measured
    other = allocate(model, x, data, 0.4, rounds=0, directory=tmp_path, **options)
    assert len(other.notes) == 1  # another target: its own journal, the same reconstructions


def test_a_journal_is_of_one_run(tmp_path):
    journal = Journal(tmp_path / "new", "a")
    journal.note("x", 0.1)
    again = Journal(tmp_path / "new", "a")
    assert not journal.goes_on and again.goes_on and (again.recall("x"), again.recall("y")) == (0.1, None)
    other = Journal(tmp_path / "new", "b")
    assert not other.goes_on and other.recall("x") is None
    other.note("y", [1])
    assert Journal(tmp_path / "new", "a").recall("x") is None and Journal(tmp_path / "new", "b").recall("y") == [1]
    for content in (b"nothing", b"[]", b'{"format": "other", "entries": {}}'):
        (tmp_path / "new" / "journal.json").write_bytes(content)
        with pytest.raises(MaskError, match="cannot be read as the journal of a run; delete it"):
            Journal(tmp_path / "new", "a")


def exported_choice(network):
    model, x, _ = example(network)
    layers = prunable_layers(trace(model, x))
    problem = allocation_problem(proportional(model, x), 1.5, counts={own.name: own.counts(GRID) for own in layers})
    allocation = solvers.allocate(problem)
    masks = {
        layer.weight: np.arange(layer.channels) % 5 < 3 if level else np.ones(layer.channels, dtype=bool)
        for layer, level in zip(layers, allocation.levels, strict=True)
    }
    last = Round(allocation, 0.0, 0.0, problem.fixed + allocation.time, problem.base, 1.05e-3, 3e-3, None)
    return problem, layers, last, solved_export(model, x, masks, QUICK), x


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted])
def test_after_a_round_the_times_say_what_was_measured(network):
    """At the choice of the export the second problem takes as long as that did, whatever the layers were timed at."""
    problem, layers, last, solved, x = exported_choice(network)
    again = retimed(problem, layers, last, realised_times(layers, solved, x, QUICK), 0.001)
    whole = again.fixed + again.evaluate(last.allocation.levels).time
    assert whole == pytest.approx(0.35 * problem.base, rel=1e-9)
    assert again.budget == pytest.approx(problem.base / 0.001 - again.fixed)
    assert [own.errors for own in again.layers] == [own.errors for own in problem.layers]


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted])
def test_after_a_round_the_dense_model_takes_as_long_as_before(network):
    problem, layers, last, *_ = exported_choice(network)
    times = [0.5 * own.times[level] for own, level in zip(problem.layers, last.allocation.levels, strict=True)]
    again = retimed(problem, layers, last, times, 0.001)
    for choice, wanted in ((last.allocation.levels, 0.35 * problem.base), ([0] * len(layers), problem.base)):
        assert again.fixed + again.evaluate(choice).time == pytest.approx(wanted, rel=1e-9)


def test_a_speedup_out_of_reach_is_refused_before_any_work(monkeypatch, tmp_path):
    from upscale_opt.spdy import allocation as module

    model, x, data = example()
    monkeypatch.setattr(module, "reconstruct", None)
    with pytest.raises(UnreachableSpeedupError, match="the fastest levels give") as caught:
        allocate(model, x, data, 50, table=proportional(model, x), directory=tmp_path / "new")
    assert 1 < caught.value.max_speedup < 5
    assert not (tmp_path / "new").exists()
    with pytest.raises(UpscaleError, match="rounds is -1"):
        allocate(model, x, data, 2, rounds=-1)


def test_layers_that_stay_dense_are_paid_for():
    model, x, data = example()
    table = proportional(model, x)
    options = {"table": table, "repair": LEAST_SQUARES, "search": SHORT, "rounds": 0}
    found = allocate(model, x, data, 1.2, ignore=["blocks.0.*"], **options)
    assert not any(name.startswith("blocks.0") for name in found.profile)
    dense = table.dense_seconds(["blocks.0.conv1", "blocks.0.conv2"])
    assert found.problem.fixed == pytest.approx(0.2 * table.base + dense)
    assert found.predicted <= found.target * (1 + 1e-9)
    assert found.max_speedup < allocate(model, x, data, 1.2, **options).max_speedup


def test_tuning_saving_and_going_on(tmp_path):
    model, x, data = example()
    options = {
        "table": proportional(model, x),
        "repair": Repair(passes=1),
        "search": CoefficientSearch(num_random=0, patience=0),
        "tuning": Tuning(passes=2, learning_rate=1e-4),
        "rounds": 1,
        "how": QUICK,
        "directory": tmp_path,
    }
    found = allocate(model, x, data, 1.5, **options)
    assert found.score == found.uniform_score
    assert found.tuned.error_after < found.tuned.error_before and found.exported.verification.passed
    for name, mask in found.masks.items():
        assert (found.state[name][:, ~mask] == 0).all()
    again = allocate(model, x, data, 1.5, **options)  # from what is kept on disk
    assert again.final_score == found.final_score
    assert all(torch.equal(own, again.state[name]) for name, own in found.state.items())
    found.save(tmp_path / "out")
    assert read_sparsity_profile(tmp_path / "out/profile.txt") == pytest.approx(found.profile, abs=1e-4)
    masks = normalise_masks(trace(model, x), read_masks(tmp_path / "out/masks.json"))
    assert all((masks[name] == own).all() for name, own in found.masks.items())
    assert read_timing_table(tmp_path / "out/timings.txt") == found.table
    state = read_state_dict(tmp_path / "out/model.safetensors")
    assert all(torch.equal(own, state[name]) for name, own in found.state.items())


@pytest.mark.slow
def test_digits_at_one_and_a_half_times(tmp_path):
    from benchmarks.digits import trained
    from upscale_opt.learning.datasets import load_data

    pytest.importorskip("sklearn")
    own = trained("digits_residual", epochs=8)
    x = torch.randn(64, 1, 8, 8)
    digits = load_data("digits")
    data, rest = digits.sampled(512), digits.sampled(500, test=True)
    found = allocate(
        own.model,
        x,
        data,
        1.5,
        repair=LEAST_SQUARES,
        search=CoefficientSearch(num_random=20, patience=20),
        held_out=rest,
        how=Exporting(time_limit=2.0),
        tables=tmp_path,
    )
    print(found)
    assert found.score <= found.uniform_score and found.exported.verification.passed
    for own_round in found.rounds:
        assert own_round.predicted <= own_round.base / 1.5 * (1 + 1e-9)
