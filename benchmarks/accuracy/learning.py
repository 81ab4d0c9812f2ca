"""Accuracies of dense networks and of masked ones: only pruned, with new BatchNorm statistics, and fine-tuned."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from benchmarks.accuracy.cells import (
    BIP,
    BIP_SETTINGS,
    CGAP,
    DENSE,
    GAP_SETTINGS,
    GROWING,
    KEY,
    LEARNING,
    LEARNT,
    NUM_IMAGES,
    TUNING,
    Cell,
    fresh,
    weights_in,
)
from problems.files import write_bytes_atomically
from upscale_opt import UpscaleError, importance_masks, prepare, save_masks, trace
from upscale_opt.arguments.modes import OUTPUT
from upscale_opt.comparing.comparison import export_all
from upscale_opt.comparing.masked_model import MaskedModel
from upscale_opt.learning.bip import bip
from upscale_opt.learning.datasets import Dataset, load_data
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.gap import cgap, pgap
from upscale_opt.learning.learned import Learned
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.models.running import reestimate_batch_norm
from upscale_opt.planning.solutions import Solutions, each_solution
from upscale_opt.tracing.graphs import Graph

Row = dict[str, Any]
FIGURES = ("status", "reason", "kept", "of", "dense", "pruned", "reestimated", "tuned", "seconds")
"""Columns beside `KEY`: accuracies in per cent of the images to test on."""
_BATCH = 256


def each_row(cells: Sequence[Cell], work: Path, jobs: int) -> Iterator[tuple[Cell, Row]]:
    """Yield cells with their rows as soon as they are done, from processes of one thread each.

    Parameters
    ----------
    cells
        The cells to prune and train.
    work
        Directory for dense weights and masks.
    jobs
        Number of processes.
    """
    pairs = list(dict.fromkeys((cell.network, cell.seed) for cell in cells))
    with multiprocessing.get_context("spawn").Pool(jobs, torch.set_num_threads, (1,)) as pool:
        pool.starmap(functools.partial(train_dense, work=work), pairs, chunksize=1)
        yield from pool.imap_unordered(functools.partial(_with_cell, work=work), cells)


def train_dense(network: str, seed: int, *, work: Path) -> None:
    """Train a dense network and keep its weights, unless they are there."""
    path = weights_in(work, network, seed)
    if path.exists():
        return
    model = fresh(network, seed)
    fit(model, load_data("digits"), [replace(DENSE, seed=seed)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(save({name: own.contiguous() for name, own in model.state_dict().items()}), path)


def dense_network(network: str, seed: int, work: Path) -> nn.Module:
    """A dense network with its weights, in eval mode."""
    model = fresh(network, seed)
    model.load_state_dict(load_file(weights_in(work, network, seed)))
    return model


def learn(cell: Cell, work: Path) -> Row:
    """The row of a cell; its masks go to a file."""
    started = time.perf_counter()
    data = load_data("digits")
    model = dense_network(cell.network, cell.seed, work)
    row: Row = {**dict.fromkeys((*KEY, *FIGURES), ""), **dict(zip(KEY, cell.key, strict=True))}
    row["dense"] = _per_cent(model, data)
    try:
        row |= _learnt(cell, model, data, work) if cell.method in LEARNT else _ranked(cell, model, data, work)
        row["status"] = "ok"
    except UpscaleError as error:
        row |= {"status": "refused", "reason": str(error)}
    return {**row, "seconds": f"{time.perf_counter() - started:.1f}"}


def prepared(
    cell: Cell, model: nn.Module, masks: Mapping[str, np.ndarray], x: torch.Tensor, **options: Any
) -> MaskedModel:
    """A network masked in the mode of its cell."""
    given, outputs = ({}, masks) if cell.mode == OUTPUT else (masks, None)
    return prepare(model, x, given, output_masks=outputs, **options)


def solved(prepared: MaskedModel, solvers: Sequence[str], objective: str, time_limit: float, seed: int) -> Solutions:
    """The orders of all segments."""
    solutions: Solutions = {}
    found = each_solution(prepared.problems, solvers, objective=objective, time_limit=time_limit, seed=seed)
    for segment, name, result in found:
        solutions.setdefault(segment, {})[name] = result
    return solutions


def _with_cell(cell: Cell, work: Path) -> tuple[Cell, Row]:
    return cell, learn(cell, work)


def _ranked(cell: Cell, model: nn.Module, data: Dataset, work: Path) -> Row:
    """Masks by an importance. The accuracies are those of an export that is verified against the masked network."""
    x = torch.zeros(1, *data.input_shape)
    graph = trace(model, x)
    masks = _masks(cell, graph, data)
    ready = prepared(cell, model, masks, x, graph=graph)
    solutions = solved(ready, ["greedy"], "copies", 1.0, cell.seed)
    export = export_all(ready, solutions, ["greedy"])["greedy"].module
    _keep(cell, masks, work)
    row = _counts(masks) | {"pruned": _per_cent(export, data)}
    every = data.sampled(len(data.train), seed=cell.seed, batch_size=_BATCH)
    reestimate_batch_norm(export, ((images,) for images, _ in every))
    row["reestimated"] = _per_cent(export, data)
    epochs = fit(export, data, [_seeded(TUNING, cell)])
    return row | {"tuned": f"{100 * epochs[-1].test.top1:.1f}"}


def _learnt(cell: Cell, model: nn.Module, data: Dataset, work: Path) -> Row:
    """Masks that are learnt, from the dense network (BiP) or from scratch (GaP)."""
    target = Target(cell.amount)
    found: Learned
    if cell.method == BIP:
        found = bip(model, data, _seeded(LEARNING, cell), target, BIP_SETTINGS)
    else:
        grow = cgap if cell.method == CGAP else pgap
        scratch = fresh(cell.network, cell.seed)
        settings: dict[str, Any] = {"finetuning": _seeded(TUNING, cell)}
        found = grow(scratch, data, replace(GROWING, seed=100 * cell.seed), target, GAP_SETTINGS, **settings)
    _keep(cell, found.masks, work)
    return _counts(found.masks) | {"tuned": f"{100 * found.test.top1:.1f}"}


def _masks(cell: Cell, graph: Graph, data: Dataset) -> dict[str, np.ndarray]:
    return importance_masks(
        graph,
        cell.method,
        cell.amount,
        scope=cell.scope,
        mode=cell.mode,
        data=data.sampled(NUM_IMAGES, seed=cell.seed),
        seed=cell.seed,
    )


def _keep(cell: Cell, masks: Mapping[str, np.ndarray], work: Path) -> None:
    path = cell.masks_in(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_masks(dict(masks), path)


def _seeded(recipe: Recipe, cell: Cell) -> Recipe:
    return replace(recipe, seed=recipe.seed + cell.seed)


def _counts(masks: Mapping[str, np.ndarray]) -> Row:
    return {"kept": sum(int(own.sum()) for own in masks.values()), "of": sum(map(len, masks.values()))}


def _per_cent(model: nn.Module, data: Dataset) -> str:
    return f"{100 * accuracy(model, data.test_batches()).top1:.1f}"
