"""A 1 x 1 convolution that reads a random half of the channels, in four ways. Needs a CUDA device and Triton.

| way | what it does |
|---|---|
| fused | `GatherConv2d`: one kernel that gathers (normalises, activates) and convolves |
| gather | the gather of our exports, then a convolution |
| over-read | a convolution over all channels |
| floor | a convolution over a tensor of just the kept channels: the least that a view can cost |

The shapes are those of ResNet-50, DenseNet-121 and MobileNet-V2. Those called *normalised* have a BatchNorm and a ReLU
in front of the convolution, as DenseNet's have; the other ways do that with kernels of their own.

    python -m benchmarks.gather_convolution
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.results import save
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.selections import Gather

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16}
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}
GRAPH_SECONDS = 2e-4
MAX_CALLS = 32
EAGER_CALLS = 20


@dataclass(frozen=True)
class Shape:
    """A 1 x 1 convolution of a network: input channels before pruning, output channels, height and width.

    If it is normalised, a BatchNorm and a ReLU stand in front of it.
    """

    network: str
    channels: int
    outputs: int
    side: int
    normalised: bool = False


SHAPES = (
    Shape("resnet50", 256, 64, 56),
    Shape("resnet50", 512, 128, 28),
    Shape("resnet50", 1024, 256, 14),
    Shape("resnet50", 2048, 512, 7),
    Shape("densenet121", 384, 128, 28),
    Shape("densenet121", 768, 128, 14),
    Shape("densenet121 normalised", 192, 128, 56, True),
    Shape("densenet121 normalised", 384, 128, 28, True),
    Shape("densenet121 normalised", 768, 128, 14, True),
    Shape("densenet121 normalised", 1024, 128, 7, True),
    Shape("mobilenet_v2", 24, 144, 56),
    Shape("mobilenet_v2", 64, 384, 14),
    Shape("mobilenet_v2", 160, 960, 7),
)


def variants(
    shape: Shape, batch: int, layout: torch.memory_format, dtype: torch.dtype, device: str, seed: int = 0
) -> dict[str, Callable[[], torch.Tensor]]:
    """The four ways, as functions without arguments. All but the last give the same values."""
    rng = np.random.default_rng(seed)
    index = torch.from_numpy(np.sort(rng.permutation(shape.channels)[: shape.channels // 2])).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    size = (batch, shape.channels, shape.side, shape.side)
    x = torch.randn(size, generator=generator, device=device).to(dtype=dtype, memory_format=layout)
    narrow = x[:, : len(index)].contiguous(memory_format=layout)

    small = nn.Conv2d(len(index), shape.outputs, 1, device=device, dtype=dtype)
    fused = GatherConv2d.from_convolution(small, index)
    whole = nn.Conv2d(shape.channels, shape.outputs, 1, device=device, dtype=dtype)
    with torch.no_grad():
        whole.weight.zero_()[:, index] = small.weight
        whole.bias.copy_(small.bias)
    gather = Gather(index, axis=1)
    before, before_all = _prologues(shape, index, device, dtype)
    if shape.normalised:
        fused.with_prologue(*before)
    small, whole = (convolution.to(memory_format=layout) for convolution in (small, whole))
    return {
        "fused": lambda: fused(x),
        "gather": lambda: small(before(gather(x))),
        "over-read": lambda: whole(before_all(x)),
        "floor": lambda: small(before(narrow)),
    }


def _prologues(
    shape: Shape, index: torch.Tensor, device: str, dtype: torch.dtype
) -> tuple[nn.Sequential, nn.Sequential]:
    """What stands in front of the convolution of the kept channels, and of all of them; empty unless normalised."""
    if not shape.normalised:
        return nn.Sequential(), nn.Sequential()
    every, kept = (nn.BatchNorm2d(number, device=device, dtype=dtype).eval() for number in (shape.channels, len(index)))
    with torch.no_grad():
        every.running_mean.normal_()  # type: ignore[union-attr]
        every.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        for name, own in kept.state_dict().items():
            own.copy_(every.state_dict()[name][index] if own.ndim else every.state_dict()[name])
    return nn.Sequential(kept, nn.ReLU()), nn.Sequential(every, nn.ReLU())


def measure(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Microseconds on the device per call, from interleaved replays of CUDA graphs with several calls each."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graphs = {}
    for name, function in functions.items():
        with torch.cuda.stream(stream):
            for _ in range(3):
                function()
            stream.synchronize()
            started = time.perf_counter()
            function()
            stream.synchronize()
            seconds = time.perf_counter() - started
        num_calls = min(MAX_CALLS, math.ceil(GRAPH_SECONDS / seconds) + 1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(num_calls):
                function()
        graph.replay()
        graphs[name] = graph, num_calls
    torch.cuda.synchronize()
    microseconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        names = list(graphs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            graph, num_calls = graphs[name]
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            microseconds[name].append(start.elapsed_time(end) * 1000 / num_calls)
    return microseconds


def measure_eager(function: Callable[[], Any]) -> float:
    """Median microseconds per call in eager mode, Python included."""
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(EAGER_CALLS):
            function()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e6 / EAGER_CALLS)
    return statistics.median(times)


def row(shape: Shape, batch: int, layout: str, dtype: str, rounds: int) -> dict[str, Any]:
    """One row of the table: medians and interquartile ranges."""
    functions = variants(shape, batch, LAYOUTS[layout], DTYPES[dtype], "cuda")
    with torch.no_grad():
        expected = functions["gather"]()
        error = float((functions["fused"]() - expected).abs().max() / expected.abs().max())
        if not error < TOLERANCE[dtype]:
            sys.exit(f"the fused kernel is wrong by {error:.1e} on {shape}, batch {batch}, {layout}, {dtype}")
        measured = measure(functions, rounds)
        eager = {name: measure_eager(functions[name]) for name in ("fused", "gather")}
    medians = {name: statistics.median(values) for name, values in measured.items()}
    columns: dict[str, Any] = {
        "network": shape.network,
        "layout": layout,
        "dtype": dtype,
        "N": batch,
        "channels": shape.channels,
        "outputs": shape.outputs,
        "side": shape.side,
    }
    for name, values in measured.items():
        low, high = np.quantile(values, (0.25, 0.75))
        columns |= {f"{name} us": medians[name], f"{name} IQR": float(high - low)}
    best = min(medians["gather"], medians["over-read"])
    return columns | {
        "gather / fused": medians["gather"] / medians["fused"],
        "best other / fused": best / medians["fused"],
        "fused / floor": medians["fused"] / medians["floor"],
        **{f"{name} eager us": value for name, value in eager.items()},
    }


def summary(rows: list[dict[str, Any]], num_cells: int, rounds: int, seconds: float) -> str:
    """How the table was measured, and geometric means and losses per layout and dtype."""
    sentences = [
        f"Four ways to give a 1 x 1 convolution half of its input channels, device time: medians of {rounds} "
        "interleaved replays of CUDA graphs, inputs warm in the cache; eager columns are wall time per call with "
        f"Python. TF32 off, cuDNN benchmark on, Triton {metadata.version('triton')}, CUDA {torch.version.cuda}; "
        f"{len(rows)} of {num_cells} cells (picked at random) fitted into the budget and took {seconds:.0f} s."
    ]
    for layout in LAYOUTS:
        for dtype in DTYPES:
            group = [r for r in rows if (r["layout"], r["dtype"]) == (layout, dtype)]
            if group:
                means = [
                    statistics.geometric_mean(r[k] for r in group) for k in ("gather / fused", "best other / fused")
                ]
                lost = sum(r["best other / fused"] < 1 for r in group)
                sentences.append(
                    f"{layout} {dtype}: gather / fused {means[0]:.2f}, better of gather and over-read / fused "
                    f"{means[1]:.2f} (geometric means), fused slower than the better of them in {lost} of {len(group)}."
                )
    return " ".join(sentences)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8, 64))
    parser.add_argument("--rounds", type=int, default=20, help="replays per variant, interleaved")
    parser.add_argument("--budget", type=float, default=165, help="seconds after which no further cell is started")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        print("This benchmark needs a CUDA device and Triton; run it on a machine that has both.", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    started = time.perf_counter()
    cells = [(s, n, layout, dtype) for dtype in DTYPES for layout in LAYOUTS for s in SHAPES for n in given.batches]
    rows: dict[int, dict[str, Any]] = {}
    try:
        for i in tqdm(np.random.default_rng(0).permutation(len(cells)).tolist(), unit="cell"):
            if time.perf_counter() - started < given.budget:
                rows[i] = row(*cells[i], given.rounds)
        code = 0
    except KeyboardInterrupt:
        code = 130
    if not rows:
        if code == 0:
            print("error: there was no time for any cell; give a larger --budget", file=sys.stderr)
        return code or 2
    ordered = [rows[i] for i in sorted(rows)]
    text = summary(ordered, len(cells), given.rounds, time.perf_counter() - started)
    print(save("gather_convolution", ordered, text))
    return code


if __name__ == "__main__":
    sys.exit(main())
