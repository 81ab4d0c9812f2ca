"""Certificates of bounds on joint problems: multipliers, and a check of what they prove that uses no solver.

All numbers of a certificate are whole: multiples of one over its unit. The check computes the relaxation in float64
whose sums stay below 2^53, so that every one of them is exact, and rounds the bound up in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems.conversions import items, of_kind, whole_number, whole_numbers
from problems.errors import ProblemError
from problems.joint.problem import JointProblem
from problems.joint.relaxation import MOST_COUPLED, Relaxation
from problems.showing.reprs import shown

_EXACT = 2**53


@shown
@dataclass(frozen=True)
class JointCertificate:
    """Why no choice has a smaller value: multipliers of the relaxation (`problems.joint.relaxation`).

    Attributes
    ----------
    unit
        All multipliers are multiples of one over this, in units of loss; at least 1.
    widths
        Per access the multiplier of its width; 0 where it has none.
    sums
        Per access the multiplier of its required sum, at least 0; 0 where it has none.
    potentials
        Per block one potential per channel.
    coupled
        Per block the readers whose windows are looked at together.
    bound
        What they prove, in units of loss.
    """

    unit: int
    widths: tuple[int, ...]
    sums: tuple[int, ...]
    potentials: tuple[tuple[int, ...], ...]
    coupled: tuple[tuple[int, ...], ...]
    bound: int

    def __post_init__(self) -> None:
        whole_number(self.unit, "the unit", least=1)
        whole_number(self.bound, "the bound", least=0)
        for field in ("widths", "sums"):
            object.__setattr__(self, field, _whole(getattr(self, field), field))
        for field in ("potentials", "coupled"):
            own = tuple(_whole(part, field) for part in items(getattr(self, field), field))
            object.__setattr__(self, field, own)


def check_joint_certificate(problem: JointProblem, certificate: JointCertificate) -> int:
    """The bound that the multipliers prove, if it is at least the one that the certificate states.

    Raises
    ------
    ProblemError
        If they prove less, are not those of this problem, or are so large that sums would not be exact.

    Examples
    --------
    >>> problem = JointProblem.from_importance([[5, 4, 0, 1], [0, 1, 3, 6], [7, 0, 3, 0]], widths=2, units=10)
    >>> check_joint_certificate(problem, JointCertificate(2, (5, 4, 3), (0, 0, 0), ((8, 7, 7, 6),), ((0, 1, 2),), 2))
    2
    """
    of_kind(problem, JointProblem, "the problem")
    of_kind(certificate, JointCertificate, "the certificate")
    proven = proven_bound(
        problem,
        certificate.unit,
        certificate.widths,
        certificate.sums,
        certificate.potentials,
        certificate.coupled,
    )
    if proven < certificate.bound:
        raise ProblemError(
            f"the certificate states that no value is below {certificate.bound}, but its multipliers prove {proven} "
            "only; do not trust it"
        )
    return proven


def proven_bound(
    problem: JointProblem,
    unit: int,
    widths: Sequence[int],
    sums: Sequence[int],
    potentials: Sequence[Sequence[int]],
    coupled: Sequence[Sequence[int]],
) -> int:
    """The bound that multipliers prove, as in `JointCertificate`, rounded up to a whole number of at least 0.

    Raises
    ------
    ProblemError
        If they are not those of this problem, or are so large that sums would not be exact.
    """
    _require_fitting(problem, widths, sums, potentials, coupled)
    relaxation = Relaxation(problem, coupled)
    own_widths, own_sums = np.array(widths, dtype=np.float64), np.array(sums, dtype=np.float64)
    constant = relaxation.constant(own_widths, own_sums)
    total, largest = 0, abs(constant)
    for b, own in enumerate(potentials):
        nu = np.array(own, dtype=np.float64)
        terms = relaxation.terms(b, unit, own_widths, own_sums)
        cells = 2 * len(terms.coupled) + 1
        gains = cells * float(np.maximum(nu - terms.table.min(axis=0), 0).sum()) + float(np.abs(nu).sum())
        largest += gains + terms.largest
        if largest >= _EXACT:
            break
        total += int(terms.least(nu)[0])
    if largest >= _EXACT:
        raise ProblemError("the multipliers are too large for exact sums; divide them and the unit by a common factor")
    return max(0, -(-(total + int(constant)) // unit))


def _require_fitting(
    problem: JointProblem,
    widths: Sequence[int],
    sums: Sequence[int],
    potentials: Sequence[Sequence[int]],
    coupled: Sequence[Sequence[int]],
) -> None:
    """The multipliers are those of a problem with so many accesses and channels."""
    sizes = [block.size for block in problem.blocks]
    if not len(widths) == len(sums) == problem.num_accesses or [len(own) for own in potentials] != sizes:
        raise ProblemError(
            f"the certificate is not one of {problem.name}: it has multipliers of {len(widths)} accesses and "
            f"{[len(own) for own in potentials]} channels"
        )
    for access, width, required in zip(problem.accesses, widths, sums):
        if (access.width is None and width) or (access.required is None and required) or required < 0:
            raise ProblemError(
                f"access {access.name!r}: the certificate has a multiplier of a row that it does not have, or one "
                "below 0; correct it"
            )
    readers = Relaxation(problem, [()] * len(sizes)).readers
    for own, known in zip(coupled, readers):
        if len(set(own)) < len(own) or len(own) > MOST_COUPLED or not all(0 <= r < len(known) for r in own):
            raise ProblemError(
                f"the certificate couples the readers {list(own)} of a block with {len(known)}; name at most "
                f"{MOST_COUPLED} of them, each once"
            )
    if len(coupled) != len(sizes):
        raise ProblemError(f"the certificate couples readers of {len(coupled)} blocks; there are {len(sizes)}")


def _whole(given: Any, what: str) -> tuple[int, ...]:
    return tuple(whole_numbers(given, f"the certificate: {what}").ravel().tolist())
