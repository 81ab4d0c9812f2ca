"""Every assignment of little loss within the budget: labels of loss and time, joined bucket by bucket.

A label is a pair (loss, time) of a part of the graph, given the widths at its border. Joining goes along the tree of
buckets. A label is dropped in two cases:

- Another label with the same border has neither more loss nor more time.
- At one of several multipliers, its cost and the least cost of everything else exceed ``target + multiplier * budget``.
  Then nothing with it keeps both the target of the loss and the budget.

If no label is dropped for want of memory, the search is complete: it finds the least loss up to the target, or proves
that there is none.

Notes
-----
Labels with bounds from Lagrangian multipliers solve shortest path problems with a budget: Handler and Zang, "A dual
algorithm for the constrained shortest path problem", Networks 10, 1980; and knapsacks: Pisinger, "A minimal algorithm
for the multiple-choice knapsack problem", European Journal of Operational Research 83, 1995.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from solvers.widths.elimination import Elimination, Tree

_RANK_BITS = 20  # bits: of a cost when labels are sorted by border and cost
_CHUNK = 2**20  # labels: that are joined at a time


@dataclass(eq=False)
class _Labels:
    """Labels of a bucket; all arrays have one entry per label.

    Attributes
    ----------
    keys
        Border: the place in the message of the bucket.
    loss, time
        Of everything joined so far.
    excess
        Per multiplier the cost above the message's; int64, shape (multipliers, labels).
    places
        Of the bucket's variable.
    origins
        Per child which label of it was joined.
    """

    keys: np.ndarray
    loss: np.ndarray
    time: np.ndarray
    excess: np.ndarray
    places: np.ndarray
    origins: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Enumeration:
    """What the search found.

    Attributes
    ----------
    places
        The assignment of least loss among those found; None if there is none.
    complete
        Whether no label was dropped for want of memory or time. Then there is no assignment of less loss within the
        budget (or, if there is none, none up to the target).
    num_labels
        Most labels at once.
    """

    places: list[int] | None
    complete: bool
    num_labels: int


def enumerate_labels(
    tree: Tree,
    eliminations: Sequence[Elimination],
    outsides: Sequence[list[np.ndarray]],
    *,
    target: int,
    budget: int,
    max_labels: int,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Enumeration:
    """Search all assignments of at most the target's loss within the budget.

    Parameters
    ----------
    tree
        The graph and its buckets.
    eliminations, outsides
        Eliminations at several multipliers and what they say outside; the first should be the best.
    target
        Units of loss.
    budget
        Nanoseconds, without the fixed ones.
    max_labels
        Most labels of a bucket. If there are more, those of least cost stay, and the search is not complete.
    out_of_time
        Asked before every join. If it says so, the search ends without a result.
    """
    search = _Search(tree, eliminations, outsides, target, budget, max_labels)
    for b in range(len(tree.buckets)):
        if out_of_time():
            return Enumeration(None, False, search.most)
        if not search.join(b, out_of_time):
            return Enumeration(None, search.complete, search.most)
    return Enumeration(search.assignment(), search.complete, search.most)


class _Search:
    def __init__(
        self,
        tree: Tree,
        eliminations: Sequence[Elimination],
        outsides: Sequence[list[np.ndarray]],
        target: int,
        budget: int,
        max_labels: int,
    ) -> None:
        self._tree, self._eliminations, self._outsides = tree, eliminations, outsides
        self._limits = [own.weights.limit(target, budget) for own in eliminations]
        self._max_labels = max_labels
        self._labels: list[_Labels] = []
        self.complete = True
        self.most = 0

    def join(self, b: int, out_of_time: Callable[[], bool]) -> bool:
        """Make the labels of a bucket from its children's; says whether there are any."""
        bucket, axes = self._tree.buckets[b], self._tree.axes[b]
        wholes = [own.whole(b, outside[b]) for own, outside in zip(self._eliminations, self._outsides)]
        kept = np.ones(axes.shape, dtype=bool)
        for whole, limit in zip(wholes, self._limits):
            kept &= whole <= limit
        coordinates = np.nonzero(kept) if axes.shape else ((np.zeros(int(kept), dtype=np.int64)),)
        if not len(coordinates[0]):
            return False
        at = coordinates if axes.shape else ()
        num = len(coordinates[0])
        slack = np.array([np.broadcast_to(limit - whole[at], num) for whole, limit in zip(wholes, self._limits)])

        def places_of(v: int) -> np.ndarray:
            index = axes.index[v]
            return index[tuple(np.minimum(own, n - 1) for own, n in zip(coordinates, index.shape))]

        loss, time = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        for f in bucket.factors:
            factor = self._tree.graph.factors[f]
            entry = tuple(places_of(v) for v in factor.scope)
            loss += factor.loss[entry]
            time += factor.time[entry]
        entries = np.arange(num)
        origins: dict[int, np.ndarray] = {}
        for child in sorted(bucket.children, key=lambda own: len(self._labels[own].loss)):
            if out_of_time():
                self.complete = False
                return False
            keys = self._keys(self._tree.buckets[child].separator, places_of, num)
            rows, columns, slack = self._pairs(keys[entries], slack, self._labels[child])
            other = self._labels[child]
            entries, loss, time = entries[rows], loss[rows] + other.loss[columns], time[rows] + other.time[columns]
            origins = {own: given[rows] for own, given in origins.items()} | {child: columns}
            stay = self._best(_undominated(entries, loss, time), slack)
            entries, loss, time, slack = entries[stay], loss[stay], time[stay], slack[:, stay]
            origins = {own: given[stay] for own, given in origins.items()}
            if not len(entries):
                return False
        keys = self._keys(bucket.separator, places_of, num)[entries]
        stay = self._best(_undominated(keys, loss, time), slack)
        keys, loss, time = keys[stay], loss[stay], time[stay]
        excess = np.array(
            [
                own.weights.loss * loss + own.weights.time * time - own.messages[b].reshape(-1)[keys]
                for own in self._eliminations
            ]
        )
        places = np.broadcast_to(places_of(bucket.variable), num)[entries[stay]]
        self._labels.append(
            _Labels(keys, loss, time, excess, places, {own: given[stay] for own, given in origins.items()})
        )
        self.most = max(self.most, len(keys))
        for child in bucket.children:
            joined = self._labels[child]
            joined.keys = joined.loss = joined.time = joined.excess = np.zeros(0, dtype=np.int64)
        return True

    def _keys(self, scope: tuple[int, ...], places_of: Callable[[int], np.ndarray], num: int) -> np.ndarray:
        """Places in a table over some variables, per entry."""
        keys = np.zeros(num, dtype=np.int64)
        for v in scope:
            keys = keys * len(self._tree.graph.values[v]) + places_of(v)
        return keys

    def _pairs(self, keys: np.ndarray, slack: np.ndarray, other: _Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which labels join with which of a child: the same border, and no limit is exceeded.

        The child's labels are sorted by border and (rounded) excess at the first multiplier, so those that the slack
        of a label permits are one range.
        """
        shift = max(0, int(slack[0].max()).bit_length() - _RANK_BITS)
        rank = (other.keys << (_RANK_BITS + 1)) + np.minimum(other.excess[0] >> shift, 2**_RANK_BITS)
        order = np.argsort(rank, kind="stable")
        rank = rank[order]
        low = np.searchsorted(rank, keys << (_RANK_BITS + 1))
        high = np.searchsorted(
            rank, (keys << (_RANK_BITS + 1)) + np.minimum(slack[0] >> shift, 2**_RANK_BITS), side="right"
        )
        counts = high - low
        ends = np.cumsum(counts)
        found = []
        first = kept = 0
        while first < len(counts):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
            own = counts[first:last]
            rows = np.repeat(np.arange(first, last), own)
            offsets = np.arange(len(rows)) - np.repeat(ends[first:last] - own - before, own)
            columns = order[np.repeat(low[first:last], own) + offsets]
            rest = slack[:, rows] - other.excess[:, columns]
            fits = (rest >= 0).all(axis=0)
            found.append((rows[fits], columns[fits], rest[:, fits]))
            kept += int(fits.sum())
            first = last
            if kept > 4 * self._max_labels and first < len(counts):
                self.complete = False
                break
        rows, columns = (np.concatenate([own[k] for own in found]) for k in (0, 1))
        return rows, columns, np.concatenate([own[2] for own in found], axis=1)

    def _best(self, stay: np.ndarray, slack: np.ndarray) -> np.ndarray:
        """Of some labels those with most slack, as many as are permitted."""
        if len(stay) <= self._max_labels:
            return stay
        self.complete = False
        return np.sort(stay[np.argpartition(-slack[0, stay], self._max_labels)[: self._max_labels]])

    def assignment(self) -> list[int]:
        """The assignment of the root's label of least loss. Ties: of least time."""
        root = self._labels[-1]
        chosen = [-1] * len(self._labels)
        chosen[-1] = int(np.lexsort((root.time, root.loss))[0])
        places = [-1] * len(self._tree.graph.values)
        for b in range(len(self._labels) - 1, -1, -1):
            labels = self._labels[b]
            places[self._tree.buckets[b].variable] = int(labels.places[chosen[b]])
            for child, columns in labels.origins.items():
                chosen[child] = int(columns[chosen[b]])
        return places


def _undominated(groups: np.ndarray, loss: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Labels than which no other of their group has both at most the loss and at most the time; one of equal ones."""
    if len(groups) < 2:
        return np.arange(len(groups))
    order = np.lexsort((loss, time, groups))
    own = groups[order]
    starts = np.concatenate([[True], own[1:] != own[:-1]])
    ranks = np.unique(loss[order], return_inverse=True)[1].astype(np.int64)
    lowered = ranks - np.cumsum(starts) * (int(ranks.max()) + 1)
    least = np.minimum.accumulate(lowered)
    stay = starts.copy()
    stay[1:] |= lowered[1:] < least[:-1]
    return np.sort(order[stay])
