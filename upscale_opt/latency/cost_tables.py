"""Measured cost tables: the results of a calibration, as plain data with a file format. Does not import torch.

One file has all measurements under the same conditions (device, dtype, memory format, backend, threads, version). It
stores raw measurements. Solvers see isotonic curves of whole nanoseconds, which are made from them. Format:
docs/formats.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from problems import ProblemError
from problems.files import locked, read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.objectives import COPY, OVER_READ, PIECES
from problems.showing.reprs import shown
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.reading import CONTIGUOUS, KERNELS, Reading

FORMAT = "upscale_opt.cost_tables"
VERSION = 6
"""Every version measures differently, so tables of older versions are measured again."""
FORMS = (CONTIGUOUS, OVER_READ, PIECES, COPY)
SEARCH, TIMED = "search", "timed"
CACHE_VARIABLE = "UPSCALE_OPT_CACHE"


@dataclass(frozen=True)
class Conditions:
    """The conditions, besides shapes, on which latencies depend.

    Attributes
    ----------
    device
        Name of the processor.
    dtype
        Type of inputs and weights, such as ``float32``.
    memory_format
        ``contiguous`` or ``channels_last``.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    threads
        Number of torch threads on a CPU. 0 on a GPU.
    torch
        Version of torch.
    memory
        ``retained`` if the process keeps freed memory (`upscale_opt.latency.retained_memory`), else empty.
    tf32
        Where float32 is rounded to TF32 on a GPU (`upscale_opt.models.precisions.tf32_setting`): ``on``, ``off``,
        ``convolutions`` or ``products``. Empty for other dtypes, on a CPU, and in older tables, which have no such
        field.
    runtime
        Name and version of the runtime that computes, if it is not torch, and how parts ran in it: ``onnxruntime
        1.31.1, shared threads``. Empty for torch, and in older tables, which have no such field.
    """

    device: str
    dtype: str
    memory_format: str
    backend: str
    threads: int
    torch: str
    memory: str = ""
    tf32: str = ""
    runtime: str = ""

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads else ""
        memory = f", {self.memory} memory" if self.memory else ""
        dtype = f"{self.dtype} (TF32: {self.tf32})" if self.tf32 else self.dtype
        versions = f"torch {self.torch}{f', {self.runtime}' if self.runtime else ''}"
        return f"{self.device}, {dtype}, {self.memory_format}, {self.backend}{threads}{memory}, {versions}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. An empty TF32 setting and an empty runtime are left out, as in older files."""
        return {name: own for name, own in asdict(self).items() if own or name not in ("tf32", "runtime")}

    @property
    def file_name(self) -> str:
        """The file name for these conditions."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        words = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.device}-{self.dtype}-{self.memory_format}-{self.backend}")
        return f"{words.strip('-').lower()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"


@dataclass(frozen=True)
class Key:
    """The key of a table: a consumer's shape, the channels it keeps, and the channels its input stores."""

    layer: Layer
    kept: int
    stored: int

    def __str__(self) -> str:
        return f"{self.layer}: {self.kept} of {self.stored} channels"


@dataclass(frozen=True)
class Case:
    """One way to read channels, to be timed.

    Attributes
    ----------
    reading
        Its mode is ``contiguous``, ``over-read`` of a range (at full width: of all stored channels), ``pieces``, or
        ``copy``. It has no width, because `channels` is the width.
    channels
        Number of channels that the consumer reads.
    runs
        Number of contiguous runs of these channels, for ``pieces``. Otherwise 1.
    shifted
        Whether an ``over-read`` begins between two multiples of 8 channels. Otherwise it begins at a multiple.
    """

    reading: Reading
    channels: int
    runs: int = 1
    shifted: bool = False

    def __str__(self) -> str:
        kernel = f" {self.reading.kernel}" if self.reading.kernel else ""
        runs = f" in {self.runs} runs" if self.reading.mode == PIECES else ""
        shifted = " shifted" if self.shifted else ""
        return f"{'late ' if self.reading.late else ''}{self.reading.mode}{kernel} {self.channels}{runs}{shifted}"


class Detail(NamedTuple):
    """The effort of timing a shape, without the number of rounds.

    Attributes
    ----------
    spans, seconds, copies
        As in a calibration's effort (`upscale_opt.latency.calibration.Effort`).
    """

    spans: int
    seconds: float
    copies: int

    def with_all_care_of(self, other: Detail | None) -> Detail:
        """The larger effort of both, in every respect."""
        if other is None:
            return self
        return Detail(max(self.spans, other.spans), max(self.seconds, other.seconds), max(self.copies, other.copies))


