"""Cost tables without measurements: an affine model of a consumer's time, for the objective `latency`.

`upscale_opt.extract` asks a `CostModel` for one table per access. `AnalyticCosts` computes the table from the
consumer's shapes. It is used where nothing was measured, and reports call its tables "analytic". This module does not
import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil
from typing import Protocol

from problems import CostTable, Curve
from upscale_opt.arguments.checks import whole
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.layer_shapes import Layer

GRID = 8
"""Step of a table in channels. With this step, a tick is at least an eighth of a nanosecond."""


@dataclass(frozen=True)
class Workload:
    """The work of a consumer per call, independent of the number of channels that it reads.

    Attributes
    ----------
    input_elements
        Elements of the input per channel: batch times pixels.
    weight_elements
        Elements of the weight per input channel: stored outputs times kernel (times features after a flatten).
    output_elements
        Elements of the output: batch times stored outputs times pixels.
    flops
        Floating-point operations per input channel. A multiplication and an addition count as two.
    element_bytes
        Size of one element.
    layer
        The consumer's shape, for cost models that measure. None if it cannot be measured.

    Raises
    ------
    UpscaleError
        If a number is below 1.
    """

    input_elements: int
    weight_elements: int
    output_elements: int
    flops: int
    element_bytes: int
    layer: Layer | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "layer":
                whole(1)(getattr(self, field.name), f"the workload's {field.name}")


class CostModel(Protocol):
    """The source of cost tables."""

    @property
    def name(self) -> str:
        """Name of the tables in reports: ``analytic``."""

    def table(self, workload: Workload, *, kept: int, stored: int) -> CostTable:
        """The table of an access that keeps `kept` of the `stored` channels of its input."""


@dataclass(frozen=True)
class AnalyticCosts:
    """Time as launch + bytes / bandwidth + operations / throughput. Used if there are no measured tables.

    - Reading a span: one launch, the traffic of inputs, weights and outputs, and the operations. The time is affine in
      the span.
    - A copy: one launch, and every kept channel is read and written, at the bandwidth of a gather.
    - Pieces: one launch, `piece_ns` per run, and the same traffic at full bandwidth. The table has pieces only up to
      the number of runs where they are still cheaper than the copy.

    The defaults are round figures of one CPU core (PyTorch 2.13, float32, contiguous NCHW, batch size 1). `for_device`
    gives figures for other devices. The model leaves out the hidden copy of a channel slice in batches and in
    channels_last. It also leaves out caches, thread counts, and special kernels (Winograd, a 1x1 convolution as a
    matrix product). The tables are concave.

    Parameters
    ----------
    launch_ns
        Nanoseconds to start one operator of any size.
    piece_ns
        Additional nanoseconds per joined run.
    bytes_per_ns
        Memory bandwidth, bytes per nanosecond (= GB/s).
    gather_bytes_per_ns
        Memory bandwidth of gathering channels by index, bytes per nanosecond.
    flops_per_ns
        Throughput, floating-point operations per nanosecond (= GFLOP/s).

    Raises
    ------
    UpscaleError
        If a number is not whole, a time is negative, or a rate is below 1.

    Examples
    --------
    A 1x1 convolution from 16 kept of 32 stored channels to 64 outputs, 14 x 14 pixels, in float32:

    >>> conv = Workload(196, 64, 64 * 196, 2 * 64 * 196, element_bytes=4)
    >>> table = AnalyticCosts().table(conv, kept=16, stored=32)
    >>> table.read.points, table.read.costs, table.copy, table.pieces
    ((16, 24, 32), (6969, 9095, 11221), 2457, None)
    """

    launch_ns: int = 2_000
    piece_ns: int = 1_500
    bytes_per_ns: int = 70
    gather_bytes_per_ns: int = 55
    flops_per_ns: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in ("launch_ns", "piece_ns") else 1
            object.__setattr__(self, field.name, whole(least)(value, field.name))

    @property
    def name(self) -> str:
        """``analytic``."""
        return "analytic"

    @classmethod
    def for_device(cls, kind: str) -> AnalyticCosts:
        """The default costs. For ``cuda``, figures of the order of magnitude of a data-centre GPU's data sheet.

        Parameters
        ----------
        kind
            ``torch.device.type``. An unknown type counts as a CPU.
        """
        return _GPU if kind == "cuda" else cls()

    def __str__(self) -> str:
        return (
            f"{self.launch_ns} ns a launch, {self.piece_ns} ns a piece, {self.bytes_per_ns} GB/s "
            f"(gathering {self.gather_bytes_per_ns}), {self.flops_per_ns} GFLOP/s; not measured"
        )

    def table(self, workload: Workload, *, kept: int, stored: int) -> CostTable:
        """The table of an access, at the multiples of 8 from the last one <= `kept` to the first one >= `stored`.

        Parameters
        ----------
        workload
            The consumer's shapes.
        kept
            Number of kept channels, at least 1.
        stored
            Number of stored channels of the input, at least `kept`.

        Returns
        -------
        CostTable
            Whole nanoseconds, rounded up. The fixed part and the part per 8 channels are rounded separately, so all
            costs lie on a line.

        Raises
        ------
        UpscaleError
            Unless 1 <= kept <= stored.
        """
        if not 1 <= kept <= stored:
            raise UpscaleError(f"an access keeps {kept} of {stored} channels; keep at least 1 and at most all")
        per_channel = Fraction(
            (workload.input_elements + workload.weight_elements) * workload.element_bytes, self.bytes_per_ns
        ) + Fraction(workload.flops, self.flops_per_ns)
        fixed = self.launch_ns + ceil(Fraction(workload.output_elements * workload.element_bytes, self.bytes_per_ns))
        steps = range(kept // GRID, -(-stored // GRID) + 1)
        read = Curve((step * GRID for step in steps), (fixed + step * ceil(GRID * per_channel) for step in steps))
        moved_bytes = 2 * kept * workload.input_elements * workload.element_bytes
        copy = self.launch_ns + ceil(Fraction(moved_bytes, self.gather_bytes_per_ns))
        return CostTable(read, copy, self._pieces(moved_bytes, copy, most=min(kept, stored - kept + 1)))

    def _pieces(self, moved_bytes: int, copy: int, *, most: int) -> Curve | None:
        """The time to join 2 to at most `most` runs, as long as it is below the copy's time. None if it never is."""
        fixed = self.launch_ns + ceil(Fraction(moved_bytes, self.bytes_per_ns))
        if self.piece_ns > 0:
            most = min(most, (copy - 1 - fixed) // self.piece_ns)
        if most < 2 or fixed + 2 * self.piece_ns >= copy:
            return None
        runs = (2,) if most == 2 else (2, most)
        return Curve(runs, (fixed + number * self.piece_ns for number in runs))


_GPU = AnalyticCosts(launch_ns=3_000, piece_ns=500, bytes_per_ns=2_000, gather_bytes_per_ns=1_500, flops_per_ns=20_000)
