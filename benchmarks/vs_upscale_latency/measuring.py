"""Measures a cell: loads its files in one process, compares their outputs, and times them in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.vs_upscale_latency.cells import FORMATS, MASKED, Cell
from benchmarks.vs_upscale_latency.processes import reason
from benchmarks.vs_upscale_latency.rows import Outcome
from upscale_opt import profile_interleaved
from upscale_opt.models.outputs import relative_error, tensors
from upscale_opt.models.precisions import FLOAT32, settle

TOLERANCE = 1e-3
"""Largest relative error, in float32, of an export that counts as right."""


def measure(cell: Cell, files: Mapping[str, Path], runs: int) -> Iterator[dict[str, Outcome]]:
    """Yield the outcome of every file, once.

    Parameters
    ----------
    cell
        The cell; its images are the input.
    files
        Per variant, its TorchScript file; the masked network is one of them.
    runs
        Number of rounds; every variant is timed once in each.
    """
    images, device = cell.images(), torch.device(cell.subject.device)
    outcomes: dict[str, Outcome] = {}
    errors: dict[str, float] = {}
    scripts: dict[str, torch.jit.ScriptModule] = {}
    # Lower precisions are coarser than the tolerance, so outputs are compared in float32, by the weights in the files.
    settle(FLOAT32, device)
    with torch.inference_mode():
        expected = tensors(_load(files[MASKED], cell).float()(images.float()))
        for variant, file in files.items():
            try:
                found = tensors(_load(file, cell).float()(images.float()))
                script = _load(file, cell)
                script(images)
                errors[variant] = _error(found, expected)
                scripts[variant] = script
            except Exception as error:
                outcomes[variant] = Outcome("failed", reason(error))
    cell.subject.settle()
    profiles = profile_interleaved(scripts, images, repeats=runs)
    for variant, distance in errors.items():
        right = distance <= TOLERANCE  # NaN is not
        text = "" if right else f"its output is not the masked network's: relative error {distance:.1e}"
        outcomes[variant] = Outcome("ok" if right else "wrong", text, distance, profiles[variant].seconds)
    yield outcomes


def _load(file: Path, cell: Cell) -> Any:
    script = torch.jit.load(str(file), map_location=cell.subject.device)
    return script.eval().to(memory_format=FORMATS[cell.memory_format])


def _error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    if len(found) != len(expected):
        return float("inf")
    return max((relative_error(a, b) for a, b in zip(found, expected, strict=True)), default=float("nan"))
