"""Class sequences made without search, from which searches start: spectral seriation and barycentres.

Classes that many rows share come near each other. Good where the kept sets are nearly intervals; elsewhere a start.
"""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows


def spectral_sequences(rows: BlockRows, *, count: int = 2) -> list[np.ndarray]:
    """Classes sorted by the first Fiedler vectors of their similarity.

    Two classes are as similar as they have rows in common, rows counted by slope. The similarity has at most as large
    a rank as there are rows, so that a small eigenvalue problem gives the vectors of its normalised Laplacian (Atkins,
    Boman and Hendrickson, "A spectral algorithm for seriation and the consecutive ones problem", SIAM J. Comput. 28,
    1998; Dhillon, "Co-clustering documents and words using bipartite spectral graph partitioning", KDD 2001).

    Parameters
    ----------
    rows
        The block.
    count
        How many vectors, from the smoothest one.

    Returns
    -------
    list of np.ndarray
        int, shape (num_classes,) each: classes from left to right; fewer than `count` if there are too few rows.

    Examples
    --------
    >>> bits = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> rows = BlockRows(np.ones(4, dtype=int), bits, np.ones(3, dtype=int), free, free)
    >>> first = spectral_sequences(rows)[0].tolist()
    >>> min(first, first[::-1])
    [1, 3, 0, 2]
    """
    bits = rows.bits * np.sqrt(np.maximum(rows.slope, 0))
    bits = bits[:, bits.any(axis=0)]
    if bits.shape[1] < 2:
        return []
    degree = bits @ (rows.weight @ bits)
    scaled = bits / np.sqrt(np.maximum(degree, 1e-12))[:, np.newaxis]
    _, vectors = np.linalg.eigh((scaled * rows.weight[:, np.newaxis]).T @ scaled)
    smooth = vectors[:, ::-1][:, 1 : count + 1]
    position = (scaled @ smooth) / np.sqrt(np.maximum(degree, 1e-12))[:, np.newaxis]
    return [np.argsort(column.round(12), kind="stable") for column in position.T]


def barycentre_sequence(rows: BlockRows, sequence: np.ndarray, *, rounds: int = 3) -> np.ndarray:
    """Put rows at the mean of their classes and classes at the mean of their rows, a few times.

    Examples
    --------
    >>> bits = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> rows = BlockRows(np.ones(4, dtype=int), bits, np.ones(2, dtype=int), free, free)
    >>> barycentre_sequence(rows, np.array([0, 1, 2, 3])).tolist()
    [0, 2, 1, 3]
    """
    position = np.empty(len(sequence))
    position[sequence] = np.arange(len(sequence))
    kept = rows.bits.astype(np.float64)
    mass = np.maximum(rows.weight @ kept, 1)
    degree = kept.sum(axis=1)
    for _ in range(rounds):
        centre = (rows.weight * position) @ kept / mass
        position = np.where(degree > 0, kept @ centre / np.maximum(degree, 1), position)
    return np.argsort(position, kind="stable")
