"""Constrained masks: all consumers of a channel keep it or none does, as conventional pruners have it.

Every block then has one set of kept channels, all of them stored, so that every read is a view and nothing is copied,
whatever the order. What this costs against masks of every consumer's own is what UPSCALE is about.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from upscale_opt.arguments.amounts import num_removed, require_amount, round_up
from upscale_opt.arguments.entrance import entrance
from upscale_opt.arguments.modes import INPUT
from upscale_opt.importance import LARGEST, column_norms
from upscale_opt.importance.criteria import GLOBAL, Criterion
from upscale_opt.importance.ranking import scores_of
from upscale_opt.importance.registry import importance_named
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.network_checks import require_values
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.graphs import Graph, Read


@entrance()
def constrained_masks(
    graph: Graph,
    amount: float | str = 0.5,
    *,
    ignore: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int = 1,
) -> dict[str, np.ndarray]:
    """Masks that agree: of every block the same channels are kept by all its consumers, linear layers included.

    The channels of smallest group norm are removed from every block: the squared L2 norms of the weights that read a
    channel, summed over its consumers (the group norm of DepGraph, Fang et al., CVPR 2023, section 3.4, without the
    producers' weights, so that masks of every consumer's own rank by the same weights). Channels that all their
    consumers multiply by zero are removed even if the amount asks for fewer.

    Nothing is removed from a block that is pinned or not removable, that holds channels of a network input, or that an
    ignored consumer reads. A convolution with several groups drops the same channels of every group, which are ranked
    and counted together. A channel stays if a selection (a channel shuffle) needs it for one that is kept behind it;
    fewer than asked are removed then.

    Parameters
    ----------
    graph
        The traced model.
    amount
        Share of channels to remove from every block, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    ignore
        Names of weights or modules, wildcards allowed (``layer4.*``): what they read is kept.
    round_to, min_channels
        Every block keeps a multiple of `round_to` channels and at least `min_channels`, or all it has if that is less.

    Returns
    -------
    dict
        Weight name to Boolean array, True = kept, for every consumer. Use them as they are: `effective_masks` would
        drop channels that only one of several consumers multiplies by zero.

    Raises
    ------
    MaskError
        If a number is out of range, or a name to ignore matches nothing.
    """
    require_values(graph.module)
    criterion = Criterion("l2", amount, round_to=round_to, min_channels=min_channels)
    return shared_masks(graph, criterion, ignore=ignore)


def shared_masks(graph: Graph, criterion: Criterion, *, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Masks that agree, as `constrained_masks` makes them, by any criterion.

    The score of a channel is the sum of its consumers' scores, each to the power that the importance says (behind a
    flatten, of all its features). Blocks take the place of layers: a global threshold ranks the channels of all blocks
    that may lose some, counts them all, and leaves every block its strongest.

    Parameters
    ----------
    graph
        The traced model.
    criterion
        Which channels go. A block goes by the smallest amount that is given for its consumers by name.
    ignore
        Names of weights or modules, wildcards allowed: what they read is kept.

    Raises
    ------
    MaskError
        If a name matches nothing, or a consumer cannot be scored.
    """
    if not graph.blocks:
        consumers_matching(graph, ignore)
        return {}
    sets = _SharedSets(graph, criterion, consumers_matching(graph, ignore))
    forced = np.zeros(graph.offsets[-1], dtype=bool)
    while True:
        kept = sets.kept(forced)
        masks = {weight: kept[_entries(graph, read)[0]] for weight, read in graph.consumers.items()}
        missing = MaskedGraph(graph, masks).required & sets.read & ~kept
        if not missing.any():
            return masks
        forced |= missing


