"""The options on the measurement of latencies and on the directory of cost tables.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale_opt.arguments.modes import AUTO, OFF, alignment
from upscale_opt.commands import options

if TYPE_CHECKING:
    from upscale_opt.latency.cost_tables import Conditions
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.onnx_runtime.lint import OnnxLint
    from upscale_opt.planning.cost_model import CostModel

Measure = Annotated[bool, typer.Option(help="Measure in a few seconds how fast the exports are.")]
Segments = Annotated[
    bool,
    typer.Option("--segments", help="Also print a table of all groups of channels that are ordered by themselves."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Measure less, in about a minute.")]


def lint_all(backend: str, models: Mapping[str, Any], x: Any) -> dict[str, OnnxLint]:
    """What ONNX Runtime makes of every model, by name, if it is the backend. Empty for other backends."""
    from upscale_opt.latency.backends import ONNXRUNTIME
    from upscale_opt.onnx_runtime.lint import onnx_lint

    return {name: onnx_lint(own, x) for name, own in models.items()} if backend == ONNXRUNTIME else {}


def documented(linted: Mapping[str, OnnxLint]) -> dict[str, Any]:
    """The field of JSON documents with the lint of every model. Empty if there is none."""
    return {"onnx": {name: own.to_dict() for name, own in linted.items()}} if linted else {}


@dataclass(frozen=True)
class Measuring:
    """The options on measurements of a command. Each field is the option with its name."""

    batch: options.Batch = None
    memory_format: options.MemoryFormat = "contiguous"
    backend: options.Backend = None
    dtype: options.DType = "float32"
    tables: options.Tables = None
    align: options.Align = "auto"

    def __post_init__(self) -> None:
        alignment(self.align, "--align")

    def backend_on(self, device: str) -> str:
        """The backend asked for, or the one that models have on a device: a CUDA graph on CUDA, eager elsewhere."""
        return self.backend or ("cuda-graph" if device.startswith("cuda") else "eager")

    def shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The input shape, with the batch size of --batch.

        Raises
        ------
        UpscaleError
            If the batch size, the memory format or the dtype is invalid.
        """
        options.require_dtype(self.dtype)
        return options.settled_shape(given, self.batch, self.memory_format)

    @property
    def directory(self) -> Path:
        """The directory of the cost tables."""
        from upscale_opt.latency.cost_tables import default_directory

        return self.tables or default_directory()

    def conditions(self, x: Any) -> Conditions:
        """The conditions, besides shapes, on which measured latencies of a model on this input depend.

        Raises
        ------
        ModelError
            If the backend does not exist, or does not fit the device.
        """
        from upscale_opt.latency.calibration import conditions_of

        return conditions_of((x,), backend=self.backend_on(x.device.type))

    def rounded(self, masked: MaskedGraph, x: Any, to: str | int, *, min_channels: int) -> MaskedGraph:
        """A masked network with the kept counts that `--round-to auto` finds. What is missing is measured.

        Multiples are already part of the masks.
        """
        from upscale_opt.latency.kept_counts import rounded

        if isinstance(to, int):
            return masked
        where: dict[str, Any] = {"backend": self.backend_on(x.device.type), "directory": self.directory}
        return rounded(masked, (x,), to, min_channels=min_channels, progress=True, **where)

    def padded(self, masked: MaskedGraph, x: Any, *, measured: bool) -> MaskedGraph:
        """A masked network with the stored widths that `--align` asks for.

        Parameters
        ----------
        masked
            The masked network.
        x
            Its input.
        measured
            Whether `auto` means the widths that measurements find faster; else it means none.
        """
        from upscale_opt.latency.stored_widths import known_faster_widths
        from upscale_opt.planning.padding import padded, rounded_up

        to = alignment(self.align, "--align")
        if to == OFF or (to == AUTO and not measured):
            return masked
        if to == AUTO:
            found = known_faster_widths(masked, (x,), backend=self.backend_on(x.device.type), directory=self.directory)
        else:
            found = rounded_up(masked, int(to))
        return padded(masked, found)

    def is_calibrated(self, masked: MaskedGraph, x: Any) -> bool:
        """Whether all reads of a masked network that can be measured were measured under these conditions.

        It is asked for the stored widths that the objective `latency` would have.
        """
        from upscale_opt.latency.calibration import keys_of
        from upscale_opt.latency.cost_tables import CostTables

        entries = CostTables.load(self.directory, self.conditions(x)).entries
        return bool(entries) and set(keys_of(self.padded(masked, x, measured=True))) <= entries.keys()

    def costs(self, x: Any) -> CostModel:
        """The tables measured under these conditions. For other shapes, the analytic model."""
        from upscale_opt.latency.cost_tables import CostTables
        from upscale_opt.latency.measured_costs import MeasuredCosts
        from upscale_opt.planning.cost_model import AnalyticCosts

        tables = CostTables.load(self.directory, self.conditions(x))
        return MeasuredCosts(tables, AnalyticCosts.for_device(x.device.type))
