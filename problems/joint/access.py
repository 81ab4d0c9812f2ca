"""An access that chooses which channels it keeps: its importances, its width or required sum, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from problems.blocks import Access
from problems.conversions import text, whole_number, whole_numbers
from problems.errors import ProblemError
from problems.objectives import MAX_SUM
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True, eq=False)
class JointAccess:
    """A consumer that may choose which channels it keeps.

    Parameters
    ----------
    name
        Name for messages; unique within a problem.
    blocks
        Indices into `JointProblem.blocks`, in the order of the concatenation that it reads, as in `problems.Access`.
    importance
        Whole numbers of at least 0, shape (sum of the sizes of the blocks,), in units of loss: what is lost if the
        access does not keep an input position. Read-only.
    width
        Number of channels that it keeps, exactly; None: any.
    required
        Least sum of importance that it keeps; None: any.
    price
        What every kept channel costs, in units of loss: a whole number of at least 0. Usually a multiplier times the
        slope of the consumer's table of times. Default 0.
    channel_size
        As in `problems.Access`. Default 1.

    Raises
    ------
    ProblemError
        If a number is out of its range, or no set of channels meets width and required sum.
    """

    name: str
    blocks: tuple[int, ...]
    importance: np.ndarray
    width: int | None = None
    required: int | None = None
    price: int = 0
    channel_size: int = 1

    def __post_init__(self) -> None:
        where = f"access {text(self.name, 'the name of an access')!r}"
        importance = whole_numbers(self.importance, f"{where}: importance", "importances")
        if importance.ndim != 1 or not importance.size:
            raise ProblemError(f"{where}: importance has shape {importance.shape}; give one number per input position")
        if importance.min() < 0 or importance.max() > MAX_SUM:
            raise ProblemError(f"{where}: importances must be whole numbers from 0 to 2^52; scale them")
        importance.flags.writeable = False
        object.__setattr__(self, "importance", importance)
        own = Access(self.name, self.blocks, np.ones(len(importance), dtype=bool), self.channel_size)
        object.__setattr__(self, "blocks", own.blocks)
        object.__setattr__(self, "channel_size", own.channel_size)
        object.__setattr__(self, "price", whole_number(self.price, f"{where}: price", least=0, most=MAX_SUM))
        if self.width is not None:
            width = whole_number(self.width, f"{where}: width", least=1, most=len(importance))
            object.__setattr__(self, "width", width)
        if self.required is not None:
            required = whole_number(self.required, f"{where}: required", least=0)
            object.__setattr__(self, "required", required)
            most = int(self.largest_sums[self.width or -1])
            if required > most:
                kept = "all channels" if self.width is None else f"{self.width} channels"
                raise ProblemError(f"{where}: the required sum is {required}, but {kept} have {most} at most; lower it")

    @cached_property
    def largest_sums(self) -> np.ndarray:
        """Per number of channels, from 0 to all, the most importance that so many have together."""
        return np.concatenate([[0], np.cumsum(np.sort(self.importance)[::-1])])

    def accepts(self, kept: np.ndarray) -> bool:
        """Whether a Boolean set of input positions is not empty, and meets width and required sum."""
        return self.accepts_values(kept, self.importance)

    def accepts_values(self, kept: np.ndarray, importance: np.ndarray) -> bool:
        """As `accepts`, for positions in another order, with their importances."""
        number = int(kept.sum())
        enough = self.required is None or int(importance[kept].sum()) >= self.required
        return number >= 1 and enough and self.width in (None, number)

    def largest_kept(self, loss_price: int) -> tuple[np.ndarray, int]:
        """The best set if order and cost did not matter, and its loss and price, ``loss_price`` a unit of importance.

        Of sets of one size the one of largest importance is best, so one set per size is looked at. Ties: the smaller
        set, and the channels with lower numbers.
        """
        sums = self.largest_sums
        sizes = np.arange(len(sums))
        values = loss_price * (sums[-1] - sums) + self.price * sizes
        allowed = sizes >= 1
        if self.width is not None:
            allowed &= sizes == self.width
        if self.required is not None:
            allowed &= sums >= self.required
        values[~allowed] = np.iinfo(np.int64).max
        number = int(np.argmin(values))
        kept = np.zeros(len(self.importance), dtype=bool)
        kept[np.argsort(-self.importance, kind="stable")[:number]] = True
        return kept, int(values[number])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JointAccess):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        numbers = (self.width, self.required, self.price, self.channel_size)
        return (self.name, self.blocks, self.importance.tobytes(), *numbers)
