"""Checkpoints: the complete state of a training run, so it can resume exactly. One file, without arbitrary pickles."""

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
    """A training run at the end of an epoch.

    Attributes
    ----------
    settings
        The settings of the run, as text by name. A run resumes only with the same settings.
    phase, epoch
        Index of the recipe, and the number of its finished epochs.
    model, optimiser, method
        State dictionaries. `method` is the state of the pruning method.
    log
        One dictionary per epoch so far.
    random
        States of the random number generators (`random_state`), and of the generator for the order of the images
        (``images``).
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
        """Write the checkpoint atomically. If the program is killed, either the old or the new file exists, complete.

        Raises
        ------
        LearningError
            If the path cannot be written.
        """
        write_state({**vars(self), "settings": dict(self.settings)}, path)


def require_same(stored: Mapping[str, str], settings: Mapping[str, str], directory: str | Path) -> None:
    """Raise an error unless the resumed run has the same settings as the stopped one.

    Parameters
    ----------
    stored, settings
        The settings of the stopped run, and the current ones.
    directory
        The directory of the checkpoint.

    Raises
    ------
    LearningError
        If the settings differ. The message names the first difference.
    """
    for name in sorted({*stored, *settings}):
        before, now = stored.get(name), settings.get(name)
        if before != now:
            raise LearningError(
                f"the training in {directory} was started with {name} {before}, not {now}; resume it with the same "
                "options, or choose another directory"
            )


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint. Nothing in it is executed (``weights_only=True``).

    Raises
    ------
    LearningError
        If the file cannot be read or is not a checkpoint.
    """
    document = read_state(path)
    if set(document) != _KEYS:
        raise LearningError(f"{path} is no checkpoint of a training; choose another directory")
    return Checkpoint(**document)


def write_state(document: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors and plain values to a file. The write is atomic.

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
    """Read the output of `write_state`, on the CPU.

    Raises
    ------
    LearningError
        If the file cannot be read or is not a checkpoint.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LearningError(f"cannot read {path}: {error.strerror}; start without resuming") from error
    except Exception as error:  # torch.load raises many types of errors for broken content
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
    """A context in which the global generators may be seeded. Their states are restored at the end."""
    before = random_state()
    try:
        yield
    finally:
        restore_random_state(before)
