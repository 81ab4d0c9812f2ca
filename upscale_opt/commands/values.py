"""Callbacks that check the numbers, paths and names of options. Their error messages name the option."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from solvers import SolverError
from upscale_opt.errors import UpscaleError

MOST = 2**31 - 1
"""Upper limit of all counts: channels, images and processes are counted in 32 bits."""
MOST_SEED = 2**32 - 1
MOST_SECONDS = 1e9

Check = Callable[[typer.CallbackParam, Any], Any]


def whole(least: int, most: int = MOST) -> Check:
    """A callback for an option that takes whole numbers from `least` to `most`. It accepts a missing value."""
    range_ = f"of at least {least}" if most == MOST else f"from {least} to {most}"

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and not least <= value <= most:
            raise UpscaleError(f"{param.opts[0]} is {_short(value)}; give a whole number {range_}")
        return value

    return check


def real(*, least: float | None = None, above: float | None = None, below: float = math.inf) -> Check:
    """A callback for an option that takes numbers of at least `least` or above `above`, and below `below`."""
    first = f"from {least:g} on" if least is not None else f"above {above:g}"
    range_ = first if math.isinf(below) else f"{first} and below {below:g}"

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is None:
            return value
        high_enough = value > above if least is None and above is not None else value >= (least or 0.0)
        if not (math.isfinite(value) and high_enough and value < below):
            raise UpscaleError(f"{param.opts[0]} is {value:g}; give a number {range_}")
        return value

    return check


def nameable(param: typer.CallbackParam, value: Any) -> Any:
    """A callback for an option that takes a path. The path must be valid on this system, but need not exist."""
    if value is not None:
        try:
            Path(value).exists()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UpscaleError(
                f"{param.opts[0]} is no path ({reason}): {str(value)[:60]}...; choose another"
            ) from error
    return value


def _short(value: int) -> str:
    """A number as text. If it has too many digits for a line, it is rounded."""
    return str(value) if abs(value) < 10**20 else f"about {float(min(abs(value), 10**300)):.0e}"


def chosen_solvers(names: list[str]) -> list[str]:
    """The solvers to run: greedy first, and each solver once.

    Raises
    ------
    SolverError
        If a name is not registered.
    """
    from solvers import solver_names  # this import loads every solver

    chosen = list(dict.fromkeys(["greedy", *names]))
    for name in chosen:
        if name not in solver_names():
            raise SolverError(f"there is no solver {name!r}; choose from {', '.join(solver_names())}")
    return chosen
