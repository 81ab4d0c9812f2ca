"""The method `dynamic-programme`: the least error per number of layers and buckets, vectorised over the buckets."""

from __future__ import annotations

import numpy as np

from solvers.allocation.buckets import Buckets

_NEVER = 2**62  # error: of an impossible state; the sum of two fits 64 bits


def least_error_choice(buckets: Buckets) -> tuple[int, ...]:
    """The choice of least error. Ties: fewest buckets, then the lower level, from the last layer to the first.

    ``D[l][b] = min over s with time[l][s] <= b of D[l-1][b - time[l][s]] + error[l][s]``, where D[l][b] is the least
    error of layers 0..l that take exactly b buckets. It takes layers x levels x buckets steps; NumPy does all buckets
    at once.

    Parameters
    ----------
    buckets
        The problem in buckets; at least one choice must fit.

    Notes
    -----
    The dynamic programme of SPDY (Frantar and Alistarh, ICML 2022): a knapsack with one item of every group.
    """
    size = buckets.capacity + 1
    least = np.full(size, _NEVER, dtype=np.int64)
    least[0] = 0
    chosen = []
    for times, errors in zip(buckets.times, buckets.errors):
        least, levels = _with_layer(least, times, errors)
        chosen.append(levels)
    b = int(np.argmin(least))
    choice: list[int] = []
    for times, levels in zip(reversed(buckets.times), reversed(chosen)):
        choice.append(int(levels[b]))
        b -= int(times[choice[-1]])
    return tuple(reversed(choice))


def _with_layer(least: np.ndarray, times: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least errors with one more layer, and its levels; -1 if a number of buckets is impossible. Ties: lower level."""
    extended = np.full(len(least), _NEVER, dtype=np.int64)
    levels = np.full(len(least), -1, dtype=np.int32)
    for level, (time, error) in enumerate(zip(times.tolist(), errors.tolist())):
        if time >= len(least):
            continue
        candidate = least[: len(least) - time] + error
        better = candidate < extended[time:]
        extended[time:][better] = candidate[better]
        levels[time:][better] = level
    return extended, levels
