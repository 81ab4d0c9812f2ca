"""How one access is read: a mode that its order allows, and the fastest variant on a device. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.arguments.checks import a_flag, optional, settle_fields, whole
from upscale_opt.errors import PlanError

READ_MODES = (VIEW, OVER_READ, PIECES, COPY)
CONTIGUOUS = "contiguous"
"""Mode of an input that contains exactly the kept channels. No order can be faster. Only calibrations time it, and no
plan has it.
"""
ALIGNMENT = 8
"""In channels. Widths are rounded up to a multiple of it where that is faster. Wide ranges start at one if possible."""
MATMUL, GATHERING, FUSED = "matmul", "gathering", "fused"
KERNELS = (MATMUL, GATHERING, FUSED)
SELECTING = (GATHERING, FUSED)
"""Kernels of a 1x1 convolution, instead of the module's own operator; the last two select channels themselves.

A matrix product reads slices in place. The gathering kernel gathers; the fused one also normalises and activates.
"""


@dataclass(frozen=True)
class Reading:
    """How one access is read.

    Attributes
    ----------
    mode
        ``view``, ``over-read``, ``pieces`` or ``copy``. In calibrations also ``contiguous``.
    width
        Number of channels of a view or an over-read, if it is more than the smallest range: a multiple that suits the
        device, or all stored channels. None: the smallest range.
    kernel
        The replacement of the consumer's module. ``matmul`` (`upscale_opt.MatrixConv2d`) is for all calls of the
        module. The others select channels themselves, and need mode ``copy`` and a module that is called once
        (`upscale_opt.modules.gather_convolution.GatherConv2d`). ``gathering`` does nothing else. ``fused`` also does
        the work of the BatchNorm, and of the ReLU, that serve the consumer alone. Empty for the module's own operator.
    late
        Whether channels are selected directly before the consumer. Otherwise they are selected earlier: before all
        operators that serve the consumer alone (elementwise operators, normalisation, and the concat that it reads;
        `upscale_opt.tracing.prologues`). Without such operators there is no difference.

    Raises
    ------
    PlanError
        If a field has an invalid value.

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


def range_start(first: int, span: int, width: int, stored: int) -> int:
    """Where a range begins that reads a given number of channels around a span.

    A range that is wider than its span begins at a multiple of `ALIGNMENT` channels, if it then still holds the span.

    Parameters
    ----------
    first, span
        Position of the first kept channel, and the number of channels from there to the last one.
    width
        Channels read: from `span` to `stored`.
    stored
        Channels stored.

    Examples
    --------
    >>> range_start(13, 20, 20, 64), range_start(13, 20, 32, 64), range_start(60, 4, 8, 64)
    (13, 8, 56)
    """
    latest = min(first, stored - width)
    aligned = latest - latest % ALIGNMENT
    return aligned if width > span and aligned + width >= first + span else latest


def covering_width(first: int, span: int, stored: int) -> int:
    """Channels of the smallest range around a span that begins and ends at multiples of `ALIGNMENT`, or at the end.

    Examples
    --------
    >>> covering_width(13, 20, 64), covering_width(8, 16, 64), covering_width(57, 4, 61)
    (32, 16, 5)
    """
    return min(stored, -(-(first + span) // ALIGNMENT) * ALIGNMENT) - first // ALIGNMENT * ALIGNMENT
