"""The options on how latencies are measured and where cost tables are kept.

torch is imported inside the functions that need it, so that ``solve --instance`` does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale_opt.arguments.modes import AUTO, OFF, alignment
from upscale_opt.commands import options

if TYPE_CHECKING:
    from upscale_opt.latency.cost_tables import Conditions
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.planning.cost_model import CostModel


@dataclass(frozen=True)
class Measuring:
    """The options on measuring of a command; each field is the option of its name."""

    batch: options.Batch = None
    memory_format: options.MemoryFormat = "contiguous"
    backend: options.Backend = "eager"
    dtype: options.DType = "float32"
    tables: options.Tables = None
    align: options.Align = "auto"

    def __post_init__(self) -> None:
        alignment(self.align, "--align")

    def shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The input shape with the batch size asked for.

        Raises
        ------
        UpscaleError
            If the batch size, the memory format or the dtype make no sense.
        """
        options.require_dtype(self.dtype)
        return options.settled_shape(given, self.batch, self.memory_format)

    @property
    def directory(self) -> Path:
        """Where cost tables are kept."""
        from upscale_opt.latency.cost_tables import default_directory

        return self.tables or default_directory()

    def conditions(self, x: Any) -> Conditions:
        """What measured latencies of a model on this input depend on besides shapes.

        Raises
        ------
        ModelError
            If there is no such backend, or it does not fit the device.
        """
        from upscale_opt.latency.calibration import conditions_of

        return conditions_of((x,), backend=self.backend)

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
            found = known_faster_widths(masked, (x,), backend=self.backend, directory=self.directory)
        else:
            found = rounded_up(masked, int(to))
        return padded(masked, found)

    def costs(self, x: Any) -> CostModel:
        """The tables that were measured under these conditions, with the analytic model for what was not."""
        from upscale_opt.latency.cost_tables import CostTables
        from upscale_opt.latency.measured_costs import MeasuredCosts
        from upscale_opt.planning.cost_model import AnalyticCosts

        tables = CostTables.load(self.directory, self.conditions(x))
        return MeasuredCosts(tables, AnalyticCosts.for_device(x.device.type))
