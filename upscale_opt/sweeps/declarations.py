"""Reads what a sweep is made of from a file, and checks it before anything is computed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from upscale_opt.arguments.amounts import require_amount
from upscale_opt.arguments.modes import MODES
from upscale_opt.errors import SweepError, UpscaleError
from upscale_opt.sweeps import cells
from upscale_opt.sweeps.cells import ACCURACY, KINDS, Axes, Condition, Masking, Model, Training
from upscale_opt.sweeps.documents import Value, read_document

PROTOCOLS = Path(__file__).parent / "protocols"
SCOPES = ("local", "global")
MEMORY_FORMATS = ("contiguous", "channels_last")
NUM_IMAGES = 256
"""Images that an importance looks at, by default."""
MODEL_KEYS = {"name": "", "weights": "", "input_shape": ""}
MASK_KEYS = {"importance": "", "mode": "", "scope": "", "only_with_data": ""}
KEYS = (
    *("models", "amounts", "masks", "objectives", "methods", "conditions", "seeds", "measure", "time_limit", "verify"),
    *("tables", "repeats", "data", "images", "training", "threads", "input_shape", "weights"),
)
"""The keys of a sweep file."""


def protocols() -> list[str]:
    """Names of the sweep files that come with the package."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.toml"))


def sweep_file(name: str) -> Path:
    """The path of a sweep file, or of one that comes with the package and has this name.

    Raises
    ------
    SweepError
        If there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    if name in protocols():
        return PROTOCOLS / f"{name}.toml"
    raise SweepError(f"there is no sweep file {name}; name a file, or one of the package: {', '.join(protocols())}")


def read_axes(path: Path, overrides: Value | None = None) -> Axes:
    """The axes of a sweep file. Other values, such as those of the command line, replace its keys.

    Raises
    ------
    SweepError
        If a key is unknown or a value is not allowed. The sentence names line and key.
    """
    return axes_of(read_document(path), overrides)


def axes_of(document: Value | None, overrides: Value | None = None) -> Axes:
    """As `read_axes`, for a document that is already read."""
    every = dict.fromkeys(KEYS)
    found: dict[str, Value] = {} if document is None else dict(document.mapping(every, "a sweep"))
    if overrides is not None:
        found |= overrides.mapping(every, "a sweep")
    if "models" not in found:
        where = document.where if document is not None else "the sweep"
        raise SweepError(f"{where}: the key models is missing; list the networks, such as resnet18")
    return _Reader(found).axes()


class _Reader:
    """Makes axes of the values of keys."""

    def __init__(self, found: Mapping[str, Value]) -> None:
        self.found = found
        self.data = self._of("data", _text, None)
        self.images = self._of("images", _whole(1), NUM_IMAGES)

    def axes(self) -> Axes:
        default = Axes(())
        measure = self._several("measure", _one_of(KINDS), default.measure)
        if ACCURACY in measure and self.data is None:
            raise self.found["measure"].error("accuracy needs the key data: digits, a folder, or FILE.py:FUNCTION")
        return Axes(
            models=tuple(self._models()),
            amounts=tuple(self._amounts()),
            masks=tuple(self._masks()),
            objectives=self._several("objectives", _objective, default.objectives),
            methods=self._several("methods", _method, default.methods),
            conditions=tuple(self._conditions()),
            seeds=self._several("seeds", _whole(0, 2**32 - 1), default.seeds),
            measure=measure,
            time_limit=self._of("time_limit", _real(1e-3), default.time_limit),
            verify=self._of("verify", _flag, default.verify),
            tables=self._of("tables", _text, None),
            repeats=self._of("repeats", _whole(2), None),
            data=self.data if ACCURACY in measure else None,
            training=self._training(),
            threads=self._of("threads", _whole(1), default.threads),
        )

    def _of(self, key: str, check: Callable[[Value], Any], default: Any) -> Any:
        given = self.found.get(key)
        return default if given is None or given.content is None else check(given)

    def _several(self, key: str, check: Callable[[Value], Any], default: Any) -> Any:
        return tuple(dict.fromkeys(map(check, self._entries(key)))) or default

    def _entries(self, key: str) -> tuple[Value, ...]:
        """The entries of a list; none if the key is missing."""
        given = self.found.get(key)
        if given is not None and not given.items:
            raise given.error("give at least one value, or leave the key out")
        return () if given is None else given.items

    def _models(self) -> Iterator[Model]:
        weights = self._of("weights", _text, None)
        shape = self._of("input_shape", _shape, Model("").input_shape)
        for own in self._entries("models"):
            if isinstance(own.content, str):
                yield Model(_text(own), weights, shape)
                continue
            inner = own.mapping(MODEL_KEYS, "a model")
            if "name" not in inner:
                raise own.error("a model needs the key name")
            given = inner.get("weights")
            yield Model(
                _text(inner["name"]),
                weights if given is None else None if given.content is None else _text(given),
                _shape(inner["input_shape"]) if "input_shape" in inner else shape,
            )

    def _amounts(self) -> Iterator[str]:
        given = self.found.get("amounts")
        if given is not None and isinstance(given.content, dict):
            yield from _range(given)
            return
        yield from self._several("amounts", _amount, Axes(()).amounts)

    def _masks(self) -> Iterator[Masking]:
        for own in self._entries("masks") or (Value({}, ""),):
            if isinstance(own.content, str):
                yield self._masking(own, "input", "local")
                continue
            inner = own.mapping(MASK_KEYS, "masks")
            if self.data is None and "only_with_data" in inner and _flag(inner["only_with_data"]):
                continue
            importances = inner["importance"].items if "importance" in inner else (Value("l2", own.file),)
            modes = [_one_of(MODES)(value) for value in inner["mode"].items] if "mode" in inner else ["input"]
            scopes = [_one_of(SCOPES)(value) for value in inner["scope"].items] if "scope" in inner else ["local"]
            for importance, mode, scope in product(importances, modes, scopes):
                yield self._masking(importance, mode, scope)

    def _masking(self, importance: Value, mode: str, scope: str) -> Masking:
        from upscale_opt.importance.registry import importance_named

        try:
            found = importance_named(_text(importance))
        except UpscaleError as error:
            raise SweepError(f"{importance.where}: {importance.key}: {error}") from error
        if not found.needs_data:
            return Masking(found.name, mode, scope)
        if self.data is None:
            raise importance.error("it looks at images; add the key data: digits, a folder, or FILE.py:FUNCTION")
        return Masking(found.name, mode, scope, self.data, self.images)

    def _conditions(self) -> Iterator[Condition]:
        from upscale_opt.latency.backends import BACKENDS
        from upscale_opt.models.precisions import PRECISIONS

        checks: dict[str, Callable[[Value], Any]] = {
            "device": _device,
            "dtype": _one_of(PRECISIONS),
            "batch": _whole(1),
            "memory_format": _one_of(MEMORY_FORMATS),
            "backend": _one_of(BACKENDS),
            "threads": _whole(1),
        }
        for own in self._entries("conditions") or (Value({}, ""),):
            inner = own.mapping(checks, "conditions")
            chosen = [
                [(name, check(value)) for value in inner[name].items if value.content is not None]
                for name, check in checks.items()
                if name in inner
            ]
            for combination in product(*(own or [("backend", None)] for own in chosen)):
                yield Condition(**dict(combination))

    def _training(self) -> Training:
        given = self.found.get("training")
        if given is None:
            return Training()
        checks: dict[str, Callable[[Value], Any]] = {
            "epochs": _whole(0),
            "lr": _real(1e-12),
            "momentum": _real(0),
            "weight_decay": _real(0),
            "batch_size": _whole(1),
            "schedule": _one_of(("cosine", "constant")),
            "warmup": _real(0),
        }
        return Training(**{name: checks[name](value) for name, value in given.mapping(checks, "training").items()})


def _range(given: Value) -> Iterator[str]:
    """Amounts from, to, step, as exact decimals."""
    inner = given.mapping({"from": "", "to": "", "step": ""}, "a range of amounts")
    for name in ("from", "to", "step"):
        if name not in inner:
            raise SweepError(f"{given.where}: {given.key} lacks {name}; a range of amounts has from, to and step")
    first, last, step = (Fraction(_amount(inner[name])) for name in ("from", "to", "step"))
    if step <= 0 or last < first:
        raise SweepError(f"{given.where}: {given.key} is empty; give from <= to, and a step above 0")
    for number in range(int((last - first) / step) + 1):
        yield _decimal(first + number * step)


def _decimal(amount: Fraction) -> str:
    """An amount as the shortest exact decimal."""
    text = f"{float(amount):.12f}".rstrip("0")
    return text if not text.endswith(".") else text + "0"


def _amount(value: Value) -> str:
    if isinstance(value.content, bool) or not isinstance(value.content, (int, float, str)):
        raise value.error("give the share of channels to remove, such as 0.5")
    try:
        return _decimal(require_amount(value.content))
    except UpscaleError as error:
        raise SweepError(f"{value.where}: {value.key}: {error}") from error


def _text(value: Value) -> str:
    if not isinstance(value.content, str) or not value.content or "\0" in value.content:
        raise value.error("give a name")
    return value.content


def _flag(value: Value) -> bool:
    if not isinstance(value.content, bool):
        raise value.error("give true or false")
    return value.content


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[Value], int]:
    def check(value: Value) -> int:
        if isinstance(value.content, bool) or not isinstance(value.content, int) or not least <= value.content <= most:
            raise value.error(f"give a whole number from {least} to {most}")
        return value.content

    return check


def _real(least: float) -> Callable[[Value], float]:
    def check(value: Value) -> float:
        given = value.content
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not least <= given < 1e9:
            raise value.error(f"give a number from {least:g} on")
        return float(given)

    return check


def _one_of(allowed: Collection[str]) -> Callable[[Value], str]:
    def check(value: Value) -> str:
        if not isinstance(value.content, str) or value.content not in allowed:
            near = difflib.get_close_matches(str(value.content), list(allowed), n=1)
            raise value.error(f"did you mean {near[0]}?" if near else f"choose from {', '.join(allowed)}")
        return value.content

    return check


def _objective(value: Value) -> str:
    from problems import OBJECTIVES

    return _one_of(tuple(OBJECTIVES))(value)


def _method(value: Value) -> str:
    from solvers import solver_names

    return _one_of(tuple(solver_names()))(value)


def _device(value: Value) -> str:
    text = _text(value)
    kind, _, number = text.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise value.error("choose cpu, cuda or cuda:N")
    return text


def _shape(value: Value) -> tuple[int, ...]:
    sizes = value.items if isinstance(value.content, tuple) else ()
    if isinstance(value.content, str):
        sizes = tuple(
            Value(int(part) if part.strip().isdecimal() else part, value.file, value.key, value.line)
            for part in value.content.split(",")
        )
    if not sizes:
        raise value.error("give a list of sizes, such as [1, 3, 224, 224]")
    return tuple(_whole(1)(size) for size in sizes)


def number_of_kinds(found: list[cells.Cell]) -> str:
    """How many cells there are of every kind, for a message.

    Examples
    --------
    >>> number_of_kinds(cells.cells_of(Axes((Model("a"),), amounts=("0.3", "0.5"))))
    '4 cells (4 orders)'
    """
    counts = [f"{sum(cell.kind == kind for cell in found)} {kind}" for kind in KINDS]
    return f"{len(found)} cells ({', '.join(own for own in counts if not own.startswith('0 '))})"
