"""What was known at certain moments of a solve, as text for a column of a CSV file; and the gaps of many solves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers import TrajectoryPoint

FIRST = 0.01  # seconds: the first moment
PER_DECADE = 8  # moments: per factor of ten in time


@dataclass(frozen=True)
class Standing:
    """From some moment on: value and bound; None while there is none."""

    seconds: float
    value: int
    bound: int | None


def moments(time_limit: float) -> list[float]:
    """Moments from `FIRST` to the time limit, evenly spaced on a logarithmic scale.

    Examples
    --------
    >>> len(moments(1.0)), moments(1.0)[0], moments(1.0)[-1]
    (17, 0.01, 1.0)
    """
    number = max(2, 1 + round(PER_DECADE * math.log10(max(time_limit, 2 * FIRST) / FIRST)))
    return [float(f"{moment:.3g}") for moment in np.geomspace(FIRST, max(time_limit, 2 * FIRST), number)]


def standings_text(trajectory: Sequence[TrajectoryPoint], at: Sequence[float]) -> str:
    """What was known at the given moments, ``seconds:value:bound`` each; moments without news are left out.

    What came after the last moment counts as known then.

    Examples
    --------
    >>> points = [TrajectoryPoint(0.004, 20, None), TrajectoryPoint(0.3, 12, 9), TrajectoryPoint(0.31, 12, 10)]
    >>> standings_text(points, [0.01, 0.1, 1.0])
    '0.01:20: 1:12:10'
    """
    said: list[str] = []
    before = None
    for k, moment in enumerate(at):
        last = k == len(at) - 1
        known = [point for point in trajectory if last or point.seconds <= moment]
        if known and (known[-1].value, known[-1].bound) != before:
            before = (known[-1].value, known[-1].bound)
            said.append(f"{moment:g}:{before[0]}:{'' if before[1] is None else before[1]}")
    return " ".join(said)


def standings(text: str) -> list[Standing]:
    """The standings of a text.

    Examples
    --------
    >>> standings("0.01:20: 1:12:10")
    [Standing(seconds=0.01, value=20, bound=None), Standing(seconds=1.0, value=12, bound=10)]
    """
    found = []
    for word in text.split():
        seconds, value, bound = word.split(":")
        found.append(Standing(float(seconds), int(value), int(bound) if bound else None))
    return found


def gaps(solves: Sequence[Sequence[Standing]], best: Sequence[int], at: Sequence[float]) -> tuple[np.ndarray, ...]:
    """How far values lie above, and bounds below, the best known values, on average over solves.

    Parameters
    ----------
    solves
        Standings of every solve.
    best
        The best known value of every solve's instance.
    at
        Moments.

    Returns
    -------
    tuple of two np.ndarray
        float64, shape (moments,): means of ``(value - best) / max(1, best)`` and ``(best - bound) / max(1, best)``. NaN
        while some solve has no value; a solve without a bound counts with bound 0.

    Examples
    --------
    >>> above, below = gaps([standings("0.01:20: 1:12:10")], [12], [0.001, 0.01, 1.0])
    >>> above.round(2).tolist(), below.round(2).tolist()
    ([nan, 0.67, 0.0], [nan, 1.0, 0.17])
    """
    shape = (len(solves), len(at))
    above, below = np.full(shape, np.nan), np.full(shape, np.nan)
    for s, (own, least) in enumerate(zip(solves, best, strict=True)):
        for k, moment in enumerate(at):
            known = [standing for standing in own if standing.seconds <= moment * (1 + 1e-9)]
            if known:
                above[s, k] = (known[-1].value - least) / max(1, least)
                below[s, k] = (least - (known[-1].bound or 0)) / max(1, least)
    return above.mean(axis=0), below.mean(axis=0)
