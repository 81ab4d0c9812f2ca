"""Units of a bundle that are alike: exchanging them changes no value, so that one arrangement of them is enough."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from problems import Bundle, Problem


def unit_kinds(problem: Problem, bundle: Bundle) -> list[int]:
    """The kind of every unit, numbered by first appearance: units of one kind are read in the same way.

    Examples
    --------
    >>> from problems import Access, Block
    >>> blocks = tuple(Block(name, 1, removable=False) for name in "abc")
    >>> reads = Access("x", (0, 1, 2), np.array([1, 0, 1])), Access("y", (0, 1, 2), np.array([0, 1, 0]))
    >>> bundle = Bundle(((0,), (1,), (2,)))
    >>> unit_kinds(Problem(blocks, reads, bundles=(bundle,)), bundle)
    [0, 1, 0]
    """
    classes = problem.classes
    known: dict[tuple[object, ...], int] = {}
    kinds = []
    for unit in bundle.units:
        content = []
        for b in unit:
            own = classes.of_block(b)
            rows = classes.signature[own][:, problem.readers_of(b)]
            content.append(tuple(sorted((row.tobytes(), int(n)) for row, n in zip(rows, classes.weight[own]))))
        kinds.append(known.setdefault(tuple(content), len(known)))
    return kinds


def num_sequences(kinds: Sequence[int]) -> int:
    """In how many ways units of these kinds can be arranged.

    Examples
    --------
    >>> num_sequences([0, 1, 0])
    3
    """
    return math.factorial(len(kinds)) // math.prod(math.factorial(count) for count in Counter(kinds).values())


def sequences(kinds: Sequence[int]) -> Iterator[np.ndarray]:
    """All arrangements of units that differ by more than an exchange of two of a kind, units in their places first.

    Examples
    --------
    >>> [units.tolist() for units in sequences([0, 1, 0])]
    [[0, 1, 2], [1, 0, 2], [0, 2, 1]]
    """
    members, current = np.argsort(kinds, kind="stable"), list(kinds)
    for _ in range(num_sequences(kinds)):
        units = np.empty(len(kinds), dtype=np.int64)
        units[np.argsort(current, kind="stable")] = members
        yield units
        current = _next_permutation(current)


def _next_permutation(values: list[int]) -> list[int]:
    """The next one in lexicographic order; after the last one the first."""
    rises = [k for k in range(len(values) - 1) if values[k] < values[k + 1]]
    if not rises:
        return values[::-1]
    head, tail = values[: rises[-1]], values[rises[-1] :]
    least = max(k for k, value in enumerate(tail) if value > tail[0])
    tail[0], tail[least] = tail[least], tail[0]
    return [*head, tail[0], *tail[:0:-1]]
