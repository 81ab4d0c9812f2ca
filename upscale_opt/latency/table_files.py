"""Files of measured tables: one per set of conditions, a row per line, shared by processes; no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from problems import ProblemError
from problems.files import locked, read_json, reject_unknown_fields, require_field, write_text_atomically
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import Conditions

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class TableFile:
    """A kind of file.

    Attributes
    ----------
    file_format, version
        Its fields ``format`` and ``version``.
    prefix
        What its names begin with.
    rows
        The field that holds its rows.
    what
        What is in it, for messages.
    """

    file_format: str
    version: int
    prefix: str
    rows: str
    what: str

    def path(self, directory: str | Path, conditions: Conditions) -> Path:
        """The file of these conditions in a directory."""
        return Path(directory) / f"{self.prefix}-{conditions.file_name}"

    def read(self, directory: str | Path, conditions: Conditions, entry: Callable[[Any], Entry]) -> list[Entry]:
        """The entries of a file; none if there is no file.

        Parameters
        ----------
        directory, conditions
            Where it is.
        entry
            Makes an entry of a row, or raises `ProblemError`.

        Raises
        ------
        UpscaleError
            If there is a file but it cannot be read; the message names the field that is wrong.
        """
        path, what = self.path(directory, conditions), f"the {self.what}"
        if not path.exists():
            return []
        try:
            document = read_json(path, file_format=self.file_format, version=self.version)
            reject_unknown_fields(document, ("format", "version", "conditions", self.rows), what)
            if require_field(document, "conditions", dict, what) != conditions.to_dict():
                raise ProblemError(f"{what} are of other conditions than the file's name says")
            return [entry(row) for row in require_field(document, self.rows, list, what)]
        except ProblemError as error:
            raise UpscaleError(f"{path}: {error}; delete the file and calibrate again") from error

    def write(
        self, directory: str | Path, conditions: Conditions, rows: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> Path:
        """Write a file, atomically; returns its path.

        Parameters
        ----------
        directory, conditions
            Where it will be.
        rows
            Makes the rows. It is called while no other process writes, so it may read what is there and take it in.

        Raises
        ------
        UpscaleError
            If it cannot be written, or what is there cannot be read.
        """
        path = self.path(directory, conditions)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path):
                head = {"format": self.file_format, "version": self.version, "conditions": conditions.to_dict()}
                lines = ",\n".join(json.dumps(row) for row in rows())
                write_text_atomically(f'{json.dumps(head)[:-1]}, "{self.rows}": [\n{lines}\n]}}\n', path)
        except (OSError, ProblemError) as error:
            raise UpscaleError(f"cannot write {self.what} to {path}: {error}; choose another --tables DIR") from error
        return path
