"""Removes drift from interleaved measurements: the slow-down of whole rounds. Does not import torch."""

from __future__ import annotations

import numpy as np


def slowness(figures: np.ndarray) -> np.ndarray:
    """The slowness of every round. 1 is a normal round.

    Every value is divided by the median of its row. The slowness of a round is the median of these ratios over the
    rows. (This is a step of Tukey's median polish on a logarithmic scale.)

    Parameters
    ----------
    figures
        Measurements above 0: one row per object measured in turn, one column per round.

    Examples
    --------
    >>> slowness(np.array([[1.0, 2.0, 1.0], [3.0, 6.0, 3.0], [2.0, 4.0, 2.2]])).tolist()
    [1.0, 2.0, 1.0]
    """
    result: np.ndarray = np.median(figures / np.median(figures, axis=1, keepdims=True), axis=0)
    return result


def quiet_medians(figures: np.ndarray) -> np.ndarray:
    """Medians of the rows in a quiet round: without drift, at the speed of the quieter half of the rounds.

    All rounds are used to compare the rows. Only the quieter half is used for the speed, because other processes make a
    machine slower but never faster.

    Parameters
    ----------
    figures
        Measurements above 0: one row per object measured in turn, one column per round.

    Examples
    --------
    >>> quiet_medians(np.array([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 6.0, 6.2]])).round(2).tolist()
    [1.0, 3.0]
    """
    slow = slowness(figures)
    quieter = np.sort(slow)[: -(-len(slow) // 2)]
    result: np.ndarray = np.median(figures / slow, axis=1) * np.median(quieter)
    return result
