"""The ordering problem: blocks of channels, the accesses that read them, and their signature classes.

A `Problem` is one segment of a pruned network. A solution is an `Order`: one permutation per block. The value of an
order is defined in `problems.evaluation` and nowhere else. docs/glossary.md explains the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from problems.bundles import Bundle, occupants, permuted_slots, require_alike
from problems.classes import Classes, class_labels, run_labels
from problems.conversions import booleans, flag, items, objects, text, whole_number, whole_numbers
from problems.costs import MAX_TICKS, CostTable
from problems.errors import ProblemError
from problems.showing.cards import problem_card
from problems.showing.reprs import shown, shown_as

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
    """

    name: str
    blocks: tuple[int, ...]
    kept: np.ndarray
    channel_size: int = 1
    table: CostTable | None = None

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
        blocks = whole_numbers(self.blocks, f"access {self.name!r}: blocks")
        if blocks.ndim != 1:
            raise ProblemError(f"access {self.name!r}: blocks must be a list of indices")
        kept.flags.writeable = False
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "blocks", tuple(blocks.tolist()))
        object.__setattr__(self, "channel_size", size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Access):
            return NotImplemented
        same = (self.name, self.blocks, self.channel_size, self.table) == (
            other.name,
            other.blocks,
            other.channel_size,
            other.table,
        )
        return same and np.array_equal(self.kept, other.kept)

    def __hash__(self) -> int:
        return hash((self.name, self.blocks, self.channel_size, self.kept.tobytes()))

    @cached_property
    def num_kept(self) -> int:
        """Number of kept channels, |K|."""
        return int(self.kept.sum())


@dataclass(frozen=True)
class Reader:
    """One occurrence of a block in an access: `access` reads `block` as its `slot`-th input."""

    access: int
    slot: int
    block: int


