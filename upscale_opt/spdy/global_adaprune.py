"""Global AdaPrune: trains a pruned model so that all its layers together reproduce the outputs of the dense layers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import frozen_copy, watched

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CHECKPOINTS = 10
_TINY = 1e-30


@dataclass(frozen=True)
class Tuning:
    """Settings of tuning the whole model. The defaults are the authors' values.

    Parameters
    ----------
    passes
        Number of passes through the data.
    learning_rate, batch_size
        Learning rate of Adam, and images per step.
    seed
        Seed that shuffles the images.

    Raises
    ------
    MaskError
        If a value is invalid.
    """

    passes: int = 100
    learning_rate: float = 1e-5
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0 or self.batch_size < 1 or not self.learning_rate > 0 or self.seed < 0:
            raise MaskError(
                f"passes {self.passes}, batch_size {self.batch_size}, learning_rate {self.learning_rate} and seed "
                f"{self.seed} make no sense together; give from 0, at least 1, more than 0, and from 0"
            )


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of global AdaPrune.

    Attributes
    ----------
    model
        The tuned model in eval mode. Dropped columns are exactly zero.
    error_before, error_after
        Sum over the layers of ||student - teacher||^2 / ||teacher||^2, as a mean over the batches of the data in order.
    """

    model: nn.Module
    error_before: float
    error_after: float

    def __str__(self) -> str:
        return f"layers' errors, summed: {self.error_before:.4g} before, {self.error_after:.4g} after global AdaPrune"


def global_adaprune(
    student: nn.Module,
    teacher: nn.Module,
    masks: Mapping[str, np.ndarray],
    data: CalibrationData,
    tuning: Tuning | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> Tuned:
    """Minimise the sum over all convolutions and linear layers of ||student - teacher||^2 / ||teacher||^2 per batch.

    All parameters of the student are trained, including biases and the parameters of BatchNorms. BatchNorm statistics
    do not change. The masks are applied again after every step.

    Parameters
    ----------
    student, teacher
        The stitched model and the dense model. Neither is changed.
    masks
        Weight name to Boolean array over dimension 1, True = kept.
    data
        Calibration images. The labels are not used.
    tuning
        Settings of the tuning.
    checkpoint
        A file from which an interrupted run resumes. It is written about ten times. Default: none.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    MaskError
        If the checkpoint is of another run or cannot be read.

    Notes
    -----
    Source: SPDY, Frantar and Alistarh, ICML 2022.
    """
    tuning = tuning or Tuning()
    dense, model = frozen_copy(teacher), frozen_copy(student)
    about = json.dumps([asdict(tuning), state_digest(dense), state_digest(model), data.fingerprint])
    fingerprint = hashlib.sha256(about.encode()).hexdigest()
    pair = _Pair(model, dense)
    before = pair.error(data, tuning.batch_size)
    parameters = [own for own in model.parameters() if own.is_floating_point()]
    dropped = [(attribute_of(model, name), torch.from_numpy(~mask)) for name, mask in masks.items()]
    with torch.inference_mode(False):
        for own in parameters:
            own.requires_grad_(True)
        optimiser = torch.optim.Adam(parameters, lr=tuning.learning_rate)
        first = _resume(checkpoint, fingerprint, parameters, optimiser)
        every = max(1, -(-tuning.passes // _CHECKPOINTS))
        rounds = range(first, tuning.passes)
        bar = ProgressBar("global AdaPrune", rounds, done=first, unit="pass", progress=progress)
        for number in bar:
            seed = int(np.random.SeedSequence([tuning.seed, number]).generate_state(1)[0])
            for inputs, _ in data.batches(tuning.batch_size, torch.Generator().manual_seed(seed)):
                optimiser.zero_grad()
                with torch.enable_grad():
                    pair.loss(inputs).backward()
                optimiser.step()
                with torch.no_grad():
                    for weight, columns in dropped:
                        weight[:, columns.to(weight.device)] = 0
            if (number + 1) % every == 0:
                _keep(checkpoint, fingerprint, number + 1, parameters, optimiser)
        for own in parameters:
            own.requires_grad_(False)
    return Tuned(model, before, pair.error(data, tuning.batch_size))


class _Pair:
    """Student and teacher, run on the same inputs."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self._student, self._teacher = student, teacher
        self._names = [name for name, own in teacher.named_modules() if type(own) in _KINDS]

    def loss(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The loss: a sum over all calls of all layers."""
        wanted: dict[str, list[torch.Tensor]] = {}
        terms: list[torch.Tensor] = []

        def note(name: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
            wanted.setdefault(name, []).append(y.clone())  # later modules may change it in place

        def compare(name: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
            target = wanted[name].pop(0)
            terms.append((y - target).square().sum() / target.square().sum().clamp(min=_TINY))

        with watched(self._teacher, self._names, note), torch.no_grad():
            self._teacher(*inputs)
        with watched(self._student, self._names, compare):
            self._student(*inputs)
        return torch.stack(terms).sum()

    def error(self, data: CalibrationData, batch_size: int) -> float:
        """The mean of the loss over batches in order."""
        with torch.no_grad():
            values = [float(self.loss(inputs)) for inputs, _ in data.batches(batch_size)]
        return sum(values) / len(values)


def _keep(
    path: str | Path | None, fingerprint: str, done: int, parameters: list[nn.Parameter], optimiser: torch.optim.Adam
) -> None:
    """Write the parameters and the state of Adam, atomically."""
    if path is None:
        return
    tensors = {f"parameter.{i}": own.detach().contiguous() for i, own in enumerate(parameters)}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{name}.{i}": copy.copy(value).contiguous() for name, value in state.items()}
    about = json.dumps({"fingerprint": fingerprint, "passes": done})
    write_bytes_atomically(save(tensors, {"upscale_opt": about}), path)


def _resume(
    path: str | Path | None, fingerprint: str, parameters: list[nn.Parameter], optimiser: torch.optim.Adam
) -> int:
    """Load a checkpoint in place. Returns its number of finished passes, or 0 if there is no checkpoint."""
    if path is None or not Path(path).exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["upscale_opt"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise MaskError(f"{path} cannot be read as a checkpoint of global AdaPrune; delete it") from error
    if about["fingerprint"] != fingerprint:
        raise MaskError(f"{path} is a checkpoint of another model, data or tuning; delete it or choose another path")
    states: dict[int, dict[str, Any]] = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            kind, _, number = name.rpartition(".")
            if kind == "parameter":
                parameters[int(number)].copy_(tensor)
            else:
                states.setdefault(int(number), {})[kind] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    return int(about["passes"])
