"""Cells of a sweep: one network, pruned in one way, ordered, measured or tested in one way.

There are three kinds. Each has only what decides its figures, so that nothing is computed twice:

- ``orders``: solve, export and verify. Values, bounds, copies, parameters.
- ``accuracy``: test the pruned network, and fine-tune it. Orders do not matter, so one cell stands for all of them.
- ``latency``: measure the export beside the unpruned network, the baseline and the floor, in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from upscale_opt.errors import SweepError

ORDERS, ACCURACY, LATENCY = KINDS = ("orders", "accuracy", "latency")


@dataclass(frozen=True)
class Training:
    """How accuracy cells fine-tune; see `upscale_opt.learning.recipes.Recipe`. Without epochs, they do not."""

    epochs: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    schedule: str = "cosine"
    warmup: float = 0.0


@dataclass(frozen=True)
class Model:
    """A network of a sweep: name, weights and input shape; see `upscale_opt.ModelReference`."""

    name: str
    weights: str | None = None
    input_shape: tuple[int, ...] = (1, 3, 224, 224)


@dataclass(frozen=True)
class Masking:
    """How channels are chosen. `data` and `images` are None unless the importance looks at images."""

    importance: str = "l2"
    mode: str = "input"
    scope: str = "local"
    data: str | None = None
    images: int | None = None


@dataclass(frozen=True)
class Condition:
    """Under which conditions models run when they are measured; as the options of ``compare``."""

    device: str = "cpu"
    dtype: str = "float32"
    batch: int | None = None
    memory_format: str = "contiguous"
    backend: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Cell:
    """One cell. What does not matter for its kind is None.

    Attributes
    ----------
    kind
        One of `KINDS`.
    model, amount, masking, seed
        The network, the share of channels that are removed, how they are chosen; the seed of everything random.
    objective, method, time_limit, verify
        What is minimised, by which solver, in how many seconds per segment; whether the export is verified.
    condition
        Conditions: of latencies, and of orders if the objective is a latency. Of other cells, only the device counts.
    tables
        Directory of measured cost tables, for the objective ``latency``. None: the analytic model.
    repeats
        Figures per latency.
    data, training
        Images to test and to train on; how to train.
    threads
        Threads of torch while it computes (not while a latency is measured).
    """

    kind: str
    model: Model
    amount: str
    masking: Masking
    seed: int
    objective: str | None = None
    method: str | None = None
    time_limit: float | None = None
    verify: bool | None = None
    condition: Condition = Condition()
    tables: str | None = None
    repeats: int | None = None
    data: str | None = None
    training: Training | None = None
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what `cell_of` reads."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        parts = [self.kind, self.model.name, self.amount, self.masking.importance, self.masking.mode]
        return ", ".join([*parts, *(own for own in (self.objective, self.method) if own)])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with the batch size of the condition."""
        first = self.condition.batch or self.model.input_shape[0]
        return (first, *self.model.input_shape[1:])


_PARTS = {"model": Model, "masking": Masking, "condition": Condition, "training": Training}


def cell_of(document: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.to_dict` describes.

    Raises
    ------
    SweepError
        If it is none.
    """
    try:
        values = dict(document)
        for name, kind in _PARTS.items():
            if values[name] is not None:
                values[name] = kind(**values[name])
        shape = tuple(values["model"].input_shape)
        return Cell(**{**values, "model": replace(values["model"], input_shape=shape)})
    except (KeyError, TypeError) as error:
        raise SweepError(f"a cell cannot be read ({error}); it is of another version of upscale_opt") from error


@dataclass(frozen=True)
class Axes:
    """What cells are made of: every combination. `upscale_opt.sweeps.declarations` reads it from a file."""

    models: tuple[Model, ...]
    amounts: tuple[str, ...] = ("0.5",)
    masks: tuple[Masking, ...] = (Masking(),)
    objectives: tuple[str, ...] = ("copies",)
    methods: tuple[str, ...] = ("greedy", "auto")
    conditions: tuple[Condition, ...] = (Condition(),)
    seeds: tuple[int, ...] = (0,)
    measure: tuple[str, ...] = (ORDERS,)
    time_limit: float = 10.0
    verify: bool = True
    tables: str | None = None
    repeats: int | None = None
    data: str | None = None
    training: Training = Training()
    threads: int = 1


def cells_of(axes: Axes, timed: Sequence[str] = ("latency",)) -> list[Cell]:
    """All cells, each once.

    Latencies come last: while one is measured, nothing else runs. Before, cells of a network follow each other, and
    among them cells with equal masks, because a process keeps the network and the masks of its last cell.

    Parameters
    ----------
    axes
        What to combine.
    timed
        The objectives for which conditions matter.

    Examples
    --------
    >>> axes = Axes((Model("a"), Model("b")), amounts=("0.3", "0.5"), measure=("orders", "accuracy"))
    >>> cells = cells_of(axes)
    >>> len(cells), [str(cell) for cell in cells[:3]]  # doctest: +NORMALIZE_WHITESPACE
    (12, ['orders, a, 0.3, l2, input, copies, greedy', 'orders, a, 0.3, l2, input, copies, auto',
    'accuracy, a, 0.3, l2, input'])
    """
    kinds = [kind for kind in KINDS if kind in axes.measure]
    before = [kind for kind in kinds if kind != LATENCY]
    return [
        *dict.fromkeys(
            cell
            for part in (before, [LATENCY] if LATENCY in kinds else [])
            for base in _pruned(axes)
            for kind in part
            for cell in _of_kind(kind, base, axes, timed)
        )
    ]


def _pruned(axes: Axes) -> Iterator[Cell]:
    for model in axes.models:
        for seed in axes.seeds:
            for masking in axes.masks:
                for amount in axes.amounts:
                    yield Cell(ORDERS, model, amount, masking, seed, threads=axes.threads)


def _of_kind(kind: str, base: Cell, axes: Axes, timed: Sequence[str]) -> Iterator[Cell]:
    if kind == ACCURACY:
        for condition in axes.conditions:
            only = Condition(device=condition.device)
            yield replace(base, kind=kind, condition=only, data=axes.data, training=axes.training)
        return
    for objective in axes.objectives:
        for method in axes.methods:
            own = replace(base, kind=kind, objective=objective, method=method, time_limit=axes.time_limit)
            own = replace(own, verify=axes.verify, tables=axes.tables if objective in timed else None)
            for condition in axes.conditions:
                if kind == LATENCY:
                    yield replace(own, condition=condition, repeats=axes.repeats)
                else:
                    yield replace(own, condition=condition if objective in timed else Condition())


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a cell, for tables and files: nested values in one level, without what is None.

    Examples
    --------
    >>> cell = Cell("orders", Model("a"), "0.5", Masking(), 0, objective="copies")
    >>> {key: value for key, value in flat(cell.to_dict()).items() if key in ("model", "importance", "input_shape")}
    {'model': 'a', 'input_shape': '1,3,224,224', 'importance': 'l2'}
    """
    columns: dict[str, Any] = {}
    for own in fields(Cell):
        value = document.get(own.name)
        if own.name in _PARTS and isinstance(value, Mapping):
            for name, inner in value.items():
                key = own.name if name == "name" else f"training_{name}" if own.name == "training" else name
                columns.setdefault(key, ",".join(map(str, inner)) if isinstance(inner, (list, tuple)) else inner)
        else:
            columns[own.name] = value
    return {name: value for name, value in columns.items() if value is not None}
