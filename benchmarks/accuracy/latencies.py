"""Latencies of masked networks, exported in greedy's order and in the best found, in turn with the dense network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.cells import Cell
from benchmarks.accuracy.learning import dense_network, prepared, solved
from benchmarks.vs_upscale_latency.rows import paired_ratio
from upscale_opt import profile_interleaved, read_masks, trace
from upscale_opt.comparing.comparison import export_all
from upscale_opt.tracing.graphs import Graph

Row = dict[str, Any]
EXPORTS = {"greedy": ("greedy", "copies"), "exact": ("auto", "copies")}
"""Per name in the file, solver and objective: UPSCALE's order, and an order of fewest copies.

The objective ``latency`` is not used, because its tables would have to be measured for every cell. Analytic costs
underestimate over-reads on tensors this small.
"""
FIGURES = ("dense_ms", *(f"{name}{part}" for name in EXPORTS for part in ("", "_low", "_high", "_copies")))
"""Columns: times as shares of the dense network's, with quartiles over the rounds, and how many channels are copied."""


def each_latency(
    cells: Sequence[Cell], work: Path, *, batch: int, runs: int, time_limit: float
) -> Iterator[tuple[Cell, Row]]:
    """Yield cells with their figures, one after the other. No other program should run meanwhile.

    Parameters
    ----------
    cells
        The cells. Their masks are in files.
    work
        Directory of dense weights and masks.
    batch
        Number of images per pass.
    runs
        Number of rounds.
    time_limit
        Seconds per segment and solver.
    """
    networks: dict[tuple[str, int], tuple[nn.Module, Graph]] = {}
    for cell in cells:
        x = torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(cell.seed))
        pair = cell.network, cell.seed
        if pair not in networks:
            model = dense_network(*pair, work)
            networks[pair] = model, trace(model, x)
        model, graph = networks[pair]
        yield cell, measure(cell, model, graph, x, work, runs=runs, time_limit=time_limit)


def measure(
    cell: Cell, model: nn.Module, graph: Graph, x: torch.Tensor, work: Path, *, runs: int, time_limit: float
) -> Row:
    """The figures of one cell."""
    masks = {name: np.asarray(mask) for name, mask in read_masks(cell.masks_in(work)).items()}
    models: dict[str, nn.Module] = {"dense": model}
    row: Row = {}
    for name, (solver, objective) in EXPORTS.items():
        ready = prepared(cell, model, masks, x, graph=graph, objective=objective)
        solutions = solved(ready, [solver], objective, time_limit, cell.seed)
        models[name] = export_all(ready, solutions, [solver])[solver].module
        row[f"{name}_copies"] = sum(own[solver].evaluation.copied_channels for own in solutions.values())
    found = profile_interleaved(models, x, repeats=runs)
    row["dense_ms"] = f"{1e3 * found['dense'].median:.4g}"
    for name in EXPORTS:
        figures = paired_ratio(found[name].seconds, found["dense"].seconds)
        row |= {f"{name}{part}": f"{own:.4f}" for part, own in zip(("_low", "", "_high"), figures, strict=True)}
    return row
