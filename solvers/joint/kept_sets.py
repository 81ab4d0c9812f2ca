"""The best kept set of one access along a line of channels, if the other accesses keep theirs.

A line is an order of all channels of the blocks that the access reads, stored or not. A set is read in place or with an
over-read, within a range of the line; or it is copied, wherever its channels lie. Channels in the range that others
have stored and the access does not keep are over-read; those that nobody has stored lie nowhere.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems.joint.access import JointAccess
from problems.joint.problem import JointProblem

_NEVER = 2**40  # loss: per over-read channel, where over-reading is not allowed; values stay below 2^52
_ROUNDS = 6  # halvings: of the multiplier of a required sum; by hand


@dataclass(frozen=True)
class AccessLine:
    """An access along a line.

    Attributes
    ----------
    access
        The access.
    importance
        Along the line, shape (positions,).
    keep
        What keeping a position adds to its loss and prices, compared with dropping it; negative where it pays.
    over_read
        What covering a position costs that is not kept; 0 where nobody has stored it.
    copy
        What keeping a position costs in a copy; None if copies are not allowed.
    stored
        Whether others have stored it.
    """

    access: JointAccess
    importance: np.ndarray
    keep: np.ndarray
    over_read: np.ndarray
    copy: int | None
    stored: np.ndarray

    @classmethod
    def of(cls, problem: JointProblem, a: int, positions: np.ndarray, stored: np.ndarray) -> AccessLine:
        """Make it.

        Parameters
        ----------
        problem, a
            The problem, and the access.
        positions
            The input positions of the access along the line.
        stored
            Per place on the line whether others have stored the channel.
        """
        access = problem.accesses[a]
        importance = access.importance[positions]
        keep = access.price - problem.loss_price * importance + problem.stored_price * ~stored
        over, copy = problem.over_read_price, problem.copy_price
        price = _NEVER if over is None else min(_NEVER, over * access.channel_size)
        return cls(access, importance, keep, price * stored, copy and copy * access.channel_size, stored)

    def cost(self, kept: np.ndarray) -> int:
        """What a set adds to the value, compared with an empty one; along the line, Boolean."""
        own = np.flatnonzero(kept)
        covered = slice(own[0], own[-1] + 1)
        reads = [int(self.over_read[covered][~kept[covered]].sum())]
        if self.copy is not None:
            reads.append(self.copy * len(own))
        return int(self.keep[kept].sum()) + (0 if reads[0] == 0 else min(reads))

    def best(self, current: np.ndarray) -> np.ndarray:
        """The best set that is found; not worse than the current one."""
        found = [current, self._extreme(np.zeros(len(self.keep), dtype=np.int64))]
        if self.access.required is None:
            found += self._sets(0)
        else:
            found += self._enough()
        allowed = [own for own in found if self.access.accepts_values(own, self.importance)]
        return min(allowed, key=self.cost)

    def _enough(self) -> list[np.ndarray]:
        """Sets under multipliers of importance: four times the last one until they reach the required sum, then less.

        There may be no such set within a range; then what is left is the set of largest importance.
        """
        found, least, most = self._sets(0), 0, 1
        if self._all_accepted(found):
            return found
        over = self.over_read[self.over_read < _NEVER].max(initial=0)
        top = 4 * (int(np.abs(self.keep).max()) + int(over)) + 1
        while most <= top:
            own = self._sets(most)
            found += own
            if self._all_accepted(own):
                break
            least, most = most, 4 * most
        for _ in range(_ROUNDS):
            if most - least <= 1 or most > top:
                break
            middle = (least + most) // 2
            own = self._sets(middle)
            found += own
            least, most = (least, middle) if self._all_accepted(own) else (middle, most)
        return found

    def _all_accepted(self, sets: list[np.ndarray]) -> bool:
        return all(self.access.accepts_values(own, self.importance) for own in sets)

    def _sets(self, multiplier: int) -> list[np.ndarray]:
        """The best set within a range, and the best to copy, if a unit of importance earns a multiplier."""
        weights = self.keep - multiplier * self.importance
        found = [self._range_of_width(weights) if self.access.width is not None else self._range(weights)]
        if self.copy is not None:
            found.append(self._extreme(weights + self.copy))
        return found

    def _extreme(self, weights: np.ndarray) -> np.ndarray:
        """The set of least weight; with weights of 0, that of largest importance."""
        if not weights.any():
            weights = -self.importance
        number = self.access.width or max(1, int((weights < 0).sum()))
        kept = np.zeros(len(weights), dtype=bool)
        kept[np.argsort(weights, kind="stable")[:number]] = True
        return kept

    def _range(self, weights: np.ndarray) -> np.ndarray:
        """The range of least weight; in it, what is kept weighs less than covering it (Kadane's algorithm)."""
        takes = weights < self.over_read
        costs = np.where(takes, weights, self.over_read)
        before = np.concatenate([[0], np.cumsum(costs)])
        highest = np.maximum.accumulate(before)
        stop = int(np.argmin(before[1:] - highest[:-1])) + 1
        start = int(np.argmax(before[:stop]))
        kept = np.zeros(len(weights), dtype=bool)
        kept[start:stop] = takes[start:stop]
        if not kept.any():
            kept[int(np.argmin(weights))] = True
        return kept

    def _range_of_width(self, weights: np.ndarray) -> np.ndarray:
        """The best range and set of the access's width: from every start, ranges grow to the right."""
        width = self.access.width
        assert width is not None
        gains, over = (weights - self.over_read).tolist(), self.over_read.tolist()
        cheapest = int(np.sort(weights)[:width].sum())
        stored = int(self.over_read.max())
        best: tuple[float, int, int] = (np.inf, 0, len(gains))
        for start in range(len(gains) - width + 1):
            heap: list[int] = []
            total = covered = 0
            for stop in range(start, len(gains)):
                covered += over[stop]
                if len(heap) < width:
                    heapq.heappush(heap, -gains[stop])
                    total += gains[stop]
                elif -gains[stop] > heap[0]:
                    total += gains[stop] + heapq.heapreplace(heap, -gains[stop])
                if len(heap) == width:
                    if covered + total < best[0]:
                        best = covered + total, start, stop + 1
                    if covered - width * stored + cheapest >= best[0]:
                        break
        _, start, stop = best
        kept = np.zeros(len(gains), dtype=bool)
        kept[start + np.argsort((weights - self.over_read)[start:stop], kind="stable")[:width]] = True
        return kept


def line_of(problem: JointProblem, a: int, lines: list[np.ndarray]) -> np.ndarray:
    """The input positions of an access along the lines of all blocks."""
    return np.concatenate([positions.start + lines[b] for b, positions in problem.slots[a]])


def stored_by(problem: JointProblem, kept: list[Any], but: int | None = None) -> list[np.ndarray]:
    """Per block the channels that are stored for all accesses, or for all but one."""
    stored = [own.copy() for own in problem.always_stored]
    for a, slots in enumerate(problem.slots):
        if a != but:
            for b, positions in slots:
                stored[b] |= kept[a][positions]
    return stored
