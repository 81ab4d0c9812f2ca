"""The sum of a network's tables against the measured network: a scale and a constant, and the error that remains.

Groups are timed alone. In a network, their inputs lie in the caches differently, and every call has its overhead. So
the network takes ``scale * sum + constant``, fitted to exports of several widths that were measured in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from upscale_opt.errors import UpscaleError
from upscale_opt.tracing.graphs import Graph


@dataclass(frozen=True)
class Correction:
    """What turns sums of tables into times of a network.

    Attributes
    ----------
    scale
        Factor on the sum, above 0.
    constant
        Nanoseconds, at least 0.
    predicted, measured
        The sums and the measured times that it was fitted to, in nanoseconds.
    error
        Mean relative error of the fit that leaves each network out in turn, on that network.
    """

    scale: float
    constant: float
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    error: float

    def __str__(self) -> str:
        if not self.measured:
            return "multiply-accumulates are counted, so their sum needs no correction"
        return (
            f"the network takes {self.scale:.3f} times the sum of its parts"
            + (f" and {self.constant / 1e6:.3f} ms" if self.constant else "")
            + f"; mean error {100 * self.error:.1f} % over {len(self.measured)} networks, each left out of the fit"
        )


def fitted(predicted: Sequence[float], measured: Sequence[float]) -> Correction:
    """Fit a correction that makes the relative errors small, in least squares, with no negative constant.

    Parameters
    ----------
    predicted, measured
        Nanoseconds, above 0, of at least two networks.

    Raises
    ------
    UpscaleError
        If there are fewer than two networks.

    Examples
    --------
    >>> found = fitted([10.0, 20.0, 30.0], [12.0, 22.0, 32.0])
    >>> round(found.scale, 6), round(found.constant, 6), round(found.error, 6)
    (1.0, 2.0, 0.0)
    """
    if len(predicted) < 2 or len(predicted) != len(measured):
        raise UpscaleError("a correction needs the times of at least two networks; measure more")
    sums, times = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    scale, constant = _fit(sums, times)
    errors = []
    for i in range(len(sums)):
        others = np.arange(len(sums)) != i
        own_scale, own_constant = _fit(sums[others], times[others])
        errors.append(abs((own_scale * sums[i] + own_constant) / times[i] - 1))
    return Correction(scale, constant, tuple(sums.tolist()), tuple(times.tolist()), float(np.mean(errors)))


def _fit(sums: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """The scale, above 0, and the constant, at least 0."""
    unit = times.mean()
    solution, _ = nnls(np.column_stack([sums / times, unit / times]), np.ones(len(sums)))
    if solution[0] <= 0 or len(sums) == 1:
        return float(np.mean(times / sums)), 0.0
    return float(solution[0]), float(solution[1] * unit)


def random_widths(
    graph: Graph, candidates: Mapping[int, Sequence[int]], number: int, seed: int
) -> list[dict[int, int]]:
    """Choices of widths from narrow to nearly whole networks; the widths of a choice differ at random, too.

    Parameters
    ----------
    graph
        The traced network.
    candidates
        Free block to its candidate widths.
    number
        How many choices.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng([5, seed])
    found = []
    for share in np.linspace(0.25, 0.9, number):
        shares = np.clip(share + rng.uniform(-0.25, 0.25, len(candidates)), 0, 1)
        chosen = {}
        for (b, widths), own in zip(candidates.items(), shares, strict=True):
            ticks = np.asarray(widths)
            chosen[b] = int(ticks[np.abs(ticks - own * graph.blocks[b].size).argmin()])
        found.append(chosen)
    return found
