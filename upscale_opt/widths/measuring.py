"""Measures exports of chosen widths: as saved files in a fresh process where they run alike, else in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.errors import UpscaleError
from upscale_opt.latency.backends import EAGER, ONNXRUNTIME
from upscale_opt.latency.file_timing import measured_files
from upscale_opt.latency.profiling import profile_interleaved, without_drift
from upscale_opt.models.running import in_modes
from upscale_opt.onnx_runtime.writing import written
from upscale_opt.saving.forms import FORMS
from upscale_opt.saving.written_forms import Savable, to_bytes
from upscale_opt.widths.macs import macs_of
from upscale_opt.widths.results import Size

FORM_OF = {EAGER: "pt2", ONNXRUNTIME: "onnx"}
"""Backend to the saved form that runs like it on a CPU."""


PROCESSES = 3
"""Fresh processes that measure a saved network. A process can be lucky or unlucky for all its life: where the system
puts its memory and threads changes times by a third, and ratios by a tenth."""
TOGETHER = 2
"""More processes for ``.onnx`` files, with the sessions of both networks at once: their threads disturb each other, and
the ratio is another one than that of sessions alone. The promise is to hold in both."""
LONELY = 0.9
"""A turn of the closed loop does not count a process whose speedup is below this share of all others': the loop would
prune by as much too much, and need more turns to come back."""


@dataclass(frozen=True)
class Unpruned:
    """A network as it was given, ready to be saved."""

    module: Any
    example_inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Measured:
    """A measurement in turn.

    Attributes
    ----------
    speedup
        Median over the rounds of the unpruned network's time over the other's. Of several processes, the least.
    dense_seconds
        Median of the unpruned network.
    """

    speedup: float
    dense_seconds: float

    @property
    def seconds(self) -> float:
        """Seconds of the other network when the unpruned one takes its median: what slows down both does not count."""
        return self.dense_seconds / self.speedup


class Stopwatch:
    """Measures networks beside the unpruned one.

    Parameters
    ----------
    model
        The unpruned network in eval mode.
    example_inputs
        Its inputs.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    repeats
        Rounds of a measurement.
    """

    def __init__(
        self, model: nn.Module, example_inputs: tuple[Any, ...], *, backend: str = EAGER, repeats: int = 15
    ) -> None:
        self.model, self.inputs, self.backend, self.repeats = model, example_inputs, backend, repeats
        device = next((x.device.type for x in example_inputs if isinstance(x, torch.Tensor)), "cpu")
        self.form = saved_form(backend, device)
        self.reason = ""
        self._folder = tempfile.TemporaryDirectory() if self.form is not None else None
        if self.form is not None:
            try:
                self._save(Unpruned(model, example_inputs), self._dense)
            except UpscaleError as error:
                self.form, self.reason = None, f", because {error}"

    def __str__(self) -> str:
        if self.form is None:
            return f"{self.backend}, in this process, both networks in turn{self.reason}"
        where = f"saved as {self.form}, the least of {len(self._ways)} fresh processes, both networks in turn"
        return where + (f"; in {TOGETHER} of them with both sessions at once" if True in self._ways else "")

    @property
    def _ways(self) -> list[bool]:
        """Per process that measures a file: whether sessions are there at once."""
        return [False] * PROCESSES + [True] * (TOGETHER if self.form == FORM_OF[ONNXRUNTIME] else 0)

    @property
    def _dense(self) -> Path:
        assert self._folder is not None and self.form is not None
        return Path(self._folder.name) / f"dense-{FORMS[self.form].file}"

    def _save(self, network: Savable, path: Path) -> None:
        assert self.form is not None
        path.write_bytes(to_bytes(network, self.form, self.inputs, verify=False))

    def _save_fixed(self, network: Savable, path: Path) -> None:
        """Write a file for these inputs only. It runs like that of `_save`, and takes a tenth of the time."""
        if self.form == FORM_OF[ONNXRUNTIME]:
            path.write_bytes(written(network.module, self.inputs))  # compared: another exporter writes it
        else:
            path.write_bytes(to_bytes(network, FORM_OF[EAGER], self.inputs, dynamic_batch=False, verify=False))

    def _files(self, exported: Savable, path: Path | None, is_final: bool) -> tuple[Path, Path]:
        """Files of the unpruned network and of an export, written alike."""
        assert self._folder is not None and self.form is not None
        folder = Path(self._folder.name)
        if path is not None:
            return self._dense, path
        if not is_final:
            fixed, own = folder / f"dense-fixed-{FORMS[self.form].file}", folder / f"fixed-{FORMS[self.form].file}"
            try:
                if not fixed.exists():
                    self._save_fixed(Unpruned(self.model, self.inputs), fixed)
                self._save_fixed(exported, own)
            except UpscaleError:  # torch cannot write one of them for fixed sizes
                pass
            else:
                return fixed, own
        path = folder / FORMS[self.form].file
        self._save(exported, path)
        return self._dense, path

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def measure(
        self, exported: Savable, path: Path | None = None, *, is_final: bool = True, wanted: float = 0.0
    ) -> Measured:
        """Measure an export.

        Parameters
        ----------
        exported
            The export.
        path
            The file that it was saved to.
        is_final
            Whether it is measured as it will be saved. Otherwise, both networks are written for these inputs only, and
            sessions of ONNX Runtime are never there at once: at once, they differ by a quarter from process to process.
            One process that is far slower than the others (`LONELY`) does not count then.
        wanted
            A speedup below this is not measured more carefully.
        """
        if self.form is None:
            return self.measure_all([exported])[0]
        ways = self._ways if is_final else [False] * PROCESSES
        return self._in_processes(self._files(exported, path, is_final), ways, wanted, lonely=is_final)

    def measure_all(self, exports: Sequence[Savable]) -> list[Measured]:
        """Measure several exports with less care: in one process each; or all of them in turn in this process."""
        if self.form is not None:
            return [self._in_processes(self._files(own, None, is_final=False), [False], lonely=True) for own in exports]
        models = {"dense": self.model} | {str(i): own.module for i, own in enumerate(exports)}
        profiles = profile_interleaved(models, self.inputs, repeats=self.repeats, backend=self.backend)
        seconds = without_drift(profiles)
        return [
            Measured(float(np.median(seconds["dense"] / seconds[str(i)])), profiles["dense"].median)
            for i in range(len(exports))
        ]

    def _in_processes(
        self, files: Sequence[Path], ways: Sequence[bool], wanted: float = 0.0, *, lonely: bool
    ) -> Measured:
        """The least of several fresh processes, with one session at a time or both at once.

        No more processes follow when the result is known to be below `wanted`. A process that is far below all others
        counts only if `lonely` is set.
        """
        found: list[Measured] = []
        for together in ways:
            measured = measured_files(files, self.inputs, repeats=self.repeats, together=together)
            found.append(Measured(1 / measured["median_ratios"][1], measured["files"][0]["median"]))
            least = _least(found, lonely=lonely)
            may_be_lonely = not lonely and len(found) == 1 and least.speedup < LONELY * wanted
            if least.speedup < wanted and not may_be_lonely:
                break
        return least


def _least(found: Sequence[Measured], *, lonely: bool) -> Measured:
    """The least of several measurements; one that is far below all others counts only if `lonely` is set."""
    least, *others = sorted(found, key=lambda own: own.speedup)
    return others[0] if others and not lonely and least.speedup < LONELY * others[0].speedup else least


def saved_form(backend: str, device: str) -> str | None:
    """The saved form in which networks are measured, in a process of its own; None if they are measured in this one."""
    return FORM_OF.get(backend) if device == "cpu" else None


def size_of(module: nn.Module, inputs: Sequence[Any]) -> Size:
    """Parameters, multiply-accumulates of a pass, and bytes of parameters and buffers."""
    with in_modes(module, training=False):
        macs = macs_of(module, inputs)
    tensors = {id(own): own for own in (*module.parameters(), *module.buffers())}.values()
    number = sum(own.numel() for own in module.parameters())
    return Size(number, macs, sum(own.numel() * own.element_size() for own in tensors))
