"""Levels of any number of rows: the sets that spare most are searched for, at prices that make them few.

As in `level_bounds`, but without a table of all sets of rows. A linear program over the sets known chooses how a class
that both sets spare is shared between them; a search lists all sets that spare much at these prices, or shows that
there are none. Whatever bound is tried first, the next one is closer to what sets are known to spare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from solvers.common.block_rows import BlockRows
from solvers.common.clock import time_now
from solvers.spans.bounds.levels import HasLevels
from solvers.spans.bounds.set_pools import climbed, nested_sets, resized
from solvers.spans.bounds.sparing_sets import SparingSets

_SHARE = 64  # parts: weights are counted in 64ths of a class, so that shared prices stay whole numbers
_MOST_SETS = 1500  # sets: of each side that are paired; by hand
_PAIRING = 1_000_000_000  # multiplications: most when the sets found are paired; by hand
_POOLED_SETS = 12  # sets: the best of an attempt that are remembered; by hand
_LARGEST_POOL = 150  # sets: most remembered of one level and side; by hand
_STARTS = 10  # sets: of the pool from which an attempt climbs; by hand
_WARM_SETS = 50  # sets: taken over from the level below as starts; by hand
_MOST_PRICINGS = 20  # prices: tried in one attempt, twice as many as attempts so far at most; by hand
_MOST_ROUNDS = 30  # attempts: of one level before it is given up; by hand
_MOST_MISSES = 5  # attempts: in vain before the level is believed to lie above their target; by hand
_FIRST_SLACK = 0.5  # relative: by which the first target lies above what sets are known to spare; by hand
_MOST_SECONDS = 600.0  # seconds: that count as the time where there is no limit; by hand
_SLICES = 40  # slices: of the time, so that every level gets a turn; by hand
_LEAST_SECONDS = 0.02  # seconds: of a slice; below it the clock and the set-up count more than the search; by hand
_DEARER = 2.5  # factor: an attempt is taken to cost so many times the last one of its level; by hand


@dataclass(eq=False)
class _Attempt:
    """A bound on a level that a search is about to prove.

    Attributes
    ----------
    target
        The bound.
    least
        What the sets known give.
    shared
        Weight of the shares, in their unit.
    above
        Per side, what sets must spare to be listed.
    searches
        One per side, the same one if the sides are alike.
    rows
        Per side the rows that can close there.
    """

    target: int
    least: int
    shared: int
    above: list[int]
    searches: list[SparingSets]
    value: np.ndarray

    @property
    def done(self) -> bool:
        """Whether all searches are done, or one has too many sets."""
        return all(own.done for own in self.searches) or any(own.done and not own.complete for own in self.searches)

    @property
    def complete(self) -> bool:
        """Whether all sets are listed."""
        return all(own.complete for own in self.searches)


@dataclass(eq=False)
class _Level:
    """What is known about one level.

    Attributes
    ----------
    pools
        Per side the sets known; bool arrays, shape (num_sets, num_rows).
    floor
        No bound below this is to be expected.
    slack
        By how much the bound that is tried next lies above what the sets known give, as a share of it.
    shared
        Whether classes that both sets spare are shared; if hardly any are, not to do so leaves more sets to pair.
    misses
        Attempts that listed all sets they looked for, and proved less than they should.
    rounds
        Attempts so far.
    seconds
        Time spent on the present one.
    cost
        Seconds that the last one took; infinite before the first.
    attempt
        The present one.
    """

    pools: list[np.ndarray]
    floor: int = 0
    slack: float = _FIRST_SLACK
    shared: bool = True
    misses: int = 0
    rounds: int = 0
    seconds: float = 0.0
    cost: float = np.inf
    attempt: _Attempt | None = None


class LevelSearch:
    """The most weight that can be spared at every level, bounded from above; gets better while time is given to it.

    Parameters
    ----------
    rows
        Rows that share classes pairwise, unless they are anchored at the same end; slopes do not matter.

    Attributes
    ----------
    most
        int64, shape (num_rows,): entry r - 1 bounds the weight of the classes that keep no row of R or none of Q, for
        any two sets of r rows that close to the left and to the right.
    single
        int64, shape (num_rows,): the same for one set of r rows.
    reached
        int64, shape (num_rows,): the weight for the best two sets known.

    Examples
    --------
    >>> bits = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> levels = LevelSearch(BlockRows(np.array([3, 2, 1, 5]), bits, np.ones(3, dtype=int), free, free))
    >>> levels.improve(deadline=np.inf)
    >>> levels.most.tolist(), levels.reached.tolist()
    ([5, 0, 0], [5, 0, 0])
    """

    def __init__(self, rows: BlockRows) -> None:
        weight = self._weight = rows.weight.astype(np.int64)
        self._num, self._spared = rows.num_rows, ~rows.bits
        self._lost, self._kept = self._spared.astype(np.float64), np.ascontiguousarray(rows.bits.T.astype(np.float32))
        self._closing = [np.flatnonzero(~rows.left), np.flatnonzero(~rows.right)]
        self._sides = 1 if np.array_equal(self._closing[0], self._closing[1]) else 2
        missed = self._spared.sum(axis=1)
        self.most = np.array([int(weight[missed >= r].sum()) for r in range(1, self._num + 1)])
        self.single = self.most.copy()
        self.reached = np.zeros(self._num, dtype=np.int64)
        self.num_searches = 0
        self._most_sets = min(_MOST_SETS, int((_PAIRING / max(1, len(weight))) ** 0.5))
        self._levels: list[_Level] = []
        self._rng = np.random.default_rng(0)

    def improve(self, *, deadline: float) -> None:
        """Work on the level that promises most until nothing is left to gain, or the deadline passes."""
        now = time_now()
        if now >= deadline:
            return
        if not self._levels:
            self._begin(deadline)
        seconds = max(_LEAST_SECONDS, (min(deadline, now + _MOST_SECONDS) - now) / _SLICES)
        while time_now() < deadline and (r := self._promising(seconds)) is not None:
            own = self._levels[r - 1]
            begun = time_now()
            if own.attempt is None:
                own.attempt = self._attempt(r, own, deadline, seconds)
            until = min(deadline, time_now() + seconds)
            for search in own.attempt.searches[: self._sides]:
                search.run(deadline=until)
            own.seconds += time_now() - begun
            if own.attempt.done:
                own.cost = own.seconds
                self._conclude(r, own, own.attempt, seconds)
                own.attempt, own.seconds = None, 0.0
            self.most = np.minimum.accumulate(self.most)
        np.minimum(self.single, self.most, out=self.single)

    def lower(self, other: HasLevels) -> None:
        """Take the bounds on the same levels that another method has proven, where they are better."""
        self.most = np.minimum.accumulate(np.minimum(self.most, other.most))
        self.single = np.minimum(np.minimum(self.single, other.single), self.most)

    def _begin(self, deadline: float) -> None:
        """Nested sets, each time with the row that spares most, are where the pools begin."""
        chains = [nested_sets(self._lost, self._weight, rows, deadline=deadline) for rows in self._closing]
        self._levels = [
            _Level([chain[r - 1 : r] if r <= len(chain) else chain[:0] for chain in chains])
            for r in range(1, self._num + 1)
        ]
        for r, own in enumerate(self._levels, start=1):
            if time_now() < deadline:
                self._pair(r, own.pools)

    def _promising(self, seconds: float) -> int | None:
        """The level whose bound, and with it those of the levels after it, might come down most for the time.

        Attempts that are under way are expected to succeed, so that their neighbours promise less.
        """
        self.reached = np.maximum.accumulate(self.reached[::-1])[::-1]
        expected = self.most.copy()
        for r, own in enumerate(self._levels, start=1):
            if own.attempt is not None:
                expected[r - 1] = min(int(expected[r - 1]), own.attempt.target)
        expected = np.minimum.accumulate(expected)
        best, chosen, cost = 0.0, None, seconds
        for r, own in enumerate(self._levels, start=1):
            low = max(int(self.reached[r - 1]), own.floor)
            if own.rounds >= _MOST_ROUNDS or low >= self.most[r - 1]:
                continue
            if own.attempt is None:
                target = _target(low, low, int(self.most[r - 1]), own.slack, own.cost < seconds / 2)
                gain = np.maximum(expected[r - 1 :] - target, 0).sum()
                left = _DEARER * own.cost if own.rounds else cost
            else:
                gain = np.maximum(self.most[r - 1 :] - own.attempt.target, 0).sum()
                left = max(own.seconds, seconds / 2)
            if (rate := float(gain) / max(left, _LEAST_SECONDS)) > best:
                best, chosen = rate, r
            cost = own.cost if np.isfinite(own.cost) else cost
        return chosen

    def _attempt(self, r: int, own: _Level, deadline: float, seconds: float) -> _Attempt:
        """Price the classes, and choose a bound between what was reached and what is known."""
        if own.rounds == 0:
            self._warm(r, own, deadline)
        own.rounds += 1
        self.num_searches += 1
        shares = np.zeros(len(self._weight), dtype=np.int64)
        if own.shared:
            shares = self._priced(r, own, min(deadline, time_now() + seconds))
        value, shared = self._weight * (_SHARE - shares), int(self._weight @ shares)
        first = [self._best(pool, value) for pool in own.pools]
        low, high = max(own.floor, int(self.reached[r - 1])), int(self.most[r - 1])
        least = max((shared + sum(first)) // _SHARE, low)
        target = _target(low, least, high, own.slack, own.cost < seconds / 2)
        above = self._limits(target, shared, first)
        searches = [
            SparingSets(self._spared[:, rows], value, r, above[side], most_sets=self._most_sets)
            for side, rows in enumerate(self._closing[: self._sides])
        ]
        return _Attempt(target, least, shared, above, (searches * 2)[:2], value)

    def _conclude(self, r: int, own: _Level, attempt: _Attempt, seconds: float) -> None:
        """Take the bound that a search has proven, or learn from the sets that it has found."""
        sides = []
        for side, search in enumerate(attempt.searches):
            found = search.members
            sets = np.zeros((len(found), self._num), dtype=bool)
            sets[:, self._closing[side]] = found
            sides.append(sets)
            own.pools[side] = self._pooled(own.pools[side], sets[:_POOLED_SETS], attempt.value)
        paired = self._pair(r, sides)
        if attempt.complete:
            above = attempt.above
            most = [max([limit, *own.values[:1].tolist()]) for own, limit in zip(attempt.searches, above)]
            unpaired = (attempt.shared + max(most[0] + above[1], above[0] + most[1])) // _SHARE
            self.most[r - 1] = min(int(self.most[r - 1]), max(paired, unpaired))
            own.slack /= 4 if own.cost < seconds / 2 else 2
            if self.most[r - 1] > attempt.target:
                own.misses += 1
                if own.misses >= _MOST_MISSES or not own.shared:
                    own.floor = attempt.target + 1
                own.shared = own.shared and any(above)
        elif attempt.target > attempt.least:
            own.slack = max(1.5 * own.slack, (attempt.target + 1 - attempt.least) / max(1, attempt.least))
        else:
            own.floor = attempt.target + 1

    def _warm(self, r: int, own: _Level, deadline: float) -> None:
        """Add the sets of the nearest levels that were worked on, with rows more or less."""
        worked = [q for q, level in enumerate(self._levels, start=1) if level.rounds]
        for q in sorted(worked, key=lambda q: abs(q - r))[:2]:
            for side, rows in enumerate(self._closing):
                if r <= len(rows) and time_now() < deadline:
                    known = self._levels[q - 1].pools[side][-_WARM_SETS:]
                    sets = resized(self._lost, self._weight, known, rows, r)
                    own.pools[side] = self._pooled(own.pools[side], sets, self._weight)

    def _priced(self, r: int, own: _Level, deadline: float) -> np.ndarray:
        """The best shares for the sets known, and for those that a local search finds."""
        for last in (*[False] * min(_MOST_PRICINGS, 2 * own.rounds), True):
            shares = self._shares(own.pools)
            value = self._weight * (_SHARE - shares)
            grown = False
            for side, pool in enumerate(own.pools[: self._sides]):
                if not len(pool):
                    continue
                starts = pool[self._rng.permutation(len(pool))[:_STARTS]]
                sets = climbed(self._lost, value, starts, self._closing[side], deadline=deadline)
                better = sets[self._spares(sets) @ value > self._best(pool, value)]
                if len(better):
                    own.pools[side] = self._pooled(pool, better, value)
                    grown = True
            if self._sides == 1:
                own.pools[1] = own.pools[0]
            if last or not grown or time_now() >= deadline:
                break
        self._pair(r, own.pools)
        return shares

    def _limits(self, target: int, shared: int, first: list[int]) -> list[int]:
        """What sets may spare at most, left out, so that no pair with one of them exceeds the target."""
        room = (target + 1) * _SHARE - 1 - shared
        if self._sides == 1:
            return [max(min(room // 2, room - first[0]), 0)] * 2
        spare = room - sum(first)
        return [max(0, own + (spare // 2 if spare > 0 else spare)) for own in first]

    def _shares(self, pools: list[np.ndarray]) -> np.ndarray:
        """The shares with which the sets known have the least bound; int64, shape (num_classes,)."""
        sides = self._sides
        spares = [self._spares(pool) for pool in pools[:sides]]
        patterns, kind = np.unique(np.concatenate(spares), axis=1, return_inverse=True)
        kind = kind.reshape(-1)
        weight = np.bincount(kind, self._weight, patterns.shape[1])
        owner = np.repeat(np.arange(sides), [len(own) for own in spares])
        rows = np.hstack([patterns * weight, owner[:, np.newaxis] == np.arange(sides)])
        num = len(weight)
        answer = linprog(
            np.concatenate([weight, np.full(sides, 2.0 / sides)]),
            A_ub=-rows,
            b_ub=-rows[:, :num].sum(axis=1),
            bounds=[(0, 1)] * num + [(0, None)] * sides,
            method="highs-ds",
        )
        shares = np.zeros(num) if answer.x is None else np.clip(answer.x[:num], 0, 1)
        return np.rint(shares * _SHARE).astype(np.int64)[kind]

    def _spares(self, pool: np.ndarray) -> np.ndarray:
        """Which classes each set spares; bool, shape (num_sets, num_classes)."""
        spares: np.ndarray = pool.astype(np.float32) @ self._kept == 0
        return spares

    def _best(self, pool: np.ndarray, value: np.ndarray) -> int:
        return int((self._spares(pool) @ value).max(initial=0))

    def _pooled(self, pool: np.ndarray, new: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The pool with some more sets; those that spare least now are forgotten if it gets too large."""
        joined = np.unique(np.concatenate([pool, new]), axis=0)
        if len(joined) > _LARGEST_POOL:
            joined = joined[np.argsort(-(self._spares(joined) @ value), kind="stable")[:_LARGEST_POOL]]
        return joined

    def _pair(self, r: int, sides: list[np.ndarray]) -> int:
        """The most weight that sets of the two sides spare together; a side without sets spares nothing."""
        first, second = (self._spares(sets) for sets in sides)
        if not len(first) or not len(second):
            best = int((np.concatenate([first, second]) @ self._weight).max(initial=0))
        else:
            weights = (first @ self._weight, second @ self._weight)
            both = (first * self._weight).astype(np.float64) @ second.T.astype(np.float64)
            best = int((weights[0][:, np.newaxis] + weights[1] - both).max())
        self.reached[r - 1] = max(int(self.reached[r - 1]), best)
        return best


def _target(low: int, least: int, high: int, slack: float, cheap: bool) -> int:
    """A bound to try next: with some slack above what sets are known to spare, but well below the bound so far."""
    extra = int(slack * least)
    step = (high - least) * (2 if cheap else 1) // 3
    return min(least + extra, high - max(1, step)) if extra and least < high else (low + high) // 2