@dataclass(frozen=True)
class Timing:
    """The timing of a case.

    Attributes
    ----------
    case
        The timed case.
    nanoseconds
        Nanoseconds per call, one value per round. The rounds of all cases are interleaved.
    """

    case: Case
    nanoseconds: tuple[int, ...]

    @property
    def median(self) -> float:
        """Median nanoseconds."""
        return float(np.median(self.nanoseconds))


_Measured = tuple[tuple[Timing, ...], Detail | None]


@shown
@dataclass(frozen=True, eq=False)
class CostTables:
    """All measurements under the same conditions.

    Attributes
    ----------
    conditions
        The conditions of the measurements.
    entries
        Key to timings.
    details
        Key to the effort of its timings, if known.
    made
        Number of timings made since the tables were loaded: ``timed``, whose figures are kept, and ``search``, which
        chose spans. A timing is one figure of one reading.
    """

    conditions: Conditions
    entries: dict[Key, tuple[Timing, ...]] = field(default_factory=dict)
    details: dict[Key, Detail] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _known: dict[Key, _Measured] = field(default_factory=dict, init=False, repr=False)

    def __str__(self) -> str:
        return f"{len(self.entries)} tables measured on {self.conditions}"

    def known(self, key: Key, detail: Detail) -> tuple[Timing, ...]:
        """The timings of a shape, if they were made with at least this effort. Otherwise none."""
        own = self.details.get(key)
        careful = own is not None and all(had >= wanted for had, wanted in zip(own, detail, strict=True))
        return self.entries.get(key, ()) if careful else ()

    def save(self, directory: str | Path) -> Path:
        """Write the file of these conditions to a directory, atomically. Returns its path.

        The directory is created if necessary. Other processes may have changed the file since it was last read or
        written here. Their changes are kept and also taken in. If both sides measured a shape, the fuller table is
        kept: more readings, then more effort, then more rounds. On ties, it is this one. The file is locked during the
        update.

        Raises
        ------
        UpscaleError
            If the file cannot be written, or the existing file cannot be read.
        """
        path = Path(directory) / self.conditions.file_name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path):
                self._take_in(CostTables.load(directory, self.conditions))
                write_text_atomically(self._text(), path)
                self._remember()
        except (OSError, ProblemError) as error:
            raise UpscaleError(f"cannot write cost tables to {path}: {error}; choose another --tables DIR") from error
        return path

    def _take_in(self, others: CostTables) -> None:
        """Merge the changes that other processes have made to the file since it was last read or written here."""
        for key in {**self._known, **others.entries}:
            known, theirs, own = self._known.get(key), others._measured(key), self._measured(key)
            both = theirs != known and own != known
            takes = others._fullness(key) > self._fullness(key) if both else theirs != known
            if takes:
                self._set(key, theirs)

    def _measured(self, key: Key) -> _Measured | None:
        """Timings and effort of one shape. None if it was not measured."""
        return (self.entries[key], self.details.get(key)) if key in self.entries else None

    def _set(self, key: Key, measured: _Measured | None) -> None:
        """Replace the measurement of one shape."""
        self.entries.pop(key, None)
        self.details.pop(key, None)
        if measured is not None:
            self.entries[key] = measured[0]
            if measured[1] is not None:
                self.details[key] = measured[1]

    def _remember(self) -> None:
        """Record the current state as the state of the file."""
        self._known.clear()
        self._known.update({key: (timings, self.details.get(key)) for key, timings in self.entries.items()})

    def _fullness(self, key: Key) -> tuple[int, Detail, int]:
        """Number of readings, effort, and number of rounds of a table. All zero for a missing table."""
        timings = self.entries.get(key, ())
        ways = {(own.case.reading, own.case.shifted) for own in timings}
        rounds = max((len(own.nanoseconds) for own in timings), default=0)
        return len(ways), self.details.get(key, Detail(0, 0.0, 0)), rounds

    def _text(self) -> str:
        """The text of the file."""
        rows = [
            {
                "layer": key.layer.to_dict(),
                "kept": key.kept,
                "stored": key.stored,
                "effort": self.details[key]._asdict() if key in self.details else None,
                "timings": list(map(_plain, timings)),
            }
            for key, timings in self.entries.items()
        ]
        head = json.dumps({"format": FORMAT, "version": VERSION, "conditions": self.conditions.to_dict()})[:-1]
        return f'{head}, "tables": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n"

    @classmethod
    def load(cls, directory: str | Path, conditions: Conditions) -> CostTables:
        """Load the tables of these conditions. Empty if there is no file, or if it is of an older version.

        Raises
        ------
        UpscaleError
            If the file exists but cannot be read. The message names the wrong field.
        """
        path = Path(directory) / conditions.file_name
        if not path.exists():
            return cls(conditions)
        try:
            document = read_json(path, file_format=FORMAT, version=VERSION)
            reject_unknown_fields(document, {"format", "version", "conditions", "tables"}, "the cost tables")
            if require_field(document, "conditions", dict, "the cost tables") != conditions.to_dict():
                raise ProblemError("the cost tables are of other conditions than the file's name says")
            if document["version"] != VERSION:
                return cls(conditions)
            found = list(map(_entry, require_field(document, "tables", list, "the cost tables")))
            seen: set[Key] = set()
            for key, _, _ in found:
                if key in seen:
                    raise ProblemError(f"there are two cost tables of {key}")
                seen.add(key)
            details = {key: detail for key, _, detail in found if detail is not None}
            loaded = cls(conditions, {key: timings for key, timings, _ in found}, details)
            loaded._remember()
            return loaded
        except ProblemError as error:
            raise UpscaleError(f"{path}: {error}; delete the file and calibrate again") from error


