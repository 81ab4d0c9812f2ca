"""Proofs of bounds as plain data: claims that together show that no order costs less than the bound.

A claim is a lower bound on what some accesses cost together, for every order. Its kind says how
`problems.checker.checking` treats it: it computes the claim again, checks its witness, or marks it `on trust`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from problems.conversions import items, objects, of_kind, text, whole_number, whole_numbers
from problems.errors import ProblemError
from problems.instances import instance_to_dict
from problems.objectives import Objective, in_units
from problems.obstructions import Obstruction
from problems.problem import Problem
from problems.showing.cards import proof_card
from problems.showing.reprs import shown, shown_as

MAX_BOUND = 2**62
"""Largest bound: costs are summed in int64."""


class Kind(StrEnum):
    """How a claim was proven, and what is needed to check it."""

    TRIVIAL = "trivial"
    """The cost of each access alone. The checker computes it again."""
    CONFLICT = "conflict"
    """At most `views` of the accesses can be views. The checker repeats the consecutive-ones test."""
    GROUP = "group"
    """The exact least cost of the accesses without all others. The checker solves it again if they are few."""
    RELAXATION = "relaxation"
    """The optimum of a relaxation. It is checked by potentials if there are any, otherwise on trust."""
    SEARCH = "search"
    """An exhaustive search. It is on trust, unless the instance is small enough to be solved again."""
    OBSTRUCTIONS = "obstructions"
    """Over-read channels that no order avoids, packed into the costs. The checker tests each and adds up weights."""


@shown
@dataclass(frozen=True)
class Potentials:
    """Dual prices for leaving and entering the classes of a block (objective `runs`).

    Node 0 is the border of the block. Node i is its i-th class (classes in order of their first stored channel). At
    least ``leave[i] + enter[j]`` runs begin at class j when it follows class i. So the sum of all potentials is a lower
    bound on the block's runs.

    Parameters
    ----------
    block
        Name of the block.
    leave, enter
        Whole numbers, one per node.

    Raises
    ------
    ProblemError
        If the two lists have different lengths.
    """

    block: str
    leave: tuple[int, ...]
    enter: tuple[int, ...]

    def __post_init__(self) -> None:
        for side in ("leave", "enter"):
            prices = whole_numbers(getattr(self, side), f"potentials of block {self.block!r}: {side}")
            object.__setattr__(self, side, tuple(prices.ravel().tolist()))
        if len(self.leave) != len(self.enter) or len(self.leave) < 2:
            raise ProblemError(
                f"potentials of block {self.block!r}: {len(self.leave)} to leave and {len(self.enter)} to enter; give "
                "one of each for the border and every class"
            )


@shown
@dataclass(frozen=True)
class Claim:
    """A lower bound on what some accesses cost together, for every order and whatever the other accesses cost.

    Parameters
    ----------
    kind
        One of `Kind`.
    bound
        At least 0; for tables in ticks.
    text
        How it was proven, as a phrase ("CP-SAT proved the order of the accesses' ends optimal"). May be empty if the
        kind says enough.
    accesses
        Names of the accesses, each once. Default: all of the instance.
    views
        For a conflict only: how many of the accesses can be views at most; fewer than all.
    share
        The factor of the claim when claims about several sets of accesses are added up (`implied_bound`), from 0 to 1.
        Default 1.
    potentials
        Witness of a relaxation of `runs`.
    figures
        Size of a search or relaxation: states, nodes, branches, ...
    obstructions
        Witness of a claim from obstructions, and of no other; such a claim is about all accesses.

    Raises
    ------
    ProblemError
        If a field is invalid.

    Examples
    --------
    >>> print(Claim("search", 7, "every pair of chains was priced", ("a", "b"), figures={"states": 2704156}))
    a and b together cost at least 7: every pair of chains was priced (states 2 704 156)
    >>> print(Claim("conflict", 64, accesses=("a", "b", "c"), views=1))
    at most 1 of a, b and c can be views: together they cost at least 64
    """

    kind: Kind
    bound: int
    text: str = ""
    accesses: tuple[str, ...] = ()
    views: int | None = None
    share: Fraction = Fraction(1)
    potentials: tuple[Potentials, ...] = ()
    figures: Mapping[str, int | float] = field(default_factory=dict)
    obstructions: tuple[Obstruction, ...] = ()

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kind", Kind(self.kind))
        except ValueError as error:
            raise ProblemError(f"there is no claim of kind {self.kind!r}; choose one of {', '.join(Kind)}") from error
        object.__setattr__(self, "bound", whole_number(self.bound, "the bound of a claim"))
        object.__setattr__(self, "accesses", objects(self.accesses, str, "the accesses of a claim"))
        object.__setattr__(self, "potentials", objects(self.potentials, Potentials, "the potentials of a claim"))
        object.__setattr__(self, "obstructions", objects(self.obstructions, Obstruction, "the obstructions of a claim"))
        text(self.text, "the text of a claim")
        if self.views is not None:
            object.__setattr__(self, "views", whole_number(self.views, "the views of a conflict"))
        try:
            object.__setattr__(self, "share", Fraction(self.share))
            object.__setattr__(self, "figures", dict(self.figures))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ProblemError(
                f"a claim has share {self.share!r} and figures {self.figures!r}; give a fraction and numbers by name"
            ) from error
        if not 0 <= self.bound <= MAX_BOUND or not 0 <= self.share <= 1:
            raise ProblemError(
                f"a claim has bound {self.bound} and share {self.share}; no cost is below 0, no share above 1"
            )
        if len(set(self.accesses)) != len(self.accesses):
            raise ProblemError(f"a claim names the accesses {list(self.accesses)}; name each once")
        if (self.kind is Kind.CONFLICT) != (self.views is not None):
            raise ProblemError("a claim says how many views are possible if, and only if, it is a conflict")
        if self.views is not None and not 0 <= self.views < len(self.accesses):
            raise ProblemError(
                f"a conflict of {len(self.accesses)} accesses allows {self.views} views; it must forbid some"
            )
        blocks = [own.block for own in self.potentials]
        if len(set(blocks)) != len(blocks) or (blocks and self.kind is not Kind.RELAXATION):
            raise ProblemError("potentials belong to relaxations, one set per block")
        if bool(self.obstructions) != (self.kind is Kind.OBSTRUCTIONS) or (self.obstructions and self.accesses):
            raise ProblemError(
                "a claim has obstructions if, and only if, it is of that kind; then it names no accesses"
            )
        for name, figure in self.figures.items():
            if isinstance(figure, bool) or not isinstance(figure, (int, float)) or not math.isfinite(figure):
                raise ProblemError(f"figure {name!r} of a claim is {figure!r}; give a finite number")

    def words(self, ticks: int = 1) -> str:
        """The claim as a sentence without a full stop. `ticks` units of the bound make one unit of the objective."""
        least = in_units(self.bound, ticks)
        *others, last = self.accesses or ("all accesses",)
        who = f"{', '.join(others)} and {last}" if others else last
        several = len(self.accesses) != 1
        if self.kind is Kind.CONFLICT:
            possible = f"at most {self.views} of {who} can be views" if several else f"{who} cannot be a view"
            said = f"{possible}: {'together they cost' if several else 'it costs'} at least {least}"
        elif self.kind is Kind.TRIVIAL:
            said = f"each for itself, {who} cost at least {least}" if several else f"{who} costs at least {least}"
        else:
            said = f"{who} {'together cost' if several else 'costs'} at least {least}"
        share = f" (counted {self.share} times)" if self.share not in (0, 1) else ""
        if self.obstructions:
            said += f", for {_grouped(len(self.obstructions))} obstructions"
        sizes = ", ".join(f"{name.replace('_', ' ')} {_grouped(figure)}" for name, figure in self.figures.items())
        return f"{said}{share}" + (f": {self.text}" if self.text else "") + (f" ({sizes})" if sizes else "")

    def __str__(self) -> str:
        return self.words()


@shown_as(proof_card)
@dataclass(frozen=True)
class Proof:
    """The statement that no order of an instance costs less than `bound`, with the claims that show it.

    Parameters
    ----------
    objective
        The objective.
    bound
        At least 0; for tables in ticks.
    claims
        The claims; `problems.checker.implied_bounds` defines how claims give a bound.
    solver
        The solver that proved it.
    instance, fingerprint
        Name and `fingerprint` of the instance. A proof of one instance says nothing about another.
    ticks
        Number of units of the bounds in one unit of the objective: ticks per nanosecond for tables, otherwise 1.

    Raises
    ------
    ProblemError
        If the bound is negative, there is no claim, or a field is of another type.
    """

    objective: Objective
    bound: int
    claims: tuple[Claim, ...]
    solver: str
    instance: str
    fingerprint: str
    ticks: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", whole_number(self.bound, "the bound of a proof"))
        object.__setattr__(self, "ticks", whole_number(self.ticks, "the ticks of a proof"))
        object.__setattr__(self, "claims", objects(self.claims, Claim, "the claims of a proof"))
        for name in ("solver", "instance", "fingerprint"):
            text(getattr(self, name), f"the {name} of a proof")
        of_kind(self.objective, Objective, "the objective of a proof")
        if not 0 <= self.bound <= MAX_BOUND or self.ticks < 1:
            raise ProblemError(f"a proof has bound {self.bound} in ticks of 1/{self.ticks}; no cost is below 0")
        if not self.claims:
            raise ProblemError("a proof needs at least one claim")

    @classmethod
    def of(
        cls, problem: Problem, objective: Objective, bound: int, claims: Iterable[Claim], *, solver: str = "nobody"
    ) -> Proof:
        """Make the proof of a bound for a problem.

        Raises
        ------
        ProblemError
            If the problem has bundles (`require_provable`), and as for the class.

        Examples
        --------
        >>> from problems import OBJECTIVES
        >>> from problems.generators import random_masks
        >>> print(Proof.of(random_masks(8, 2), OBJECTIVES["span"], 0, [Claim("trivial", 0)], solver="greedy"))
        random-8x2-k0.5-c0.0-s0: every order has span >= 0 (greedy)
          each for itself, all accesses cost at least 0
        """
        require_provable(problem)
        ticks = of_kind(objective, Objective, "the objective").ticks_of(problem)
        return cls(
            objective, bound, items(claims, "the claims of a proof"), solver, problem.name, fingerprint(problem), ticks
        )

    def __str__(self) -> str:
        head = f"{self.instance}: {self.statement} ({self.solver})"
        return "\n  ".join([head, *(claim.words(self.ticks) for claim in self.claims)])

    @property
    def statement(self) -> str:
        """The proven statement in words; for tables in nanoseconds."""
        return f"every order has {self.objective.name} >= {in_units(self.bound, self.ticks)}"


def fingerprint(problem: Problem) -> str:
    """SHA-256, in hexadecimal, of everything in an instance file except the problem's own name.

    Without bundles and constraints it covers blocks and accesses only, as in files from before there were any.
    """
    document = instance_to_dict(problem)
    parts = [document[part] for part in ("blocks", "accesses", "bundles", "constraints") if part in document]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def require_provable(problem: Problem) -> None:
    """Raise `ProblemError` if the problem has bundles or constraints: claims hold for all orders of blocks in place."""
    if of_kind(problem, Problem, "the problem").constraints:
        raise ProblemError(f"{problem.name} has constraints, and proofs have no form for that yet; leave the proof out")
    if problem.bundles:
        raise ProblemError(
            f"{problem.name} has units of blocks that may change places, and proofs have no form for that yet; leave "
            "the proof out"
        )


def _grouped(figure: int | float) -> str:
    """A figure with its digits in groups of three: 2 704 156, or 0.25."""
    return f"{figure:,}".replace(",", " ") if isinstance(figure, int) else f"{figure:.4g}"
