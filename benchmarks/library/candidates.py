"""Candidates for the library: problems with their origin, in signature form, under file-safe names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from problems import Problem
from problems.collection import Entry
from problems.generators import with_tables
from problems.signatures import content_hash, signature_form

GRID_POINTS = 12
"""Grid points of cost tables: enough for the shape of a curve, and few enough for the size of DenseNet's files."""


@dataclass(frozen=True)
class Origin:
    """The origin of a problem; the fields are those of `problems.collection.Entry`."""

    family: str
    source: str
    seed: int
    model: str | None = None
    amount: str | None = None
    segment: str | None = None
    objectives: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Candidate:
    """A problem, named and in signature form, and its origin."""

    problem: Problem
    origin: Origin

    @classmethod
    def of(cls, problem: Problem, name: str, origin: Origin) -> Candidate:
        """The candidate of a problem, in signature form and with its name in the library."""
        return cls(dataclasses.replace(signature_form(problem), name=name), origin)

    @property
    def entry(self) -> Entry:
        """The entry of the candidate in the index."""
        problem = self.problem
        return Entry(
            name=problem.name,
            **dataclasses.asdict(self.origin),
            hash=content_hash(problem),
            blocks=len(problem.blocks),
            channels=problem.num_stored,
            accesses=len(problem.accesses),
            classes=len(problem.classes),
            tables=all(access.table is not None for access in problem.accesses),
        )


def timed(candidate: Candidate, *, concave: bool) -> Candidate:
    """The same instance, named ``NAME-concave`` or ``NAME-steps``, with cost tables drawn with the candidate's seed."""
    suffix = "concave" if concave else "steps"
    problem = with_tables(candidate.problem, concave=concave, points=GRID_POINTS, seed=candidate.origin.seed)
    origin = dataclasses.replace(candidate.origin, family=f"{candidate.origin.family}-{suffix}")
    return Candidate(dataclasses.replace(problem, name=f"{problem.name}-{suffix}"), origin)


def shape(problem: Problem) -> tuple[object, ...]:
    """The shape of a segment: everything that depends on the network only, without kept channels and names."""
    blocks = tuple((block.size, block.pinned, block.removable) for block in problem.blocks)
    return blocks, tuple((access.blocks, access.channel_size) for access in problem.accesses)


def short_names(segments: Iterable[str]) -> dict[str, str]:
    """File-safe names of segments: the shortest dotted prefix that no other segment shares, with hyphens for dots.

    Examples
    --------
    >>> short_names(["layer1.0.conv2", "layer2.0.conv2", "stem.0", "stem.1.conv"])
    {'layer1.0.conv2': 'layer1', 'layer2.0.conv2': 'layer2', 'stem.0': 'stem-0', 'stem.1.conv': 'stem-1'}
    """
    parts = {segment: segment.split(".") for segment in segments}
    names = {}
    for segment, own in parts.items():
        others = [other for name, other in parts.items() if name != segment]
        length = next((n for n in range(1, len(own)) if all(other[:n] != own[:n] for other in others)), len(own))
        names[segment] = re.sub(r"[^A-Za-z0-9_]+", "-", ".".join(own[:length])).strip("-")
    return names
