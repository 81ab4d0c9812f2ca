"""Orders by the names of blocks, as in plans: the channels of each block, and which block takes which place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from problems.bundles import occupants
from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.order import Order
from problems.problem import Problem


def order_by_names(
    problem: Problem, channels: Mapping[str, Sequence[int] | np.ndarray], places: Mapping[str, str]
) -> Order:
    """The order of a problem, given by the names of its blocks.

    Parameters
    ----------
    problem
        The problem. The mappings may also name blocks of other problems.
    channels
        Per block name, its channels in stored order.
    places
        Per block name, the name of the block that takes its place. Blocks that are not named keep their places.

    Raises
    ------
    ProblemError
        If a block cannot take the place that it is given, or not all blocks of a unit move together.

    Examples
    --------
    >>> from problems import Access, Block, Bundle
    >>> blocks = Block("a", 1), Block("b", 1)
    >>> problem = Problem(blocks, (Access("x", (0, 1), np.ones(2)),), bundles=(Bundle(((0,), (1,))),))
    >>> order = order_by_names(problem, {"a": [0], "b": [0]}, {"a": "b", "b": "a"})
    >>> [units.tolist() for units in order.arrangement]
    [[1, 0]]
    >>> places_of(problem, order)
    {'a': 'b', 'b': 'a'}
    """
    number = {block.name: b for b, block in enumerate(of_kind(problem, Problem, "the problem").blocks)}
    for what, given in (("channels", channels), ("places", places)):
        of_kind(given, Mapping, what)
    lacking = [name for name in number if name not in channels]
    if lacking:
        raise ProblemError(f"channels lack the block {lacking[0]!r}; give its order")
    moved = {number[name]: places[name] for name in places if name in number}
    arrangement = []
    for bundle in problem.bundles:
        unit_of = {unit[0]: i for i, unit in enumerate(bundle.units)}
        names = [moved.get(unit[0], problem.blocks[unit[0]].name) for unit in bundle.units]
        arrangement.append(np.array([unit_of.get(number.get(name, -1), -1) for name in names]))
    if any((units < 0).any() for units in arrangement):
        arrangement = []
    order = Order([channels[block.name] for block in problem.blocks], arrangement)
    if {name: places[name] for name in places if name in number and places[name] != name} != places_of(problem, order):
        raise ProblemError("blocks take the places of blocks that cannot make room for them, or not all of a unit do")
    return order


def places_of(problem: Problem, order: Order) -> dict[str, str]:
    """Per block that has changed places: the name of the block that takes its place."""
    names = [block.name for block in of_kind(problem, Problem, "the problem").blocks]
    of_kind(order, Order, "the order")
    occupant = occupants(len(names), problem.bundles, order.arrangement).tolist()
    return {name: names[b] for name, b in zip(names, occupant, strict=True) if name != names[b]}
