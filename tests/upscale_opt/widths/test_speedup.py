"""`upscale_opt.speedup` from end to end on tiny networks, and what it refuses. Speedups themselves are not asserted."""

import json
import warnings

import networks
import pytest
import torch
import width_networks
from safetensors.torch import load_file
from speedup_runs import LEAST, Killed, check_report, data, fake_groups, fake_times
from torch import nn
from torch.utils.data import TensorDataset
from width_networks import make

import upscale_opt
from problems.allocation.problem import UnreachableSpeedupError
from upscale_opt import MaskError, UpscaleError, load, read_plan
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.widths import making
from upscale_opt.widths import speedup as module
from upscale_opt.widths.corrections import fitted
from upscale_opt.widths.measuring import Measured, Stopwatch, Unpruned
from upscale_opt.widths.tuning import tuned

JOINT = {**LEAST, "method": "joint"}
OWN = (UpscaleError, UnreachableSpeedupError)


class Classified(networks.Inverted):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


SLOW = (networks.Dense, Classified, networks.Flattened, width_networks.LikeConvNeXt, width_networks.Functional)


@pytest.mark.parametrize(
    "kind",
    [networks.Residual, width_networks.Mixed, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)],
)
def test_networks_become_smaller_verified_and_repaired(kind, monkeypatch, tmp_path):
    fake_times(monkeypatch)
    model, inputs = make(kind)
    before = {name: own.clone() for name, own in model.state_dict().items()}
    images = [x for x, _ in data()] if kind is networks.Dense else data()
    found = upscale_opt.speedup(model, inputs, images, 1.15, tables=tmp_path, rounds=2, **LEAST)
    assert found.exported.verification is not None and found.exported.verification.passed
    assert found.size.macs < found.dense_size.macs and found.size.parameters < found.dense_size.parameters
    assert found.reached == (found.measured >= 1.15) and found.module is found.exported.module
    assert found.masked.images == found.repaired.images == 3
    assert found.chosen in found.rounds and found.chosen.widths
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    with torch.no_grad():
        assert found.module(*inputs).shape == model(*inputs).shape
    check_report(found)


@pytest.mark.slow
def test_a_real_measurement_in_a_directory_with_forms(tmp_path, monkeypatch):
    fake_groups(monkeypatch)
    monkeypatch.setattr(making, "measured_correction", lambda *_, **__: fitted([1e6, 2e6], [1e6, 2e6]))
    model, inputs = make(networks.Residual)
    directory, tables = tmp_path / "out", tmp_path / "tables"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = upscale_opt.speedup(model, inputs, data(), 1.2, directory=directory, tables=tables, forms="pt2",
                                    rounds=1, **LEAST)  # fmt: skip
    assert sorted(path.name for path in directory.iterdir()) == [
        "journal.json", "model.pt2", "model.safetensors", "plan.json",
    ]  # fmt: skip
    check_report(found)
    assert found.seconds > 0 and "saved as pt2" in found.how
    again = load(read_plan(directory / "plan.json"), model, load_file(directory / "model.safetensors"), inputs)
    with torch.no_grad():
        torch.testing.assert_close(again.module(*inputs), found.module(*inputs))
        program = torch.export.load(directory / "model.pt2").module()
        torch.testing.assert_close(program(*inputs), found.module(*inputs), rtol=1e-4, atol=1e-5)


