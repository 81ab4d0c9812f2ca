"""Finds the groups of convolutions that may swap positions. This is done once per trace.

A group of a convolution moves together with the blocks that it reads and the blocks that it computes. In a chain of
such convolutions, all these blocks form one unit. Two units may swap positions under two conditions. First, every
tensor has both of them, equally often, or none of them. Second, nothing else separates them: no slice ends between
them, and no normalisation puts them into different groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from problems import Block, Bundle
from upscale_opt.channels.table import Resolution, TensorLayout

Convolution = tuple[TensorLayout, TensorLayout, int]
"""Layouts of the input and the output of a convolution, and its number of groups."""
_Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""For each group of a convolution: the blocks that it reads, and the blocks that it computes."""


def bundles_of(
    grouped: Sequence[Convolution], resolution: Resolution, layouts: Iterable[TensorLayout | None]
) -> tuple[Bundle, ...]:
    """Return bundles of units. The units of a bundle may swap positions.

    Parameters
    ----------
    grouped
        The convolutions with several groups.
    resolution
        The blocks.
    layouts
        Layouts of all tensors of the network, including slices and parameters.
    """
    found = [_groups_of(own, resolution.blocks) for own in grouped]
    groups = [own for own in found if own is not None]
    fixed = {b for (*sides, _), own in zip(grouped, found) if own is None for side in sides for b in side.blocks}
    units = [unit for unit in _units(groups) if fixed.isdisjoint(unit)]
    if len(units) < 2:
        return ()
    counts = _counts(resolution, layouts, sorted({b for unit in units for b in unit}))
    alike: dict[tuple[object, ...], list[tuple[int, ...]]] = {}
    for unit, shape in zip(units, _shapes(units, groups), strict=True):
        blocks = [resolution.blocks[b] for b in unit]
        if not any(block.pinned for block in blocks):
            kinds = tuple((block.size, block.removable, counts[b]) for block, b in zip(blocks, unit, strict=True))
            alike.setdefault((kinds, shape), []).append(unit)
    return tuple(Bundle(tuple(own)) for own in alike.values() if len(own) > 1)


def _groups_of(convolution: Convolution, blocks: Sequence[Block]) -> _Groups | None:
    """Return the blocks of every group. None if a block is in several groups, because its channels are tied."""
    *layouts, groups = convolution
    sides = []
    for layout in layouts:
        sizes = np.array([blocks[b].size * layout.size for b in layout.blocks])
        ends = np.cumsum(sizes)
        first, last = ((ends - own) * groups // ends[-1] for own in (sizes, 1))
        if (first != last).any():
            return None
        sides.append([tuple(b for b, own in zip(layout.blocks, first) if own == g) for g in range(groups)])
    return list(zip(*sides, strict=True))


def _units(groups: Sequence[_Groups]) -> list[tuple[int, ...]]:
    """Return the sets of blocks that must move together, each in the order in which the convolutions have them."""
    unit_of: dict[int, dict[int, None]] = {}
    for reads, computes in (own for convolution in groups for own in convolution):
        blocks = dict.fromkeys((*reads, *computes))
        merged = {b: None for known in blocks for b in unit_of.get(known, {known: None})}
        unit_of |= dict.fromkeys(merged, merged)
    in_order = dict.fromkeys(b for convolution in groups for own in convolution for side in own for b in side)
    units: dict[int, list[int]] = {}
    for b in in_order:
        units.setdefault(min(unit_of[b]), []).append(b)
    return [tuple(own) for own in units.values()]


def _counts(resolution: Resolution, layouts: Iterable[TensorLayout | None], blocks: Sequence[int]) -> dict[int, bytes]:
    """Count how often each block is in every tensor and in every compartment.

    Blocks may swap positions only if their counts are equal.
    """
    sequences = dict.fromkeys(own.blocks for own in layouts if own is not None)
    entries = [np.asarray(own) for own in sequences]
    entries += [resolution.block_of[channels] for channels in resolution.compartments]
    table = np.stack([np.bincount(own, minlength=len(resolution.blocks))[blocks] for own in entries])
    return {b: column.tobytes() for b, column in zip(blocks, table.T, strict=True)}


def _shapes(units: Sequence[tuple[int, ...]], groups: Sequence[_Groups]) -> list[tuple[object, ...]]:
    """For each unit, return the positions of its blocks in its groups, convolution by convolution."""
    place = {b: (u, k) for u, unit in enumerate(units) for k, b in enumerate(unit)}
    shapes: list[list[object]] = [[] for _ in units]
    for c, convolution in enumerate(groups):
        for own in convolution:
            if own[0][0] in place:
                sides = tuple(tuple(place[b][1] for b in side) for side in own)
                shapes[place[own[0][0]][0]].append((c, sides))
    return [tuple(own) for own in shapes]
