"""Sets of rows that spare much, found without a search through all: grown, cut, and improved by exchanges.

A set of rows spares a class if none of its rows keeps it. Sets are Boolean rows, many at a time.
"""

from __future__ import annotations

import numpy as np

from solvers.common.clock import time_now


def nested_sets(spared: np.ndarray, value: np.ndarray, rows: np.ndarray, *, deadline: float = np.inf) -> np.ndarray:
    """Sets of 1, 2, ... of some rows, each with the row more that leaves most; bool, shape (len(rows), num_rows).

    Parameters
    ----------
    spared
        bool (or float64, which saves time), shape (num_classes, num_rows): the classes that a row does not keep.
    value
        int64, shape (num_classes,).
    rows
        int: the rows to choose from.
    deadline
        A `time.perf_counter` reading, after which rows are added as they come.

    Examples
    --------
    >>> spared = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
    >>> nested_sets(spared, np.array([3, 2, 1, 5]), np.arange(3)).astype(int).tolist()
    [[0, 0, 1], [0, 1, 1], [1, 1, 1]]
    """
    sets = np.zeros((len(rows), spared.shape[1]), dtype=bool)
    lost, left = np.asarray(spared, dtype=np.float64), value.astype(np.float64)
    waiting = np.zeros(spared.shape[1], dtype=bool)
    waiting[rows] = True
    for k in range(len(rows)):
        gain = left @ lost if len(left) and time_now() < deadline else np.zeros(len(waiting))
        row = int(np.where(waiting, gain, -1.0).argmax())
        sets[k:, row], waiting[row] = True, False
        stays = lost[:, row] > 0
        lost, left = lost[stays], left[stays]
    return sets


def resized(spared: np.ndarray, value: np.ndarray, sets: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Sets of equal size with so many rows: those added, or taken away, that spare most.

    Parameters
    ----------
    spared, value, rows
        As in `nested_sets`; at least `size` rows.
    sets
        bool, shape (num_sets, num_rows).
    size
        How many rows they are to have.
    """
    sets, lost = sets.copy(), np.asarray(spared, dtype=np.float64)
    every = np.arange(len(sets))
    outside = np.ones(spared.shape[1], dtype=bool)
    outside[rows] = False
    while len(sets) and (now := int(sets[0].sum())) != size:
        count = sets.astype(np.float64) @ lost.T
        if now < size:
            gain = np.where(sets | outside, -1.0, ((count == now) * value) @ lost)
        else:
            gain = np.where(sets, ((count == now - 1) * value) @ (1 - lost), -1.0)
        sets[every, gain.argmax(axis=1)] = now < size
    return sets


def climbed(
    spared: np.ndarray, value: np.ndarray, sets: np.ndarray, rows: np.ndarray, *, deadline: float = np.inf
) -> np.ndarray:
    """Exchange one row of each set for another one as long as it spares more, and until the deadline.

    Parameters as in `resized`.

    Examples
    --------
    >>> spared = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
    >>> one = np.array([[True, False, False]])
    >>> climbed(spared, np.array([3, 2, 1, 5]), one, np.arange(3)).astype(int).tolist()
    [[0, 0, 1]]
    """
    sets, lost = sets.copy(), np.asarray(spared, dtype=np.float64)
    num, allowed = spared.shape[1], np.zeros(spared.shape[1], dtype=bool)
    allowed[rows] = True
    size = sets[0].sum() if len(sets) else 0
    active = np.arange(len(sets))
    while len(active) and time_now() < deadline:
        own = sets[active]
        count = own.astype(np.float64) @ lost.T
        whole = (count == size) * value
        gain = np.repeat((whole @ lost)[:, np.newaxis], num, axis=1)
        which, near = np.nonzero((count == size - 1) & (value > 0))
        out = (own[which] & (lost[near] == 0)).argmax(axis=1)
        np.add.at(gain, (which, out), value[near, np.newaxis] * lost[near])
        gain = np.where(own[:, :, np.newaxis] & ~own[:, np.newaxis] & allowed, gain, -1.0).reshape(len(own), -1)
        best = gain.argmax(axis=1)
        better = gain[np.arange(len(own)), best] > whole.sum(axis=1)
        active, best = active[better], best[better]
        out, into = np.divmod(best, num)
        sets[active, out], sets[active, into] = False, True
    return sets
