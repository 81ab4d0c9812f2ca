"""Building a problem of several blocks step by step, by names instead of indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from problems.blocks import Access, Block
from problems.bundles import Bundle
from problems.constraints import Constraint, FixedPlace, Precedence
from problems.conversions import items, text
from problems.costs import CostTable
from problems.errors import ProblemError
from problems.problem import Problem, counted
from problems.showing.reprs import shown


@shown
class ProblemBuilder:
    """Collects blocks and accesses; `problem` makes the problem of them.

    Parameters
    ----------
    name
        Name of the problem.

    Examples
    --------
    >>> builder = ProblemBuilder("two layers")
    >>> builder.block("x", 4).block("y", 2)
    <ProblemBuilder two layers: 2 blocks, 6 channels, 0 accesses so far>
    >>> _ = builder.access("a", {"x": [1, 0, 1, 0]}).access("b", {"x": [0, 0, 1, 1], "y": [1, 1]}, weight=2)
    >>> print(builder.problem())
    two layers: 2 blocks, 6 channels (5 stored), 2 accesses, 4 classes
    """

    def __init__(self, name: str = "problem") -> None:
        self._name = text(name, "the name of a problem")
        self._blocks: dict[str, Block] = {}
        self._accesses: list[Access] = []
        self._bundles: list[tuple[tuple[str, ...], ...]] = []
        self._constraints: list[tuple[str, Callable[[int], Constraint]]] = []

    def __str__(self) -> str:
        channels = sum(block.size for block in self._blocks.values())
        return (
            f"{self._name}: {counted(len(self._blocks), 'block')}, {counted(channels, 'channel')}, "
            f"{counted(len(self._accesses), 'access', 'accesses')} so far"
        )

    def block(
        self, name: str, size: int, *, pinned: bool = False, removable: bool = True, required: Sequence[int] = ()
    ) -> ProblemBuilder:
        """Add a block; parameters and errors as for `Block`. Returns the builder.

        Raises
        ------
        ProblemError
            If there is a block of that name.
        """
        block = Block(name, size, pinned=pinned, removable=removable, required=tuple(required))
        if name in self._blocks:
            raise ProblemError(f"there is a block {name!r} already; names of blocks must be unique")
        self._blocks[name] = block
        return self

    def access(
        self,
        name: str,
        kept: Mapping[str, Any] | Sequence[tuple[str, Any]],
        *,
        weight: int = 1,
        channel_size: int = 1,
        table: CostTable | None = None,
    ) -> ProblemBuilder:
        """Add an access; other parameters and errors as for `Access`. Returns the builder.

        Parameters
        ----------
        name
            Name of the access.
        kept
            What it keeps of every block, in the order in which it reads them: name of the block to Booleans, or 0 and
            1. Pairs instead of a mapping if it reads a block twice.
        Raises
        ------
        ProblemError
            If there is no such block, or it has another number of channels.
        """
        pairs = list(kept.items()) if isinstance(kept, Mapping) else list(items(kept, f"access {name!r}: kept"))
        known = list(self._blocks)
        pieces = []
        for block, own in pairs:
            if block not in self._blocks:
                raise ProblemError(f"access {name!r} reads the block {block!r}; add it first, there are {known}")
            size = self._blocks[block].size
            if len(own) != size:
                raise ProblemError(f"access {name!r} says {len(own)} channels of the block {block!r}, which has {size}")
            pieces.append(np.asarray(own))
        if not pieces:
            raise ProblemError(f"access {name!r} reads no block; give it at least one")
        blocks = tuple(known.index(block) for block, _ in pairs)
        self._accesses.append(Access(name, blocks, np.concatenate(pieces), channel_size, table, weight))
        return self

    def bundle(self, *units: Sequence[str]) -> ProblemBuilder:
        """Let units change places, each a list of names of blocks; see `Bundle`. Returns the builder."""
        self._bundles.append(tuple(tuple(unit) for unit in units))
        return self

    def fix(self, block: str, channel: int, place: int) -> ProblemBuilder:
        """Fix the place of a channel; see `FixedPlace`. Returns the builder."""
        self._constraints.append((block, lambda b: FixedPlace(b, channel, place)))
        return self

    def precede(self, block: str, first: int, later: int) -> ProblemBuilder:
        """Let a channel stand before another one; see `Precedence`. Returns the builder."""
        self._constraints.append((block, lambda b: Precedence(b, first, later)))
        return self

    def problem(self) -> Problem:
        """The problem of all blocks and accesses so far.

        Raises
        ------
        ProblemError
            As for `Problem`, or if a bundle or a constraint names a block that is not there.
        """
        known = list(self._blocks)
        for unit in (unit for units in self._bundles for unit in units):
            if missing := [name for name in unit if name not in self._blocks]:
                raise ProblemError(f"a bundle names the block {missing[0]!r}; add it first, there are {known}")
        bundles = tuple(Bundle(tuple(tuple(map(known.index, unit)) for unit in units)) for units in self._bundles)
        if missing := [name for name, _ in self._constraints if name not in self._blocks]:
            raise ProblemError(f"a constraint names the block {missing[0]!r}; add it first, there are {known}")
        constraints = tuple(make(known.index(name)) for name, make in self._constraints)
        return Problem(tuple(self._blocks.values()), tuple(self._accesses), self._name, bundles, constraints)
