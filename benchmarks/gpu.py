"""The essential latencies on a GPU machine without OR-Tools, in under ten minutes.

    python -m benchmarks.gpu prepare plans    # here: plans, by analytic costs of a GPU
    python -m benchmarks.gpu run plans        # there: calibrate, carry the plans out, measure

The second step runs `benchmarks.latency` cell by cell (ResNet-50, DenseNet-121, MobileNetV2, half of the channels,
N = 8, 64 and 1, both memory formats; TorchScript as in the UPSCALE paper) and then `benchmarks.gather_convolution`. No
cell is begun after ``--budget`` seconds; what is left out is said. Results are in ``benchmarks/results``. Exit code 2
without a CUDA device.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import gather_convolution
from benchmarks.latency import __main__ as latency
from benchmarks.latency.cells import FORMATS

MODELS = ("resnet50", "densenet121", "mobilenet_v2")
BATCHES = ("8", "64", "1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the plans, or measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("prepare", "run"))
    parser.add_argument("plans", type=Path, help="directory of plans")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", default=BATCHES)
    parser.add_argument("--image-size", default="224")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds for benchmarks.latency [420]")
    given = parser.parse_args(arguments)
    if given.step == "run" and not torch.cuda.is_available():
        print("error: there is no CUDA device here; carry the plans to a machine that has one", file=sys.stderr)
        return 2
    started, left_out = time.monotonic(), []
    for batch, model, memory_format in itertools.product(given.batches, given.models, FORMATS):
        if given.step == "run" and time.monotonic() - started > given.budget:
            left_out.append(f"{model} N = {batch} {memory_format}")
            continue
        cell = ["--models", model, "--batches", batch, "--formats", memory_format, "--amounts", "0.5"]
        cell += ["--image-size", given.image_size, "--plans", str(given.plans)]
        how = (
            ["--plan-only"] if given.step == "prepare" else ["--device", "cuda", "--backends", "torchscript", "--quick"]
        )
        code = latency.main([*cell, *how, "--runs", "100", "--copies", "1", "--no-verify"])
        if code:
            return code
    if left_out:
        print(f"left out for lack of time: {', '.join(left_out)}", file=sys.stderr)
    return 0 if given.step == "prepare" else gather_convolution.main([])


if __name__ == "__main__":
    sys.exit(main())
