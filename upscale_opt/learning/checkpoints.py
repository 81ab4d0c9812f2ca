"""Checkpoints: all that a training needs to go on as if it had never stopped, in one file without arbitrary pickles."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from problems import ProblemError
from problems.files import write_bytes_atomically
from upscale_opt.errors import LearningError

FORMAT = 1
_KEYS = {"settings", "phase", "epoch", "model", "optimiser", "method", "log", "random"}


@dataclass(frozen=True)
class Checkpoint:
    """A training at the end of an epoch.

    Attributes
    ----------
    settings
        What was asked for, as text by name; a training goes on only with the same.
    phase, epoch
        Index of the recipe, and how many of its epochs are done.
    model, optimiser, method
        State dictionaries; `method` is what the pruning method remembers.
    log
        One dictionary per epoch so far.
    random
        States of the random number generators (`random_state`), and of the order of the images (``images``).
    """

    settings: Mapping[str, str]
    phase: int
    epoch: int
    model: Mapping[str, Any]
    optimiser: Mapping[str, Any]
    method: Mapping[str, Any]
    log: list[dict[str, Any]]
    random: Mapping[str, Any]

    def write(self, path: str | Path) -> None:
        """Write it in one step: whenever the program is killed, the old file or the new one is there, whole.

        Raises
        ------
        LearningError
            If the path cannot be written.
        """
        write_state({**vars(self), "settings": dict(self.settings)}, path)


def require_same(stored: Mapping[str, str], settings: Mapping[str, str], directory: str | Path) -> None:
    """Raise unless the training that goes on is the one that stopped.

    Parameters
    ----------
    stored, settings
        What was asked for then, and now.
    directory
        Where the checkpoint is.

    Raises
    ------
    LearningError
        If something else is asked for; the message names the first difference.
    """
    for name in sorted({*stored, *settings}):
        before, now = stored.get(name), settings.get(name)
        if before != now:
            raise LearningError(
                f"the training in {directory} was started with {name} {before}, not {now}; resume it with the same "
                "options, or choose another directory"
            )


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed (``weights_only=True``).

    Raises
    ------
    LearningError
        If it cannot be read or is something else.
    """
    document = read_state(path)
    if set(document) != _KEYS:
        raise LearningError(f"{path} is no checkpoint of a training; choose another directory")
    return Checkpoint(**document)


def write_state(document: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors and plain values to a file in one step.

    Raises
    ------
    LearningError
        If the path cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **document}, buffer)
    try:
        write_bytes_atomically(buffer.getvalue(), path)
    except ProblemError as error:
        raise LearningError(str(error)) from error


def read_state(path: str | Path) -> dict[str, Any]:
    """What `write_state` wrote, on the CPU.

    Raises
    ------
    LearningError
        If it cannot be read or is something else.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LearningError(f"cannot read {path}: {error.strerror}; start without resuming") from error
    except Exception as error:  # torch.load raises whatever the broken content leads to
        raise LearningError(f"{path} is no checkpoint of a training; choose another directory") from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise LearningError(f"{path} is no checkpoint of this version; choose another directory")
    return document


def random_state() -> dict[str, Any]:
    """The states of the global generators of torch, NumPy and Python, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - what libraries draw from
    version, words, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.tensor(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), python_gauss],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators into the states that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


@contextmanager
def own_random_state() -> Iterator[None]:
    """Within, the global generators may be seeded; afterwards they go on as before."""
    before = random_state()
    try:
        yield
    finally:
        restore_random_state(before)
