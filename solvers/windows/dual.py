"""The dual bound: prices nu of channels, and the path of cells that gains most from them.

For every vector nu, ``sum of nu_c - max over paths of the sum over the path's cells C of sum_c (nu_c - V_c(C))^+`` is
at most the value of every word. For with a word's cells C_1, C_2, ..., the value of a channel is ``min_k V_c(C_k)``,
which is at least ``nu_c - sum_k (nu_c - V_c(C_k))^+``. The bound is concave in nu. A subgradient ascent raises it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from problems.windows.states import states_of
from solvers.windows.cells import cells_of

_MOST_STEPS = 300  # steps: of the ascent; by hand
_PATIENCE = 12  # steps: without a better bound, after which the step length is halved; by hand
_SHORTEST = 1e-3  # share: of Polyak's step length, at which the ascent ends; by hand


@dataclass(frozen=True)
class DualBound:
    """A bound, and the prices of channels that prove it.

    Attributes
    ----------
    bound
        No word has a smaller value.
    potentials
        nu, shape (channels,).
    events
        The best of the words along the paths that were visited, in bits, and ...
    value
        ... its value.
    """

    bound: float
    potentials: np.ndarray
    events: list[int]
    value: float


def dual_bound(
    table: np.ndarray,
    always: np.ndarray,
    start: np.ndarray,
    value: float,
    *,
    tolerance: float,
    deadline: float,
    report: Callable[[float], None],
) -> DualBound:
    """Raise the dual bound.

    Parameters
    ----------
    table
        Values of all cells, shape (cells, channels), or lower bounds of them.
    always
        Per channel the cost that every word offers; infinite where there is none.
    start
        Where nu starts, shape (channels,): the cost of every channel in a good word.
    value
        The value of that word.
    tolerance
        The ascent ends when the bound is that near to `value`.
    deadline
        A reading of ``time.perf_counter``, in seconds.
    report
        Called with every better bound.

    Notes
    -----
    Polyak, "Minimization of unsmooth functionals", USSR Comput. Math. Math. Phys. 9 (1969): the step is a multiple of
    (value - bound) / ||subgradient||^2.
    """
    states = states_of(int(table.shape[0]).bit_length() - 1)
    lowest = np.minimum(table.min(axis=0), always)
    highest = np.where(np.isfinite(always), always, lowest + abs(value) + 1)
    best = DualBound(float(lowest.sum()), lowest, [], np.inf)
    nu = np.clip(start, lowest, highest)
    length, failures = 1.0, 0
    for _ in range(_MOST_STEPS):
        most = states.most_ahead(np.maximum(nu - table, 0).sum(axis=1))
        bound = float(nu.sum() - most[0])
        events = states.best_path(most)
        visited = table[cells_of(events)]
        found = float(np.minimum(visited.min(axis=0), always).sum())
        if found < best.value:
            best = DualBound(best.bound, best.potentials, events, found)
        if bound > best.bound:
            failures = 0
            best = DualBound(bound, nu, best.events, best.value)
            report(bound)
        else:
            failures += 1
        if min(value, best.value) - best.bound <= tolerance or length < _SHORTEST or time.perf_counter() >= deadline:
            break
        if failures >= _PATIENCE:
            nu, length, failures = best.potentials, length / 2, 0
            continue
        slope = 1.0 - (visited < nu).sum(axis=0)
        slope[(nu <= lowest) & (slope < 0) | (nu >= highest) & (slope > 0)] = 0
        if not slope.any():
            break
        step = length * (min(value, best.value) - bound) / float(slope @ slope)
        nu = np.clip(nu + step * slope, lowest, highest)
    return best
