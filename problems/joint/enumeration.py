"""All orders of all stored sets, with the best kept set of every access for each: the oracle of the other methods.

Given the stored channels and their order, accesses do not depend on each other. If nobody keeps one of the channels,
the choice stores fewer and costs no more, and the smaller set is looked at as well. So the least sum over all orders of
all stored sets is the optimum.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from problems.errors import ProblemError
from problems.joint.access import JointAccess
from problems.joint.decision import JointChoice
from problems.joint.problem import JointProblem

MOST_ENTRIES = 2**25
"""Most pairs of an arrangement and a kept set that are looked at, over all accesses."""


def best_of_all(problem: JointProblem) -> JointChoice:
    """A choice of least value.

    Raises
    ------
    ProblemError
        If there are too many. One block of 7 channels is about the largest.
    """
    _require_few(problem)
    arrangements = [_arrangements(problem, b) for b in range(len(problem.blocks))]
    best: tuple[int, list[np.ndarray]] | None = None
    for own in itertools.product(*arrangements):
        total = np.zeros((1,) * len(own), dtype=np.int64)
        total = total + problem.stored_price * sum(part.shape[1] for part in own)
        for a in range(problem.num_accesses):
            total = total + _least(problem, a, list(own))[0]
        place = np.unravel_index(int(np.argmin(total)), total.shape)
        if best is None or int(total[place]) < best[0]:
            best = int(total[place]), [part[i] for part, i in zip(own, np.broadcast_to(place, len(own)))]
    assert best is not None
    return _choice(problem, best[1])


def _arrangements(problem: JointProblem, b: int) -> list[np.ndarray]:
    """All orders of all stored sets of a block, shape (orders, channels) per number of channels."""
    block, always = problem.blocks[b], problem.always_stored[b]
    if block.pinned:
        return [np.arange(block.size)[np.newaxis]]
    fixed, free = np.flatnonzero(always).tolist(), np.flatnonzero(~always).tolist()
    found = []
    for count in range(max(1, len(fixed)), block.size + 1):
        sets = itertools.combinations(free, count - len(fixed))
        orders = [order for own in sets for order in itertools.permutations([*fixed, *own])]
        found.append(np.array(orders, dtype=np.int64))
    return found


def _require_few(problem: JointProblem) -> None:
    """Raise unless all pairs of an arrangement and a kept set can be looked at."""
    counts: list[list[tuple[int, int]]] = []
    for block, always in zip(problem.blocks, problem.always_stored):
        fixed = int(always.sum())
        lengths = [block.size] if block.pinned else range(max(1, fixed), block.size + 1)
        counts.append(
            [
                (length, 1 if block.pinned else math.comb(block.size - fixed, length - fixed) * math.factorial(length))
                for length in lengths
            ]
        )
    entries = 0
    for own in itertools.product(*counts):
        sets = sum(2 ** sum(own[b][0] for b in access.blocks) for access in problem.accesses)
        entries += sets * math.prod(number for _, number in own)
        if entries > MOST_ENTRIES:
            raise ProblemError(
                f"{problem.name} has more than {MOST_ENTRIES} pairs of an order and a kept set; it cannot be enumerated"
            )


def _least(problem: JointProblem, a: int, own: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least value of an access per arrangement of all blocks, the best set's number, and the stored positions.

    Parameters
    ----------
    problem, a
        The problem, and the access.
    own
        Per block orders of equally many channels, shape (orders, channels).

    Returns
    -------
    tuple
        Values and numbers of sets have one axis per block, of length 1 where the access does not read it; positions
        have one more axis, for the places in the concatenation.
    """
    access, dims = problem.accesses[a], len(own)
    parts = []
    for b, positions in problem.slots[a]:
        axes = [len(own[b]) if axis == b else 1 for axis in range(dims)]
        parts.append((own[b] + positions.start).reshape(*axes, own[b].shape[1]))
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    placed = np.concatenate([np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], axis=-1)
    flat = placed.reshape(-1, placed.shape[-1])
    sets, costs = _sets(problem, access, flat.shape[1])
    kept = access.importance[flat] @ sets.T
    values = problem.loss_price * (int(access.largest_sums[-1]) - kept) + costs
    if access.required is not None:
        values = np.where(kept >= access.required, values, np.iinfo(np.int64).max // 2**8)
    number = values.argmin(axis=1)
    return values[np.arange(len(flat)), number].reshape(shape), number.reshape(shape), placed


def _sets(problem: JointProblem, access: JointAccess, length: int) -> tuple[np.ndarray, np.ndarray]:
    """All kept sets of so many places, shape (sets, places), and what each costs but for its loss."""
    sets = np.array(list(itertools.product((0, 1), repeat=length)), dtype=np.int64)[1:]
    kept = sets.sum(axis=1)
    span = length - sets[:, ::-1].argmax(axis=1) - sets.argmax(axis=1)
    never = np.iinfo(np.int64).max // 2**8
    over, copy = (
        np.full(len(sets), never) if price is None else price * number * access.channel_size
        for price, number in ((problem.over_read_price, span - kept), (problem.copy_price, kept))
    )
    costs = np.where(span == kept, 0, np.minimum(over, copy)) + access.price * kept
    if access.width is not None:
        costs = np.where(kept == access.width, costs, never)
    return sets, costs


def _choice(problem: JointProblem, order: list[np.ndarray]) -> JointChoice:
    """The best sets for an arrangement, and the order of what is stored because of them."""
    rows = [own[np.newaxis] for own in order]
    kept = []
    for a, access in enumerate(problem.accesses):
        _, number, placed = _least(problem, a, rows)
        sets, _ = _sets(problem, access, placed.shape[-1])
        mask = np.zeros(len(access.importance), dtype=bool)
        mask[placed.reshape(-1)[sets[int(number.reshape(-1)[0])].astype(bool)]] = True
        kept.append(mask)
    stored = problem.with_kept(kept).stored
    return JointChoice(
        [
            own[np.isin(own, needed)] if np.isin(needed, own).all() else needed
            for own, needed in zip(order, stored, strict=True)
        ],
        kept,
    )
