"""The kernel that gathers by itself, compared with gather and convolution (`benchmarks.gather_convolution`)."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from benchmarks import gather_convolution
from benchmarks.gpu.records import Records, facts_of
from benchmarks.gpu.schedule import Deadline
from benchmarks.gpu.settings import Setting
from upscale_opt.models.precisions import settle

ROUNDS = 10
PLACES = (("float16", "NHWC", 64), ("float16", "NHWC", 1), ("float32", "NHWC", 64), ("float32", "NCHW", 1))
"""Dtype, memory format, batch size."""


def measure_kernels(setting: Setting, deadline: Deadline) -> str:
    """A row per shape. If the kernel is wrong on a shape, its row says so."""
    records = Records(setting.out, facts_of(setting.device, setting.commit))
    device = torch.device(setting.device)
    cells = list(itertools.product(PLACES, gather_convolution.SHAPES))
    done = wrong = 0
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as in that benchmark
    try:
        for (dtype, layout, batch), shape in cells:
            if deadline.left <= 0:
                break
            settle(dtype, device)
            try:
                row = _row(shape, setting.batch_of(batch), layout, dtype, device)
            except SystemExit as error:
                wrong += 1
                row = {"network": shape.network, "channels": shape.channels, "side": shape.side, "wrong": str(error)}
            records.add("kernels", [{**row, "dtype": dtype, "layout": layout, "cudnn_benchmark": True}])
            done += 1
    finally:
        torch.backends.cudnn.benchmark = before
    return f"{done} of {len(cells)} shapes" + (f", {wrong} wrong" if wrong else "")


def _row(shape: gather_convolution.Shape, batch: int, layout: str, dtype: str, device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        return gather_convolution.row(shape, batch, layout, dtype, ROUNDS)
    ways = gather_convolution.variants(shape, batch, gather_convolution.LAYOUTS[layout], torch.float32, str(device))
    with torch.no_grad():
        same = torch.allclose(ways["fused"](), ways["gather"](), rtol=1e-4, atol=1e-4)
    return {"network": shape.network, "channels": shape.channels, "side": shape.side, "N": batch, "same": same}
