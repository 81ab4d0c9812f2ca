"""Bundles: whole blocks that may change places, because they are groups of a grouped convolution.

A grouped convolution computes each group of its outputs from one group of its inputs. If its groups change places,
the blocks of its input and of its output must change places with them, in every tensor that holds them. A *unit* is
the set of blocks that must move together. A `Bundle` is a set of units in which any unit may take the place of any
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from problems.conversions import whole_numbers
from problems.errors import ProblemError
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True)
class Bundle:
    """Units that may change places.

    Parameters
    ----------
    units
        Per unit its blocks (indices into ``Problem.blocks``). All units list corresponding blocks in the same order:
        if unit j takes the place of unit i, every access finds block ``units[j][s]`` where it had ``units[i][s]``. At
        least two units, of equally many blocks, each block once.

    Raises
    ------
    ProblemError
        If there are fewer than two units, they have different numbers of blocks, or a block occurs twice.

    Examples
    --------
    >>> print(Bundle(((0, 3), (1, 4), (2, 5))))
    3 units of 2 blocks
    """

    units: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        units = self.units if isinstance(self.units, Sequence) and not isinstance(self.units, str) else ()
        numbers = [whole_numbers(unit, "a unit of a bundle") for unit in units]
        if any(unit.ndim != 1 for unit in numbers):
            raise ProblemError("a unit of a bundle must be a list of blocks; give a tuple of tuples")
        object.__setattr__(self, "units", tuple(tuple(unit.tolist()) for unit in numbers))
        if len(self.units) < 2:
            raise ProblemError("a bundle needs at least two units; leave it out")
        if len({len(unit) for unit in self.units}) != 1 or not self.units[0]:
            raise ProblemError("the units of a bundle must have equally many blocks, at least one")
        if len(set(self.blocks)) != len(self.blocks):
            raise ProblemError("a block can be in one unit of a bundle only, and once")

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks of all units."""
        return tuple(b for unit in self.units for b in unit)

    def __str__(self) -> str:
        size = len(self.units[0])
        return f"{len(self.units)} units of {size} block{'s' if size != 1 else ''}"


def occupants(num_blocks: int, bundles: Sequence[Bundle], arrangement: Sequence[np.ndarray]) -> np.ndarray:
    """Which block is in the place of each block.

    Parameters
    ----------
    num_blocks
        How many blocks there are.
    bundles
        The bundles.
    arrangement
        Per bundle an int array: the unit in the place of each unit. Empty if all units are in their own places.

    Returns
    -------
    np.ndarray
        int64, shape (num_blocks,).

    Examples
    --------
    >>> occupants(5, [Bundle(((0, 2), (1, 3)))], [np.array([1, 0])]).tolist()
    [1, 0, 3, 2, 4]
    """
    result = np.arange(num_blocks)
    for bundle, units in zip(bundles, arrangement, strict=bool(len(arrangement))):
        blocks = np.array(bundle.units)
        result[blocks] = blocks[units]
    return result


def permuted_slots(blocks: Sequence[int], occupant: np.ndarray) -> np.ndarray:
    """For each slot of a concatenation, the original slot that stands there after blocks have changed places.

    If a block occurs several times, its m-th occurrence changes places with the m-th occurrence of the other block.

    Parameters
    ----------
    blocks
        The blocks of the concatenation, slot by slot.
    occupant
        int64, shape (num_blocks,): the block in the place of each block. Both must occur equally often.

    Examples
    --------
    >>> permuted_slots([0, 1, 4, 0, 1], np.array([1, 0, 2, 3, 4])).tolist()
    [1, 0, 2, 4, 3]
    """
    own = np.asarray(blocks, dtype=np.int64)
    result = np.empty(len(own), dtype=np.int64)
    result[np.argsort(occupant[own], kind="stable")] = np.argsort(own, kind="stable")
    return result


def require_alike(
    bundles: Sequence[Bundle],
    names: Sequence[str],
    pinned: Sequence[bool],
    stored: Sequence[int],
    reads: Mapping[str, Sequence[int]],
) -> None:
    """Raise unless the units of every bundle may change places.

    Parameters
    ----------
    bundles
        The bundles.
    names, pinned, stored
        Per block its name, whether it is pinned, and the number of channels stored.
    reads
        The blocks of each access, by access name.

    Raises
    ------
    ProblemError
        If a block does not exist, is pinned, or is in two bundles. Also if corresponding blocks do not store equally
        many channels, or do not occur equally often in every access.
    """
    blocks = [b for bundle in bundles for b in bundle.blocks]
    if len(set(blocks)) != len(blocks):
        raise ProblemError("a block is in two bundles; it can be in one only")
    if blocks and not 0 <= min(blocks) <= max(blocks) < len(names):
        raise ProblemError(f"a bundle has a block that does not exist; there are {len(names)}, counted from 0")
    counts = {name: np.bincount(own, minlength=len(names)) for name, own in reads.items()} if blocks else {}
    for alike in (own for bundle in bundles for own in zip(*bundle.units, strict=True)):
        listed = ", ".join(names[b] for b in alike)
        if any(pinned[b] for b in alike):
            raise ProblemError(f"blocks {listed} are to change places, but one of them is pinned")
        if len({stored[b] for b in alike}) != 1:
            raise ProblemError(f"blocks {listed} are to change places, but do not store equally many channels")
        for name, often in counts.items():
            if len(set(often[list(alike)].tolist())) != 1:
                raise ProblemError(
                    f"blocks {listed} are to change places, but access {name!r} does not read all equally often"
                )
