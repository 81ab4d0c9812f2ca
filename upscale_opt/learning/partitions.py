"""Partitions: a network cut into consecutive parts of about equal size, and the owner of every tensor.

A cut is only at a place where everything that follows depends on one tensor. Parallel branches, such as a residual
block and its downsampling convolution, therefore stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from upscale_opt.errors import LearningError
from upscale_opt.models.attributes import attribute_of
from upscale_opt.tracing.graphs import Graph


@dataclass(frozen=True)
class Partition:
    """A part of a network.

    Attributes
    ----------
    weights
        Names of its masked weights, in execution order.
    last
        Name of its last fx node.
    num_parameters
        Number of parameters of these weights.
    """

    weights: tuple[str, ...]
    last: str
    num_parameters: int

    def __str__(self) -> str:
        return f"{self.weights[0]} to {self.weights[-1]}: {len(self.weights)} layers, {self.num_parameters} parameters"


def partitions_of(graph: Graph, weights: Iterable[str], number: int) -> tuple[Partition, ...]:
    """Cut a network into parts, so that the largest part has as few parameters of masked weights as possible.

    Parameters
    ----------
    graph
        The traced model.
    weights
        Names of the masked weights, in execution order.
    number
        Number of partitions.

    Raises
    ------
    LearningError
        If the network cannot be cut into so many partitions.
    """
    groups = _groups(graph, list(weights))
    if not isinstance(number, int) or number < 1:
        raise LearningError(f"there cannot be {number} partitions; give a whole number of at least 1")
    if number > len(groups):
        raise LearningError(
            f"the network cannot be cut into {number} partitions, because parallel branches stay together; ask for "
            f"at most {len(groups)}"
        )
    sizes = [sum(attribute_of(graph.module, name).numel() for name in own.weights) for own in groups]
    ends = [0, *_balanced(sizes, number)]
    return tuple(
        Partition(
            tuple(name for own in groups[start:stop] for name in own.weights),
            groups[stop - 1].last,
            sum(sizes[start:stop]),
        )
        for start, stop in pairwise(ends)
    )


def owners(graph: Graph, names: Iterable[str], partitions: Sequence[Partition]) -> dict[str, int]:
    """The partition that owns each parameter and buffer: the first partition that uses it.

    Parameters
    ----------
    graph
        The traced model.
    names
        Names of all tensors in the model's state_dict. Tensors that the traced network does not use belong to the first
        partition.
    partitions
        The result of `partitions_of`.
    """
    place = {node.name: i for i, node in enumerate(graph.module.graph.nodes)}
    ends = [place[own.last] for own in partitions[:-1]]
    first: dict[str, int] = {}
    for node in graph.module.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            first.setdefault(str(node.target), sum(place[node.name] > end for end in ends))
    aliases = graph.aliases

    def owner(name: str) -> int:
        own = aliases.get(name, name)
        paths = [own.rsplit(".", cut)[0] for cut in range(own.count(".") + 1)]
        return min((first[path] for path in (own, *paths) if path in first), default=0)

    return {name: owner(name) for name in names}


def combined(states: Sequence[Mapping[str, torch.Tensor]], owned: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Combine several state_dicts into one. Every tensor comes from its owner, bit for bit."""
    return {name: states[owner][name].clone() for name, owner in owned.items()}


@dataclass(frozen=True)
class _Group:
    """Weights without a cut between them, and the last node before the next group."""

    weights: tuple[str, ...]
    last: str


def _groups(graph: Graph, weights: list[str]) -> list[_Group]:
    nodes = list(graph.module.graph.nodes)
    place = {node.name: i for i, node in enumerate(nodes)}
    cuts = [p for p, number in enumerate(_num_live(graph)) if number == 1]
    consumers = [place[graph.consumers[name].node] for name in weights]
    groups: list[_Group] = []
    own: list[str] = []
    for i, name in enumerate(weights):
        own.append(name)
        following = consumers[i + 1] if i + 1 < len(weights) else len(nodes)
        between = [p for p in cuts if consumers[i] <= p < following]
        if i + 1 == len(weights):
            groups.append(_Group(tuple(own), nodes[-1].name))
        elif between:
            groups.append(_Group(tuple(own), nodes[between[-1]].name))
            own = []
    return groups


def _num_live(graph: Graph) -> list[int]:
    """For every node, the number of tensors after it that later nodes use. Parameters do not count."""
    nodes = list(graph.module.graph.nodes)
    place = {node.name: i for i, node in enumerate(nodes)}
    changes = [0] * (len(nodes) + 1)
    for i, node in enumerate(nodes):
        last = max((place[user.name] for user in node.users), default=i)
        if node.op != "get_attr" and graph.shapes.get(node.name) is not None:
            changes[i] += 1
            changes[last] -= 1
    live, number = [], 0
    for change in changes[:-1]:
        number += change
        live.append(number)
    return live


def _balanced(sizes: list[int], number: int) -> list[int]:
    """Ends of consecutive, non-empty parts that minimise the largest sum. Of equal solutions, the earliest cuts."""
    total = len(sizes)
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    best: list[list[tuple[int, list[int]]]] = [[(sums[end], [end]) for end in range(total + 1)]]
    for parts in range(1, number):
        row: list[tuple[int, list[int]]] = []
        for end in range(total + 1):
            options = [
                (max(best[-1][cut][0], sums[end] - sums[cut]), [*best[-1][cut][1], end]) for cut in range(parts, end)
            ]
            row.append(min(options, default=(sums[-1] + 1, [])))
        best.append(row)
    return best[-1][total][1]
