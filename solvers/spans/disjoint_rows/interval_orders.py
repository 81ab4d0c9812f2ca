"""Which rows lie wholly before which: interval orders, built by inserting rows one at a time.

Rows that share a class meet in every order. Of two others one may lie before the other. All such relations together
form an interval order; its maximal sets of rows that meet pairwise stand in a row from left to right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IntervalOrder:
    """Relations between some rows.

    Attributes
    ----------
    rows
        The rows, in the order of their insertion.
    before
        Per row in `rows`, the bit mask of the rows that lie wholly before it.
    """

    rows: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    @classmethod
    def all_meet(cls, num_rows: int) -> IntervalOrder:
        """No row lies before another one."""
        return cls(tuple(range(num_rows)), (0,) * num_rows)

    def after(self, row: int) -> int:
        """Bit mask of the rows that lie wholly after a row."""
        return sum(1 << r for r, mask in zip(self.rows, self.before, strict=True) if mask >> row & 1)

    def meetings(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last maximal meeting of each row, in the order of `rows`; two int64 arrays."""
        starts = sorted(set(self.before), key=int.bit_count)
        first = np.array([starts.index(mask) for mask in self.before], dtype=np.int64)
        last = np.full(len(self.rows), len(starts) - 1, dtype=np.int64)
        for k, row in enumerate(self.rows):
            later = [first[j] for j, mask in enumerate(self.before) if mask >> row & 1]
            if later:
                last[k] = min(later) - 1
        return first, last

    def mirrored(self) -> IntervalOrder:
        """The same from right to left."""
        after = dict.fromkeys(self.rows, 0)
        for row, mask in zip(self.rows, self.before, strict=True):
            while mask:
                lowest = mask & -mask
                after[lowest.bit_length() - 1] |= 1 << row
                mask ^= lowest
        return IntervalOrder(self.rows, tuple(after.values()))


def insertions(
    order: IntervalOrder, row: int, apart: int, *, first: int, last: int, related: int = 0
) -> Iterator[IntervalOrder]:
    """All interval orders that add one row.

    Parameters
    ----------
    order
        The relations so far.
    row
        The row to add.
    apart
        Bit mask of the rows that need not meet it.
    first, last
        Bit masks of the rows that nothing may lie before, after.
    related
        Bit mask of the rows that must lie before or after it.

    Examples
    --------
    >>> single = IntervalOrder((0,), (0,))
    >>> [found.before for found in insertions(single, 1, 0b1, first=0, last=0)]
    [(0, 0), (2, 0), (0, 1)]
    """
    present = sum(1 << r for r in order.rows)
    apart &= present
    after = dict(zip(order.rows, order.mirrored().before, strict=True))
    before = dict(zip(order.rows, order.before, strict=True))
    apart_before = 0 if first >> row & 1 else apart & ~last
    apart_after = 0 if last >> row & 1 else apart & ~first
    earlier = [mask for mask in _subsets(apart_before) if _closed(mask, before)]
    later = [mask for mask in _subsets(apart_after) if _closed(mask, after)]
    for low in earlier:
        if not all(_nested(low, mask) for mask in order.before):
            continue
        for high in later:
            if low & high or related & ~(low | high) or any(low & ~before[r] for r in _members(high)):
                continue
            joined = tuple(mask | (1 << row if high >> r & 1 else 0) for r, mask in before.items())
            everything = (*joined, low)
            if all(_nested(a, b) for i, a in enumerate(everything) for b in everything[:i]):
                yield IntervalOrder((*order.rows, row), everything)


def renumbered(order: IntervalOrder, rows: np.ndarray) -> IntervalOrder:
    """The same relations, the rows numbered by their places in `rows` (int, ascending)."""
    place = {int(r): k for k, r in enumerate(rows)}
    before = tuple(sum(1 << place[r] for r in order.rows if mask >> r & 1) for mask in order.before)
    return IntervalOrder(tuple(place[r] for r in order.rows), before)


def _subsets(mask: int) -> list[int]:
    """All subsets of a bit mask, small ones first."""
    found = [0]
    for member in _members(mask):
        found += [old | 1 << member for old in found]
    return sorted(found, key=int.bit_count)


def _members(mask: int) -> list[int]:
    return [r for r in range(mask.bit_length()) if mask >> r & 1]


def _closed(mask: int, beyond: dict[int, int]) -> bool:
    """Whether a set holds everything that lies beyond its members."""
    return all(beyond[r] & ~mask == 0 for r in _members(mask))


def _nested(one: int, other: int) -> bool:
    return one & other in (one, other)
