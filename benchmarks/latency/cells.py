"""The cells to measure: one masked network at one batch size and memory format, and its variants."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.results import read_rows
from upscale_opt import Graph, ModelReference, effective_masks, extract, l2_masks, load_model, trace
from upscale_opt.latency.backends import BACKENDS
from upscale_opt.latency.calibration import Effort, calibrate
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.models.loading import has_random_weights
from upscale_opt.models.precisions import FLOAT32, PRECISIONS, in_precision
from upscale_opt.planning.cost_model import AnalyticCosts

FORMATS = ("NCHW", "channels_last")
DEFAULT_BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 64)}
VARIANTS = {
    "unpruned": "the model as it is",
    "baseline": "original order, channels gathered in front of every consumer (the paper's naive export)",
    "greedy": "UPSCALE's order, views and copies, with our gather",
    "greedy, cheapest reads": "UPSCALE's order, every access read in the way the tables find cheapest",
    "exact copies": "fewest copied channels, views and copies, with our gather",
    "exact latency": "the order and the ways to read that the tables find cheapest (where plans were made elsewhere, "
    "the order is by analytic costs)",
    "floor": "every selection deleted, inputs of consumers contiguous: what no order can beat",
}
QUICK = Effort(spans=3, rounds=5, seconds=0.001, copies=2)
"""A calibration with less effort."""
PLANNED = ("greedy", "greedy, cheapest reads", "exact copies", "exact latency")


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Attributes
    ----------
    model, amount, seed
        The network, the share of input channels each consumer drops (L2), and the seed of its random weights.
    image
        Height and width.
    batch, format, device, backend
        Batch size and memory format of the input; device and backend of the models.
    dtype
        Precision of the models (`upscale_opt.models.precisions`).
    """

    model: str
    amount: str
    seed: int
    image: int
    batch: int
    format: str
    device: str
    backend: str
    dtype: str = FLOAT32

    @property
    def key(self) -> tuple[str, ...]:
        """The values of all fields, as text in the file."""
        return tuple(str(value) for value in asdict(self).values())

    def plan_path(self, directory: Path, variant: str) -> Path:
        """The file of a variant's plan."""
        own = (self.model, self.amount, self.seed, self.image, self.batch, self.format, variant)
        return plan_path(directory, *own, dtype=self.dtype)


KEY = tuple(Cell.__dataclass_fields__)
OLD = {"dtype": FLOAT32}
"""Columns that older rows lack. They are of float32, on a CPU."""


def read_cells(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file with the columns `KEY`."""
    return read_rows(path, OLD)


def with_dtype_shown(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a page: a dtype other than float32 is shown beside the backend, to distinguish the rows.

    Examples
    --------
    >>> rows = [{"backend": "eager", "dtype": dtype} for dtype in ("float32", "tf32")]
    >>> [row["backend"] for row in with_dtype_shown(rows)]
    ['eager', 'eager, tf32']
    """
    return [
        {**row, "backend": f"{row['backend']}, {row['dtype']}"}
        if row.get("dtype") in PRECISIONS and row["dtype"] != FLOAT32
        else row
        for row in rows
    ]


def plan_path(
    directory: Path,
    model: str,
    amount: str,
    seed: int,
    image: int,
    batch: int,
    memory_format: str,
    variant: str,
    *,
    dtype: str = FLOAT32,
) -> Path:
    """The file to which ``--plan-only`` writes the plan of a variant: the same for all devices and backends."""
    parts = (model, amount, seed, image, batch, memory_format, variant, *([] if dtype == FLOAT32 else [dtype]))
    return directory / (re.sub(r"[^\w.-]+", "-", "-".join(map(str, parts))) + ".json")


class Subject:
    """The masked network of a cell, on its device and in its memory format."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        shape = (cell.batch, 3, cell.image, cell.image)
        reference = ModelReference(cell.model, seed=cell.seed, input_shape=shape)
        self.model: nn.Module = load_model(reference)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(cell.seed))
        if cell.format == "channels_last":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        self.model = self.model.to(cell.device)
        random_weights = has_random_weights(reference)
        self.model, self.x, notes = in_precision(
            self.model, x.to(cell.device), cell.dtype, random_weights=random_weights
        )
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        self.graph: Graph = trace(self.model, self.x)
        self.masked = effective_masks(self.graph, l2_masks(self.graph, cell.amount))
        self.masks = self.masked.masks

    def calibrated(self, directory: Any = None, effort: Effort | None = None) -> CostTables:
        """Cost tables for this cell; missing ones are measured."""
        return calibrate(
            self.masked,
            (self.x,),
            backend=self.cell.backend,
            directory=directory,
            effort=effort,
            progress=True,
        )

    def costs(self, tables: CostTables) -> MeasuredCosts:
        """The tables as a cost model."""
        return MeasuredCosts(tables, AnalyticCosts.for_device(torch.device(self.cell.device).type))

    @cached_property
    def problems(self) -> Any:
        """Without cost tables."""
        return extract(self.graph, self.masks)


def add_cell_options(parser: argparse.ArgumentParser, *, models: Sequence[str], amounts: Sequence[str]) -> None:
    """The options that select cells, and how they are measured. The sequences are the defaults."""
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--amounts", nargs="+", default=amounts)
    parser.add_argument("--batches", nargs="+", type=int, help="[1 8 on a CPU, 1 8 64 on a GPU]")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=("eager",))
    parser.add_argument("--dtypes", nargs="+", choices=PRECISIONS, default=(FLOAT32,))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch [as many as it takes]")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", type=Path, help="directory of cost tables [the user's cache]")
    parser.add_argument("--no-verify", action="store_true", help="do not check exports")
    parser.add_argument("--quick", action="store_true", help="calibrate with less effort: fewer spans, shorter figures")
    parser.add_argument("--fresh", action="store_true", help="measure cells again that have been measured")


def cells_of(given: argparse.Namespace) -> list[Cell]:
    """The cells that these options select."""
    batches = given.batches or DEFAULT_BATCHES[given.device.partition(":")[0]]
    return [
        Cell(model, amount, given.seed, given.image_size, batch, memory_format, given.device, backend, dtype)
        for model, amount, batch, memory_format, backend, dtype in itertools.product(
            given.models, given.amounts, batches, given.formats, given.backends, given.dtypes
        )
    ]
