"""The script for a GPU machine: plans are prepared here; without a GPU the second step says so."""

import time

import pytest
import torch

from benchmarks import results
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import plans


def test_plans_are_prepared_for_every_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    quick = ["--models", "mobilenet_v3_small", "--batches", "1", "--image-size", "32"]
    assert gpu.main(["prepare", str(tmp_path / "plans"), *quick]) == 0
    assert len(list((tmp_path / "plans").glob("*.json"))) == 8  # four variants, two memory formats


def test_the_second_step_needs_a_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["measure", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.fixture
def called(monkeypatch):
    """Benchmarks that note what they are called with and take the seconds that `taking` says; a device there is not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plans, "version_of", lambda package: "0.1.1")
    found, taking = [], {}

    def noting(name):
        def benchmark(arguments):
            found.append((name, list(arguments)))
            try:
                time.sleep(taking.get(name, 0))
            except KeyboardInterrupt:
                return 130
            return taking.get(f"{name} returns", 0)

        return benchmark

    for name in plans.SHARES:
        monkeypatch.setattr(getattr(plans, name), "main", noting(name))
    return found, taking


def names(found):
    return [name for name, _ in found]


def test_all_three_benchmarks_run_on_the_device(called, tmp_path):
    found, _ = called
    assert gpu.main(["measure", str(tmp_path), "--models", "resnet18", "--batches", "8"]) == 0
    assert names(found) == ["latency"] * 2 + ["vs_upscale_latency"] * 2 + ["gather_convolution"]
    for _, arguments in found[:-1]:
        assert {"cuda", "resnet18", str(tmp_path)} <= set(arguments)
        assert "--quick" in arguments  # in both: then they share their tables


def test_without_the_peer_the_others_run(called, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plans, "version_of", lambda package: None)
    assert gpu.main(["measure", str(tmp_path), "--models", "resnet18", "--batches", "8"]) == 0
    assert names(called[0]) == ["latency"] * 2 + ["gather_convolution"]
    assert "apple-upscale is not installed" in capsys.readouterr().err


def test_what_does_not_fit_into_the_budget_is_interrupted_and_said(called, tmp_path, capsys):
    found, taking = called
    taking["latency"] = 30.0
    assert gpu.main(["measure", str(tmp_path), "--models", "resnet18", "--batches", "8", "--budget", "0.2"]) == 0
    assert names(found) == ["latency"]
    told = capsys.readouterr().err
    assert "latency resnet18 8 NCHW, latency resnet18 8 channels_last, vs_upscale_latency resnet18 8 NCHW" in told
    assert "gather_convolution" in told


@pytest.mark.parametrize("name", plans.SHARES)
@pytest.mark.parametrize("code", [130, 2])
def test_an_interrupt_and_an_error_end_it(called, tmp_path, name, code):
    """Also where the benchmark's share is over by then: what is not the deadline is you."""
    found, taking = called
    taking |= {f"{name} returns": code, name: (1 + plans.SHARES[name]) / 2 if plans.SHARES[name] < 1 else 0}
    assert gpu.main(["measure", str(tmp_path), "--models", "resnet18", "--batches", "8", "--budget", "1"]) == code
    assert names(found)[-1] == name and names(found).count(name) == 1
