"""The options on the measurement of latencies and on the directory of cost tables.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale_opt.commands import options

if TYPE_CHECKING:
    from upscale_opt.latency.cost_tables import Conditions
    from upscale_opt.planning.cost_model import CostModel


@dataclass(frozen=True)
class Measuring:
    """The options on measurements of a command. Each field is the option with its name."""

    batch: options.Batch = None
    memory_format: options.MemoryFormat = "contiguous"
    backend: options.Backend = "eager"
    dtype: options.DType = "float32"
    tables: options.Tables = None

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

        return conditions_of((x,), backend=self.backend)

    def costs(self, x: Any) -> CostModel:
        """The tables measured under these conditions. For other shapes, the analytic model."""
        from upscale_opt.latency.cost_tables import CostTables
        from upscale_opt.latency.measured_costs import MeasuredCosts
        from upscale_opt.planning.cost_model import AnalyticCosts

        tables = CostTables.load(self.directory, self.conditions(x))
        return MeasuredCosts(tables, AnalyticCosts.for_device(x.device.type))