class _SharedSets:
    """The channels of a network in sets: classes that are kept or removed together, in units that are counted.

    A class is a channel or, where convolutions have several groups, the channels at one position of them all. A unit
    is the classes that have channels of the same blocks: a block, mostly.
    """

    def __init__(self, graph: Graph, criterion: Criterion, ignored: frozenset[str]) -> None:
        self.graph = graph
        self.criterion = criterion
        reads = {*graph.reads, *graph.grouped}
        self.read = np.zeros(graph.offsets[-1], dtype=bool)
        for read in reads:
            self.read[_entries(graph, read)] = True
        self.classes = self._classes(reads)
        self.units = self._units()
        num_classes = self.classes.max() + 1
        fixed = self._fixed(ignored)
        self.fixed = np.bincount(self.classes, weights=fixed, minlength=num_classes) > 0
        score, used = self._scores(self.fixed[self.classes])
        score = np.bincount(self.classes, weights=score, minlength=num_classes)
        self.used = np.bincount(self.classes, weights=used, minlength=num_classes) > 0
        self.own = self._own_amounts()
        self.rank = np.empty(num_classes, dtype=np.int64)
        self.rank[np.argsort(score, kind="stable")] = np.arange(num_classes)

    def kept(self, forced: np.ndarray) -> np.ndarray:
        """Channels kept if those of `forced` are; bool, shape (channels of the network,)."""
        stays = self.fixed.copy()
        stays[self.classes[forced]] = True
        # Within a unit: unused ones go first, then the weakest, and those that stay last.
        order = np.lexsort((self.rank, self.used, stays, self.units))
        sizes = np.bincount(self.units)
        unused = np.bincount(self.units, weights=~self.used & ~stays).astype(np.int64)
        staying = np.bincount(self.units, weights=stays).astype(np.int64)
        removed = self._numbers(order, sizes, stays)
        wanted = np.maximum(sizes - np.maximum(removed, np.minimum(unused, sizes - 1)), staying)
        kept = [
            round_up(number, size, round_to=self.criterion.round_to, min_channels=self.criterion.min_channels)
            for number, size in zip(wanted.tolist(), sizes.tolist(), strict=True)
        ]
        starts = np.cumsum(sizes) - sizes
        place = np.arange(len(order)) - starts[self.units[order]]
        result = np.zeros(len(order), dtype=bool)
        result[order[place >= (sizes - np.array(kept))[self.units[order]]]] = True
        return result[self.classes]

    def _numbers(self, order: np.ndarray, sizes: np.ndarray, stays: np.ndarray) -> np.ndarray:
        """How many classes every unit loses if it can; `order` has its weakest first, and what stays last."""
        amount = self.criterion.amount
        numbers = np.array([num_removed(self.own.get(u, amount), size) for u, size in enumerate(sizes.tolist())])
        if self.criterion.scope == GLOBAL:
            pooled = np.bincount(self.units, weights=self.fixed) == 0
            pooled[list(self.own)] = False
            last = order[np.cumsum(sizes) - 1]  # of every unit: it stays
            candidate = pooled[self.units] & ~stays
            candidate[last] = False
            ranked = np.lexsort((self.rank, self.used))
            total = num_removed(amount, int(sizes[pooled].sum())) if pooled.any() else 0
            gone = self.units[ranked[candidate[ranked]][:total]]
            numbers[pooled] = np.bincount(gone, minlength=len(sizes))[pooled]
        return numbers

    def _own_amounts(self) -> dict[int, float | str]:
        """Units to amounts of their own: the smallest given for a consumer of their channels."""
        free = self.fixed[self.classes] == 0
        reads = [read for read in (*self.graph.reads, *self.graph.grouped) if free[_entries(self.graph, read)].any()]
        given = self.criterion.own_amounts(self.graph, frozenset(read.weight for read in reads))
        own: dict[int, float | str] = {}
        for read in reads:
            if read.weight in given:
                for unit in np.unique(self.units[self.classes[_entries(self.graph, read)]]).tolist():
                    own[unit] = min(own.get(unit, given[read.weight]), given[read.weight], key=require_amount)
        return own

    def _classes(self, reads: set[Read]) -> np.ndarray:
        """Class of every channel: tied are equal positions of groups, and what one weight reads in several calls."""
        first, other = [], []
        by_weight: dict[str, np.ndarray] = {}
        for read in reads:
            entries = _entries(self.graph, read)
            entries = np.concatenate([by_weight.setdefault(read.weight, entries[:1]), entries])
            first.append(np.broadcast_to(entries[0], entries.shape).reshape(-1))
            other.append(entries.reshape(-1))
        size = self.graph.offsets[-1]
        if not first:
            return np.arange(size)
        ends = (np.concatenate(first), np.concatenate(other))
        ties = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(size, size))
        return connected_components(ties, directed=False)[1].astype(np.int64)

    def _units(self) -> np.ndarray:
        """Unit of every class: that of the classes with channels of the same blocks."""
        order = np.argsort(self.classes, kind="stable")  # channels ascend within a class, and so do their blocks
        blocks = np.repeat(np.arange(len(self.graph.blocks)), np.diff(self.graph.offsets))[order]
        sizes = np.bincount(self.classes)
        starts = np.cumsum(sizes) - sizes
        table = np.full((len(sizes), sizes.max()), -1)
        table[self.classes[order], np.arange(len(order)) - starts[self.classes[order]]] = blocks
        return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)

    def _scores(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Summed score of what reads each channel, directly or through selections, and whether that is not zero.

        Consumers of fixed channels alone are not scored.
        """
        graph, exponent = self.graph, importance_named(self.criterion.importance).exponent
        needed = [weight for weight, read in graph.consumers.items() if not fixed[_entries(graph, read)].all()]
        scores = scores_of(graph, needed, INPUT, self.criterion)
        score, used = np.zeros(graph.offsets[-1]), np.zeros(graph.offsets[-1], dtype=bool)
        for weight, read in graph.consumers.items():
            channels = _entries(graph, read)[0]  # of the first group: a class is scored as a whole
            if weight in scores:
                np.add.at(score, channels, scores[weight] ** exponent)
            used[channels[column_norms(graph, weight, order=LARGEST) != 0]] = True
        for selection in reversed(graph.selections):
            source = graph.numbers(selection.input)[selection.index]
            output = graph.numbers(selection.output)
            np.add.at(score, source, score[output])
            used[source[used[output]]] = True
        return score, used

    def _fixed(self, ignored: frozenset[str]) -> np.ndarray:
        """Channels of which none is removed."""
        graph = self.graph
        whole = [block.pinned or not block.removable for block in graph.blocks]
        for read in (*graph.reads, *graph.grouped):
            if read.weight in ignored:
                for b in read.input.blocks:
                    whole[b] = True
        return np.repeat(whole, np.diff(graph.offsets))


def _entries(graph: Graph, read: Read) -> np.ndarray:
    """The channel of every entry that a consumer reads, int64, shape (groups, length of its mask)."""
    return graph.numbers(read.input).reshape(read.groups, -1)
