"""Levels of few rows (docs/model.md, theorem 6) from tables of all sets of them: a witness of the search for levels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

MOST_ROWS = 25  # rows: whose sets are all looked at: 2^25 numbers, 128 MB, a few times over
_CHUNK_BITS = 16  # rows: whose sets are looked at together: a bound on memory; by hand
_POOLED_SETS = 150  # sets: the best of each round that are remembered; by hand
_STEPS = 40  # steps: in search of the best shares of the rows; by hand
_TOP = 40  # sets: the best, whose mean says where shares go next; by hand
_PAIRED_SETS = 2000  # sets: most of each side that are paired, 4 million pairs; by hand
_ROUNDS = 12  # rounds: of one level before it is given up; by hand
_SHARE = 64  # parts: weights are counted in 64ths of a class, so that shared prices stay whole numbers


@dataclass(eq=False)
class _Multipliers:
    """Where the search for the shares of one level stands."""

    shares: np.ndarray
    best_shares: np.ndarray = field(init=False)
    best: int = 2**62
    rounds: int = 0
    pools: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self.best_shares = self.shares


class Levels:
    """The most weight that can be spared at every level, bounded from above; gets better while time is given to it.

    Parameters
    ----------
    weight
        int, shape (num_classes,): widths.
    bits
        bool, shape (num_classes, num_rows): which rows keep each class. Rows that are not anchored at the same end
        share classes pairwise, and there are at most `MOST_ROWS`.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end; they never close on that side.

    Attributes
    ----------
    most
        int64, shape (num_rows,): entry r - 1 bounds the weight of the classes that keep no row of R or none of Q, for
        any two sets of r rows that close to the left and to the right.
    single
        int64, shape (num_rows,): the same for one set of r rows, exactly once `improve` has begun.
    reached
        int64, shape (num_rows,): the weight for the best two sets known.
    num_tables
        Tables over all sets of rows computed so far.

    Examples
    --------
    >>> bits = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> levels = Levels(np.array([3, 2, 1, 5]), bits, free, free)
    >>> levels.improve(deadline=np.inf)
    >>> levels.most.tolist(), levels.reached.tolist()
    ([5, 0, 0], [5, 0, 0])
    """

    def __init__(self, weight: np.ndarray, bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        self._num = bits.shape[1]
        place = np.int64(1) << np.arange(self._num, dtype=np.int64)
        self._weight = weight.astype(np.int64)
        self._signature = bits.astype(np.int64) @ place
        self._fixed = [int(place[left].sum()), int(place[right].sum())]
        self._dtype = np.int32 if int(weight.sum()) * _SHARE * 2 < 2**31 else np.int64
        missed = (~bits).sum(axis=1)
        self.most = np.array([int(weight[missed >= r].sum()) for r in range(1, self._num + 1)])
        self.single = self.most.copy()
        self.reached = np.zeros(self._num, dtype=np.int64)
        self.num_tables = 0
        self._spared = self._size = np.zeros(0, dtype=np.int64)

    def improve(self, *, deadline: float) -> None:
        """Bound every level, then work on those where the most is known to exceed what was reached by the most."""
        if time.perf_counter() >= deadline:
            return
        nothing = np.zeros(len(self._weight), dtype=np.int64)
        self._spared = self._table(nothing)
        self._size = np.bitwise_count(np.arange(1 << self._num, dtype=np.uint32))
        self.single = np.zeros(self._num + 1, dtype=np.int64)
        np.maximum.at(self.single, self._size, self._spared)
        self.single = self.single[1:]
        whole = self._spared * _SHARE
        for r in range(1, self._num + 1):
            if time.perf_counter() >= deadline:
                break
            self._check_pairs(r, self._sides(r), nothing, whole)
        del whole
        states = [_Multipliers(nothing) for _ in range(self._num)]
        while time.perf_counter() < deadline:
            self.most = np.minimum.accumulate(self.most)
            loss = np.array(
                [0 if own.rounds == _ROUNDS else m - n for own, m, n in zip(states, self.most, self.reached)]
            )
            r = int(loss.argmax()) + 1
            if loss[r - 1] <= 0:
                break
            own = states[r - 1]
            if own.rounds == 0:
                near = min((abs(q - r), q) for q in range(1, self._num + 1) if q == r or states[q - 1].rounds)[1]
                own.shares = states[near - 1].best_shares
            self._improve_level(r, own)
        self.most = np.minimum.accumulate(self.most)

    def _sides(self, r: int) -> list[np.ndarray]:
        """The sets of r rows that can close to the left, to the right."""
        of_size = np.flatnonzero(self._size == r)
        return [of_size[of_size & fixed == 0] for fixed in self._fixed]

    def _improve_level(self, r: int, own: _Multipliers) -> None:
        """One step along a subgradient of the bound on a level.

        A class that is spared by either set counts once: at most its share, and the rest for each set that spares it.
        """
        bound, tops = self._check_pairs(r, self._sides(r), own.shares, self._table(own.shares))
        if bound < own.best:
            own.best, own.best_shares = bound, own.shares
        for pool, top in zip(own.pools, tops, strict=True):
            pool.append((self._signature[:, np.newaxis] & top[:_POOLED_SETS]) == 0)
        pools = [np.concatenate(pool, axis=1).astype(np.float32) for pool in own.pools]
        own.shares = _best_shares(self._weight.astype(np.float32), pools, own.best_shares)
        own.rounds += 1

    def _check_pairs(
        self, r: int, sides: list[np.ndarray], shares: np.ndarray, table: np.ndarray
    ) -> tuple[int, list[np.ndarray]]:
        """Bound a level with some multipliers: the best sets of both sides are paired exactly.

        Returns the bound without pairing, and the best sets that there are of either side, best first.
        """
        tops, firsts, lasts = [], [], []
        for sets in sides:
            values = table[sets]
            if len(sets) > _PAIRED_SETS:
                chosen = np.argpartition(-values, _PAIRED_SETS)[: _PAIRED_SETS + 1]
                chosen = chosen[np.argsort(-values[chosen], kind="stable")]
                firsts.append(int(values[chosen[0]]))
                lasts.append(int(values[chosen[-1]]))
                tops.append(sets[chosen[:-1]])
            else:
                tops.append(sets)
                firsts.append(int(values.max(initial=0)))
                lasts.append(0)
        shared = int(self._weight @ shares)
        paired = self._pair(tops, r)
        unpaired = (shared + max(firsts[0] + lasts[1], lasts[0] + firsts[1])) // _SHARE
        self.most[r - 1] = min(int(self.most[r - 1]), max(paired, unpaired))
        return shared + sum(firsts), tops

    def _pair(self, sides: list[np.ndarray], r: int) -> int:
        """The most weight that sets of the two sides spare together; a side without sets spares nothing."""
        first, second = sides
        if not len(first) or not len(second):
            best = int(self._spared[np.concatenate(sides)].max(initial=0))
        else:
            best = 0
            for part in np.array_split(first, max(1, len(first) // 250)):
                spared = self._spared[part][:, np.newaxis] + self._spared[second]
                spared -= self._spared[part[:, np.newaxis] | second]
                best = max(best, int(spared.max()))
        self.reached[r - 1] = max(int(self.reached[r - 1]), best)
        return best

    def _table(self, shares: np.ndarray) -> np.ndarray:
        """Weight of the classes that keep no row of a set, for every set; shape (2^num_rows,).

        With shares, `_SHARE` times the weight that they leave; without, the weight itself.
        """
        table = np.zeros(1 << self._num, dtype=self._dtype)
        complement = (1 << self._num) - 1 - self._signature
        left_over = self._weight * (_SHARE - shares) if shares.any() else self._weight
        np.add.at(table, complement, left_over.astype(self._dtype))
        low = min(_CHUNK_BITS, self._num)
        for chunk in table.reshape(-1, 1 << low):
            for row in range(low):
                halves = chunk.reshape(-1, 2, 1 << row)
                halves[:, 0] += halves[:, 1]
        for row in range(low, self._num):
            halves = table.reshape(-1, 2, 1 << row)
            halves[:, 0] += halves[:, 1]
        self.num_tables += 1
        return table if shares.any() or not self._spared.size else table * _SHARE


def _best_shares(weight: np.ndarray, pools: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """Shares that make the bound small on the sets known, by a subgradient method; int64, shape (num_classes,).

    Parameters
    ----------
    weight
        float32, shape (num_classes,).
    pools
        Per side, float32, shape (num_classes, num_sets): whether a set spares a class.
    start
        Shares to start from.
    """
    shares = start.astype(np.float32) / _SHARE
    best, best_shares = np.inf, shares
    for k in range(_STEPS):
        left_over = weight * (1 - shares)
        bound = float(weight @ shares)
        spared = np.zeros(len(shares), dtype=np.float32)
        for pool in pools:
            if pool.shape[1]:
                values = left_over @ pool
                top = np.argpartition(-values, min(_TOP, len(values) - 1))[:_TOP]
                bound += float(values.max())
                spared += pool[:, top].mean(axis=1)
        if bound < best:
            best, best_shares = bound, shares
        shares = np.clip(shares + (spared - 1) / (2 + k / 4), 0, 1)
    return np.rint(best_shares * _SHARE).astype(np.int64)
