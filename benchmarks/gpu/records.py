"""Rows of measurements: one line of JSON each, written at once, with device, versions and commit."""

from __future__ import annotations

import datetime
import functools
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LOG = "errors.log"


@dataclass(frozen=True)
class Records:
    """The files with rows in a directory.

    Attributes
    ----------
    out
        The directory, made when the first row is written.
    facts
        Columns of every row.
    """

    out: Path
    facts: Mapping[str, Any]

    def add(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to ``NAME.jsonl``."""
        self._append(f"{name}.jsonl", "".join(json.dumps({**row, **self.facts}) + "\n" for row in rows))

    def log(self, title: str, text: str) -> None:
        """Append a text to the log."""
        self._append(LOG, f"== {title}\n{text.rstrip()}\n")

    def _append(self, name: str, text: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / name).open("a") as file:
            file.write(text)


def save_tables(directory: Path, out: Path) -> None:
    """Write the cost tables to one file, ``tables.zip``. It replaces an earlier one."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "tables.zip.partial"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.glob("*.json")):
            archive.write(path, path.name)
    partial.replace(out / "tables.zip")


@functools.cache
def facts_of(device: str, commit: str) -> dict[str, Any]:
    """Device, versions, commit and date."""
    import torch

    on_gpu = device.startswith("cuda")
    versions = {name: _version(name) for name in ("torch", "triton", "ortools")}
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device,
        **versions,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "commit": commit,
        "date": str(datetime.date.today()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
