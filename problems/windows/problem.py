"""The window problem: every access of a stream holds one contiguous range of the stored channels.

A `WindowProblem` is one stream. A solution is a `problems.windows.decision.Windows`: an order of the stored channels,
and a range per access. `problems.windows.decision.evaluate_windows` defines its value and nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from problems.conversions import booleans, finite_numbers, flag, objects, of_kind, text
from problems.errors import ProblemError
from problems.showing.reprs import shown
from problems.windows.losses import ChannelLosses

RELATIVE_TOLERANCE = 1e-9
"""How far two computations of one value may differ because sums are rounded, as a share of `WindowProblem.scale`."""


class Role(StrEnum):
    """What an access does with the stream: it adds into it, or it reads it."""

    WRITER = "writer"
    READER = "reader"


@shown
@dataclass(frozen=True)
class StreamAccess:
    """A producer that adds into the stream, or a consumer that reads it.

    A consumer that reads the stream twice with the same weights is one access.

    Parameters
    ----------
    name
        Name for messages; unique within a problem.
    role
        `Role.WRITER` or `Role.READER`, or their texts.
    pinned
        The access holds every stored channel: the exporter cannot narrow it. Default False.

    Raises
    ------
    ProblemError
        If a field is of another kind.
    """

    name: str
    role: Role
    pinned: bool = False

    def __post_init__(self) -> None:
        text(self.name, "the name of an access")
        if self.role not in tuple(Role):
            raise ProblemError(f"access {self.name!r}: role is {self.role!r:.80}; give 'writer' or 'reader'")
        object.__setattr__(self, "role", Role(self.role))
        object.__setattr__(self, "pinned", flag(self.pinned, f"access {self.name!r}: pinned"))


@shown
@dataclass(frozen=True, eq=False)
class WindowProblem:
    """Choose the stored channels of a stream, their order, and a contiguous range of them per access.

    Parameters
    ----------
    accesses
        The writers and readers in the order of execution, at least one.
    losses
        What is lost per channel if pairs are cut. Its pairs are those of `pairs`.
    prices
        Shape (accesses,) or (accesses, channels), in units of the losses: what an access costs per channel that it
        holds. Usually a multiplier times the slope of a table of times. May be negative.
    full
        Boolean, shape (channels,): channels that every access holds, for example those below the least width.
        Default: none.
    name
        Name for messages.

    Raises
    ------
    ProblemError
        If names repeat, or a shape does not fit.

    Notes
    -----
    The cell of a channel is the set of accesses that hold it. A channel with cell C costs
    ``V_c(C) = l_c(C) + sum of the prices of the accesses in C``. A channel that is not stored costs ``l_c({})``.

    Examples
    --------
    >>> accesses = [StreamAccess("in", "writer"), StreamAccess("a", "reader"), StreamAccess("b", "reader")]
    >>> problem = WindowProblem(accesses, ChannelLosses([[4.0, 1.0], [0.0, 0.0], [0.0, 9.0]]), [1.0, 1.0, 1.0])
    >>> print(problem)
    windows: 2 channels, 1 writer, 2 readers, 2 pairs
    >>> problem.pairs.tolist()
    [[0, 1], [0, 2]]
    """

    accesses: tuple[StreamAccess, ...]
    losses: ChannelLosses
    prices: np.ndarray
    full: np.ndarray
    name: str

    def __init__(
        self,
        accesses: Sequence[StreamAccess],
        losses: ChannelLosses,
        prices: Any,
        full: Any = None,
        name: str = "windows",
    ) -> None:
        object.__setattr__(self, "accesses", accesses)
        object.__setattr__(self, "losses", losses)
        object.__setattr__(self, "prices", prices)
        object.__setattr__(self, "full", full)
        object.__setattr__(self, "name", name)
        self._require_valid()

    def _require_valid(self) -> None:
        where = text(self.name, "the name of a problem")
        accesses = objects(self.accesses, StreamAccess, f"{where}: accesses")
        object.__setattr__(self, "accesses", accesses)
        of_kind(self.losses, ChannelLosses, f"{where}: losses")
        if not accesses:
            raise ProblemError(f"{where} has no access, so there is no window to choose; give at least one")
        if len({access.name for access in accesses}) < len(accesses):
            raise ProblemError(f"{where}: two accesses have the same name; names must be unique")
        if self.losses.num_pairs != len(self.pairs):
            raise ProblemError(
                f"{where}: the losses are of {self.losses.num_pairs} pairs, but the accesses have {len(self.pairs)} "
                "pairs of a writer and a later reader"
            )
        prices = finite_numbers(self.prices, f"{where}: prices")
        if prices.shape not in ((self.num_accesses,), (self.num_accesses, self.num_channels)):
            raise ProblemError(
                f"{where}: prices have shape {prices.shape}; give ({self.num_accesses},) or ({self.num_accesses}, "
                f"{self.num_channels})"
            )
        full = np.zeros(self.num_channels, dtype=bool) if self.full is None else booleans(self.full, f"{where}: full")
        if full.shape != (self.num_channels,):
            raise ProblemError(f"{where}: full has shape {full.shape}; give ({self.num_channels},)")
        for field, array in (("prices", prices), ("full", full)):
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        if not np.isfinite(self.scale):
            raise ProblemError(f"{where}: losses and prices are too large to be added; divide them by a common factor")

    @property
    def num_accesses(self) -> int:
        """Number of accesses, m."""
        return len(self.accesses)

    @property
    def num_channels(self) -> int:
        """Number of channels, n."""
        return self.losses.num_channels

    @cached_property
    def pairs(self) -> np.ndarray:
        """The pairs of a writer and a later reader, shape (pairs, 2), indices of accesses, in ascending order."""
        return pairs_of([access.role for access in self.accesses])

    @cached_property
    def pinned(self) -> np.ndarray:
        """Boolean, shape (accesses,): those that hold every stored channel."""
        return np.array([access.pinned for access in self.accesses])

    @cached_property
    def free(self) -> tuple[int, ...]:
        """The accesses that are not pinned, ascending."""
        return tuple(np.flatnonzero(~self.pinned).tolist())

    @cached_property
    def channel_prices(self) -> np.ndarray:
        """Prices per access and channel, shape (accesses, channels)."""
        prices = self.prices if self.prices.ndim == 2 else self.prices[:, np.newaxis]
        return np.broadcast_to(prices, (self.num_accesses, self.num_channels))

    @cached_property
    def dropped(self) -> np.ndarray:
        """What each channel costs if it is not stored, shape (channels,); infinite for `full` channels."""
        return np.where(self.full, np.inf, self.losses.total)

    @cached_property
    def scale(self) -> float:
        """The sum of the losses of all channels and of the sizes of all prices; rounding errors are a tiny part."""
        with np.errstate(over="ignore"):
            return float(np.abs(self.losses.total).sum() + np.abs(self.channel_prices).sum())

    @property
    def tolerance(self) -> float:
        """How far two computations of one value may differ: `RELATIVE_TOLERANCE` of `scale`."""
        return RELATIVE_TOLERANCE * self.scale

    def cut(self, cells: Any) -> np.ndarray:
        """The pairs that are not both in a cell.

        Parameters
        ----------
        cells
            Boolean, shape (cells, accesses).

        Returns
        -------
        np.ndarray
            Boolean, shape (cells, pairs).
        """
        cells = booleans(cells, "cells")
        if cells.ndim != 2 or cells.shape[1] != self.num_accesses:
            raise ProblemError(f"cells have shape {cells.shape}; give (cells, {self.num_accesses} accesses)")
        return ~(cells[:, self.pairs[:, 0]] & cells[:, self.pairs[:, 1]])

    def values(self, cells: Any) -> np.ndarray:
        """V_c(C) of some cells C and all channels c, stored: shape (cells, channels).

        It is infinite where the cell lacks a pinned access, or the channel is `full` and the cell is not.

        Parameters
        ----------
        cells
            Boolean, shape (cells, accesses).
        """
        cells = booleans(cells, "cells")
        values = self.losses.of_cut(self.cut(cells)) + cells @ self.channel_prices
        values[~cells[:, self.pinned].all(axis=1)] = np.inf
        values[np.ix_(~cells.all(axis=1), self.full)] = np.inf
        return values

    def with_prices(self, prices: Any) -> WindowProblem:
        """The same problem with other prices. It shares the losses, and what they remember."""
        return replace(self, prices=prices)

    def __str__(self) -> str:
        writers = sum(access.role is Role.WRITER for access in self.accesses)
        counts = [(self.num_channels, "channel"), (writers, "writer"), (self.num_accesses - writers, "reader")]
        counts.append((len(self.pairs), "pair"))
        held = f", {int(self.full.sum())} full" if self.full.any() else ""
        return f"{self.name}: " + ", ".join(f"{k} {what}{'' if k == 1 else 's'}" for k, what in counts) + held


def pairs_of(roles: Sequence[Role]) -> np.ndarray:
    """The pairs of a writer and a later reader, shape (pairs, 2), ascending.

    Parameters
    ----------
    roles
        The roles of the accesses in the order of execution.
    """
    pairs = [
        (t, j)
        for t, writer in enumerate(roles)
        for j in range(t + 1, len(roles))
        if writer is Role.WRITER and roles[j] is Role.READER
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
