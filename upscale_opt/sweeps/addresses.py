"""The address of a cell: a digest of everything that decides its figures.

That is the cell itself, the versions of this package and of what computes, and the contents of the files that it names:
a model in a Python file, a checkpoint, data, cost tables. Names of files do not count, so a sweep may move to another
folder or machine. Of a folder of images, names and sizes count. What such files import themselves does not count.

A latency also depends on the machine: its processor and number of cores, or its GPU.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from problems.files import read_bytes
from upscale_opt.latency.environment import processor
from upscale_opt.models.python_files import in_file
from upscale_opt.sweeps.cells import LATENCY, Cell

PACKAGES = ("upscale-opt", "torch", "torchvision", "ortools", "numpy", "scipy")
FORMAT = 1


class Addresses:
    """Computes addresses. A file is read once, and again if it was written since; a folder is read once."""

    def __init__(self) -> None:
        self._contents: dict[str, str] = {}
        self._versions = versions()

    def of(self, cell: Cell) -> str:
        """The address: 64 hexadecimal digits.

        Raises
        ------
        ProblemError
            If a file that the cell names cannot be read.
        """
        document = cell.to_dict()
        document["model"]["name"] = self._named(cell.model.name)
        document["model"]["weights"] = self._weights(cell.model.weights)
        document["data"] = self._data(cell.data)
        document["masking"]["data"] = self._data(cell.masking.data)
        document["tables"] = None if cell.tables is None else self._folder(Path(cell.tables), contents=True)
        decided_by: dict[str, Any] = {"format": FORMAT, "cell": document, "versions": self._versions}
        if cell.model.name.startswith("timm:"):
            decided_by["timm"] = version_of("timm")
        if cell.kind == LATENCY:
            decided_by["machine"] = machine(cell.condition.device)
        text = json.dumps(decided_by, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _named(self, name: str) -> str:
        """A name; of a function in a Python file, the function and the content of the file."""
        own = in_file(name)
        return name if own is None else f"{self._file(own[0])}:{own[1]}"

    def _weights(self, weights: str | None) -> str | None:
        return weights if weights in (None, "DEFAULT") else self._file(Path(weights))

    def _data(self, name: str | None) -> str | None:
        if name is None or in_file(name) is not None:
            return name and self._named(name)
        return self._folder(Path(name), contents=False) if Path(name).is_dir() else name

    def _file(self, path: Path) -> str:
        try:
            state = path.stat()
        except OSError:
            return hashlib.sha256(read_bytes(path)).hexdigest()  # raises the error
        return self._once(
            f"{path} {state.st_mtime_ns} {state.st_size}", lambda: hashlib.sha256(read_bytes(path)).hexdigest()
        )

    def _folder(self, path: Path, *, contents: bool) -> str:
        return self._once(f"{path}/{contents}", lambda: _folder_digest(path, contents=contents))

    def _once(self, key: str, digest: Any) -> str:
        if key not in self._contents:
            self._contents[key] = digest()
        return self._contents[key]


def _folder_digest(path: Path, *, contents: bool) -> str:
    digest = hashlib.sha256()
    for own in sorted(own for own in path.rglob("*") if own.is_file()):
        inner = hashlib.sha256(read_bytes(own)).hexdigest() if contents else own.stat().st_size
        digest.update(f"{own.relative_to(path)} {inner}\n".encode())
    return digest.hexdigest()


def version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions of `PACKAGES`."""
    return {package: version_of(package) for package in PACKAGES}


@functools.cache
def machine(device: str) -> str:
    """What a latency on a device depends on: the processor and its cores, or the GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "no GPU"
    return f"{processor()}, {os.cpu_count()} cores"
