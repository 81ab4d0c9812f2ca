"""Families of random matrices for consecutive block minimisation, with the shapes of the literature's benchmarks.

They are made when they are needed, and are not part of the library. They are for the objective `runs` only.
"""

from __future__ import annotations

from problems import Problem
from problems.generators import BLOCK_GROUPS, block_matrix

FAMILIES = tuple(f"cbm/{group}" for group in BLOCK_GROUPS)
OBJECTIVES = ("runs",)

_SEEDS = 5


def is_block_matrix(name: str) -> bool:
    """Whether a name is one of these instances or families."""
    return name.startswith("cbm/")


def names(family: str) -> list[str]:
    """The instances of one family."""
    return [f"{family}/s{seed}" for seed in range(_SEEDS)]


def load(name: str) -> Problem:
    """One instance.

    Examples
    --------
    >>> load("cbm/g/s3").name
    'cbm-g-s3'
    """
    _, group, seed = name.split("/")
    return block_matrix(group, seed=int(seed[1:]))
