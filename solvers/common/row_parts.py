"""A block taken apart: rows that share classes, directly or through others, belong together; the rest is independent.

Parts are placed one after another, so that no row covers classes of another part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a block and the classes they keep; both int arrays of indices, ascending."""

    rows: np.ndarray
    classes: np.ndarray


def row_parts(bits: np.ndarray, slope: np.ndarray, left: np.ndarray, right: np.ndarray) -> list[Part]:
    """Take a block apart; the cheapest orders of the parts, one after another, make a cheapest order of the block.

    Rows that pay nothing, or keep nothing and are not open throughout, appear in no part. Rows that are open from
    the start make one part, the first; those open until the end make the last; if there are both, all is one part.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows): which rows keep each class.
    slope
        int, shape (num_rows,): what a row pays per unit of covered width.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.

    Returns
    -------
    list of Part
        From left to right; every class is in one of them.

    Examples
    --------
    >>> bits = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> [(part.rows.tolist(), part.classes.tolist()) for part in row_parts(bits, np.ones(3), free, free)]
    [([], [2]), ([0, 2], [0, 3]), ([1], [1])]
    """
    paying = np.flatnonzero((slope > 0) & (bits.any(axis=0) | (left & right)))
    bits, left, right = bits[:, paying], left[paying], right[paying]
    if (left.any() and right.any()) or len(paying) == 0:
        return [Part(paying, np.arange(len(bits)))]
    leader = _representatives(bits, left | right)
    groups = [np.flatnonzero(leader == first) for first in np.unique(leader)]
    groups.sort(key=lambda own: (not left[own].any(), right[own].any(), own[0]))
    parts = [Part(paying[own], np.flatnonzero(bits[:, own].any(axis=1))) for own in groups]
    idle = np.flatnonzero(~bits.any(axis=1))
    if len(idle):
        parts.insert(int(bool(left.any())), Part(paying[:0], idle))
    return parts


def _representatives(bits: np.ndarray, anchored: np.ndarray) -> np.ndarray:
    """The first row of each row's component; anchored rows are connected."""
    kept = bits.astype(np.float32)
    reach = (kept.T @ kept > 0) | (anchored[:, np.newaxis] & anchored) | np.eye(len(anchored), dtype=bool)
    for _ in range(len(anchored).bit_length()):
        reach = reach.astype(np.float32) @ reach.astype(np.float32) > 0
    first: np.ndarray = reach.argmax(axis=1)
    return first
