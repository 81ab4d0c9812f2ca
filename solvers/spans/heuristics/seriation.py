"""Class sequences made without search, from which searches start: spectral seriation.

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
