"""The script for a GPU machine: plans are prepared here; without a GPU the second step says so."""

import torch

from benchmarks import gpu, results


def test_plans_are_prepared_for_every_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    quick = ["--models", "mobilenet_v3_small", "--batches", "1", "--image-size", "32"]
    assert gpu.main(["prepare", str(tmp_path / "plans"), *quick]) == 0
    assert len(list((tmp_path / "plans").glob("*.json"))) == 8  # four variants, two memory formats


def test_the_second_step_needs_a_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["run", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err
