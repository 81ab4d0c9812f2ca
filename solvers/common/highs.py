"""Limits of a run of HiGHS, and what it costs: seconds, or steps of its own where work is counted."""

from __future__ import annotations

import math
from typing import Any

from solvers.common.clock import current, time_now

NODES_A_SECOND = 1000.0  # nodes: of a branch and bound that count as a second of work; by hand
PIVOTS_A_SECOND = 20_000.0  # pivots: of the simplex method that count as a second of work; by hand


def milp_options(seconds: float) -> dict[str, Any]:
    """Options of `scipy.optimize.milp` for a run of so many seconds."""
    return _options(seconds, "node_limit", NODES_A_SECOND)


def lp_options(seconds: float) -> dict[str, Any]:
    """Options of `scipy.optimize.linprog` for a run of so many seconds."""
    return _options(seconds, "maxiter", PIVOTS_A_SECOND)


def charge(steps: Any, a_second: float) -> None:
    """Put the steps of a run on the clock; None: it made none."""
    time_now((1 + int(steps or 0)) / a_second)


def _options(seconds: float, steps: str, a_second: float) -> dict[str, Any]:
    if not current().counts_work:
        return {"time_limit": seconds}
    return {steps: math.ceil(seconds * a_second)} if math.isfinite(seconds) else {}
