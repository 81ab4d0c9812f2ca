"""The joint problem: every access has an importance per channel instead of a fixed kept set.

A `JointProblem` is one segment. A solution is a `problems.joint.decision.JointChoice`: the channels that every access
keeps, and an order of those that are stored. `problems.joint.decision.evaluate_joint` defines its value and nothing
else does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from problems.blocks import Access, Block
from problems.conversions import (
    booleans,
    finite_numbers,
    flag,
    items,
    objects,
    of_kind,
    real,
    text,
    whole_number,
    whole_numbers,
)
from problems.errors import ProblemError
from problems.joint.access import JointAccess
from problems.objectives import MAX_SUM, Objective, objective_named
from problems.problem import Problem, counted
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True)
class JointProblem:
    """Choose what every access keeps, and an order of the stored channels, so that cost and loss are least together.

    The value of a choice is ``cost_weight * cost + loss_price * loss + price``. *Cost* is what the ordering problem of
    the kept sets costs under the objective. *Loss* is the importance that accesses do not keep. *Price* is the sum of
    the prices of what they keep, and of the channels that are stored.

    Parameters
    ----------
    blocks
        The blocks, as in `problems.Problem`. What is stored of a removable block are the channels that some access
        keeps, and the required ones.
    accesses
        The accesses, at least one; names are unique.
    objective
        Name or `problems.Objective` with prices: copies, span, traffic or one of your own; not runs, and not tables.
    cost_price
        Units of loss per unit of the objective: a whole number of at least 0. None: the cost counts before everything
        else, as if its unit were dearer than all losses and prices together. With ``"copies"`` and None every access
        becomes a window (a view) if that is possible at all. Default None.
    loss_price
        What a unit of importance counts that is lost: a whole number of at least 0. Default 1.
    stored_price
        What every stored channel costs, in units of loss: a whole number of at least 0. Default 0.
    name
        Name for messages.

    Raises
    ------
    ProblemError
        If there is no block or no access, names repeat, an array has the wrong length, the objective has no prices, or
        sums could exceed 2^52.

    Notes
    -----
    With one block, widths or prices, and cost first, this is the weighted consecutive ones problem (M. Oswald and G.
    Reinelt, "The weighted consecutive ones problem for a fixed number of rows or columns", Operations Research Letters
    31, 2003) with one more row per access: a cardinality or a knapsack. With the importances of a fixed set it is the
    ordering problem itself.

    Examples
    --------
    >>> accesses = (JointAccess("a", (0,), [5, 4, 0, 1], width=2), JointAccess("b", (0,), [0, 3, 2, 9], required=11))
    >>> problem = JointProblem((Block("conv1", 4),), accesses, name="conv1")
    >>> print(problem)
    conv1: 1 block, 4 channels, 2 accesses that choose, copies first
    """

    blocks: tuple[Block, ...]
    accesses: tuple[JointAccess, ...]
    objective: Objective
    cost_price: int | None
    loss_price: int
    stored_price: int
    name: str

    def __init__(
        self,
        blocks: Sequence[Block],
        accesses: Sequence[JointAccess],
        objective: str | Objective = "copies",
        *,
        cost_price: int | None = None,
        loss_price: int = 1,
        stored_price: int = 0,
        name: str = "joint",
    ) -> None:
        where = text(name, "the name of a problem")
        chosen = objective_named(objective)
        if chosen.counts_runs or chosen.uses_tables:
            raise ProblemError(
                f"{where}: the objective {chosen.name!r} has no prices for over-reads and copies; use copies, span, "
                "traffic, or an Objective with alpha and gamma"
            )
        accesses = objects(accesses, JointAccess, f"{where}: accesses")
        if not accesses:
            raise ProblemError(f"{where} has no access, so there is nothing to choose; give at least one")
        prices = {"loss_price": loss_price, "stored_price": stored_price}
        if cost_price is not None:
            prices["cost_price"] = cost_price
        whole = {field: whole_number(own, f"{where}: {field}", least=0, most=MAX_SUM) for field, own in prices.items()}
        for field, value in (
            ("blocks", objects(blocks, Block, f"{where}: blocks")),
            ("accesses", accesses),
            ("objective", chosen),
            ("cost_price", whole.pop("cost_price", None)),
            *whole.items(),
            ("name", where),
        ):
            object.__setattr__(self, field, value)
        self._require_lengths()
        widths = [len(own.importance) * own.channel_size for own in accesses]
        most = sum(widths) * ((chosen.alpha or 0) + (chosen.gamma or 0))
        if self.cost_weight * most + self.most_besides > MAX_SUM:
            raise ProblemError(
                f"{where}: values could reach {self.cost_weight * most + self.most_besides}, more than exact "
                "arithmetic holds (2^52); divide importances and prices by a common factor"
            )

    def _require_lengths(self) -> None:
        """Names are unique, blocks exist, and there is one importance per input position."""
        sizes = [block.size for block in self.blocks]
        for own in self.accesses:
            if all(0 <= b < len(sizes) for b in own.blocks) and own.blocks:
                width = sum(sizes[b] for b in own.blocks)
                if len(own.importance) != width:
                    raise ProblemError(
                        f"access {own.name!r} has {len(own.importance)} importances, but its blocks have {width} "
                        "channels; give one each"
                    )
        self.with_kept([np.ones(len(own.importance), dtype=bool) for own in self.accesses])

    @classmethod
    def from_importance(
        cls,
        matrix: Any,
        objective: str | Objective = "copies",
        *,
        widths: Any = None,
        shares: Any = None,
        prices: Any = 0,
        cost_price: int | None = None,
        stored_price: int = 0,
        units: int = 10_000,
        removable: bool = True,
        name: str = "joint",
    ) -> JointProblem:
        """One block; the rows of a matrix of scores are the accesses, its columns the channels.

        Parameters
        ----------
        matrix
            Numbers of at least 0, shape (accesses, channels). They are divided by the largest sum of a row, multiplied
            by `units`, and rounded, so that losses of different accesses stay comparable.
        objective, cost_price, stored_price, name
            As in `JointProblem`.
        widths
            Number of channels per access, or one number for all; None: any number.
        shares
            Least share of its sum that an access keeps, in [0, 1], per access or one for all; None: any.
        prices
            `JointAccess.price` per access, or one for all, in units of loss. Default 0.
        units
            What the largest sum of a row becomes. Default 10,000.
        removable
            Whether channels that nobody keeps are left out of the order. Default True.

        Raises
        ------
        ProblemError
            If an argument is of the wrong kind or shape, or no set meets both width and share of an access.

        Examples
        --------
        >>> problem = JointProblem.from_importance([[0.5, 0.4, 0.0, 0.1], [0.0, 0.2, 0.1, 0.6]], widths=2)
        >>> [access.importance.tolist() for access in problem.accesses]
        [[5000, 4000, 0, 1000], [0, 2000, 1000, 6000]]
        """
        scores = finite_numbers(matrix, "the matrix")
        if scores.ndim != 2 or not scores.size or scores.min() < 0:
            raise ProblemError(f"the matrix has shape {scores.shape}; give numbers of at least 0 (accesses, channels)")
        scale = whole_number(units, "units", least=1, most=MAX_SUM) / max(float(scores.sum(axis=1).max()), 1e-300)
        whole = np.rint(scores * scale).astype(np.int64)
        size = len(scores)
        own_widths, own_shares, own_prices = (
            [own] * size if np.ndim(own) == 0 else list(items(own, what))
            for own, what in ((widths, "widths"), (shares, "shares"), (prices, "prices"))
        )
        if not len(own_widths) == len(own_shares) == len(own_prices) == size:
            raise ProblemError(f"give {size} widths, shares and prices, one per row, or one for all")
        accesses = [
            JointAccess(f"row{a + 1}", (0,), row, width, _least_sum(row, share), price)
            for a, (row, width, share, price) in enumerate(zip(whole, own_widths, own_shares, own_prices))
        ]
        block = Block("columns", scores.shape[1], removable=flag(removable, "removable"))
        return cls((block,), accesses, objective, cost_price=cost_price, stored_price=stored_price, name=name)

    @classmethod
    def from_problem(
        cls,
        problem: Problem,
        importance: Sequence[Any] | None = None,
        *,
        objective: str | Objective = "copies",
        share: float = 1.0,
        cost_price: int | None = None,
    ) -> JointProblem:
        """An ordering problem whose accesses may exchange channels, as long as they keep enough importance.

        Every access keeps as many channels as before, and at least a share of the importance of its kept set.

        Parameters
        ----------
        problem
            The ordering problem; it has no bundles, and tables are left out.
        importance
            Per access whole numbers of at least 0 over its input positions. Default: 1 where it keeps a channel, else
            0. With these and a share of 1 nothing can be exchanged, and the optimum of the cost is that of the ordering
            problem.
        objective, cost_price
            As in `JointProblem`.
        share
            Of the importance of the kept set, in [0, 1]. Default 1.

        Raises
        ------
        ProblemError
            If the problem has bundles, or an argument is of the wrong kind or shape.

        Examples
        --------
        >>> from problems.generators import random_masks
        >>> problem = JointProblem.from_problem(random_masks(8, 3))
        >>> [(access.width, access.required) for access in problem.accesses]
        [(4, 4), (4, 4), (4, 4)]
        """
        of_kind(problem, Problem, "the problem")
        if problem.bundles:
            raise ProblemError(f"{problem.name} has bundles, which the joint problem has no form for; leave them out")
        given = [own.kept.astype(np.int64) for own in problem.accesses] if importance is None else importance
        scores = [whole_numbers(own, "importance", "importances") for own in items(given, "importance")]
        if [own.shape for own in scores] != [own.kept.shape for own in problem.accesses]:
            raise ProblemError("importance must hold one array per access, with one number per input position")
        accesses = [
            JointAccess(
                own.name,
                own.blocks,
                values,
                own.num_kept,
                _least_sum(values[own.kept], share),
                channel_size=own.channel_size,
            )
            for own, values in zip(problem.accesses, scores)
        ]
        return cls(problem.blocks, accesses, objective, cost_price=cost_price, name=problem.name)

    def with_kept(self, kept: Sequence[Any]) -> Problem:
        """The ordering problem that is left once every access has its kept set.

        Parameters
        ----------
        kept
            Per access a Boolean array over its input positions; not empty.

        Raises
        ------
        ProblemError
            If there is not one array of the right length per access.
        """
        sets = items(kept, f"{self.name}: the kept sets")
        if len(sets) != self.num_accesses:
            raise ProblemError(
                f"{self.name}: there are {len(sets)} kept sets for {self.num_accesses} accesses; give one each"
            )
        accesses = [
            Access(own.name, own.blocks, booleans(mask, f"access {own.name!r}: kept"), own.channel_size)
            for own, mask in zip(self.accesses, sets)
        ]
        return Problem(self.blocks, tuple(accesses), self.name)

    @property
    def num_accesses(self) -> int:
        """Number of accesses."""
        return len(self.accesses)

    @property
    def num_channels(self) -> int:
        """Channels of all blocks together."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def most_besides(self) -> int:
        """The most that loss and price together can be."""
        prices = sum(own.price * len(own.importance) for own in self.accesses)
        lost = self.loss_price * sum(int(own.largest_sums[-1]) for own in self.accesses)
        return lost + prices + self.stored_price * self.num_channels

    @cached_property
    def cost_weight(self) -> int:
        """Units of loss per unit of cost: `cost_price`, or one more than `most_besides` where the cost comes first."""
        return 1 + self.most_besides if self.cost_price is None else self.cost_price

    @cached_property
    def over_read_price(self) -> int | None:
        """Units of loss per over-read element; None: over-reading is not allowed."""
        return None if self.objective.alpha is None else self.cost_weight * self.objective.alpha

    @cached_property
    def copy_price(self) -> int | None:
        """Units of loss per copied element; None: copying is not allowed."""
        return None if self.objective.gamma is None else self.cost_weight * self.objective.gamma

    @cached_property
    def always_stored(self) -> tuple[np.ndarray, ...]:
        """Per block, Boolean: channels that are stored whoever keeps them."""
        stored = []
        for block in self.blocks:
            own = np.full(block.size, block.pinned or not block.removable)
            own[list(block.required)] = True
            stored.append(own)
        return tuple(stored)

    @cached_property
    def slots(self) -> tuple[tuple[tuple[int, slice], ...], ...]:
        """Per access its slots: the block, and the input positions that are the block's channels."""
        found = []
        for access in self.accesses:
            ends = np.cumsum([0, *(self.blocks[b].size for b in access.blocks)]).tolist()
            found.append(tuple((b, slice(a, z)) for b, a, z in zip(access.blocks, ends[:-1], ends[1:])))
        return tuple(found)

    def largest_kept(self) -> tuple[np.ndarray, ...]:
        """Per access the set that is best if order and cost did not matter: channels of largest importance.

        Of sets of one size the one of largest importance is best, whatever width, required sum and price are. So this
        looks at one set per size. Ties: the smaller set, and the channels with lower numbers.
        """
        return tuple(access.largest_kept(self.loss_price)[0] for access in self.accesses)

    @cached_property
    def free_sets_bound(self) -> int:
        """A bound on the value: every access chooses for itself, nothing costs, and nothing is stored for others."""
        least = sum(own.largest_kept(self.loss_price)[1] for own in self.accesses)
        needed = sum(max(1, int(own.sum())) for own in self.always_stored)
        return least + self.stored_price * needed

    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, of everything but names."""
        blocks = [[own.size, own.pinned, own.removable, own.required] for own in self.blocks]
        accesses = [
            [own.blocks, own.importance.tolist(), own.width, own.required, own.price, own.channel_size]
            for own in self.accesses
        ]
        prices = [self.objective.alpha, self.objective.gamma, self.cost_price, self.loss_price, self.stored_price]
        content = json.dumps([blocks, accesses, prices], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def __str__(self) -> str:
        price = "first" if self.cost_price is None else f"at {self.cost_price} a unit"
        return (
            f"{self.name}: {counted(len(self.blocks), 'block')}, {counted(self.num_channels, 'channel')}, "
            f"{counted(self.num_accesses, 'access that chooses', 'accesses that choose')}, "
            f"{self.objective.name} {price}"
        )


def _least_sum(values: np.ndarray, share: Any) -> int | None:
    """The whole number that a share of a sum asks for; None for None."""
    if share is None:
        return None
    if not 0 <= real(share, "share") <= 1:
        raise ProblemError(f"share is {share}; give a number from 0 to 1")
    return math.ceil(Fraction(str(float(share))) * int(values.sum()))
