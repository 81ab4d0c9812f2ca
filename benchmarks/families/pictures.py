"""Small pictures (SVG): gaps of values and bounds to the best known value, against time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from problems.showing.html import element

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Colours that colour-blind readers tell apart (Okabe and Ito 2008)."""

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 26, 34
_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class Curves:
    """What a solver knows: gaps of its values and of its bounds, at the moments of the picture."""

    above: np.ndarray
    below: np.ndarray


def picture(title: str, at: Sequence[float], solvers: Mapping[str, Curves]) -> str:
    """An SVG picture: solid lines for values, dashed ones for bounds. The scale of gaps is that of their square roots.

    Parameters
    ----------
    title
        What stands above it.
    at
        Moments in seconds, shape (moments,); time has a logarithmic scale.
    solvers
        The curves of every solver.
    """
    heights = [own[np.isfinite(own)] for curves in solvers.values() for own in (curves.above, curves.below)]
    top = max([0.01, *(float(own.max()) for own in heights if own.size)])
    ticks = [tick for tick in _TICKS if tick <= top] or [0.0]
    parts = [element("title", title), element("text", title, x=_LEFT, y=16, font_weight="bold")]
    for tick in ticks:
        y = _y(tick, top)
        parts += [
            element("path", d=f"M{_LEFT} {y}H{_WIDTH - _RIGHT}", stroke="#8884"),
            element("text", f"{tick:.0%}", x=_LEFT - 6, y=y + 4, text_anchor="end"),
        ]
    for power in range(math.ceil(math.log10(at[0]) - 1e-9), math.floor(math.log10(at[-1]) + 1e-9) + 1):
        x = _x(10.0**power, at)
        parts.append(element("text", f"{10.0**power:g} s", x=x, y=_HEIGHT - _BOTTOM + 16, text_anchor="middle"))
    for k, (name, curves) in enumerate(solvers.items()):
        colour = COLOURS[k % len(COLOURS)]
        for gaps, dashes in ((curves.above, "none"), (curves.below, "5 4")):
            parts.append(
                element(
                    "path", d=_path(gaps, at, top), fill="none", stroke=colour, stroke_width=2, stroke_dasharray=dashes
                )
            )
        parts.append(element("text", name, x=_LEFT + 110 * k, y=_HEIGHT - 4, fill=colour))
    look = "font:12px sans-serif;fill:currentColor;background:#fff"
    return str(
        element("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", style=look)
    )


def _path(gaps: np.ndarray, at: Sequence[float], top: float) -> str:
    """Steps through the known gaps: a gap holds until the next moment."""
    path = ""
    for moment, gap in zip(at, gaps.tolist(), strict=True):
        if math.isfinite(gap):
            x, y = _x(moment, at), _y(gap, top)
            path += f"H{x}V{y}" if path else f"M{x} {y}"
    return path


def _x(moment: float, at: Sequence[float]) -> float:
    share = math.log(moment / at[0]) / math.log(at[-1] / at[0])
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(gap: float, top: float) -> float:
    share = math.sqrt(max(0.0, gap) / top)
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)