def default_directory() -> Path:
    """The directory of cost tables: ``$UPSCALE_OPT_CACHE``, or ``upscale_opt`` in the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upscale_opt"


def _plain(timing: Timing) -> dict[str, Any]:
    case = timing.case
    return {
        "form": case.reading.mode,
        "channels": case.channels,
        "runs": case.runs,
        "kernel": case.reading.kernel,
        "nanoseconds": list(timing.nanoseconds),
        "late": case.reading.late,
        "shifted": case.shifted,
    }


def _entry(raw: Any) -> tuple[Key, tuple[Timing, ...], Detail | None]:
    where = "a cost table"
    if not isinstance(raw, dict):
        raise ProblemError("a cost table must be an object")
    reject_unknown_fields(raw, {"layer", "kept", "stored", "effort", "timings"}, where)
    kept, stored = require_field(raw, "kept", int, where), require_field(raw, "stored", int, where)
    if not 1 <= kept <= stored:
        raise ProblemError(f"{where} keeps {kept} of {stored} channels")
    layer = Layer.from_dict(require_field(raw, "layer", dict, where))
    timings = tuple(_timing(own, stored) for own in require_field(raw, "timings", list, where))
    if not timings:
        raise ProblemError(f"{where} has no timings")
    if len({len(timing.nanoseconds) for timing in timings}) > 1:
        raise ProblemError(f"{where} has timings with different numbers of figures; every round makes one of each")
    effort = require_field(raw, "effort", (dict, type(None)), where)
    return Key(layer, kept, stored), timings, None if effort is None else detail_of(effort)


def detail_of(raw: dict[str, Any]) -> Detail:
    """The effort of a JSON object; raises `ProblemError` if it is wrong."""
    where = "the effort of a cost table"
    reject_unknown_fields(raw, set(Detail._fields), where)
    found = Detail(
        require_field(raw, "spans", int, where),
        float(require_field(raw, "seconds", (int, float), where)),
        require_field(raw, "copies", int, where),
    )
    if min(found) < 0:
        raise ProblemError(f"{where} has negative figures: {tuple(found)}")
    return found


def _timing(raw: Any, stored: int) -> Timing:
    where = "a timing"
    if not isinstance(raw, dict):
        raise ProblemError("a timing must be an object")
    reject_unknown_fields(raw, ("form", "channels", "runs", "kernel", "nanoseconds", "late", "shifted"), where)
    figures = require_field(raw, "nanoseconds", list, where)
    if not figures or not all(type(figure) is int and figure >= 0 for figure in figures):
        raise ProblemError(f"{where}: field 'nanoseconds' must list whole numbers, at least one")
    form, kernel = (require_field(raw, name, str, where) for name in ("form", "kernel"))
    channels, runs = (require_field(raw, name, int, where) for name in ("channels", "runs"))
    late, shifted = (require_field(raw, name, bool, where) if name in raw else False for name in ("late", "shifted"))
    if form not in FORMS or kernel not in ("", *KERNELS):
        raise ProblemError(
            f"{where}: fields 'form' and 'kernel' are {form!r} and {kernel!r}; forms are "
            f"{', '.join(FORMS)}, kernels {', '.join(KERNELS)} or empty"
        )
    if not 1 <= runs <= channels <= stored:
        raise ProblemError(f"{where}: it reads {channels} of {stored} channels in {runs} runs")
    return Timing(Case(Reading(form, kernel=kernel, late=late), channels, runs, shifted), tuple(figures))


def by_reading(timings: Iterable[Timing]) -> Mapping[Reading, list[Timing]]:
    """Group timings by their reading, in ascending order of channels and runs."""
    found: dict[Reading, list[Timing]] = {}
    for timing in sorted(timings, key=lambda own: (own.case.channels, own.case.runs)):
        found.setdefault(timing.case.reading, []).append(timing)
    return found
