"""What is left of figures that were measured in turn once what slowed whole rounds down is taken out; no torch."""

from __future__ import annotations

import numpy as np


def slowness(figures: np.ndarray) -> np.ndarray:
    """How slow every round was: 1 for a usual one.

    Every figure is divided by the median of its row; the median of these ratios over the rows is how slow a round was
    (a step of Tukey's median polish on a logarithmic scale).

    Parameters
    ----------
    figures
        What was measured in turn times rounds, above 0.

    Examples
    --------
    >>> slowness(np.array([[1.0, 2.0, 1.0], [3.0, 6.0, 3.0], [2.0, 4.0, 2.2]])).tolist()
    [1.0, 2.0, 1.0]
    """
    result: np.ndarray = np.median(figures / np.median(figures, axis=1, keepdims=True), axis=0)
    return result


def quiet_medians(figures: np.ndarray) -> np.ndarray:
    """Medians of the rows in a quiet round: without drift, at the speed of the quieter half of the rounds.

    All rounds say how the rows compare; the quieter half says how fast they are, since others slow a machine down and
    never make it faster.

    Parameters
    ----------
    figures
        What was measured in turn times rounds, above 0.

    Examples
    --------
    >>> quiet_medians(np.array([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 6.0, 6.2]])).round(2).tolist()
    [1.0, 3.0]
    """
    slow = slowness(figures)
    quieter = np.sort(slow)[: -(-len(slow) // 2)]
    result: np.ndarray = np.median(figures / slow, axis=1) * np.median(quieter)
    return result
