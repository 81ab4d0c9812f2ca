"""Random tiny joint problems by seed, with everything that a file can hold: blocks, widths, required sums and prices.

One or two blocks have 3 to 6 channels together, and 1 to 4 accesses read them: one block, a concatenation, or one block
twice. The number of orders and kept sets is limited, so that all can be tried.
"""

from __future__ import annotations

import numpy as np

from problems import Block, Objective
from problems.joint.access import JointAccess
from problems.joint.problem import JointProblem

_LONGEST = 7  # input positions: of an access
_KINDS = ((0.4, 0.3, 0.2, 0.1), (0.1, 0.1, 0.8, 0.0), (0.7, 0.2, 0.1, 0.0))
"""Shares of accesses with a width, with a required sum, with both, and with neither; one of them for an instance."""

_OBJECTIVES: tuple[str, ...] = ("copies", "span", "traffic", "own")


def random_joint_problem(seed: int) -> JointProblem:
    """The problem of a seed.

    Examples
    --------
    >>> print(random_joint_problem(3))
    tiny-3: 1 block, 5 channels, 2 accesses that choose, own at 5 a unit
    """
    rng = np.random.default_rng([seed, 7])
    sizes = _sizes(rng)
    blocks = [_block(rng, f"b{i}", size) for i, size in enumerate(sizes)]
    count = int(rng.choice([1, 2, 3, 4], p=[0.08, 0.2, 0.32, 0.4]))
    most, kinds = int(rng.choice([4, 10, 50])), _KINDS[int(rng.integers(len(_KINDS)))]
    common = [rng.integers(0, most, size) for size in sizes]
    accesses = [_access(rng, f"a{a}", sizes, common, most, kinds) for a in range(count)]
    name = str(rng.choice(_OBJECTIVES))
    objective = _own_prices(rng) if name == "own" else name
    return JointProblem(
        blocks,
        accesses,
        objective,
        cost_price=None if rng.random() < 0.4 else int(rng.integers(0, 8)),
        loss_price=int(rng.choice([0, 1, 1, 1, 2])),
        stored_price=int(rng.choice([0, 0, 1, 4])),
        name=f"tiny-{seed}",
    )


def _sizes(rng: np.random.Generator) -> list[int]:
    total = int(rng.integers(3, 7))
    if rng.random() < 0.65 or total < 4:
        return [total]
    first = int(rng.integers(1, total))
    return [first, total - first]


def _block(rng: np.random.Generator, name: str, size: int) -> Block:
    required = tuple(np.flatnonzero(rng.random(size) < 0.2).tolist()) if rng.random() < 0.2 else ()
    return Block(name, size, pinned=rng.random() < 0.08, removable=rng.random() < 0.85, required=required)


def _access(
    rng: np.random.Generator,
    name: str,
    sizes: list[int],
    common: list[np.ndarray],
    most: int,
    kinds: tuple[float, ...],
) -> JointAccess:
    read = [int(rng.integers(len(sizes)))]
    while rng.random() < 0.4 and sum(sizes[b] for b in read) < _LONGEST:
        further = int(rng.integers(len(sizes)))
        if sum(sizes[b] for b in (*read, further)) > _LONGEST:
            break
        read.append(further)
    own = np.concatenate([common[b] for b in read])
    agreed = rng.random(len(own)) < rng.choice([0.0, 0.4, 0.8])
    importance = np.where(agreed, own, rng.integers(0, most, len(own)))
    kind = rng.choice(["width", "sum", "both", "price"], p=kinds)
    middle = len(own) > 3 and rng.random() < 0.7
    width = int(rng.integers(1 + middle, len(own) + 1 - middle)) if kind in ("width", "both") else None
    required = None
    if kind in ("sum", "both"):
        sums = np.concatenate([[0], np.cumsum(np.sort(importance)[::-1])])
        largest = int(sums[-1 if width is None else width])
        required = largest if rng.random() < 0.4 else int(rng.integers(largest * 3 // 4, largest + 1))
    price = int(rng.integers(1, 8)) if width is None else int(rng.choice([0, 0, 2]))
    return JointAccess(name, tuple(read), importance, width, required, price, int(rng.choice([1, 1, 1, 2])))


def _own_prices(rng: np.random.Generator) -> Objective:
    alpha, gamma = [int(own) for own in rng.integers(0, 4, 2)]
    which = rng.integers(3)
    return Objective("own", alpha=None if which == 1 else alpha, gamma=None if which == 2 else gamma)
