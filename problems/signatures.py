"""Instances without the original order of their channels: the form that the library stores, and a content hash.

Channels of a class are interchangeable. Their original places do not matter to any objective.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from problems.conversions import of_kind
from problems.costs import CostTable
from problems.problem import Access, Problem


def signature_form(problem: Problem) -> Problem:
    """The same problem with the channels of every unpinned block sorted by signature.

    Signatures are compared as binary numbers whose bit i stands for the block's i-th reader. So channels that no reader
    keeps come first; the required ones are the last of these. A file of the result has one entry per class.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = signature_form(random_masks(6, 2))
    >>> [access.kept.astype(int).tolist() for access in problem.accesses]
    [[0, 0, 1, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    """
    sorted_channels, blocks, constraints = [], [], []
    for b, block in enumerate(of_kind(problem, Problem, "the problem").blocks):
        required = np.isin(np.arange(block.size), block.required)
        keys = [required, *(problem.reads[r] for r in problem.readers_of(b))]
        sorted_channels.append(np.arange(block.size) if block.pinned else np.lexsort(keys))
        blocks.append(dataclasses.replace(block, required=tuple(np.flatnonzero(required[sorted_channels[b]]).tolist())))
    pieces = iter(problem.reads)
    accesses = [
        dataclasses.replace(access, kept=np.concatenate([next(pieces)[sorted_channels[b]] for b in access.blocks]))
        for access in problem.accesses
    ]
    for own in problem.constraints:
        place = np.argsort(sorted_channels[own.block])
        constraints.append(own.with_channels(place[list(own.channels)].tolist()))
    return Problem(tuple(blocks), tuple(accesses), problem.name, problem.bundles, tuple(constraints))


def content_hash(problem: Problem) -> str:
    """SHA-256, in hexadecimal, of the problem's content.

    Two problems have the same hash if they have the same blocks and accesses in the same order. They may differ in
    names, in the order of channels within unpinned blocks, and in channels that are not stored. With constraints,
    the order of channels counts as well. The hash does not depend on the file format or its version.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = random_masks(6, 2)
    >>> content_hash(problem) == content_hash(signature_form(problem))
    True
    """
    classes = signature_form(problem).classes
    blocks = []
    for b, block in enumerate(problem.blocks):
        own = classes.of_block(b)
        bits = np.packbits(classes.signature[own][:, problem.readers_of(b)], axis=1, bitorder="little")
        runs = [[int(weight), row.tobytes().hex()] for weight, row in zip(classes.weight[own], bits, strict=True)]
        blocks.append([block.pinned, runs])
    accesses = [
        [access.blocks, access.channel_size, _table(access), *([access.weight] if access.weight != 1 else [])]
        for access in problem.accesses
    ]
    content = [blocks, accesses, *([[bundle.units for bundle in problem.bundles]] if problem.bundles else [])]
    if problem.constraints:
        kept = [np.packbits(access.kept).tobytes().hex() for access in problem.accesses]
        content.append([kept, [[type(own).__name__, *dataclasses.astuple(own)] for own in problem.constraints]])
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def masks_differ(problem: Problem) -> bool:
    """Whether two accesses keep different channels of one unpinned block. Otherwise there is nothing to order."""
    for b, block in enumerate(problem.blocks):
        readers = problem.readers_of(b)
        if block.pinned or len({problem.readers[r].access for r in readers}) < 2:
            continue
        if any(not np.array_equal(problem.reads[readers[0]], problem.reads[r]) for r in readers[1:]):
            return True
    return False


def _table(access: Access) -> list[Any] | None:
    table: CostTable | None = access.table
    if table is None:
        return None
    pieces = None if table.pieces is None else [table.pieces.points, table.pieces.costs]
    return [table.read.points, table.read.costs, table.copy, pieces]
