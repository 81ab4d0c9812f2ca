"""The reconstruction database: the weight of every layer at every level, repaired on the dense model's activations.

Levels are made in the order of their sparsity. Each starts from the previous level, so the masks are nested. Every step
is stored on disk at once. A killed run resumes there and finds the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from problems.files import write_bytes_atomically
from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.errors import MaskError
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.digests import state_digest
from upscale_opt.spdy.adaprune import adaprune, layer_errors
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import frozen_copy
from upscale_opt.spdy.least_squares import RIDGE, Moments, moments_of
from upscale_opt.spdy.prunable_layers import PrunableLayer

ADAPRUNE, LEAST_SQUARES = "adaprune", "least-squares"
RECONSTRUCTIONS = (ADAPRUNE, LEAST_SQUARES)
FREE_SPACE = 64 * 2**20
"""Free bytes that must remain on a disk after a step is stored."""


@dataclass(frozen=True)
class Repair:
    """Settings of the repair of weights.

    Parameters
    ----------
    method
        ``adaprune`` or ``least-squares``.
    learning_rate, batch_size, passes
        For AdaPrune: learning rate of Adam, images per step, and passes through the data per level. The defaults are
        the authors' values.
    ridge
        For least squares; see `upscale_opt.spdy.least_squares.Moments.solve`.
    seed
        Seed that shuffles the images for AdaPrune.

    Raises
    ------
    MaskError
        If a value is invalid.
    """

    method: str = ADAPRUNE
    learning_rate: float = 1e-3
    batch_size: int = 32
    passes: int = 10
    ridge: float = RIDGE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in RECONSTRUCTIONS:
            raise MaskError(f"there is no reconstruction {self.method!r}; choose from {', '.join(RECONSTRUCTIONS)}")
        if not (self.learning_rate > 0 and self.batch_size >= 1 and self.passes >= 0 and self.ridge >= 0):
            raise MaskError(
                f"learning_rate {self.learning_rate}, batch_size {self.batch_size}, passes {self.passes} and ridge "
                f"{self.ridge} make no sense together; give more than 0, at least 1, and from 0 on"
            )
        if self.seed < 0:
            raise MaskError(f"the seed is {self.seed}; give a whole number from 0 on")


@dataclass(frozen=True, eq=False)
class Level:
    """The weight of one layer with some input channels dropped.

    Attributes
    ----------
    kept
        The kept channels; bool of shape (channels,).
    columns
        The weight of the kept channels, shape (outputs, kept, *kernel), on the CPU.
    mask_only_error
        ||layer(x; W) - y||^2 / ||y||^2 on the calibration data with the dense weight, where the other channels are
        dropped.
    error
        The same error with this weight. It is never larger.
    """

    kept: np.ndarray
    columns: torch.Tensor
    mask_only_error: float
    error: float

    @property
    def weight(self) -> torch.Tensor:
        """The whole weight, where dropped columns are zero."""
        shape = list(self.columns.shape)
        shape[1] = len(self.kept)
        whole = torch.zeros(shape, dtype=self.columns.dtype)
        whole[:, torch.from_numpy(self.kept)] = self.columns
        return whole


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """The reconstruction database.

    Attributes
    ----------
    layers
        The layers in the database.
    levels
        Layer name and number of kept channels to the level. The dense level is not included.
    """

    layers: tuple[PrunableLayer, ...]
    levels: Mapping[tuple[str, int], Level] = field(default_factory=dict)

    def mask(self, layer: PrunableLayer, kept: int) -> np.ndarray:
        """The channels that a layer keeps at a level; bool of shape (channels,)."""
        if kept == layer.channels:
            return np.ones(kept, dtype=bool)
        return self.levels[layer.name, kept].kept

    def __str__(self) -> str:
        return f"{len(self.levels)} reconstructed levels of {len(self.layers)} layers"


def reconstruct(
    model: nn.Module,
    layers: Sequence[PrunableLayer],
    levels: Mapping[str, Sequence[float]],
    data: CalibrationData,
    repair: Repair | None = None,
    *,
    directory: str | Path | None = None,
    progress: ShowProgress = None,
) -> Reconstructions:
    """Make the database: at each level, drop the columns with the smallest L2 norm, and repair the other columns.

    The norms are of the repaired weight of the previous level (warm start), so masks are nested. All layers of a level
    are repaired in the same runs of the dense model, against its inputs and outputs. Levels of a layer that keep
    equally many channels are one level.

    Parameters
    ----------
    model
        The dense model. It is not changed.
    layers
        Layers from `prunable_layers`.
    levels
        Layer name to its sparsities.
    data
        Calibration images. The labels are not used.
    repair
        Settings of the repair. Default: AdaPrune with the authors' values.
    directory
        Directory where steps are stored. It is created if necessary. A database of another run there is an error.
        Default: in memory only.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    MaskError
        If the directory has a database of another run, or cannot be written.

    Notes
    -----
    Source: SPDY, Frantar and Alistarh, ICML 2022.
    """
    repair = repair or Repair()
    dense = frozen_copy(model)
    store = _Store(directory, _fingerprint(dense, layers, levels, data, repair))
    weights = {layer.name: attribute_of(dense, layer.weight).detach() for layer in layers}
    current: dict[str, Level] = {}
    found: dict[tuple[str, int], Level] = {}
    moments: Mapping[str, Moments] = {}
    steps = sorted({sparsity for own in levels.values() for sparsity in own if sparsity > 0})
    bar = ProgressBar("reconstruct", steps, unit="level", progress=progress)
    for step, sparsity in enumerate(bar):
        counts = {own.name: own.kept(sparsity) for own in layers if sparsity in levels[own.name]}
        known = {own.name: int(current[own.name].kept.sum()) if own.name in current else own.channels for own in layers}
        active = {name: count for name, count in counts.items() if count < known[name]}
        if not active:
            continue
        made = store.load(step)
        if made is None:
            if repair.method == LEAST_SQUARES and not moments:
                moments = moments_of(dense, weights, data, batch_size=repair.batch_size)
            made = _step(dense, weights, current, active, data, repair, step, moments)
            store.save(step, made)
        current |= made
        found |= {(name, int(level.kept.sum())): level for name, level in made.items()}
    return Reconstructions(tuple(layers), found)


def _step(
    dense: nn.Module,
    weights: Mapping[str, torch.Tensor],
    current: Mapping[str, Level],
    counts: Mapping[str, int],
    data: CalibrationData,
    repair: Repair,
    step: int,
    moments: Mapping[str, Moments],
) -> dict[str, Level]:
    """Make one level of several layers."""
    start, masks = {}, {}
    for name, count in counts.items():
        warm = current[name].weight.to(weights[name]) if name in current else weights[name]
        before = current[name].kept if name in current else np.ones(warm.shape[1], dtype=bool)
        masks[name] = strongest(warm, before, count)
        start[name] = _dropped(warm, masks[name])
    mask_only = {name: _dropped(weights[name], mask) for name, mask in masks.items()}
    if repair.method == LEAST_SQUARES:
        repaired = {name: moments[name].solve(weights[name], masks[name], repair.ridge) for name in counts}
        errors = {
            name: tuple(moments[name].error(own, weights[name]) for own in (mask_only[name], repaired[name]))
            for name in counts
        }
    else:
        seed = int(np.random.SeedSequence([repair.seed, step]).generate_state(1)[0])
        repaired = adaprune(
            dense,
            start,
            data,
            torch.Generator().manual_seed(seed),
            learning_rate=repair.learning_rate,
            batch_size=repair.batch_size,
            passes=repair.passes,
        )
        both = {name: (mask_only[name], repaired[name]) for name in counts}
        errors = layer_errors(dense, both, data, batch_size=repair.batch_size)
    result = {}
    for name, mask in masks.items():
        worse, after = errors[name]
        better = after <= worse  # Adam may diverge or give NaN
        chosen = repaired[name] if better else mask_only[name]
        columns = chosen[:, torch.from_numpy(mask).to(chosen.device)].cpu().contiguous()
        result[name] = Level(mask, columns, worse, after if better else worse)
    return result


def strongest(weight: torch.Tensor, before: np.ndarray, count: int) -> np.ndarray:
    """The `count` kept columns with the largest L2 norm. Of equal columns, the first ones are dropped.

    Parameters
    ----------
    weight
        Shape (outputs, columns, *kernel).
    before
        The columns to choose from; bool of shape (columns,).
    count
        Number of columns to keep.
    """
    norms = weight.detach().double().movedim(1, 0).flatten(1).norm(dim=1).cpu().numpy()
    order = np.argsort(np.where(before, norms, -1.0), kind="stable")
    mask = np.ones(len(norms), dtype=bool)
    mask[order[: len(norms) - count]] = False
    return mask


def _dropped(weight: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    result = weight.clone()
    result[:, torch.from_numpy(~mask).to(weight.device)] = 0
    return result


class _Store:
    """Steps on disk, one safetensors file per step. Each file has the fingerprint of its run."""

    def __init__(self, directory: str | Path | None, fingerprint: str) -> None:
        self._directory = None if directory is None else Path(directory)
        self._fingerprint = fingerprint
        if self._directory is not None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MaskError(
                    f"cannot write reconstructions to {directory}: {error.strerror}; choose another directory"
                ) from error

    def load(self, step: int) -> dict[str, Level] | None:
        """A step that was stored before, or None."""
        if self._directory is None or not self._path(step).exists():
            return None
        path = self._path(step)
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["upscale_opt"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise MaskError(f"{path} cannot be read as a step of reconstructions; delete it") from error
        if about["fingerprint"] != self._fingerprint:
            raise MaskError(
                f"{self._directory} holds reconstructions of another model, data, seed or method; delete it or choose "
                "another directory"
            )
        return {
            name: Level(tensors[f"{name}.kept"].numpy(), tensors[f"{name}.columns"], *errors)
            for name, errors in about["errors"].items()
        }

    def save(self, step: int, levels: Mapping[str, Level]) -> None:
        """Store a step, atomically."""
        if self._directory is None:
            return
        tensors: dict[str, torch.Tensor] = {}
        for name, level in levels.items():
            tensors |= {f"{name}.kept": torch.from_numpy(level.kept), f"{name}.columns": level.columns}
        errors = {name: [level.mask_only_error, level.error] for name, level in levels.items()}
        about = json.dumps({"fingerprint": self._fingerprint, "errors": errors})
        content = save(tensors, {"upscale_opt": about})
        if shutil.disk_usage(self._directory).free < len(content) + FREE_SPACE:
            raise MaskError(f"the disk of {self._directory} is full; free some space, and the run will go on from here")
        write_bytes_atomically(content, self._path(step))

    def _path(self, step: int) -> Path:
        assert self._directory is not None
        return self._directory / f"step-{step:03d}.safetensors"


def _fingerprint(
    dense: nn.Module,
    layers: Iterable[PrunableLayer],
    levels: Mapping[str, Sequence[float]],
    data: CalibrationData,
    repair: Repair,
) -> str:
    """SHA-256 of everything that the numbers depend on: model, layers and levels, data, method and seed."""
    about: dict[str, Any] = {own.name: list(map(float, levels[own.name])) for own in layers}
    text = json.dumps([about, asdict(repair), data.fingerprint, state_digest(dense)])
    return hashlib.sha256(text.encode()).hexdigest()
