"""Proofs of bounds on joint problems: claims, of which each is a bound on the value of every choice.

The kinds are those of ordering problems (`problems.proofs.Kind`) as far as they have a meaning here. The bound of a
proof is the largest of its claims. `problems.checker.joint_checks` checks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from problems.conversions import objects, of_kind, text, whole_number
from problems.errors import ProblemError
from problems.joint.certificates import JointCertificate
from problems.joint.problem import JointProblem
from problems.proofs import Kind
from problems.showing.reprs import shown

JOINT_KINDS = (Kind.TRIVIAL, Kind.RELAXATION, Kind.SEARCH)
"""Kinds of claims: free sets, the relaxation with its multipliers, and exhaustive searches."""


@shown
@dataclass(frozen=True)
class JointClaim:
    """A lower bound on the value of every choice, and how it was proven.

    Parameters
    ----------
    kind
        ``trivial``: the bound of free sets, which the checker computes again. ``relaxation``: multipliers, which the
        checker computes with; it needs a certificate. ``search``: an exhaustive search, on trust unless the problem is
        small enough to be enumerated.
    bound
        At least 0, in units of loss.
    text
        How it was proven, as a phrase. May be empty.
    certificate
        Of a relaxation.

    Raises
    ------
    ProblemError
        If the kind has no meaning for joint problems, or a field is invalid.

    Examples
    --------
    >>> JointClaim("conflict", 4)
    Traceback (most recent call last):
    problems.errors.ProblemError: a claim of kind 'conflict' says nothing about joint problems; give trivial, \
relaxation, search
    """

    kind: Kind
    bound: int
    text: str = ""
    certificate: JointCertificate | None = None

    def __post_init__(self) -> None:
        if self.kind not in JOINT_KINDS:
            raise ProblemError(
                f"a claim of kind {str(self.kind)!r} says nothing about joint problems; give {', '.join(JOINT_KINDS)}"
            )
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "bound", whole_number(self.bound, "the bound of a claim", least=0))
        text(self.text, "the text of a claim")
        if self.certificate is not None:
            of_kind(self.certificate, JointCertificate, "the certificate of a claim")
        if (self.kind is Kind.RELAXATION) != (self.certificate is not None):
            raise ProblemError("a claim has a certificate if, and only if, it is a relaxation")
        if self.certificate is not None and self.certificate.bound < self.bound:
            raise ProblemError(
                f"a claim states {self.bound}, but its certificate only {self.certificate.bound}; correct it"
            )

    def __str__(self) -> str:
        words = {
            Kind.TRIVIAL: "each access for itself",
            Kind.RELAXATION: "multipliers of widths, sums and channels",
            Kind.SEARCH: "search",
        }
        return f"every choice has a value >= {self.bound}: {self.text or words[self.kind]}"


@shown
@dataclass(frozen=True)
class JointProof:
    """The statement that no choice of a joint problem has a value below a bound, with the claims that show it.

    Parameters
    ----------
    claims
        At least one.
    instance
        `JointProblem.content_hash`. A proof of one problem says nothing about another.

    Raises
    ------
    ProblemError
        If there is no claim, or a field is of another type.
    """

    claims: tuple[JointClaim, ...]
    instance: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", objects(self.claims, JointClaim, "the claims of a proof"))
        text(self.instance, "the instance of a proof")
        if not self.claims:
            raise ProblemError("a proof needs at least one claim")

    @classmethod
    def of(cls, problem: JointProblem, claims: Iterable[JointClaim]) -> JointProof:
        """The proof of a problem."""
        return cls(tuple(claims), problem.content_hash())

    @property
    def bound(self) -> int:
        """The largest bound of a claim."""
        return max(own.bound for own in self.claims)

    def __str__(self) -> str:
        return "\n  ".join([f"every choice has a value >= {self.bound}", *map(str, self.claims)])
