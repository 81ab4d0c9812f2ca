"""The ordering problem: blocks of channels, the accesses that read them, and their signature classes.

A `Problem` is one segment of a pruned network. A solution is an `Order`: one permutation per block. The value of an
order is defined in `problems.evaluation` and nowhere else. docs/glossary.md explains the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from problems.blocks import Access, Block, Reader
from problems.bundles import Bundle, occupants, permuted_slots, require_alike
from problems.classes import Classes, class_labels, run_labels
from problems.constraints import Constraint, FixedPlace, first_broken, order_that_keeps
from problems.conversions import booleans, items, objects, text, whole_numbers
from problems.costs import MAX_TICKS
from problems.errors import ProblemError
from problems.showing.cards import problem_card
from problems.showing.reprs import shown_as


@shown_as(problem_card)
@dataclass(frozen=True)
class Problem:
    """One segment: blocks, and the accesses that read concatenations of them.

    The fields are validated on construction. Solvers work on `classes`, which hold the stored channels only. If there
    are `bundles`, the units of each bundle may change places too. If there are `constraints`, an order must keep them.

    Raises
    ------
    ProblemError
        If there is no block, names repeat, a block index is out of range, or a kept array has the wrong length. If a
        cost table does not reach from the kept channels of its access to the stored ones. If the units of a bundle are
        not alike: corresponding blocks must store equally many channels, occur equally often in every access, and not
        be pinned. If a constraint is about a pinned block or a channel that is not stored, no order keeps all
        constraints, or there are bundles as well.

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
    constraints: tuple[Constraint, ...] = ()

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
        object.__setattr__(self, "constraints", objects(self.constraints, Constraint, f"{self.name}: constraints"))
        if self.constraints:
            self._require_possible()

    def _require_possible(self) -> None:
        """Raise unless all constraints are about stored channels that may move, and some order keeps them."""
        if self.bundles:
            raise ProblemError(f"{self.name} has constraints and bundles; there is no form for both, leave one out")
        for own in self.constraints:
            if own.block >= len(self.blocks) or self.blocks[own.block].pinned:
                raise ProblemError(f"a constraint says {own}; there is no such block, or it is pinned")
            stored = self.stored[own.block]
            if not np.isin(own.channels, stored).all():
                raise ProblemError(f"a constraint says {own}, which is not stored; list it in the block's 'required'")
            if isinstance(own, FixedPlace) and not -len(stored) <= own.place < len(stored):
                raise ProblemError(f"a constraint says {own}, but the block stores {len(stored)} channels")
        _ = self.original_order

    @cached_property
    def original_order(self) -> tuple[np.ndarray, ...]:
        """Per block the stored channels in their original order, or in one that keeps the constraints."""
        orders = list(self.stored)
        for b in {own.block for own in self.constraints}:
            own_constraints = [own for own in self.constraints if own.block == b]
            if first_broken(own_constraints, self.stored) is not None:
                order = order_that_keeps(own_constraints, self.stored[b])
                if order is None:
                    raise ProblemError(f"no order keeps all constraints on block {self.blocks[b].name!r}; drop some")
                orders[b] = order
        return tuple(orders)

    def constrained(self, block: int) -> np.ndarray:
        """The channels of a block that constraints are about, ascending; they are classes of their own."""
        named = {channel for own in self.constraints if own.block == block for channel in own.channels}
        return np.array(sorted(named), dtype=np.int64)

    def _require_exact_sums(self) -> None:
        """Raise unless there are at most `MAX_TICKS` ticks per nanosecond and sums of costs in ticks fit 2^52."""
        tables = [access.weighted_table for access in self.accesses if access.weighted_table is not None]
        most = sum(t.read.costs[-1] + (t.copy or 0) + (t.pieces.costs[-1] if t.pieces else 0) for t in tables)
        if self.ticks > MAX_TICKS or self.ticks * most > 2**52:
            raise ProblemError(
                f"the cost tables need {self.ticks} ticks per nanosecond for {most} ns in all, more than exact "
                f"arithmetic holds ({MAX_TICKS} ticks, 2^52 altogether); put their grids on multiples of 8"
            )

    @classmethod
    def from_matrix(
        cls,
        matrix: Any,
        *,
        weights: Any = None,
        channel_sizes: Any = None,
        removable: bool = False,
        name: str = "matrix",
        constraints: Sequence[Constraint] = (),
    ) -> Problem:
        """One block whose channels are the columns of a 0-1 matrix; its rows are the accesses.

        Parameters
        ----------
        matrix
            Booleans or 0 and 1, shape (num_rows, num_columns). Rows without ones cost nothing and are left out.
        weights
            `Access.weight` of every row, for all objectives: whole numbers, shape (num_rows,). A row of weight 0 is
            left out. Default: 1.
        channel_sizes
            `Access.channel_size` of every row: a weight for the objectives with prices (copies, span, traffic) only.
            Default: 1.
        removable
            Whether columns without ones are left out of orders. Default: an order is one of all columns.
        name
            Name of the problem. Accesses are ``row1``, ``row2``, ...
        constraints
            Fixed places and precedence of columns; their block is 0.

        Raises
        ------
        ProblemError
            If the matrix is not two-dimensional or holds no ones, or an argument is of the wrong kind or out of its
            range.

        Examples
        --------
        >>> from problems import Order, evaluate
        >>> problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]], weights=[1, 2])
        >>> [access.weight for access in problem.accesses]
        [1, 2]
        >>> [evaluate(problem, Order([order]), "runs").value for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1])]
        [4, 5, 3]
        """
        rows = booleans(matrix, "the matrix")
        if rows.ndim != 2 or not rows.any():
            raise ProblemError(f"the matrix has shape {rows.shape} and {int(rows.sum())} ones; give rows with ones")
        times, sizes = (
            np.ones(len(rows), dtype=np.int64) if own is None else whole_numbers(own, what)
            for own, what in ((weights, "weights"), (channel_sizes, "channel_sizes"))
        )
        for own, what, least in ((times, "weights", 0), (sizes, "channel_sizes", 1)):
            if own.shape != (len(rows),) or (own < least).any():
                raise ProblemError(f"{what} must be {len(rows)} whole numbers from {least} up, one per row")
        accesses = [
            Access(f"row{i + 1}", (0,), row, int(size), weight=int(weight))
            for i, (row, size, weight) in enumerate(zip(rows, sizes, times, strict=True))
            if weight and row.any()
        ]
        block = Block("columns", rows.shape[1], removable=removable)
        return cls((block,), tuple(accesses), name, constraints=tuple(constraints))

    def __str__(self) -> str:
        units = sum(len(bundle.units) for bundle in self.bundles)
        return (
            f"{self.name}: {counted(len(self.blocks), 'block')}, {counted(self.num_channels, 'channel')} "
            f"({self.num_stored} stored), {counted(len(self.accesses), 'access', 'accesses')}, "
            f"{counted(len(self.classes), 'class', 'classes')}"
            + (f", {units} units that may change places" if units else "")
            + (f", {counted(len(self.constraints), 'constraint')}" if self.constraints else "")
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
        tables = (access.weighted_table for access in self.accesses)
        return math.lcm(*(table.denominator for table in tables if table is not None))

    @cached_property
    def most_elements(self) -> tuple[int, int]:
        """Most elements per pixel that all accesses over-read together, and elements if all of them copy.

        Both count an access as often as its weight says.
        """
        over_read = copied = 0
        for access in self.accesses:
            width = sum(len(self.stored[b]) for b in access.blocks)
            over_read += access.price * (width - access.num_kept)
            copied += access.price * access.num_kept
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
            ends = list(accumulate((self.blocks[b].size for b in access.blocks), initial=0))
            pieces.extend(access.kept[start:end] for start, end in pairwise(ends))
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
            apart = np.equal.outer(stored, self.constrained(b))
            labels = run_labels(bits) if block.pinned else class_labels(np.concatenate([bits, apart], axis=1))
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
        return Problem(self.blocks, tuple(accesses), self.name, (), self.constraints)

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
            chosen.append(replace(access, kept=kept))
        constraints = tuple(
            own.with_channels(np.searchsorted(maps[own.block], own.channels).tolist()) for own in self.constraints
        )
        return Problem(tuple(blocks), tuple(chosen), self.name, self.bundles, constraints)


def _require_unique(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ProblemError(f"two {kind} entries are named {name!r}; names must be unique")
        seen.add(name)


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun; the plural has an s unless another one is given."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
