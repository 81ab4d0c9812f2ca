"""The cheapest sequence of weighted classes when it is settled which rows meet: a shortest path over pairs of sets.

Rows that meet pairwise have a common point, so that the maximal meetings C_1, ..., C_m stand from left to right. Up to
each of them rows open, after it they close, down to those that go on to the next one, the *valley*. A class lies at the
cheapest of: the first set of the rise that holds it, that of the fall, and the valleys between, all of which hold it.
All rises together are a growing set A of opened rows, all falls a growing set B; with one meeting this is
the pair of chains (docs/model.md, theorems 3 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import WORK_OF_PAIR, time_now
from solvers.spans.disjoint_rows.interval_orders import IntervalOrder
from solvers.spans.exact.pair_of_chains import Lattice, equal_chains, lattice, sums, sums_inside
from solvers.spans.exact.placed_sets import LinearOrder


@dataclass(frozen=True, eq=False)
class _Group:
    """Classes that rise and fall at the same meetings, and whose cheapest valley costs the same.

    Attributes
    ----------
    rise, fall
        Masks of rows that are open already when the rise begins, still when the fall has ended; -1 where the class is
        held by them and pays the valley at most.
    cap
        Slope of the cheapest valley that holds the class.
    inside
        int64, shape (2^num_rows,): weight of the classes inside each set.
    """

    rise: int
    fall: int
    cap: int
    inside: np.ndarray


def cheapest_chains(rows: BlockRows, *, deadline: float = np.inf) -> LinearOrder | None:
    """The sequence of least cost where `BlockRows.meet` holds and every row pays; None if the deadline passed first.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> best = cheapest_chains(BlockRows(np.array([1, 2, 3]), bits, np.array([1, 2]), free, free))
    >>> best.cost, best.sequence.tolist()
    (13, [2, 1, 0])
    """
    if len(set(rows.slope.tolist())) == 1:
        return equal_chains(rows, deadline=deadline)
    return cheapest_meetings(rows, IntervalOrder.all_meet(rows.num_rows), deadline=deadline)


def cheapest_meetings(rows: BlockRows, order: IntervalOrder, *, deadline: float = np.inf) -> LinearOrder | None:
    """The sequence of least cost under given relations, proven; None if the deadline passed first.

    Parameters
    ----------
    rows
        The block; every row pays.
    order
        Which rows lie before which; of the rows 0 to num_rows - 1.
    deadline
        A `time.perf_counter` reading.

    Returns
    -------
    LinearOrder
        No sequence with these relations costs less than its cost, and its sequence costs at most that.
    """
    return _Path(rows, order, deadline).solve()


class _Path:
    def __init__(self, rows: BlockRows, order: IntervalOrder, deadline: float) -> None:
        self._num, self._deadline, self._weight = rows.num_rows, deadline, rows.weight
        self._slope = sums(rows.slope.astype(np.int64))
        first, last = (np.zeros(self._num, dtype=np.int64) for _ in range(2))
        first[list(order.rows)], last[list(order.rows)] = order.meetings()
        self._place_rows(first, last, rows.left, rows.right)
        self._signature = rows.signature
        self._place_classes(rows.bits, first, last)
        self._opened, self._closed = lattice(rows.left), lattice(rows.right)
        self._dtype = np.int32 if int(rows.weight.sum()) * int(rows.slope.sum()) < 2**30 else np.int64
        self._rows = (self._reached(self._opened, 0), self._reached(self._closed, 1))
        self._in_step = self._layers_in_step(rows.slope)

    def _place_rows(self, first: np.ndarray, last: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        """The valleys, and per row the valleys around its rise and fall, and the rows that rise or fall with it."""
        place = np.int64(1) << np.arange(self._num, dtype=np.int64)
        num_meetings = int(first.max()) + 1
        inner = [int(place[(first < k) & (last >= k)].sum()) for k in range(1, num_meetings)]
        self._valley = np.array([int(place[left].sum()), *inner, int(place[right].sum())], dtype=np.int64)
        self._base = (self._valley[first], self._valley[last + 1])
        together = (first[:, np.newaxis] == first, last[:, np.newaxis] == last)
        self._with = tuple(
            (np.where(same & ~fixed, place, 0)).sum(axis=1) for same, fixed in zip(together, (left, right), strict=True)
        )

    def _place_classes(self, bits: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        """Rise, fall and cheapest valley of every class, and the groups of classes that agree in them."""
        rise = np.where(bits, first, 0).max(axis=1, initial=0)
        fall = np.where(bits, last, len(self._valley) - 2).min(axis=1, initial=len(self._valley) - 2)
        holds = self._signature[:, np.newaxis] & ~self._valley == 0
        price = np.where(holds, self._slope[self._valley], self._slope[-1] + 1)
        self._cap = price.min(axis=1)
        self._cheapest_valley = price.argmin(axis=1)
        self._rise, self._fall = rise, fall
        rise_base, fall_base = self._valley[rise], self._valley[fall + 1]
        rise_base = np.where(self._signature & ~rise_base == 0, -1, rise_base)
        fall_base = np.where(self._signature & ~fall_base == 0, -1, fall_base)
        self._rise_base, self._fall_base = rise_base, fall_base
        nowhere = (rise_base < 0) & (fall_base < 0)
        self._constant = int((self._weight * self._cap)[nowhere].sum())
        keys = np.stack([rise_base, fall_base, self._cap], axis=1)
        self._groups: dict[int, list[_Group]] = {}
        for key in np.unique(keys[~nowhere], axis=0):
            own = np.flatnonzero((keys == key).all(axis=1) & ~nowhere)
            inside = sums_inside(self._weight[own], self._signature[own], self._num)
            low, high, cap = (int(value) for value in key)
            self._groups.setdefault(cap, []).append(_Group(low, high, cap, inside))

    def _reached(self, own: Lattice, side: int) -> list[np.ndarray]:
        """Per layer, the slope of the set just reached for each predecessor; shape (sets, predecessors)."""
        reached = []
        for k, (sets, before) in enumerate(zip(own.layers, own.before, strict=True)):
            if k == 0:
                reached.append(np.zeros((1, 0), dtype=np.int64))
                continue
            added = sets[:, np.newaxis] ^ own.layers[k - 1][before]
            row = np.log2(added).astype(np.int64)
            reached.append(self._slope[self._base[side][row] | sets[:, np.newaxis] & self._with[side][row]])
        return reached

    def _layers_in_step(self, slope: np.ndarray) -> np.ndarray:
        """Which pairs of layers a path in the order of slopes can visit; bool, shape (layers, layers).

        Before a step to the slope t every rise and fall has made all its steps to less and none to more.
        """
        sizes = [(set(zip(base.tolist(), own.tolist(), strict=True))) for base, own in zip(self._base, self._with)]
        least, most, turns = [], [], set()
        for stages in sizes:
            for base, rows in stages:
                own = np.sort(slope[(rows >> np.arange(self._num) & 1).astype(bool)])
                start = self._slope[base]
                turns.update((start + np.cumsum(own)).tolist() + (start + np.cumsum(own[::-1])).tolist())
        heights = np.array(sorted(turns))
        heights = np.sort(np.concatenate([2 * heights, 2 * heights + 1]))
        for stages in sizes:
            fewest, greatest = (np.zeros(len(heights), dtype=np.int64) for _ in range(2))
            for base, rows in stages:
                own = np.sort(slope[(rows >> np.arange(self._num) & 1).astype(bool)])
                start = self._slope[base]
                fewest += np.searchsorted(2 * (start + np.cumsum(own[::-1])), heights, side="left")
                greatest += np.searchsorted(2 * (start + np.cumsum(own)), heights, side="right")
            least.append(fewest)
            most.append(greatest)
        layers = [np.arange(len(own.layers))[:, np.newaxis] for own in (self._opened, self._closed)]
        within = [(low <= layer) & (layer <= high) for layer, low, high in zip(layers, least, most, strict=True)]
        both: np.ndarray = within[0][:, np.newaxis] & within[1]
        return np.asarray(both.any(axis=2))

    def _alone(self, opened: np.ndarray, closed: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per cap, the weight covered by the opened rows and not the closed ones, and the reverse.

        Shapes (num_opened, num_closed).
        """
        found = []
        for groups in self._groups.values():
            up, down = (np.zeros((len(opened), len(closed)), dtype=self._dtype) for _ in range(2))
            for group in groups:
                if group.rise >= 0:
                    up += group.inside[opened | group.rise].astype(self._dtype)[:, np.newaxis]
                if group.fall >= 0:
                    down += group.inside[closed | group.fall].astype(self._dtype)
                if group.rise >= 0 and group.fall >= 0:
                    both = group.inside[(opened | group.rise)[:, np.newaxis] & (closed | group.fall)].astype(
                        self._dtype
                    )
                    up -= both
                    down -= both
            found.append((up, down))
        return found

    def solve(self) -> LinearOrder | None:
        """One row opens or closes at a time, and pays for the classes newly covered; the order of slopes is best."""
        best: dict[tuple[int, int], np.ndarray] = {}
        alone: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
        for i, opened in enumerate(self._opened.layers):
            for j, closed in enumerate(self._closed.layers):
                if time_now(WORK_OF_PAIR * len(opened) * len(closed)) >= self._deadline:
                    return None
                if not self._in_step[i, j]:
                    continue
                alone[i, j] = self._alone(opened, closed)
                if (i, j) == (0, 0):
                    best[0, 0] = np.zeros((1, 1), dtype=self._dtype)
                    continue
                steps = []
                if (i - 1, j) in best:
                    up = [(new[0], old[0]) for new, old in zip(alone[i, j], alone[i - 1, j], strict=True)]
                    steps.append(self._step(0, i, best[i - 1, j], up))
                if (i, j - 1) in best:
                    down = [(new[1].T, old[1].T) for new, old in zip(alone[i, j], alone[i, j - 1], strict=True)]
                    steps.append(self._step(1, j, best[i, j - 1].T, down).T)
                if steps:
                    best[i, j] = steps[0] if len(steps) == 1 else np.minimum(*steps)
            for j in range(len(self._closed.layers)):
                alone.pop((i - 1, j), None)
        return self._walk(best)

    def _step(
        self, side: int, layer: int, table: np.ndarray, covered: list[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Least cost after a row is added on one side, along the first axis."""
        before = (self._opened, self._closed)[side].before[layer]
        least: np.ndarray | None = None
        for k in range(before.shape[1]):
            old = before[:, k]
            trial = table[old]
            for cap, (new_weight, old_weight) in zip(self._groups, covered, strict=True):
                price = np.minimum(self._rows[side][layer][:, k], cap).astype(self._dtype)
                trial = trial + price[:, np.newaxis] * (new_weight - old_weight[old])
            least = trial if least is None else np.minimum(least, trial, out=least)
        assert least is not None
        return least

    def _walk(self, best: dict[tuple[int, int], np.ndarray]) -> LinearOrder:
        """Go back along a shortest path, and lay every class down where it is cheapest."""
        sides = self._opened, self._closed
        at, layer = [0, 0], [len(self._opened.layers) - 1, len(self._closed.layers) - 1]
        cost = int(best[layer[0], layer[1]][0, 0]) + self._constant
        steps: list[tuple[int, int, int]] = []
        while any(layer):
            here = int(best[layer[0], layer[1]][at[0], at[1]])
            found = False
            for side in (0, 1):
                pair = (layer[0] - 1, layer[1]) if side == 0 else (layer[0], layer[1] - 1)
                if pair not in best or found:
                    continue
                own, other = sides[side].layers[layer[side]], sides[1 - side].layers[layer[1 - side]]
                mask, against = own[at[side]][np.newaxis], other[at[1 - side]][np.newaxis]
                before = sides[side].before[layer[side]][at[side]]
                smaller = sides[side].layers[layer[side] - 1][before]
                table = best[pair] if side == 0 else best[pair].T
                values = table[before, at[1 - side]].astype(np.int64)
                new = self._alone(mask, against) if side == 0 else self._alone(against, mask)
                old = self._alone(smaller, against) if side == 0 else self._alone(against, smaller)
                prices = self._rows[side][layer[side]][at[side]]
                for cap, now, then in zip(self._groups, new, old, strict=True):
                    values += np.minimum(prices, cap) * (now[side].ravel()[0] - then[side].ravel())
                k = int(values.argmin())
                if int(values[k]) == here:
                    steps.append((side, int(mask[0]), int(prices[k])))
                    at[side], layer[side] = int(before[k]), layer[side] - 1
                    found = True
            assert found
        return LinearOrder(cost, self._sequence(steps[::-1]))

    def _sequence(self, steps: list[tuple[int, int, int]]) -> np.ndarray:
        """The classes from left to right: by meeting, in its rise or fall or the valley after it, by height."""
        dearest = np.full(len(self._weight), self._slope[-1] + 1)
        price = dearest.copy()
        key = np.zeros((len(price), 3), dtype=np.int64)
        bases, stages = (self._rise_base, self._fall_base), (self._rise, self._fall)
        waiting = [base >= 0 for base in bases]
        for side, mask, slope in steps:
            stage = stages[side]
            held = waiting[side] & (self._signature & ~(mask | bases[side]) == 0)
            waiting[side] &= ~held
            here = held & (slope < price)
            price[here] = slope
            key[here] = np.stack([2 * stage[here] + 1, np.full(here.sum(), side), np.full(here.sum(), slope)], axis=1)
        key[price < dearest, 2] *= np.where(key[price < dearest, 1] == 0, 1, -1)
        valley = self._cap < price
        key[valley] = np.stack(
            [2 * self._cheapest_valley[valley], *np.zeros((2, valley.sum()), dtype=np.int64)], axis=1
        )
        return np.lexsort(key.T[::-1])