def test_a_run_that_was_killed_measures_nothing_again(tmp_path, monkeypatch):
    fake = fake_times(monkeypatch)
    model, inputs = make(networks.Residual)

    def run(directory):
        return upscale_opt.speedup(model, inputs, data(), 1.2, directory=directory, tables=tmp_path / "t", **JOINT)

    wanted = run(tmp_path / "whole")
    for killed in range(len(wanted.rounds) + 1):
        fake.measured, fake.fails_after = 0, killed
        with pytest.raises(Killed):
            run(tmp_path / str(killed))
        fake.measured, fake.fails_after = 0, None
        with monkeypatch.context() as patch:
            patch.setattr(making, "measured_correction", None)
            patch.setattr(module, "block_losses", None)
            found = run(tmp_path / str(killed))
        assert fake.measured == len(wanted.rounds) - killed + 1
        assert found.rounds == wanted.rounds and found.chosen == wanted.chosen
        for name, own in found.module.state_dict().items():
            assert torch.equal(own, wanted.module.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target": 1}, "target"),
        ({"target": 0.5}, "target"),
        ({"target": "fast"}, "target"),
        ({"target": float("nan")}, "target"),
        ({"method": "magic"}, "there is no method 'magic'; choose from joint, uniform, halp, mdp"),
        ({"method": 3}, "method"),
        ({"data": []}, "no images"),
        ({"data": None}, "data"),
        ({"data": [torch.zeros(1, 3, 8, 8)]}, "one image cannot be split"),
        ({"data": [torch.zeros(4, 5, 8, 8)]}, ""),
        ({"data": [torch.full((4, 3, 8, 8), float("nan"))]}, "NaN"),
        ({"held_out": []}, "no images"),
        ({"step": 0}, "step"),
        ({"step": 2.5}, "step"),
        ({"least": -1}, "least"),
        ({"least": 1.0}, "no block of this network has a free width"),
        ({"rounds": 0}, "rounds"),
        ({"networks": 1}, "networks"),
        ({"repeats": 0}, "repeats"),
        ({"ridge": -1e-3}, "ridge"),
        ({"time_limit": 0}, "time_limit"),
        ({"backend": "abacus"}, "backend"),
        ({"forms": ["zip"]}, "zip"),
        ({"forms": 3}, "forms"),
        ({"effort": 3}, "effort"),
        ({"loss": 3}, "loss"),
        ({"seed": -1}, "seed"),
        ({"target": 1e6}, "out of reach"),
    ],
)
def test_bad_arguments_are_one_sentence_and_nothing_is_written(change, text, monkeypatch, tmp_path):
    fake_times(monkeypatch)
    model, inputs = make(networks.Residual)
    given = {"data": data(), "target": 1.2, "directory": tmp_path / "out", "tables": tmp_path / "tables"}
    with pytest.raises(OWN) as error:
        upscale_opt.speedup(model, inputs, **{**given, **LEAST, **change})
    assert text in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_target_that_only_the_correction_puts_out_of_reach_writes_nothing(monkeypatch, tmp_path):
    fake_times(monkeypatch, lambda share: 0.9 + 0.1 * share)
    model, inputs = make(networks.Residual)
    with pytest.raises(UnreachableSpeedupError) as error:
        upscale_opt.speedup(model, inputs, data(), 2.0, directory=tmp_path / "out", tables=tmp_path / "t", **LEAST)
    assert 1 < error.value.max_speedup < 2 and not (tmp_path / "out").exists()


def test_networks_without_free_widths_or_without_logits_are_refused_early(monkeypatch, tmp_path):
    fake_times(monkeypatch)
    model, inputs = make(networks.Odd)
    with pytest.raises(MaskError, match="no block of this network has a free width"):
        upscale_opt.speedup(model, inputs, data(), 1.5, tables=tmp_path)
    model, inputs = make(networks.Two)
    given = [tuple(torch.randn(4, *x.shape[1:]) for x in inputs) for _ in range(2)]
    with pytest.raises(MaskError, match="takes 2 inputs, and speedup needs one"):
        upscale_opt.speedup(model, inputs, given, 1.1, tables=tmp_path, directory=tmp_path / "out")

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make(networks.Residual)[0]

        def forward(self, x):
            return self.body(x), x.mean()

    with pytest.raises(UpscaleError, match="logits"):
        upscale_opt.speedup(Pair().eval(), torch.zeros(2, 3, 8, 8), data(), 1.1, tables=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(nn.DataParallel, marks=pytest.mark.slow),
        pytest.param(torch.optim.swa_utils.AveragedModel, marks=pytest.mark.slow),
        pytest.param(torch.compile, marks=pytest.mark.slow),
    ],
)
def test_wrapped_networks_are_unwrapped(wrap, monkeypatch, tmp_path):
    fake_times(monkeypatch)
    model, inputs = make(networks.Residual)
    one = upscale_opt.speedup(model, inputs, data(), 1.15, tables=tmp_path, rounds=1, **LEAST)
    other = upscale_opt.speedup(wrap(model).eval(), inputs, data(), 1.15, tables=tmp_path, rounds=1, **LEAST)
    assert one.rounds == other.rounds
    for name, own in other.module.state_dict().items():
        torch.testing.assert_close(own, one.module.state_dict()[name])


