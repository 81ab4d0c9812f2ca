"""SPDY as a method of `upscale_opt.speedup`: turns, journal, interrupts. Times are computed, not measured."""

import networks
import pytest
import torch
from speedup_runs import LEAST, Killed, check_report, data, fake_times
from width_networks import make

import upscale_opt
from problems import LayerTimes, TimingTable, UnreachableSpeedupError
from upscale_opt import MaskError
from upscale_opt.spdy import allocation, outer_loop
from upscale_opt.widths import layer_sparsities
from upscale_opt.widths.layer_sparsities import SparsityMaker
from upscale_opt.widths.pages import page

SPARSE = {**LEAST, "method": "spdy"}


@pytest.fixture(autouse=True)
def computed_times(monkeypatch):
    """Layers take times in proportion to the channels that they keep, and exports half of the unpruned network's."""

    class Timed:
        def __init__(self, table):
            self.table = table

        def __str__(self):
            return "times were computed"

    def layer_times(model, inputs, layers, grid, **settings):
        own = [LayerTimes(layer.name, grid, tuple(1 - sparsity for sparsity in grid)) for layer in layers]
        return Timed(TimingTable(tuple(own), 1.0 + len(own)))

    monkeypatch.setattr(allocation, "layer_times", layer_times)
    monkeypatch.setattr(outer_loop, "measured_beside", lambda *_, **__: (1.0, 0.5))
    monkeypatch.setattr(outer_loop, "realised_times", lambda layers, *_: [0.1] * len(layers))
    monkeypatch.setattr(layer_sparsities, "NUM_TRIALS", 2)


def run(target, directory, **more):
    model, inputs = make(networks.Residual)
    return upscale_opt.speedup(model, inputs, data(), target, directory=directory, **{**SPARSE, **more})


def test_turns_ask_for_more_until_the_network_is_fast_enough(monkeypatch, tmp_path):
    fake_times(monkeypatch, lambda share: 0.4 + 0.6 * share)
    found = run(1.4, tmp_path / "out", rounds=4)
    assert found.reached and found.measured >= 1.4 and found.method == "spdy"
    asked = [own.asked for own in found.rounds]
    assert len(asked) > 1 and asked == sorted(asked) and found.chosen is found.rounds[-1]
    assert found.exported.verification.passed and found.size.macs < found.dense_size.macs
    assert found.chosen.bound is None and found.correction is None
    kept = {name: int(mask.sum()) for name, mask in found.plan.masks.items() if not mask.all()}
    assert kept and found.chosen.widths == kept
    check_report(found)
    text = page(found, title="own").html()
    assert "no bound is known" in text and all(name[-32:] in text for name in kept)
    names = {own.name for own in (tmp_path / "out").iterdir()}
    assert names == {"journal.json", "model.safetensors", "plan.json", "spdy"}


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_choice(monkeypatch, tmp_path):
    fake = fake_times(monkeypatch, lambda share: 0.4 + 0.6 * share)
    wanted = run(1.4, tmp_path / "whole", rounds=6)
    for killed in range(len(wanted.rounds) + 1):
        fake.measured, fake.fails_after = 0, killed
        with pytest.raises(Killed):
            run(1.4, tmp_path / str(killed), rounds=6)
        fake.measured, fake.fails_after = 0, None
        found = run(1.4, tmp_path / str(killed), rounds=6)
        assert fake.measured == len(wanted.rounds) - killed + 1
        assert found.rounds == wanted.rounds
        for name, own in found.module.state_dict().items():
            assert torch.equal(own, wanted.module.state_dict()[name])


def test_what_is_not_reached_is_said(monkeypatch, tmp_path):
    fake_times(monkeypatch, lambda share: 0.9 + 0.1 * share)
    found = run(1.4, None, rounds=2)
    assert not found.reached and found.chosen.measured == max(own.measured for own in found.rounds)
    assert "NOT reached" in found.report()
    with pytest.raises(UnreachableSpeedupError):
        run(1e6, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_the_best_network_so_far(monkeypatch, tmp_path):
    fake_times(monkeypatch, lambda share: 0.9 + 0.1 * share)
    allocated, asked = SparsityMaker._allocated, []

    def interrupted(self, *given):
        asked.append(given[0])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return allocated(self, *given)

    monkeypatch.setattr(SparsityMaker, "_allocated", interrupted)
    found = run(1.4, tmp_path / "out", rounds=4)
    assert found.interrupted and len(found.rounds) == 1 and "interrupted after 1 of 4 turns" in found.report()
    assert (tmp_path / "out" / "plan.json").exists()


def test_a_loss_of_ones_own_and_what_spdy_cannot_do(monkeypatch):
    fake_times(monkeypatch, lambda share: share**0.5)
    found = run(1.3, None, rounds=1, loss=torch.nn.functional.cross_entropy)
    assert found.chosen.loss > 0
    with pytest.raises(MaskError, match="SPDY counts measured time here"):
        run(1.3, None, budget="macs")
