"""The reconstruction database: the weight of every layer at every level, repaired on the dense model's activations.

Levels are made in the order of their sparsity, each from the one before, so that masks nest. Every step is kept on disk
as it is made; a run that was killed goes on where it was and finds the same numbers.
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
from tqdm import tqdm

from problems.files import write_bytes_atomically
from upscale_opt.errors import MaskError
from upscale_opt.models.attributes import attribute_of
from upscale_opt.spdy.adaprune import adaprune, layer_errors
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import frozen_copy, state_digest
from upscale_opt.spdy.least_squares import RIDGE, Moments, moments_of
from upscale_opt.spdy.prunable_layers import PrunableLayer

ADAPRUNE, LEAST_SQUARES = "adaprune", "least-squares"
RECONSTRUCTIONS = (ADAPRUNE, LEAST_SQUARES)
FREE_SPACE = 64 * 2**20
"""Bytes that a disk must have left beside a step."""


@dataclass(frozen=True)
class Repair:
    """How weights are repaired.

    Parameters
    ----------
    method
        ``adaprune`` or ``least-squares``.
    learning_rate, batch_size, passes
        Of AdaPrune: Adam's, images per step, times through the data per level. The authors' values.
    ridge
        Of least squares; see `upscale_opt.spdy.least_squares.Moments.solve`.
    seed
        Shuffles the images for AdaPrune.

    Raises
    ------
    MaskError
        If a value makes no sense.
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
        Which channels are kept; bool of shape (channels,).
    columns
        The weight of those, shape (outputs, kept, *kernel), on the CPU.
    mask_only_error
        ||layer(x; W) - y||^2 / ||y||^2 on the calibration data with the dense weight, the others dropped.
    error
        The same with this weight; never more.
    """

    kept: np.ndarray
    columns: torch.Tensor
    mask_only_error: float
    error: float

    @property
    def weight(self) -> torch.Tensor:
        """The whole weight, dropped columns zero."""
        shape = list(self.columns.shape)
        shape[1] = len(self.kept)
        whole = torch.zeros(shape, dtype=self.columns.dtype)
        whole[:, torch.from_numpy(self.kept)] = self.columns
        return whole


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """The database.

    Attributes
    ----------
    layers
        The layers it is of.
    levels
        Name of the layer and number of kept channels to the level; the dense one is not among them.
    """

    layers: tuple[PrunableLayer, ...]
    levels: Mapping[tuple[str, int], Level] = field(default_factory=dict)

    def mask(self, layer: PrunableLayer, kept: int) -> np.ndarray:
        """Which channels a layer keeps at a level; bool of shape (channels,)."""
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
    progress: bool = False,
) -> Reconstructions:
    """Make the database: per level drop the columns of smallest L2 norm, and repair the others.

    The norms are those of the repaired weight of the level before (warm start), so masks nest. All layers of a level
    are repaired in the same runs of the dense model, against its own inputs and outputs. Levels of a layer that keep
    equally many channels are one.

    Parameters
    ----------
    model
        Dense; it is not changed.
    layers
        Of `prunable_layers`.
    levels
        Per layer, by name, its sparsities.
    data
        Images; labels do not matter.
    repair
        How. Default: AdaPrune with the authors' values.
    directory
        Where steps are kept, made if needed; a database of anything else there is refused. Default: in memory only.
    progress
        Show a progress bar with the time left on standard error.

    Raises
    ------
    MaskError
        If the directory holds something else, or cannot be written.

    Notes
    -----
    SPDY, Frantar and Alistarh, ICML 2022.
    """
    repair = repair or Repair()
    dense = frozen_copy(model)
    store = _Store(directory, _fingerprint(dense, layers, levels, data, repair))
    weights = {layer.name: attribute_of(dense, layer.weight).detach() for layer in layers}
    current: dict[str, Level] = {}
    found: dict[tuple[str, int], Level] = {}
    moments: Mapping[str, Moments] = {}
    steps = sorted({sparsity for own in levels.values() for sparsity in own if sparsity > 0})
    bar = tqdm(steps, desc="reconstruct", unit="level", disable=None if progress else True, leave=False)
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
    """One level of several layers."""
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
        better = after <= worse  # Adam may overshoot, and NaN is no weight
        chosen = repaired[name] if better else mask_only[name]
        columns = chosen[:, torch.from_numpy(mask).to(chosen.device)].cpu().contiguous()
        result[name] = Level(mask, columns, worse, after if better else worse)
    return result


def strongest(weight: torch.Tensor, before: np.ndarray, count: int) -> np.ndarray:
    """The `count` columns of largest L2 norm among those kept before; of equals, the first ones are dropped.

    Parameters
    ----------
    weight
        Shape (outputs, columns, *kernel).
    before
        Which columns there are to choose from; bool of shape (columns,).
    count
        How many to keep.
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
    """Steps on disk, one safetensors file each, marked with the fingerprint of what they are of."""

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
        """A step that was made before; None if it was not."""
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
        """Keep a step, in one piece."""
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
    """SHA-256 of all that the numbers depend on: model, layers and levels, data, method and seed."""
    about: dict[str, Any] = {own.name: list(map(float, levels[own.name])) for own in layers}
    text = json.dumps([about, asdict(repair), data.fingerprint, state_digest(dense)])
    return hashlib.sha256(text.encode()).hexdigest()
