"""Constrained masks: for every channel, either all its consumers keep it or none does, as in conventional pruning.

Every block then has one set of kept channels, and all of them are stored. Every read is a view, and nothing is copied
in any order. UPSCALE is about what this constraint costs, compared with a separate mask for every consumer.
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
    """Masks that agree: all consumers of a block, linear layers included, keep the same channels of it.

    From every block, the channels with the smallest group norm are removed. The group norm of a channel is the sum over
    its consumers of the squared L2 norms of the weights that read it. This is the group norm of DepGraph (Fang et al.,
    CVPR 2023, section 3.4) without the producers' weights. Per-consumer masks then rank by the same weights. Channels
    that all consumers multiply by zero are always removed, even if the amount asks for fewer.

    Nothing is removed from these blocks: blocks that are pinned or not removable, that hold channels of a network
    input, or that an ignored consumer reads. A convolution with several groups drops the same channels of every group.
    These channels are ranked and counted together. A channel stays if a selection (a channel shuffle) needs it for a
    later channel that is kept. Then fewer channels are removed than the amount asks for.

    Parameters
    ----------
    graph
        The traced model.
    amount
        Share of channels to remove from every block, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    ignore
        Names of weights or modules, wildcards allowed (``layer4.*``). All channels that they read are kept.
    round_to, min_channels
        Every block keeps a multiple of `round_to` channels and at least `min_channels`. A smaller block keeps all
        channels.

    Returns
    -------
    dict
        Weight name to Boolean array, True = kept, for every consumer. Use them unchanged. `effective_masks` would drop
        channels that only one of several consumers multiplies by zero.

    Raises
    ------
    MaskError
        If a number is out of range, or a name to ignore matches nothing.
    """
    require_values(graph.module)
    criterion = Criterion("l2", amount, round_to=round_to, min_channels=min_channels)
    return shared_masks(graph, criterion, ignore=ignore)


def shared_masks(graph: Graph, criterion: Criterion, *, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Masks that agree, as in `constrained_masks`, but by any criterion.

    The score of a channel is the sum of its consumers' scores, each to the importance's exponent. After a flatten, the
    scores of all features of the channel are summed. Amounts hold for blocks instead of layers. A global threshold
    ranks the channels of all blocks that may lose some. All their channels count in the total, and every block keeps
    its strongest channel.

    Parameters
    ----------
    graph
        The traced model.
    criterion
        Which channels to drop. If amounts are given by name for consumers of a block, the smallest one counts.
    ignore
        Names of weights or modules, wildcards allowed. All channels that they read are kept.

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
    """The channels of a network in classes and units.

    All channels of a class are kept or removed together. A class is one channel. If convolutions have several groups,
    it is the channels at one position of all groups. Amounts are counted per unit. A unit is all classes whose channels
    lie in the same blocks, mostly one block.
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
        self.used = np.bincount(self.classes, weights=used, minlength=num_classes) > 0
        self.own = self._own_amounts()
        self.rank = np.empty(num_classes, dtype=np.int64)
        self.rank[np.argsort(score, kind="stable")] = np.arange(num_classes)

    def kept(self, forced: np.ndarray) -> np.ndarray:
        """The channels that are kept if at least those of `forced` are; bool, shape (channels of the network,)."""
        stays = self.fixed.copy()
        stays[self.classes[forced]] = True
        # Order within a unit: unused classes go first, then the weakest ones. Classes that must stay come last.
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
        """Number of classes that every unit should lose. `order` lists the weakest first, and those that stay last."""
        amount = self.criterion.amount
        numbers = np.array([num_removed(self.own.get(u, amount), size) for u, size in enumerate(sizes.tolist())])
        if self.criterion.scope == GLOBAL:
            pooled = np.bincount(self.units, weights=self.fixed) == 0
            pooled[list(self.own)] = False
            last = order[np.cumsum(sizes) - 1]  # the strongest class of every unit stays
            candidate = pooled[self.units] & ~stays
            candidate[last] = False
            ranked = np.lexsort((self.rank, self.used))
            total = num_removed(amount, int(sizes[pooled].sum())) if pooled.any() else 0
            gone = self.units[ranked[candidate[ranked]][:total]]
            numbers[pooled] = np.bincount(gone, minlength=len(sizes))[pooled]
        return numbers

    def _own_amounts(self) -> dict[int, float | str]:
        """Units to amounts given by name: the smallest amount of any consumer of their channels."""
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
        """Class of every channel. Equal positions of groups are tied, and channels that one weight reads in several
        calls.
        """
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
        """Unit of every class. Classes with channels of the same blocks have the same unit."""
        order = np.argsort(self.classes, kind="stable")  # channels ascend within a class, and so do blocks
        blocks = np.repeat(np.arange(len(self.graph.blocks)), np.diff(self.graph.offsets))[order]
        sizes = np.bincount(self.classes)
        starts = np.cumsum(sizes) - sizes
        table = np.full((len(sizes), sizes.max()), -1)
        table[self.classes[order], np.arange(len(order)) - starts[self.classes[order]]] = blocks
        return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)

    def _scores(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The score of each class, and whether any weight that reads a channel is nonzero.

        A score is the sum over the consumers of the channel, direct or through selections. A statistic of products is
        one of their sum. A consumer that reads only fixed channels is not scored.
        """
        graph, importance = self.graph, importance_named(self.criterion.importance)
        needed = [weight for weight, read in graph.consumers.items() if not fixed[_entries(graph, read)].all()]
        joint = importance.product_statistic is not None and bool(needed)
        scores = {} if joint else scores_of(graph, needed, INPUT, self.criterion)
        score, used = np.zeros(graph.offsets[-1]), np.zeros(graph.offsets[-1], dtype=bool)
        for weight, read in graph.consumers.items():
            channels = _entries(graph, read)[0]  # of the first group: a class has one score
            if weight in scores:
                np.add.at(score, channels, scores[weight] ** importance.exponent)
            used[channels[column_norms(graph, weight, order=LARGEST) != 0]] = True
        for selection in reversed(graph.selections):
            source = graph.numbers(selection.input)[selection.index]
            output = graph.numbers(selection.output)
            np.add.at(score, source, score[output])
            used[source[used[output]]] = True
        if joint:
            return self.criterion.shared(graph, self.classes, needed), used
        return np.bincount(self.classes, weights=score, minlength=self.classes.max() + 1), used

    def _fixed(self, ignored: frozenset[str]) -> np.ndarray:
        """Channels that are never removed."""
        graph = self.graph
        whole = [block.pinned or not block.removable for block in graph.blocks]
        for read in (*graph.reads, *graph.grouped):
            if read.weight in ignored:
                for b in read.input.blocks:
                    whole[b] = True
        return np.repeat(whole, np.diff(graph.offsets))


def _entries(graph: Graph, read: Read) -> np.ndarray:
    """The channel number of every entry that a consumer reads; int64, shape (groups, length of its mask)."""
    return graph.numbers(read.input).reshape(read.groups, -1)
