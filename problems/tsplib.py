"""Consecutive block minimisation as a travelling-salesman problem, in TSPLIB's form, and tours read back as orders.

The runs of a row are half the changes between neighbouring columns, if a column of zeros stands at both ends. So the
runs of a matrix are half the length of a closed tour through its columns and one column of zeros, where two columns
lie as far apart as they differ in rows (Haddadi et al. 2015), each counted with its weight. Form: Reinelt, "TSPLIB 95",
1995. Concorde and LKH read such files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from problems.conversions import whole_numbers
from problems.errors import ProblemError
from problems.files import read_bytes, write_text_atomically
from problems.matrices import matrix_of
from problems.order import Order
from problems.problem import Problem

MOST_NODES = 20_000
"""Most columns; the file lists all distances."""


def write_tsplib(problem: Problem, path: str | Path) -> None:
    """Write the objective `runs` of a problem of one block as a symmetric TSP, atomically.

    Node 1 is the column of zeros; node k + 2 is the k-th stored channel. Runs are half the length of a tour.

    Raises
    ------
    ProblemError
        If the problem is no matrix (`problems.matrices.matrix_of`), its block is pinned, it has too many channels, or
        the path cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]], name="m")
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_tsplib(problem, f"{directory}/m.tsp")
    ...     print(Path(f"{directory}/m.tsp").read_text())
    NAME: m
    COMMENT: half the length of a tour is the number of runs; node 1 is a column of zeros
    TYPE: TSP
    DIMENSION: 4
    EDGE_WEIGHT_TYPE: EXPLICIT
    EDGE_WEIGHT_FORMAT: FULL_MATRIX
    EDGE_WEIGHT_SECTION
    0 1 1 2
    1 0 2 1
    1 2 0 1
    2 1 1 0
    EOF
    <BLANKLINE>
    """
    rows = _matrix(problem)
    if rows.shape[1] > MOST_NODES:
        raise ProblemError(f"{problem.name} has {rows.shape[1]} channels; a TSPLIB file can have {MOST_NODES}")
    columns = np.concatenate([np.zeros((1, len(rows)), dtype=np.float64), rows.T])
    weighted = columns * [access.weight for access in problem.accesses]
    ones = weighted.sum(axis=1)
    far = np.rint(ones[:, np.newaxis] + ones - 2 * weighted @ columns.T).astype(np.int64)
    head = [
        f"NAME: {' '.join(problem.name.split())}",
        "COMMENT: half the length of a tour is the number of runs; node 1 is a column of zeros",
        "TYPE: TSP",
        f"DIMENSION: {len(far)}",
        "EDGE_WEIGHT_TYPE: EXPLICIT",
        "EDGE_WEIGHT_FORMAT: FULL_MATRIX",
        "EDGE_WEIGHT_SECTION",
    ]
    write_text_atomically("\n".join([*head, *(" ".join(map(str, row)) for row in far.tolist()), "EOF", ""]), path)


def read_tour(path: str | Path, problem: Problem) -> Order:
    """The order of a tour file (``TOUR_SECTION``), as Concorde and LKH write them for `write_tsplib`'s files.

    Raises
    ------
    ProblemError
        If the file cannot be read, has no tour section, or its tour does not visit every node once.
    """
    try:
        lines = read_bytes(path).decode("utf-8").split("\n")
        start = next(k for k, line in enumerate(lines) if line.strip() == "TOUR_SECTION")
        words = " ".join(lines[start + 1 :]).split()
        nodes = [int(word) for word in words[: words.index("-1") if "-1" in words else len(words)] if word != "EOF"]
    except (ValueError, StopIteration) as error:
        raise ProblemError(f"{path} is no tour file: it must list nodes after a line TOUR_SECTION") from error
    try:
        return order_of_tour(problem, nodes)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def order_of_tour(problem: Problem, nodes: Sequence[int]) -> Order:
    """The order of a tour: the channels after node 1, the column of zeros, once around.

    Examples
    --------
    >>> order_of_tour(Problem.from_matrix([[1, 0, 1], [0, 1, 1]]), [3, 1, 2, 4])[0].tolist()
    [0, 2, 1]
    """
    own, stored = whole_numbers(nodes, "the tour"), problem.stored[0]
    _matrix(problem)
    if sorted(own.ravel().tolist()) != list(range(1, len(stored) + 2)):
        raise ProblemError(f"the tour must visit the nodes 1 to {len(stored) + 1}, once each")
    return Order([stored[np.roll(own, -int(np.flatnonzero(own == 1)[0]))[1:] - 2]])


def _matrix(problem: Problem) -> np.ndarray:
    rows = matrix_of(problem)
    if problem.constraints:
        raise ProblemError(f"{problem.name} has constraints, and a tour has no form for them")
    if problem.blocks[0].pinned:
        raise ProblemError(f"{problem.name} has a pinned block; there is nothing to order")
    return rows
