"""Binary matrices as instances: the text files of the literature on consecutive block minimisation.

Rows become accesses; columns become channels of one block. The value of the objective `runs` is then the number of
blocks of consecutive ones (SR17 in Garey and Johnson). Three forms are read. All consist of whole numbers, separated by
blanks or line breaks:

- *lists*: the numbers of rows and columns; then per row the number of its ones, and their columns, counted from 1.
  Instances of Haddadi et al. 2015, Soares et al. 2020 and Haddadi 2021 have this form (for example in
  github.com/pedroldm/cbm, whose experiments/README.md describes it).
- *set covering*: as lists, but the costs of all columns come before the first row. The costs are not used. This is the
  form of the OR-Library (Beasley, "OR-Library: distributing test problems by electronic mail", J. Oper. Res. Soc. 41,
  1990).
- *dense*: zeros and ones, one line per row, with or without blanks. The numbers of rows and columns may come first.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from problems.blocks import MAX_SIZE
from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import write_text_atomically
from problems.instances import read_instance
from problems.problem import Problem
from problems.weights import without_weights

_MOST_ENTRIES = 2**30


class _NoMatrix(Exception):
    """The numbers do not have this form; the message says why."""


def read_matrix(path: str | Path) -> Problem:
    """Read a binary matrix from a text file; see the top of this module for its forms.

    Parameters
    ----------
    path
        The file. Its name without the suffix becomes the problem's name.

    Returns
    -------
    Problem
        One block with a channel per column. None is removed, so an order is a permutation of all columns. The accesses
        are ``row1``, ``row2``, ..., one per row that has ones. Rows without ones have no runs and are left out.

    Raises
    ------
    ProblemError
        If the file cannot be read, has none of the forms, can be read in two ways, or holds no ones.
    """
    path = Path(path)
    kept = _matrix(_text(path), path)
    if not kept.any():
        raise ProblemError(f"{path} holds a matrix without ones; there is nothing to order")
    return Problem.from_matrix(kept, name=path.stem)


def write_matrix(problem: Problem, path: str | Path, form: str = "lists") -> None:
    """Write a problem of one block as a binary matrix, atomically: a row per access, a column per stored channel.

    The row of an access is written as often as its weight says. The file has no names, channel sizes or tables;
    `write_instance` keeps everything.

    Parameters
    ----------
    problem
        One block, which every access reads once.
    path
        The file.
    form
        ``lists``, ``set covering`` (all costs 1) or ``dense``; see the top of this module.

    Raises
    ------
    ProblemError
        If the problem has another shape, there is no such form, the weights add up to too many rows, or the path
        cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from problems.generators import random_matrix
    >>> problem = random_matrix(9, 4)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_matrix(problem, f"{directory}/m.txt", "set covering")
    ...     again = read_matrix(f"{directory}/m.txt")
    >>> np.array_equal(matrix_of(again), matrix_of(problem))
    True
    """
    if of_kind(problem, Problem, "the problem").constraints:
        raise ProblemError(f"{problem.name} has constraints, and a matrix has no form for them; write an instance file")
    rows = matrix_of(without_weights(of_kind(problem, Problem, "the problem"), "runs"))
    lists = [" ".join(map(str, [len(own), *own])) for own in (np.flatnonzero(row) + 1 for row in rows)]
    head = f"{rows.shape[0]} {rows.shape[1]}"
    lines = {
        "lists": [head, *lists],
        "set covering": [head, " ".join(["1"] * rows.shape[1]), *lists],
        "dense": ["".join("01"[int(one)] for one in row) for row in rows],
    }
    if form not in lines:
        raise ProblemError(f"there is no form {form!r} of matrices to write; choose one of {', '.join(lines)}")
    write_text_atomically("\n".join(lines[form]) + "\n", path)


def matrix_of(problem: Problem) -> np.ndarray:
    """The matrix of a problem of one block; bool, shape (num_accesses, stored channels).

    Raises
    ------
    ProblemError
        If there are several blocks or none that accesses read, or an access reads the block twice.

    Examples
    --------
    >>> matrix_of(Problem.from_matrix([[1, 0, 1], [0, 1, 1]])).astype(int).tolist()
    [[1, 0, 1], [0, 1, 1]]
    """
    accesses = of_kind(problem, Problem, "the problem").accesses
    if len(problem.blocks) != 1 or not accesses or any(len(access.blocks) != 1 for access in accesses):
        raise ProblemError(
            f"{problem.name} is no matrix: it must have one block, and accesses that read it once each; write an "
            "instance file instead"
        )
    return np.stack([access.kept[problem.stored[0]] for access in accesses])


def read_problem(path: str | Path) -> Problem:
    """Read an instance file, or a binary matrix if the file begins with a digit.

    Raises
    ------
    ProblemError
        As `read_instance` and `read_matrix`.
    """
    try:
        with Path(path).open("rb") as file:
            begin = file.read(4096).lstrip()
    except OSError as error:
        raise ProblemError(f"cannot read {path}: {error.strerror}") from error
    return read_matrix(path) if begin[:1].isdigit() else read_instance(path)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProblemError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ProblemError(f"{path} is no text file ({error}); a matrix is made of whole numbers") from error
    for number, line in enumerate(text.split("\n"), start=1):
        strange = re.search(r"[^0-9\s]\S*", line, re.ASCII)
        if strange:
            raise ProblemError(f"{path}, line {number}: a matrix is made of whole numbers, not {strange[0][:20]!r}")
    return text


def _matrix(text: str, path: Path) -> np.ndarray:
    """The only matrix that a text can mean; bool, shape (num_rows, num_columns)."""
    found: list[np.ndarray] = []
    reasons: dict[str, str] = {}
    for form, read in _FORMS.items():
        try:
            kept = read(text)
        except _NoMatrix as reason:
            reasons[form] = str(reason)
            continue
        if not any(np.array_equal(kept, other) for other in found):
            found.append(kept)
    if not found:
        forms = "; ".join(f"as {form}: {reason}" for form, reason in reasons.items())
        raise ProblemError(f"{path} is no binary matrix in a known form ({forms}); see docs/formats.md")
    if len(found) > 1:
        raise ProblemError(
            f"{path} can be read as {len(found)} different matrices; write it as lists or without a head"
        )
    return found[0]


def _numbers(text: str) -> np.ndarray:
    """All numbers of a text; int64, one-dimensional."""
    words = text.split()
    if any(len(word) > 18 for word in words):
        raise _NoMatrix("it has a number of more than 18 digits")
    return np.array(words, dtype=np.int64)


def _head(numbers: np.ndarray) -> tuple[int, int]:
    """Numbers of rows and columns."""
    if len(numbers) < 2 or numbers[0] < 1 or numbers[1] < 1:
        raise _NoMatrix("it does not begin with the numbers of rows and columns")
    rows, columns = int(numbers[0]), int(numbers[1])
    if columns > MAX_SIZE or rows * columns > _MOST_ENTRIES:
        raise _NoMatrix(f"it says {rows} rows and {columns} columns, too many")
    return rows, columns


def _lists(text: str) -> np.ndarray:
    numbers = _numbers(text)
    return _listed(numbers, 2)


def _set_covering(text: str) -> np.ndarray:
    numbers = _numbers(text)
    _, columns = _head(numbers)
    return _listed(numbers, 2 + columns)


def _listed(numbers: np.ndarray, at: int) -> np.ndarray:
    """Read the rows from a given position: per row the number of ones, then their columns."""
    rows, columns = _head(numbers)
    if rows > len(numbers):
        raise _NoMatrix(f"it says {rows} rows, but has only {len(numbers)} numbers")
    kept = np.zeros((rows, columns), dtype=bool)
    for i, row in enumerate(kept):
        if at >= len(numbers):
            raise _NoMatrix(f"it ends before row {i + 1} of {rows}")
        count = int(numbers[at])
        ones = numbers[at + 1 : at + 1 + count]
        if len(ones) < count:
            raise _NoMatrix(f"it ends within row {i + 1}, which has {count} ones")
        if count and not 1 <= ones.min() <= ones.max() <= columns:
            raise _NoMatrix(f"row {i + 1} lists a column outside 1 to {columns}")
        row[ones - 1] = True
        if np.count_nonzero(row) < count:
            raise _NoMatrix(f"row {i + 1} lists a column twice")
        at += 1 + count
    if at < len(numbers):
        raise _NoMatrix(f"{len(numbers) - at} numbers are left after row {rows}")
    return kept


def _dense(text: str) -> np.ndarray:
    """Lines of zeros and ones."""
    lines = [line for line in ("".join(line.split()) for line in text.splitlines()) if line]
    if not lines:
        raise _NoMatrix("it is empty")
    if len({len(line) for line in lines}) > 1:
        raise _NoMatrix("its lines are not equally long")
    return _bits("".join(lines), len(lines))


def _sized_dense(text: str) -> np.ndarray:
    """The numbers of rows and columns, then zeros and ones."""
    words = text.split(maxsplit=2)
    rows, columns = _head(_numbers(" ".join(words[:2])))
    rest = "".join(words[2].split()) if len(words) > 2 else ""
    if len(rest) != rows * columns:
        raise _NoMatrix(f"it has {len(rest)} digits after the numbers of rows and columns, not {rows} x {columns}")
    return _bits(rest, rows)


def _bits(digits: str, rows: int) -> np.ndarray:
    """Zeros and ones, row by row."""
    if set(digits) - {"0", "1"}:
        raise _NoMatrix("it has digits other than 0 and 1")
    return (np.frombuffer(digits.encode(), dtype=np.uint8) == ord("1")).reshape(rows, -1)


_FORMS = {
    "lists": _lists,
    "set covering": _set_covering,
    "dense": _dense,
    "dense behind a head": _sized_dense,
}
