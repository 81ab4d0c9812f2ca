"""Tests of the benchmark of the fused gather: its variants compute the same, and it says what it needs."""

import subprocess
import sys

import pytest
import torch

from benchmarks import gather_convolution
from benchmarks.gather_convolution import LAYOUTS, SHAPES, variants


@pytest.mark.parametrize("layout", LAYOUTS)
def test_variants_agree(layout):
    with torch.no_grad():
        functions = variants(SHAPES[-1], 2, LAYOUTS[layout], torch.float32, "cpu")
        results = {name: function() for name, function in functions.items()}
    torch.testing.assert_close(results["fused"], results["gather"])
    torch.testing.assert_close(results["over-read"], results["gather"])
    assert {y.shape for y in results.values()} == {results["fused"].shape}
    assert all(y.is_contiguous(memory_format=LAYOUTS[layout]) for y in results.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_that_it_needs_a_gpu():
    command = [sys.executable, "-m", gather_convolution.__name__]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "needs a CUDA device" in result.stderr


def test_summary_counts_losses(monkeypatch):
    monkeypatch.setattr(gather_convolution.metadata, "version", lambda package: "3.9")
    ratios = ((2.0, 2.0), (2.0, 0.5))
    rows = [{"layout": "NCHW", "dtype": "float32", "gather / fused": a, "best other / fused": b} for a, b in ratios]
    text = gather_convolution.summary(rows, 3, 5, 1.0)
    assert "2 of 3 cells" in text
    assert "NCHW float32: gather / fused 2.00" in text and "slower than the better of them in 1 of 2" in text
