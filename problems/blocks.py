"""Blocks of channels, and the accesses that read them: what a `Problem` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from problems.conversions import booleans, flag, text, whole_number, whole_numbers
from problems.costs import MAX_COST, CostTable
from problems.errors import ProblemError
from problems.showing.reprs import shown

MAX_SIZE = 2**24
"""Most channels of a block, and most elements of a channel: more than any tensor has, and safe in int64 sums."""


@dataclass(frozen=True)
class Block:
    """A maximal set of channels that may be permuted freely among themselves.

    Parameters
    ----------
    name
        Name for messages; unique within a problem.
    size
        Number of channels before anything is removed, at least 1.
    pinned
        The channels keep their places and none is removed (identity order). Default False.
    removable
        Channels that no access keeps are not stored. Ignored for pinned blocks. Default True.
    required
        Channels of a removable block that are always stored, ascending: something other than an access needs them (a
        channel shuffle, a grouped convolution). Default none.
    """

    name: str
    size: int
    pinned: bool = False
    removable: bool = True
    required: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        text(self.name, "the name of a block")
        where = f"block {self.name!r}"
        size = whole_number(self.size, f"{where}: size")
        if size < 1:
            raise ProblemError(f"{where} has size {size}; give it at least one channel")
        if size > MAX_SIZE:
            raise ProblemError(f"{where} has size {size}; it can have at most {MAX_SIZE} channels")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "pinned", flag(self.pinned, f"{where}: pinned"))
        object.__setattr__(self, "removable", flag(self.removable, f"{where}: removable"))
        required = whole_numbers(self.required, f"{where}: required")
        if required.ndim != 1 or (required.size and (required[0] < 0 or required[-1] >= self.size)):
            raise ProblemError(f"block {self.name!r} requires channels it does not have; it has {self.size}")
        if (np.diff(required) <= 0).any():
            raise ProblemError(f"block {self.name!r}: required channels must ascend")
        object.__setattr__(self, "required", tuple(required.tolist()))


@shown
@dataclass(frozen=True, eq=False)
class Access:
    """A consumer that reads the concatenation of some blocks and keeps a subset of its positions.

    Parameters
    ----------
    name
        Name for messages; unique within a problem.
    blocks
        Indices into ``Problem.blocks``, in the order of the concatenation. A block may occur more than once
        (``cat([x, x])``) and each occurrence keeps its own channels.
    kept
        Boolean (or 0 and 1), shape (sum of the sizes of the blocks,): which input positions are kept, in original
        order. At least one. Stored as a read-only copy.
    channel_size
        Elements of the consumer's input per channel and pixel: 1, or the spatial size behind a flatten. Every cost of
        the access except those of its table is multiplied by it. Default 1.
    table
        The access's times, for the objective `latency`; None if they are not known. Its spans count channels, whatever
        the channel size.
    weight
        How often the access counts, at least 1: its cost is multiplied by it, for every objective, `runs` and
        `latency` included. An access of weight 3 costs what three equal accesses cost. Default 1.

    Raises
    ------
    ProblemError
        If the access keeps nothing, or a field is of the wrong kind or out of its range. If weight times channel size
        is above `MAX_SIZE`, or weight times a cost of the table above `MAX_COST`.
    """

    name: str
    blocks: tuple[int, ...]
    kept: np.ndarray
    channel_size: int = 1
    table: CostTable | None = None
    weight: int = 1

    def __post_init__(self) -> None:
        text(self.name, "the name of an access")
        kept = booleans(self.kept, f"access {self.name!r}: kept")
        if kept.ndim != 1:
            raise ProblemError(f"access {self.name!r}: kept must be one-dimensional, not {kept.ndim}-dimensional")
        if not kept.any():
            raise ProblemError(f"access {self.name!r} keeps nothing; keep at least one channel")
        size = whole_number(self.channel_size, f"access {self.name!r}: channel_size", least=1, most=MAX_SIZE)
        if self.table is not None and not isinstance(self.table, CostTable):
            raise ProblemError(f"access {self.name!r}: table is {self.table!r:.80}; give a CostTable, or None")
        weight = whole_number(self.weight, f"access {self.name!r}: weight", least=1, most=MAX_SIZE)
        if weight * size > MAX_SIZE or (self.table is not None and weight * self.table.largest > MAX_COST):
            raise ProblemError(f"access {self.name!r} has weight {weight}, too large for its costs; scale weights down")
        blocks = whole_numbers(self.blocks, f"access {self.name!r}: blocks")
        if blocks.ndim != 1:
            raise ProblemError(f"access {self.name!r}: blocks must be a list of indices")
        kept.flags.writeable = False
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "blocks", tuple(blocks.tolist()))
        object.__setattr__(self, "channel_size", size)
        object.__setattr__(self, "weight", weight)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Access):
            return NotImplemented
        same = (self.name, self.blocks, self.channel_size, self.table, self.weight) == (
            other.name,
            other.blocks,
            other.channel_size,
            other.table,
            other.weight,
        )
        return same and np.array_equal(self.kept, other.kept)

    def __hash__(self) -> int:
        return hash((self.name, self.blocks, self.channel_size, self.weight, self.kept.tobytes()))

    @cached_property
    def num_kept(self) -> int:
        """Number of kept channels, |K|."""
        return int(self.kept.sum())

    @property
    def price(self) -> int:
        """By what costs per channel are multiplied: weight times channel size."""
        return self.weight * self.channel_size

    @cached_property
    def weighted_table(self) -> CostTable | None:
        """The table with all times multiplied by the weight."""
        return self.table if self.table is None or self.weight == 1 else self.table.times(self.weight)


@dataclass(frozen=True)
class Reader:
    """One occurrence of a block in an access: `access` reads `block` as its `slot`-th input."""

    access: int
    slot: int
    block: int
