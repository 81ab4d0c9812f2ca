"""How far classes of a block lie apart, computed when asked for: rows of distances, and the classes nearest to each.

Two classes are as far apart as readers keep one of them and not the other. What stands before and behind the block is
two nodes more, for which the readers that keep something there count. Nothing takes memory that grows with the square
of the classes but the rows that are asked for, and those only up to a limit.
"""

from __future__ import annotations

from array import array

import numpy as np

from solvers.common.clock import time_now

_NEAREST = 12  # classes: nearest ones listed for moves; by hand
_MOST_BYTES = 2**28  # bytes: of distances kept, 256 MB
_CHUNK = 2**21  # numbers: computed at once: a bound on memory; by hand

Row = bytearray | array
"""Distances from one node to all nodes, quick to look up one by one."""


class ClassDistances:
    """The nodes of one block: its classes, then the start, then the end.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_readers): who keeps each class.

    Attributes
    ----------
    num
        Number of classes; also the node of the start. The end is the next one.
    rows
        Node to its distances, computed on use.
    near
        Node to the list of classes nearest to it, nearest first, computed on use.

    Examples
    --------
    >>> distances = ClassDistances(np.array([[1, 0], [1, 1], [0, 1]], dtype=bool))
    >>> list(distances.rows[0]), distances.near[0]
    ([0, 1, 2, 1, 1], [1, 2])
    """

    def __init__(self, bits: np.ndarray) -> None:
        self.num = len(bits)
        nobody = np.zeros((2, bits.shape[1]), dtype=bool)
        self._words = _words(np.concatenate([bits, nobody]))
        self._wide = bits.shape[1] > np.iinfo(np.uint8).max
        self._ends = nobody
        self.rows = _Rows(self)
        self.near = _Near(self)

    def set_ends(self, before: np.ndarray, after: np.ndarray) -> None:
        """Say which readers keep what stands before the block and behind it; bool, shape (num_readers,) each."""
        ends = np.stack([before, after])
        if np.array_equal(ends, self._ends):
            return
        self._ends = ends
        self._words[:, self.num :] = _words(ends)
        for node in (self.num, self.num + 1):
            self.rows.pop(node, None)
            self.near.pop(node, None)
            row = self.rows[node]
            for other, known in self.rows.items():
                known[node] = row[other]

    def from_node(self, node: int) -> np.ndarray:
        """Distances to all nodes; uint8 or uint16, shape (num_classes + 2,)."""
        return self._apart(self._words, self._words[:, node, np.newaxis])

    def row(self, node: int) -> Row:
        """`from_node` in the form of a `Row`."""
        found = self.from_node(node)
        return array("H", found.tobytes()) if self._wide else bytearray(found.tobytes())

    def nearest_to(self, node: int) -> list[int]:
        """The classes nearest to a node, nearest first."""
        far = self.from_node(node)[: self.num].astype(np.int32)
        if node < self.num:
            far[node] = np.iinfo(np.int32).max
        count = min(_NEAREST, self.num - (node < self.num))
        near = np.argpartition(far, count - 1)[:count] if 0 < count < self.num else np.arange(count)
        found: list[int] = near[np.argsort(far[near], kind="stable")].tolist()
        return found

    def length(self, path: list[int]) -> int:
        """Sum of the distances along a path of nodes."""
        words = self._words[:, path]
        return int(self._apart(words[:, 1:], words[:, :-1]).sum(dtype=np.int64))

    def nearest_path(self, deadline: float) -> list[int]:
        """Classes from the start on, always the nearest one next; those left at the deadline follow as they are."""
        left = np.ones(self.num, dtype=bool)
        path: list[int] = []
        node = self.num
        beyond = np.iinfo(np.uint16).max
        while len(path) < self.num and time_now() < deadline:
            node = int(np.where(left, self.from_node(node)[: self.num], beyond).argmin())
            left[node] = False
            path.append(node)
        return path + np.flatnonzero(left).tolist()

    def two_nearest(self, ends: list[np.ndarray], deadline: float) -> np.ndarray:
        """Sums of every class's two least distances, to other classes or to ends.

        Parameters
        ----------
        ends
            Distances of every class to what else may stand beside it once, as int64 of shape (num_classes,).
        deadline
            A `time.perf_counter` reading. From then on what two different classes lie apart at least is taken, 1.

        Returns
        -------
        np.ndarray
            int64, shape (num_classes,).
        """
        own = np.arange(self.num)
        others = np.ones((self.num, min(2, self.num - 1)), dtype=np.int64)
        size = max(1, _CHUNK // (self.num + 2))
        for begin in range(0, self.num if self.num > 1 else 0, size):
            if time_now() >= deadline:
                break
            chunk = own[begin : begin + size]
            far = self._apart(self._words[:, np.newaxis, : self.num], self._words[:, chunk, np.newaxis])
            far[np.arange(len(chunk)), chunk] = np.iinfo(far.dtype).max
            count = others.shape[1]
            others[chunk] = np.partition(far, count - 1, axis=1)[:, :count] if count < self.num else far
        every = np.concatenate([others, *(end[:, np.newaxis] for end in ends)], axis=1)
        sums: np.ndarray = np.sort(every, axis=1)[:, :2].sum(axis=1)
        return sums

    def _apart(self, words: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Readers that differ, the words being along the first axis."""
        total = np.bitwise_count(words[0] ^ others[0])
        if self._wide:
            total = total.astype(np.uint16)
        for one, other in zip(words[1:], others[1:], strict=True):
            total += np.bitwise_count(one ^ other)
        return total


class _Rows(dict[int, Row]):
    """Rows made on use; all are forgotten when they get too many."""

    def __init__(self, distances: ClassDistances) -> None:
        super().__init__()
        self._distances = distances
        self._most = max(64, _MOST_BYTES // (2 * (distances.num + 2)))

    def __missing__(self, node: int) -> Row:
        if len(self) >= self._most:
            self.clear()
        row = self[node] = self._distances.row(node)
        return row


class _Near(dict[int, list[int]]):
    """Lists of nearest classes made on use."""

    def __init__(self, distances: ClassDistances) -> None:
        super().__init__()
        self._distances = distances

    def __missing__(self, node: int) -> list[int]:
        found = self[node] = self._distances.nearest_to(node)
        return found


def _words(bits: np.ndarray) -> np.ndarray:
    """Rows of bits as words; uint64, shape (num_words, num_rows)."""
    padded = np.zeros((len(bits), max(1, -(-bits.shape[1] // 64)) * 64), dtype=bool)
    padded[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(np.packbits(padded, axis=1).view(np.uint64).T)
