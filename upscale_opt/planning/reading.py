"""How one access is read: a mode that its order allows, and what a device finds fastest within that mode. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.arguments.checks import a_flag, optional, settle_fields, whole
from upscale_opt.errors import PlanError

READ_MODES = (VIEW, OVER_READ, PIECES, COPY)
CONTIGUOUS = "contiguous"
"""Mode of an input that holds just the channels that are kept, which no order can beat. Calibrations time it; no plan
has it."""
ALIGNMENT = 8
"""Channels: widths are rounded up to a multiple of this where that is faster; wide ranges begin at one if they can."""
MATMUL, GATHERING = "matmul", "gathering"
KERNELS = (MATMUL, GATHERING)
"""What may take the place of a 1x1 convolution: a matrix product, which reads slices in place, and one that gathers."""


@dataclass(frozen=True)
class Reading:
    """How one access is read.

    Attributes
    ----------
    mode
        ``view``, ``over-read``, ``pieces`` or ``copy``; in calibrations also ``contiguous``.
    width
        Channels of a view or an over-read, where that is more than the smallest range: a multiple that suits the
        device, or all there are. None: the smallest range.
    kernel
        What the consumer's module is replaced by: ``matmul`` (`upscale_opt.MatrixConv2d`), for all calls of the
        module, or ``gathering`` (`upscale_opt.modules.gather_convolution.GatherConv2d`, with mode ``copy``), for a
        module that is called once. Empty for the module's own operator.
    late
        Whether channels are selected right in front of the consumer. Otherwise they are selected in front of everything
        that serves the consumer alone: elementwise work, normalisation, and the concat it reads
        (`upscale_opt.tracing.prologues`). Makes no difference where nothing does.

    Raises
    ------
    PlanError
        If a field has another value.

    Examples
    --------
    >>> Reading("over-read", width=64, kernel="matmul")
    Reading(mode='over-read', width=64, kernel='matmul', late=False)
    """

    mode: str
    width: int | None = None
    kernel: str = ""
    late: bool = False

    def __post_init__(self) -> None:
        settle_fields(self, width=optional(whole(1, PlanError)), late=a_flag)
        if self.mode not in (*READ_MODES, CONTIGUOUS):
            raise PlanError(f"{self.mode!r} is no read mode; read modes are {', '.join(READ_MODES)}")
        if self.kernel not in ("", *KERNELS):
            raise PlanError(f"{self.kernel!r} is no kernel; kernels are {', '.join(KERNELS)}, or empty")
