"""Relations of settled rows: those that lie wholly before or after another, while all other rows meet everything.

Few relations matter for many sets of rows: one path prices a relation with all sets of other rows
(`path_for_all_sets`).
"""

from __future__ import annotations

import numpy as np

from solvers.spans.disjoint_rows.interval_orders import IntervalOrder, insertions


class Skeleton:
    """A relation in which every row is settled, as bit masks; without any rows there is one empty meeting.

    Attributes
    ----------
    rows
        The settled rows.
    first, last
        Those in the first and in the last of the maximal meetings.

    Examples
    --------
    >>> skeleton = Skeleton(IntervalOrder((0, 1, 2), (0, 1, 1)))
    >>> skeleton.first, skeleton.last
    (1, 6)
    """

    def __init__(self, order: IntervalOrder) -> None:
        first, last = order.meetings()
        place = [1 << row for row in order.rows]
        self.rows = sum(place)
        self._meetings = [
            sum(mask for mask, low, high in zip(place, first, last, strict=True) if low <= k <= high)
            for k in range(int(first.max(initial=-1)) + 1)
        ] or [0]
        self.first, self.last = self._meetings[0], self._meetings[-1]

    def heights(self, part: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Slope of the cheapest set between the first and last meeting that contains each of some sets of rows.

        Rows that open or close in the same place may do so in any order, another one for every set.

        Parameters
        ----------
        part
            int64, shape (num_parts,): sets of settled rows that meet.
        slope
            int64, shape (2^num_rows,): slope of every set of rows.
        """
        least = np.full(len(part), slope[-1])
        for one, other in zip(self._meetings, self._meetings[1:] or self._meetings):
            for meeting in (one, other):
                holds = part & ~meeting == 0
                np.minimum(least, slope[one & other | part], out=least, where=holds)
        return least


class SettledOrders:
    """The relations of exactly some settled rows, each or its mirror image; those of fewer rows must be asked before.

    Parameters
    ----------
    apart
        Per row, the bit mask of the rows that need not meet it.
    """

    def __init__(self, apart: list[int]) -> None:
        self._apart = apart
        self._kept: dict[int, list[IntervalOrder]] = {0: [IntervalOrder()]}

    def keep(self, rows: int, orders: list[IntervalOrder]) -> None:
        """Build larger relations on these ones only."""
        self._kept[rows] = orders

    def of(self, rows: int) -> list[IntervalOrder]:
        """The relations of a set of rows (a bit mask), each of which lies before or after another.

        Without its last row some rows may be settled no more: these must be related to the last one.
        """
        row = rows.bit_length() - 1
        rest = rows & ~(1 << row)
        loose = rest & self._apart[row]
        found: dict[tuple[int, ...], IntervalOrder] = {}
        alone = loose
        while loose:
            self._insert(row, rest & ~alone, alone, found)
            if not alone:
                break
            alone = (alone - 1) & loose
        return list(found.values())

    def _insert(self, row: int, settled: int, alone: int, found: dict[tuple[int, ...], IntervalOrder]) -> None:
        """Insert a row that lies before or after all of the rows `alone`, which are not settled yet."""
        for own in self._kept.get(settled, []):
            before = dict(zip(own.rows, own.before, strict=True)) | {r: 0 for r in range(row) if alone >> r & 1}
            by_row = tuple(sorted(before))
            base = IntervalOrder(by_row, tuple(before[r] for r in by_row))
            for child in insertions(base, row, self._apart[row], first=0, last=0, related=alone):
                if child.before[-1] or child.after(row):
                    kept = _either(child)
                    found[kept.before] = kept


def rest_of(order: IntervalOrder, row: int) -> IntervalOrder:
    """What is left of a relation without a row, for the rows that are still settled: it or its mirror image.

    Examples
    --------
    >>> rest_of(IntervalOrder((0, 1, 2), (0, 1, 1)), 1)
    IntervalOrder(rows=(0, 2), before=(0, 1))
    """
    masks, related = [], 0
    for r, mask in zip(order.rows, order.before, strict=True):
        masks.append(0 if r == row else mask & ~(1 << row))
        if masks[-1]:
            related |= masks[-1] | 1 << r
    kept = [(r, mask) for r, mask in zip(order.rows, masks, strict=True) if related >> r & 1]
    return _either(IntervalOrder(*zip(*kept, strict=True)) if kept else IntervalOrder())


def _either(order: IntervalOrder) -> IntervalOrder:
    """A relation or its mirror image, always the same one of the two."""
    image = order.mirrored()
    return order if order.before <= image.before else image
