"""Plans that are made here and measured on a GPU machine without OR-Tools.

There are three benchmarks: `benchmarks.latency` cell by cell (half of the channels, TorchScript as in the UPSCALE
paper), `benchmarks.vs_upscale_latency` over the same cells if apple-upscale is installed, and
`benchmarks.gather_convolution`. Each has a share of the time budget, and begins no cell after that. At the end of the
budget a running benchmark is interrupted. Measured rows are kept. The output names the cells that were left out.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks import gather_convolution
from benchmarks.latency import __main__ as latency
from benchmarks.latency.cells import FORMATS
from benchmarks.vs_upscale_latency import __main__ as vs_upscale_latency
from benchmarks.vs_upscale_latency.running import PEER, version_of

SHARES = {"latency": 0.45, "vs_upscale_latency": 0.7, "gather_convolution": 1.0}
"""Per benchmark, the share of the budget after which it begins no further cell."""


def prepare(given: argparse.Namespace) -> int:
    """Write the plans."""
    for cell in _cells(given):
        code = latency.main([*cell, "--plan-only"])
        if code:
            return code
    return 0


def measure(given: argparse.Namespace) -> int:
    """Export the plans, and measure."""
    if not torch.cuda.is_available():
        print("error: there is no CUDA device here; carry the plans to a machine that has one", file=sys.stderr)
        return 2
    return _run(given)


def _cells(given: argparse.Namespace) -> Iterator[list[str]]:
    """The options that select a cell, for both benchmarks."""
    for batch, model, memory_format in itertools.product(given.batches, given.models, FORMATS):
        cell = ["--models", model, "--batches", batch, "--formats", memory_format, "--amounts", "0.5"]
        yield [*cell, "--image-size", given.image_size, "--plans", str(given.plans)]


def _run(given: argparse.Namespace) -> int:
    started, left_out = time.monotonic(), list[str]()
    end = {name: started + share * given.budget for name, share in SHARES.items()}
    with _deadline(given.budget) as expired:
        for name, label, call in _steps(given, end["gather_convolution"]):
            late = time.monotonic() > end[name] or expired.is_set()
            code = 130 if late else _called(call)
            if code == 130 and (late or expired.is_set()):
                left_out.append(label)
            elif code:
                return code
    if left_out:
        print(f"left out for lack of time, or not finished: {', '.join(left_out)}", file=sys.stderr)
    return 0


def _steps(given: argparse.Namespace, end: float) -> Iterator[tuple[str, str, Callable[[], int]]]:
    """Per step: its benchmark, its name, and the function that runs it. The last step has the time until `end`."""
    on_gpu = ["--device", "cuda", "--runs", "100", "--quick"]
    scripts = [*on_gpu, "--backends", "torchscript", "--copies", "1", "--no-verify"]
    for cell in _cells(given):
        yield "latency", f"latency {' '.join(cell[1:6:2])}", partial(latency.main, [*cell, *scripts])
    if version_of(PEER) is None:
        print(f"{PEER} is not installed: vs_upscale_latency is left out", file=sys.stderr)
    else:
        for cell in _cells(given):
            label = f"vs_upscale_latency {' '.join(cell[1:6:2])}"
            yield "vs_upscale_latency", label, partial(vs_upscale_latency.main, [*cell, *on_gpu])
    seconds = max(0.0, 0.9 * (end - time.monotonic()))
    yield "gather_convolution", "gather_convolution", partial(gather_convolution.main, ["--budget", f"{seconds:.0f}"])


def _called(call: Callable[[], int]) -> int:
    try:
        return call()
    except KeyboardInterrupt:
        return 130


@contextmanager
def _deadline(seconds: float) -> Iterator[threading.Event]:
    """Raise KeyboardInterrupt after some seconds, so that benchmarks keep their rows. The event is set then."""
    expired = threading.Event()

    def interrupt(*_: object) -> None:
        expired.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield expired
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
