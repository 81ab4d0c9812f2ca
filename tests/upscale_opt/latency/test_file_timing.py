"""Saved networks measured in a process of their own."""

import json
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from upscale_opt import UpscaleError
from upscale_opt.latency import file_timing
from upscale_opt.latency.file_timing import main, measured_files, read_inputs, time_files
from upscale_opt.onnx_runtime.writing import written


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    where, x = tmp_path_factory.mktemp("saved"), torch.randn(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()
    torch.export.save(torch.export.export(model, (x,)), where / "model.pt2")
    (where / "model.onnx").write_bytes(written(model, (x,)))
    np.savez(where / "inputs.npz", x=x.numpy())
    torch.save(x, where / "inputs.pt")
    return where, x


@pytest.mark.slow
def test_two_files_are_measured_in_a_fresh_process(saved):
    where, x = saved
    found = measured_files([where / "model.pt2", where / "model.onnx"], [x], repeats=2)
    assert [own["path"] for own in found["files"]] == [str(where / "model.pt2"), str(where / "model.onnx")]
    for own, ratios in zip(found["files"], found["ratios"], strict=True):
        assert own["median"] == pytest.approx(np.median(own["seconds"])) and own["iqr"] >= 0
        assert np.allclose(ratios, np.divide(own["seconds"], found["files"][0]["seconds"]))
    assert found["median_ratios"][0] == 1 and found["environment"]["torch"]


def test_the_program_reads_both_kinds_of_inputs_and_writes_json(saved, capsys):
    where, x = saved
    assert torch.equal(read_inputs(where / "inputs.npz")[0], x) and torch.equal(read_inputs(where / "inputs.pt")[0], x)
    both = [str(where / "model.onnx"), str(where / "model.pt2")]
    main([*both, "--inputs", str(where / "inputs.npz"), "--repeats", "2"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["ratios"]) == 2 and found["ratios"][0] == [1, 1]


@pytest.mark.parametrize("together", [False, True])
def test_a_session_is_alone_unless_told_otherwise(saved, monkeypatch, together):
    """How many sessions were made and not yet given up when a call was timed."""
    where, x = saved
    alive, most = weakref.WeakSet(), []
    real = file_timing._session

    def session(path, inputs):
        call = real(path, inputs)

        def counted(given):
            most.append(len(alive))
            return call(given)

        alive.add(counted)
        return counted

    monkeypatch.setattr(file_timing, "_session", session)
    both = [where / "model.onnx", where / "model.onnx"]
    found = time_files(both, [x], 2, together=together)
    assert max(most) == (2 if together else 1) and len(found["ratios"]) == 2


def test_what_cannot_be_measured_is_refused(saved, tmp_path, capsys):
    where, x = saved
    good = where / "model.onnx"
    (where / "model.ts").write_bytes(b"")
    with pytest.raises(UpscaleError, match=r"model.ts is no \.pt2 or \.onnx file"):
        measured_files([good, where / "model.ts"], [x])
    with pytest.raises(UpscaleError, match="give two or more"):
        measured_files([good], [x])
    with pytest.raises(UpscaleError, match="there is no file"):
        measured_files([good, tmp_path / "none.onnx"], [x])
    with pytest.raises(UpscaleError, match="at least 2 repeats"):
        measured_files([good, good], [x], repeats=1)
    with pytest.raises(SystemExit):
        main([str(good), str(good), "--inputs", str(where / "none.npz")])
    assert "there is no file" in capsys.readouterr().err
    torch.save(torch.zeros(2, 5, 8, 8), tmp_path / "wrong.pt")
    for name, reason in (("model.onnx", "does not run"), ("model.pt2", "does not run on these inputs")):
        with pytest.raises(SystemExit):
            main([str(where / name), str(where / name), "--inputs", str(tmp_path / "wrong.pt")])
        assert reason in capsys.readouterr().err
