"""Tests of the wild family: its list, rows of tiny networks, refusals, missing packages, and its table."""

import importlib.util

import pytest
import torch
from torch import nn

from benchmarks.coverage import __main__ as command
from benchmarks.coverage import measurement, sweep, tables
from benchmarks.coverage.networks import built, names
from benchmarks.coverage.wild import catalogue
from benchmarks.coverage.wild.catalogue import KINDS, NETWORKS
from benchmarks.coverage.wild.network import Cut, Network
from upscale_opt import constrained_masks, export, trace


class Asking(nn.Module):
    """Its forward decides on a value."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "DIRECTORY", tmp_path)
    monkeypatch.setattr(sweep, "_in_child", lambda tasks, num_threads: measurement.measure(tasks))
    for name, network in {"gan/tiny": Network(tiny, (1, 3, 8, 8)), "gan/asking": Network(Asking, (1, 3, 8, 8))}.items():
        monkeypatch.setitem(NETWORKS, name, network)
    return tmp_path / "coverage_wild.csv"


def test_the_family_has_what_it_promises():
    """At least 120 networks beyond torchvision's classification set, the numbers by kind of issue 28."""
    assert len(NETWORKS) >= 120 and names("wild") == list(NETWORKS)
    least = {"timm": 60, "transformers": 15, "segmentation": 10, "detector": 10, "audio": 10, "gan": 8, "diffusion": 6}
    assert all(len(KINDS[kind]) >= number for kind, number in least.items())
    before = {name.removeprefix("timm:") for name in names("timm")}
    assert not before & set(KINDS["timm"])
    assert 50 < sum(own.attention for own in NETWORKS.values()) < len(NETWORKS) - 50


def test_rows_are_verified_with_gradients_and_refusals_say_why(path, monkeypatch, capsys):
    asked = ["--family", "wild", "--models", "gan/tiny", "gan/asking"]
    assert command.main(asked) == 1
    good, refused = (list(own) for own in (sweep.read_rows(path)[:2], sweep.read_rows(path)[2:]))
    assert [row["mode"] for row in good] == ["input", "constrained"] == [row["mode"] for row in refused]
    assert all(row["status"] == "verified" and float(row["gradients"]) <= 1e-9 for row in good)
    assert all(row["free"] == "8" and row["pinned_by"] == "network output 4; network input 3" for row in good)
    assert all(row["status"] == "refused" and "Asking" in row["reason"] for row in refused)
    text = tables.document(sweep.read_rows(path))
    assert "1 are exported exactly" in text and "1 are refused (50.0%)" in text
    assert "| gan/tiny | 1x3x8x8 | 2/2 |" in text and "| 53.3% | 100.0% | network output 4; network input 3 |" in text
    assert "- refused (gan/asking): " in text
    monkeypatch.setattr(sweep, "_in_child", lambda tasks, num_threads: iter([{"status": "verified"}] * len(tasks)))
    assert command.main([*asked, "--again"]) == 0
    assert all(row["status"] == "verified" and not row["free"] for row in sweep.read_rows(path))


def test_networks_whose_package_is_missing_are_skipped_in_a_sentence(path, monkeypatch, capsys):
    monkeypatch.setitem(NETWORKS, "gan/foreign", Network(tiny, (1, 3, 8, 8), package="no_such_package"))
    assert catalogue.missing_packages()["no_such_package"] == ["gan/foreign"]
    assert command.main(["--family", "wild", "--models", "gan/foreign", "gan/tiny", "--modes", "input"]) == 0
    assert "no_such_package is missing, so 1 networks are skipped" in capsys.readouterr().out
    assert [row["model"] for row in sweep.read_rows(path)] == ["gan/tiny"]


def test_a_cut_network_hands_on_what_each_part_returns():
    cut = Cut(nn.Identity(), nn.ReLU())
    assert torch.equal(cut(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_on_its_inputs(name):
    network = NETWORKS[name]
    if network.package and importlib.util.find_spec(network.package) is None:
        pytest.skip(f"needs {network.package}: pip install -e '.[wild]'")
    torch.manual_seed(0)
    with torch.no_grad():
        network.build().eval()(*network.example_inputs())


@pytest.mark.slow
def test_half_of_the_channels_of_a_yolo_are_three_quarters_of_its_parameters():
    """Constrained masks of one half leave at most 0.95 of the 3.16 million parameters of the YOLOv8-like detector."""
    model, inputs = built("detector/yolov8n", 0)
    graph = trace(model, inputs)
    exported = export(model, inputs, masks=constrained_masks(graph, 0.5), baseline=True, graph=graph)
    before, after = (sum(own.numel() for own in net.parameters()) for net in (model, exported.module))
    assert exported.verification.passed and before > 3.1e6 and after <= 0.95e6


@pytest.mark.slow
def test_a_part_of_efficientvit_that_is_left_whole_pins_itself_only():
    pytest.importorskip("timm")
    graph = trace(*built("timm/efficientvit_b0", 0))
    assert len(graph.consumers) >= 25
