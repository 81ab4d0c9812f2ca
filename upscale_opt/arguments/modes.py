"""Modes, alignments, roundings, front ends: who is masked, which widths are stored, what captures a network.

These are the words of the library and the command line.
"""

from __future__ import annotations

from typing import Any

from upscale_opt.arguments.checks import refused, whole
from upscale_opt.errors import MaskError, ModelError, PlanError

INPUT, CONSTRAINED, OUTPUT, BOTH = "input", "constrained", "output", "both"
MODES = (INPUT, CONSTRAINED, OUTPUT, BOTH)
AUTO, OFF = "auto", "off"
NEAREST = "auto-nearest"
FX, EXPORT = "fx", "export"
FRONT_ENDS = (AUTO, FX, EXPORT)


def front_end(value: Any, name: str) -> str:
    """``auto``, ``fx`` or ``export``. Raises `ModelError` otherwise."""
    if not isinstance(value, str) or value not in FRONT_ENDS:
        raise refused(value, name, f"{AUTO}, {FX} (torch.fx) or {EXPORT} (torch.export)", ModelError)
    return str(value)


def alignment(value: Any, name: str) -> str | int:
    """``auto``, ``off``, or a multiple of channels, as a number or as text. Raises `PlanError` otherwise."""
    if isinstance(value, str) and value in (AUTO, OFF):
        return value
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, str):
        raise refused(value, name, f"{AUTO}, {OFF}, or a number of channels such as 8", PlanError)
    return whole(1, PlanError)(value, name)


def rounding(value: Any, name: str) -> str | int:
    """``auto``, ``auto-nearest``, or a multiple of channels, as a number or as text. Raises `MaskError` otherwise."""
    if isinstance(value, str) and value in (AUTO, NEAREST):
        return value
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, str):
        raise refused(value, name, f"{AUTO}, {NEAREST}, or a number of channels such as 8", MaskError)
    return whole(1, MaskError)(value, name)
