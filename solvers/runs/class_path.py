"""A path through the classes of a block, improved by moves that replace two or three of its edges.

Its length is twice the number of runs, but for a constant: classes lie as far apart as readers keep one of them and not
the other. A move takes out an edge, joins one of its ends to a near class, takes out an edge there, and so on, as long
as what it took out is longer than what it put in (Lin and Kernighan, "An effective heuristic algorithm for the
traveling-salesman problem", Oper. Res. 21, 1973). Classes are looked at again only after a move has touched them
(Bentley, "Fast algorithms for geometric traveling salesman problems", ORSA J. Comput. 4, 1992). Kicks change a path
near one place (Applegate, Cook and Rohe, "Chained Lin-Kernighan for large traveling salesman problems", INFORMS J.
Comput. 15, 2003).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from solvers.common.clock import time_now
from solvers.runs.class_distances import ClassDistances

_WALKS = 8  # walks: tried from a path before a kick; by hand
_WALK_STEPS = 3  # steps: of a walk, three edges at most; by hand

Edge = tuple[int, int]


class ClassPath:
    """A path from a start to an end through all classes.

    Parameters
    ----------
    distances
        Of the block's classes.
    near
        Node to classes it may be joined to, nearest first. Default: the nearest ones.

    Attributes
    ----------
    length
        Of the present path.
    """

    def __init__(self, distances: ClassDistances, near: Mapping[int, list[int]] | None = None) -> None:
        self._distances = distances
        self._near = distances.near if near is None else near
        self._num = distances.num
        self._path: list[int] = []
        self._place: list[int] = []
        self._dirty: list[int] = []
        self._done: list[tuple[int, int]] = []
        self._length_before = 0
        self.length = 0

    def place(self, sequence: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """Take a path.

        Parameters
        ----------
        sequence
            int, shape (num_classes,).
        before, after
            bool, shape (num_readers,): which readers keep what stands before and behind the block.
        """
        self._distances.set_ends(before, after)
        self._path = [self._num, *sequence.tolist(), self._num + 1]
        self._place = np.argsort(self._path).tolist()
        self.length = self._distances.length(self._path)
        self._dirty = list(self._path)
        self.keep()

    def sequence(self) -> np.ndarray:
        """The classes from left to right."""
        return np.array(self._path[1:-1], dtype=np.int64)

    def keep(self) -> None:
        """Make the present path the one `undo` returns to."""
        self._done.clear()
        self._length_before = self.length

    def undo(self) -> None:
        """Return to the path that was kept last, which was locally best."""
        while self._done:
            self._turn(*self._done.pop())
            self._done.pop()
        self.length = self._length_before
        self._dirty = []

    def kick(self, rng: np.random.Generator) -> None:
        """Exchange two neighbouring stretches of the path, whose ends are near to each other."""
        if self._num < 3:
            return
        path, rows = self._path, self._distances.rows
        a, b, c = self._cuts(rng)
        t, u, v, w, x, y = path[a - 1], path[a], path[b - 1], path[b], path[c - 1], path[c]
        self.length += rows[t][w] + rows[x][u] + rows[v][y] - rows[t][u] - rows[v][w] - rows[x][y]
        self._turn(a, b - 1)
        self._turn(b, c - 1)
        self._turn(a, c - 1)
        self._dirty = [t, u, v, w, x, y]

    def _cuts(self, rng: np.random.Generator) -> list[int]:
        """Three places, ascending, from walks between near classes; any three if walks lead to no others."""
        start = 1 + int(rng.random() * self._num)
        places = {start}
        for _ in range(_WALKS):
            node = self._path[start]
            for _ in range(_WALK_STEPS):
                near = self._near[node]
                node = near[int(rng.random() * len(near))] if near else node
            places.add(self._place[node])
            if len(places) == 3:
                return sorted(places)
        return sorted((1 + rng.choice(self._num, size=3, replace=False)).tolist())

    def descend(self, deadline: float) -> None:
        """Make improving moves around the changed places until there are none, or the deadline passes."""
        queue, waiting = deque(self._dirty), set(self._dirty)
        while queue and time_now() < deadline:
            node = queue.popleft()
            waiting.discard(node)
            touched = self._improve(node)
            fresh = [other for other in touched if other not in waiting and other != node]
            queue.extend(fresh)
            waiting.update(fresh)
            if touched:
                queue.appendleft(node)
                waiting.add(node)
        self._dirty = list(queue)

    def _improve(self, t1: int) -> tuple[int, ...]:
        """Make the first improving move found that takes out an edge of t1; the nodes at its ends, nothing without.

        Nodes are named as in the literature: (t1, t2), (t3, t4) and (t5, t6) are taken out, (t2, t3) is put in first.
        """
        path, place, rows = self._path, self._place, self._distances.rows
        last = self._num + 1
        for step in (1, -1):
            at = place[t1] + step
            if not 0 <= at <= last:
                continue
            t2 = path[at]
            out, row = rows[t1][t2], rows[t2]
            for t3 in self._near[t2]:
                gain = out - row[t3]
                if gain <= 0:
                    break
                at = place[t3] - step
                if 0 <= at <= last and (made := self._turned(t1, t2, t3, path[at], step, gain)):
                    return made
        return ()

    def _turned(self, t1: int, t2: int, t3: int, t4: int, step: int, gain: int) -> tuple[int, ...]:
        """Moves with t4 on t3's side towards t2: the stretch between is reversed, and perhaps one more."""
        if t4 == t2:
            return ()
        path, place, rows = self._path, self._place, self._distances.rows
        row, row1 = rows[t4], rows[t1]
        gain += rows[t3][t4]
        if gain > row[t1]:
            self._swap((t1, t2), (t4, t3))
            self.length -= gain - row[t1]
            return t1, t2, t3, t4
        num, begin = self._num + 2, place[t2]
        third = (place[t3] - begin) * step % num
        for t5 in self._near[t4]:
            rest = gain - row[t5]
            if rest <= 0:
                break
            at = place[t5]
            fifth = (at - begin) * step % num
            at += step if fifth < third else -step
            if fifth == third or not 0 <= at < num:
                continue
            t6 = path[at]
            if t6 == t4:
                continue
            saved = rest + rows[t5][t6] - row1[t6]
            if saved > 0:
                self._swap((t1, t2), (t4, t3))
                self._swap((t1, t4), (t5, t6))
                self.length -= saved
                return t1, t2, t3, t4, t5, t6
        return ()

    def _swap(self, one: Edge, other: Edge) -> None:
        """Replace two edges by two others, in the only way that leaves a path."""
        place = self._place
        low, high = sorted((max(place[one[0]], place[one[1]]), max(place[other[0]], place[other[1]])))
        self._turn(low, high - 1)

    def _turn(self, first: int, last: int) -> None:
        """Reverse a stretch of the path."""
        self._done.append((first, last))
        stretch = self._path[first : last + 1]
        stretch.reverse()
        self._path[first : last + 1] = stretch
        place = self._place
        for node in stretch:
            place[node] = first
            first += 1