def test_held_out_images_a_loss_and_data_of_other_kinds(monkeypatch, tmp_path):
    fake_times(monkeypatch)
    model, inputs = make(networks.Residual)
    held_out = CalibrationData((torch.randn(5, 3, 8, 8),))
    found = upscale_opt.speedup(model, inputs[0], data(), 1.15, held_out=held_out, rounds=1, tables=tmp_path,
                                loss=nn.functional.cross_entropy, **JOINT)  # fmt: skip
    assert found.repaired.images == 5 and found.repaired.accuracy is None and not found.notes
    found = upscale_opt.speedup(model, inputs, torch.randn(6, 3, 8, 8), 1.15, rounds=1, tables=tmp_path,
                                method="uniform", **LEAST)  # fmt: skip
    assert found.method == "uniform" and found.repaired.images == 2
    found = upscale_opt.speedup(model, inputs, data(), 1.15, rounds=1, tables=tmp_path, **LEAST)
    assert found.repaired.accuracy is not None
    check_report(found)


def test_what_is_not_reached_is_said(monkeypatch, tmp_path):
    fake_times(monkeypatch, lambda share: 1.0 if share == 1 else 0.97)
    monkeypatch.setattr(making, "measured_correction", lambda *_, **__: fitted([1e6, 2e6], [1e6, 2e6]))
    model, inputs = make(networks.Residual)
    found = upscale_opt.speedup(model, inputs, data(), 1.05, tables=tmp_path, **JOINT)
    assert not found.reached and "NOT reached" in found.report() and "NOT reached" in repr(found)


@pytest.mark.slow
def test_counts_are_never_off_so_both_methods_ask_for_the_target():
    model, inputs = make(width_networks.PreActivation)
    found = upscale_opt.speedup(model, inputs, data(), 1.3, budget="macs", **{**LEAST, "repeats": 2})
    assert found.others and {own.rounds[0].asked for own in (found, *found.others)} == {1.3}


def test_a_network_that_cannot_be_saved_is_measured_in_this_process():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            x = self.conv(x)
            return x if x.sum().item() > 1e9 else x.mean((2, 3))

    x = torch.randn(2, 3, 4, 4)
    watch = Stopwatch(Odd().eval(), (x,), repeats=2)
    try:
        assert watch.form is None and "in this process" in str(watch) and "cannot save" in str(watch)
        assert watch.measure_all([Unpruned(Odd().eval(), (x,))])[0].seconds > 0
    finally:
        watch.close()


def test_an_interrupt_leaves_the_best_network_so_far(monkeypatch, tmp_path):
    fake = fake_times(monkeypatch, lambda share: share**0.5)
    model, inputs = make(networks.Residual)

    def interrupted(self, exported, path=None, **how):
        if fake.measured == 1 and path is None and not fake.finishing:
            fake.finishing = True
            raise KeyboardInterrupt
        fake.measured += 1
        return Measured(1 / self.seconds(exported.module), 1.0)

    fake.finishing = False
    monkeypatch.setattr(fake, "measure", interrupted)
    how = {**JOINT, "rounds": 4}
    found = upscale_opt.speedup(model, inputs, data(), 1.3, directory=tmp_path / "out", tables=tmp_path / "t", **how)
    assert len(found.rounds) == 1 and "interrupted after 1 of 4 turns" in found.report()
    assert {"plan.json", "model.safetensors"} <= {own.name for own in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("labelled", [True, False])
def test_a_network_learns_from_the_one_it_was(monkeypatch, tmp_path, labelled):
    fake_times(monkeypatch)
    model, inputs = make(networks.Residual)
    found = upscale_opt.speedup(model, inputs, data(), 1.3, rounds=1, tables=tmp_path, **JOINT)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 8, 8, generator=generator)
    with torch.no_grad():
        classes = model(images)
    parts = (images, classes.argmax(1)) if labelled else (images,)
    number = classes.shape[1] if labelled else None
    own = Dataset("own", TensorDataset(*parts), TensorDataset(*parts), number, (3, 8, 8), labelled=labelled)
    before = {name: value.clone() for name, value in found.module.state_dict().items()}
    after = tuned(found, model, own, 2, [(images,)])
    assert after.epochs == 2 and after.tuned is not None and after.final is after.tuned and found.tuned is None
    assert after.measured == found.measured and after.exported is found.exported
    assert any(not torch.equal(value, before[name]) for name, value in after.module.state_dict().items())
    assert "before 2 epochs of fine-tuning" in after.report() and json.dumps(after.to_dict())
