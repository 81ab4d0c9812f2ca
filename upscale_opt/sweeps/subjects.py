"""Networks of cells, built, traced and masked. The last ones are kept, because cells of a network follow each other."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from torch import nn

from upscale_opt.comparing.masked_model import MaskedModel
from upscale_opt.comparing.pruning import prune
from upscale_opt.errors import SweepError
from upscale_opt.latency.backends import require_backend, require_inputs_of
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.latency.profiling import default_backend
from upscale_opt.learning.datasets import Dataset, load_data
from upscale_opt.models.ready_models import load_model_and_input
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.cost_model import AnalyticCosts, CostModel
from upscale_opt.sweeps.cells import ACCURACY, Cell, Masking, Model
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.trace import trace

NUM_KEPT = 1
"""Networks, and masked networks, that a process keeps."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, an input, and its trace."""

    model: nn.Module
    x: Any
    graph: Graph


def subject_of(cell: Cell) -> Subject:
    """The network of a cell."""
    shape = cell.input_shape
    if cell.kind == ACCURACY:
        shape = (1, *data_named(_given(cell.data)).input_shape)
    condition = cell.condition
    return _subject(cell.model, cell.seed, shape, condition.device, condition.dtype, condition.memory_format)


def masked_of(cell: Cell) -> MaskedModel:
    """The masked network of a cell."""
    return _masked(subject_of(cell), cell.masking, cell.amount, cell.seed)


def costs_of(cell: Cell, subject: Subject) -> CostModel:
    """The source of cost tables of a cell: measured tables if it names a directory, else the analytic model."""
    analytic = AnalyticCosts.for_device(subject.x.device.type)
    if cell.tables is None:
        return analytic
    tables = CostTables.load(cell.tables, conditions_of((subject.x,), backend=backend_of(cell, subject)))
    return MeasuredCosts(tables, analytic)


def backend_of(cell: Cell, subject: Subject) -> str:
    """How the models of a cell run when they are measured.

    Raises
    ------
    ModelError
        If the backend does not fit the device or the input.
    """
    backend = cell.condition.backend or default_backend(subject.x.device)
    require_backend(backend, subject.x.device)
    require_inputs_of(backend, (subject.x,))
    return backend


@functools.lru_cache(maxsize=NUM_KEPT)
def data_named(name: str) -> Dataset:
    """Images by name."""
    return load_data(name)


@functools.lru_cache(maxsize=NUM_KEPT)
def _subject(model: Model, seed: int, shape: tuple[int, ...], device: str, dtype: str, memory_format: str) -> Subject:
    _masked.cache_clear()  # the last network is freed before this one is loaded
    _subject.cache_clear()
    reference = ModelReference(model.name, model.weights, seed, shape)
    network, x, _ = load_model_and_input(reference, device, memory_format, dtype)
    return Subject(network, x, trace(network, x))


@functools.lru_cache(maxsize=NUM_KEPT)
def _masked(subject: Subject, masking: Masking, amount: str, seed: int) -> MaskedModel:
    images = None
    if masking.data is not None:
        images = data_named(masking.data).sampled(_given(masking.images), seed=seed)
    return prune(
        subject.model,
        subject.x,
        amount,
        importance=masking.importance,
        mode=masking.mode,
        scope=masking.scope,
        data=images,
        seed=seed,
        graph=subject.graph,
    )


def _given(value: Any) -> Any:
    """A value that a cell of this kind has."""
    if value is None:
        raise SweepError("the cell lacks what its kind needs; it is of another version of upscale_opt")
    return value