@shown_as(problem_card)
@dataclass(frozen=True)
class Problem:
    """One segment: blocks, and the accesses that read concatenations of them.

    The fields are validated on construction. Solvers work on `classes`, which hold the stored channels only. If there
    are `bundles`, the units of each bundle may change places too.

    Raises
    ------
    ProblemError
        If there is no block, names repeat, a block index is out of range, or a kept array has the wrong length. If a
        cost table does not reach from the kept channels of its access to the stored ones. If the units of a bundle are
        not alike: corresponding blocks must store equally many channels, occur equally often in every access, and not
        be pinned.

    Examples
    --------
    >>> import numpy as np
    >>> blocks = (Block("conv1", 4),)
    >>> accesses = (Access("a", (0,), np.array([1, 0, 1, 0])), Access("b", (0,), np.array([0, 0, 1, 1])))
    >>> problem = Problem(blocks, accesses, name="conv1")
    >>> print(problem)
    conv1: 1 block, 4 channels (3 stored), 2 accesses, 3 classes
    >>> [stored.tolist() for stored in problem.stored]
    [[0, 2, 3]]
    """

    blocks: tuple[Block, ...]
    accesses: tuple[Access, ...]
    name: str = "problem"
    bundles: tuple[Bundle, ...] = ()

    def __post_init__(self) -> None:
        text(self.name, "the name of a problem")
        object.__setattr__(self, "blocks", objects(self.blocks, Block, f"{self.name}: blocks"))
        object.__setattr__(self, "accesses", objects(self.accesses, Access, f"{self.name}: accesses"))
        object.__setattr__(self, "bundles", objects(self.bundles, Bundle, f"{self.name}: bundles"))
        if not self.blocks:
            raise ProblemError(f"{self.name} has no block, so there is nothing to order; give it at least one")
        _require_unique("block", [block.name for block in self.blocks])
        _require_unique("access", [access.name for access in self.accesses])
        for access in self.accesses:
            if not access.blocks:
                raise ProblemError(f"access {access.name!r} reads no block; give it at least one")
            if min(access.blocks) < 0 or max(access.blocks) >= len(self.blocks):
                raise ProblemError(
                    f"access {access.name!r} reads block {max(access.blocks, key=abs)}, "
                    f"but there are only {len(self.blocks)} blocks"
                )
            width = sum(self.blocks[b].size for b in access.blocks)
            if len(access.kept) != width:
                raise ProblemError(
                    f"access {access.name!r}: kept has length {len(access.kept)}, but its blocks have {width} channels"
                )
            if access.table is not None:
                width = sum(len(self.stored[b]) for b in access.blocks)
                if not access.table.read.covers(access.num_kept, width):
                    raise ProblemError(
                        f"access {access.name!r}: its cost table reaches from {access.table.read.points[0]} to "
                        f"{access.table.read.points[-1]}, its spans from {access.num_kept} to {width}; extend the grid"
                    )
        self._require_exact_sums()
        require_alike(
            self.bundles,
            [block.name for block in self.blocks],
            [block.pinned for block in self.blocks],
            [len(stored) for stored in self.stored] if self.bundles else [],
            {access.name: access.blocks for access in self.accesses},
        )

    def _require_exact_sums(self) -> None:
        """Raise unless there are at most `MAX_TICKS` ticks per nanosecond and sums of costs in ticks fit 2^52."""
        tables = [access.table for access in self.accesses if access.table is not None]
        most = sum(t.read.costs[-1] + (t.copy or 0) + (t.pieces.costs[-1] if t.pieces else 0) for t in tables)
        if self.ticks > MAX_TICKS or self.ticks * most > 2**52:
            raise ProblemError(
                f"the cost tables need {self.ticks} ticks per nanosecond for {most} ns in all, more than exact "
                f"arithmetic holds ({MAX_TICKS} ticks, 2^52 altogether); put their grids on multiples of 8"
            )

    def __str__(self) -> str:
        units = sum(len(bundle.units) for bundle in self.bundles)
        return (
            f"{self.name}: {_count(len(self.blocks), 'block')}, {_count(self.num_channels, 'channel')} "
            f"({self.num_stored} stored), {_count(len(self.accesses), 'access', 'accesses')}, "
            f"{_count(len(self.classes), 'class', 'classes')}"
            + (f", {units} units that may change places" if units else "")
        )

    @property
    def num_channels(self) -> int:
        """Channels of all blocks before anything is removed."""
        return sum(block.size for block in self.blocks)

    @property
    def num_stored(self) -> int:
        """Channels of all blocks that an order places."""
        return sum(len(stored) for stored in self.stored)

    @cached_property
    def first_readers(self) -> tuple[int, ...]:
        """Per access, the index of its first reader. Its other readers follow."""
        return tuple(accumulate((len(access.blocks) for access in self.accesses[:-1]), initial=0))

    @cached_property
    def ticks(self) -> int:
        """Ticks per nanosecond: the least number that makes all interpolated costs whole (1 without tables)."""
        return math.lcm(*(access.table.denominator for access in self.accesses if access.table is not None))

    @cached_property
    def most_elements(self) -> tuple[int, int]:
        """Most elements per pixel that all accesses over-read together, and elements if all of them copy."""
        over_read = copied = 0
        for access in self.accesses:
            width = sum(len(self.stored[b]) for b in access.blocks)
            over_read += access.channel_size * (width - access.num_kept)
            copied += access.channel_size * access.num_kept
        return over_read, copied

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """Every (access, slot) pair, access by access; the columns of `Classes.signature`."""
        return tuple(
            Reader(a, slot, block) for a, access in enumerate(self.accesses) for slot, block in enumerate(access.blocks)
        )

    @cached_property
    def reads(self) -> tuple[np.ndarray, ...]:
        """Per reader, a Boolean view of shape (size of its block,): the channels it keeps."""
        pieces: list[np.ndarray] = []
        for access in self.accesses:
            bounds = np.cumsum([self.blocks[b].size for b in access.blocks])[:-1]
            pieces.extend(np.split(access.kept, bounds))
        return tuple(pieces)

    def readers_of(self, block: int) -> list[int]:
        """Indices into `readers` of the occurrences of one block."""
        return self._readers_by_block[block]

    @cached_property
    def _readers_by_block(self) -> tuple[list[int], ...]:
        by_block: tuple[list[int], ...] = tuple([] for _ in self.blocks)
        for r, reader in enumerate(self.readers):
            by_block[reader.block].append(r)
        return by_block

    @cached_property
    def stored(self) -> tuple[np.ndarray, ...]:
        """Per block, the channels that an order must place, ascending.

        A pinned or non-removable block stores all its channels. Any other block stores those that some access keeps or
        that are required. If there are none, it stores its first channel, because a tensor cannot be empty.
        """
        stored = []
        for b, block in enumerate(self.blocks):
            if block.pinned or not block.removable:
                stored.append(np.arange(block.size))
                continue
            kept_by_any = np.zeros(block.size, dtype=bool)
            for r in self.readers_of(b):
                kept_by_any |= self.reads[r]
            kept_by_any[list(block.required)] = True
            kept_by_any[0] |= not kept_by_any.any()
            stored.append(np.flatnonzero(kept_by_any))
        return tuple(stored)

    @cached_property
    def classes(self) -> Classes:
        """The signature classes; see `Classes`."""
        block_idx: list[int] = []
        signatures: list[np.ndarray] = []
        members: list[np.ndarray] = []
        for b, block in enumerate(self.blocks):
            own = self.readers_of(b)
            stored = self.stored[b]
            bits = np.zeros((len(stored), len(self.readers)), dtype=bool)
            for r in own:
                bits[:, r] = self.reads[r][stored]
            labels = run_labels(bits) if block.pinned else class_labels(bits)
            by_label = np.argsort(labels, kind="stable")
            starts = np.flatnonzero(np.diff(labels[by_label], prepend=-1))
            members.extend(np.split(stored[by_label], starts[1:]))
            signatures.append(bits[by_label[starts]])
            block_idx.extend([b] * len(starts))
        signature = np.concatenate(signatures) if signatures else np.zeros((0, 0), dtype=bool)
        weight = np.array([len(m) for m in members], dtype=np.int64)
        return Classes(np.array(block_idx, dtype=np.int64), weight, signature, tuple(members))

    def arranged(self, arrangement: Sequence[np.ndarray]) -> Problem:
        """The problem after the units of its bundles have changed places. The result has no bundles.

        Parameters
        ----------
        arrangement
            Per bundle an int array: the unit in the place of each unit. Empty if all units are in their own places.
        """
        units = [whole_numbers(own, "an arrangement") for own in items(arrangement, "an arrangement")]
        lengths = [len(bundle.units) for bundle in self.bundles]
        if units and [sorted(own.ravel().tolist()) for own in units] != [list(range(length)) for length in lengths]:
            raise ProblemError(f"an arrangement must have every unit of every bundle once; they have {lengths} units")
        occupant = occupants(len(self.blocks), self.bundles, units)
        pieces = iter(self.reads)
        accesses = []
        for access in self.accesses:
            own = [next(pieces) for _ in access.blocks]
            slots = permuted_slots(access.blocks, occupant)
            blocks = tuple(access.blocks[slot] for slot in slots)
            accesses.append(replace(access, blocks=blocks, kept=np.concatenate([own[slot] for slot in slots])))
        return Problem(self.blocks, tuple(accesses), self.name)

    def restricted(self, accesses: Sequence[int]) -> Problem:
        """The same blocks, stored channels included, with only some of the accesses.

        Channels that only dropped accesses keep stay stored, because they still lie between the others. So the optimum
        of a restriction is a lower bound on what these accesses cost in the full problem. Pinned blocks stay pinned.
        """
        chosen_accesses = whole_numbers(items(accesses, "accesses"), "accesses").ravel().tolist()
        if not all(0 <= a < len(self.accesses) for a in chosen_accesses):
            raise ProblemError(f"there are no accesses {chosen_accesses}; {self.name} has {len(self.accesses)}, from 0")
        blocks, maps = [], []
        for block, stored in zip(self.blocks, self.stored, strict=True):
            blocks.append(Block(block.name, len(stored), pinned=block.pinned, removable=False))
            maps.append(stored)
        chosen = []
        first_reader = np.cumsum([0] + [len(access.blocks) for access in self.accesses])
        for a in chosen_accesses:
            access = self.accesses[a]
            kept = np.concatenate([self.reads[first_reader[a] + slot][maps[b]] for slot, b in enumerate(access.blocks)])
            chosen.append(Access(access.name, access.blocks, kept, access.channel_size, access.table))
        return Problem(tuple(blocks), tuple(chosen), self.name, self.bundles)


def _require_unique(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ProblemError(f"two {kind} entries are named {name!r}; names must be unique")
        seen.add(name)


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
