"""A path through the classes of a block, improved by 2-opt and or-opt moves between near classes.

Its length is twice the number of runs: classes lie as far apart as rows keep one of them and not the other. Moves are
looked for around the places that changed last (Bentley, "Fast algorithms for geometric traveling salesman problems",
ORSA J. Comput. 4, 1992).
"""

from __future__ import annotations

import time

import numpy as np

_NEAREST = 10
_LOOKED_AT = 24
_FAR = 50
_SHIFTS = np.array([(piece, way, side) for piece in (1, 2, 3) for way in (1, -1) for side in (1, -1)])
"""Pieces of up to three classes, that begin with a class and lead on or back, and go behind or before another one."""


class ClassPath:
    """A path from a start to an end through all classes.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_readers): who keeps each class.

    Attributes
    ----------
    length
        Of the present path.
    """

    def __init__(self, bits: np.ndarray) -> None:
        self._num = num = len(bits)
        kept = bits.astype(np.float32)
        self._degree = bits.sum(axis=1).astype(np.int64)
        apart = self._degree[:, np.newaxis] + self._degree - 2 * np.rint(kept @ kept.T).astype(np.int64)
        self._far = np.zeros((num + 2, num + 2), dtype=np.int32)
        self._far[:num, :num] = apart
        nearest = min(_NEAREST, num - 1)
        np.fill_diagonal(apart, apart.max() + 1)
        near = np.argpartition(apart, nearest - 1, axis=1)[:, :nearest] if nearest else np.zeros((num, 0), dtype=int)
        self._near = near.astype(np.int64)
        self._path = np.zeros(0, dtype=np.int64)
        self._place = np.zeros(0, dtype=np.int64)
        self._dirty: np.ndarray = np.zeros(0, dtype=np.int64)
        self.length = 0

    def place(self, sequence: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        """Take a path.

        Parameters
        ----------
        sequence
            int, shape (num_classes,).
        first, last
            int, shape (num_classes,): runs that begin with each class if it is the first one, and runs that begin
            behind it if it is the last one.
        """
        start, end = self._num, self._num + 1
        self._far[start, : self._num] = self._far[: self._num, start] = 2 * first - self._degree
        self._far[end, : self._num] = self._far[: self._num, end] = 2 * last + self._degree
        self._take(np.concatenate([[start], sequence, [end]]))
        self._dirty = sequence

    def sequence(self) -> np.ndarray:
        """The classes from left to right."""
        return self._path[1:-1].copy()

    def snapshot(self) -> np.ndarray:
        """For `recall`."""
        return self._path

    def recall(self, snapshot: np.ndarray) -> None:
        """Return to a snapshot, which was locally best."""
        self._take(snapshot)
        self._dirty = np.zeros(0, dtype=np.int64)

    def kick(self, rng: np.random.Generator) -> None:
        """Exchange two neighbouring stretches of the path, at most 50 classes each."""
        if self._num < 3:
            return
        a = int(rng.integers(1, self._num - 1))
        b = int(rng.integers(a + 1, min(self._num, a + _FAR) + 1))
        c = int(rng.integers(b, min(self._num, b + _FAR) + 1))
        path = self._path
        self._dirty = path[[a - 1, a, b - 1, b, c, min(c + 1, self._num)]]
        self._take(np.concatenate([path[:a], path[b : c + 1], path[a:b], path[c + 1 :]]))

    def descend(self, deadline: float) -> None:
        """Make improving moves around the changed places until there are none, or the deadline passes."""
        dirty = np.unique(self._dirty[self._dirty < self._num])
        while len(dirty) and self._near.shape[1] and time.perf_counter() < deadline:
            looked = dirty[:_LOOKED_AT]
            touched = self._improve(looked)
            if touched is None:
                dirty = dirty[_LOOKED_AT:]
            else:
                dirty = np.unique(np.concatenate([dirty, touched[touched < self._num]]))
        self._dirty = dirty

    def _take(self, path: np.ndarray) -> None:
        self._path = path
        self._place = np.empty(len(path), dtype=np.int64)
        self._place[path] = np.arange(len(path))
        self.length = int(self._far[path[:-1], path[1:]].sum())

    def _improve(self, nodes: np.ndarray) -> np.ndarray | None:
        """Make the best move that joins one of some classes to a near one; the classes at its ends, None without."""
        near = self._near[nodes]
        turns, shifts = self._turns(nodes[:, np.newaxis], near), self._shifts(nodes[:, np.newaxis], near)
        turn, shift = int(turns.argmin()), int(shifts.argmin())
        if min(turns.flat[turn], shifts.flat[shift]) >= 0:
            return None
        if turns.flat[turn] <= shifts.flat[shift]:
            kind, i, j = np.unravel_index(turn, turns.shape)
            return self._turn(int(nodes[i]), int(near[i, j]), 1 if kind == 0 else -1)
        kind, i, j = np.unravel_index(shift, shifts.shape)
        piece, way, side = _SHIFTS[kind]
        return self._shift(int(nodes[i]), int(near[i, j]), int(piece), int(way), int(side))

    def _turns(self, a: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Change of the length if a stretch is reversed so that a and c meet; shape (2, ...): after a, before a."""
        far, path = self._far, self._path
        changes = []
        for side in (1, -1):
            b, d = path[self._place[a] + side], path[self._place[c] + side]
            changes.append(far[a, c] + far[b, d] - far[a, b] - far[c, d])
        return np.stack(changes)

    def _shifts(self, a: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Change of the length if a piece that begins with a is put beside c; shape (len(_SHIFTS), ...)."""
        far, path, at, to = self._far, self._path, self._place[a], self._place[c]
        piece, way, side = (column[:, np.newaxis, np.newaxis] for column in _SHIFTS.T)
        final = at + way * (piece - 1)
        fits = (final >= 1) & (final <= self._num)
        for other in (to, to + side):
            ahead = (other - at) * way
            fits = fits & ((ahead < 0) | (ahead >= piece))
        final = np.clip(final, 1, self._num)
        z, u, v, d = path[final], path[at - way], path[final + way], path[to + side]
        change = far[u, v] + far[c, a] + far[z, d] - far[u, a] - far[z, v] - far[c, d]
        return np.where(fits, change, 0)

    def _turn(self, a: int, c: int, side: int) -> np.ndarray:
        low, high = sorted((int(self._place[a]), int(self._place[c])))
        first, last = (low + 1, high) if side == 1 else (low, high - 1)
        path = self._path.copy()
        path[first : last + 1] = path[first : last + 1][::-1]
        self._take(path)
        return path[[first - 1, first, last, last + 1]]

    def _shift(self, a: int, c: int, piece: int, way: int, side: int) -> np.ndarray:
        at, to = int(self._place[a]), int(self._place[c])
        first = at if way == 1 else at - piece + 1
        stretch = self._path[first : first + piece]
        rest = np.concatenate([self._path[:first], self._path[first + piece :]])
        cut = (to if to < first else to - piece) + (side == 1)
        moved = stretch if way == side else stretch[::-1]
        self._take(np.concatenate([rest[:cut], moved, rest[cut:]]))
        return np.concatenate([rest[first - 1 : first + 1], rest[cut - 1 : cut + 1], stretch[[0, -1]]])
