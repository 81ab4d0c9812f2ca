"""The consecutive-ones test: can the classes of a block be ordered so that every row is one contiguous range?

The method of Fulkerson and Gross ("Incidence matrices and interval graphs", Pacific J. Math. 15, 1965): rows that
overlap properly determine each other's place up to reversal; groups of such rows nest or are disjoint.
"""

from __future__ import annotations

import numpy as np

from solvers.common.rows import merged_classes


def extended_rows(bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Express rows that must touch an end of the block as plain rows, with virtual classes at the ends.

    A row open from the start also keeps a virtual class ``L``, one open until the end a virtual class ``R``; the
    row "all but L" forces L to an end, "all but R" forces R to one.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows).
    left, right
        bool, shape (num_rows,).

    Returns
    -------
    np.ndarray
        bool, shape (num_classes + v, num_rows + v) with v = 0, 1 or 2 virtual classes, L before R, and their rows.

    Examples
    --------
    >>> extended_rows(np.array([[1], [0]], dtype=bool), np.array([True]), np.array([False])).astype(int).tolist()
    [[1, 1], [0, 1], [1, 0]]
    """
    ends = [end for end in (left, right) if end.any()]
    num_classes, num_rows = bits.shape
    extended = np.zeros((num_classes + len(ends), num_rows + len(ends)), dtype=bool)
    extended[:num_classes, :num_rows] = bits
    for v, end in enumerate(ends):
        extended[num_classes + v, :num_rows] = end
        extended[:, num_rows + v] = True
        extended[num_classes + v, num_rows + v] = False
    return extended


def consecutive_order(bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """An order of the classes that makes every row contiguous, or None if there is none.

    Parameters as in `extended_rows`; a row that is `left` must also touch the first place, one that is `right` the
    last. Rows that keep nothing are ignored.

    Returns
    -------
    np.ndarray or None
        int, shape (num_classes,): classes from left to right.

    Examples
    --------
    >>> bits = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> consecutive_order(bits, free, free).tolist()
    [0, 2, 1]
    >>> consecutive_order(bits, np.array([True, True]), free) is None
    True
    """
    extended = extended_rows(bits, left, right)
    _, merged, parts = merged_classes(np.ones(len(extended), dtype=np.int64), extended)
    num_rows = merged.shape[1]
    if np.count_nonzero(merged.any(axis=1)) > 2 * num_rows - 1 and num_rows:
        return None
    rows = [_as_mask(merged[:, r]) for r in range(num_rows)]
    components = []
    for group in _overlap_components([row for row in rows if row]):
        cells = _cells(group)
        if cells is None:
            return None
        components.append(cells)
    sequence = np.concatenate([parts[s] for s in _nested(components, len(merged))])
    if (left.any() and sequence[-1] == len(bits)) or (right.any() and not left.any() and sequence[0] == len(bits)):
        sequence = sequence[::-1]
    return sequence[sequence < len(bits)]


def _as_mask(column: np.ndarray) -> int:
    return int.from_bytes(np.packbits(column, bitorder="little").tobytes(), "little")


def _overlap_components(rows: list[int]) -> list[list[int]]:
    """Groups of rows connected by proper overlap, each listed so that a row overlaps one before it."""
    waiting, components = list(dict.fromkeys(rows)), []
    while waiting:
        group = [waiting.pop(0)]
        for row in group:
            touched = [other for other in waiting if row & other and row & ~other and other & ~row]
            group.extend(touched)
            gone = set(touched)
            waiting = [other for other in waiting if other not in gone] if gone else waiting
        components.append(group)
    return components


def _cells(group: list[int]) -> list[int] | None:
    """The forced sequence of cells (masks of classes) of overlapping rows; None if there is none."""
    cells, union = [group[0]], group[0]
    for row in group[1:]:
        outside = row & ~union
        touched = [i for i, cell in enumerate(cells) if cell & row]
        first, last = touched[0], touched[-1]
        if outside:
            if last != len(cells) - 1 or (first != last and cells[last] & ~row):
                cells.reverse()
                touched = [len(cells) - 1 - i for i in reversed(touched)]
                first, last = touched[0], touched[-1]
            if last != len(cells) - 1:
                return None
        if last - first + 1 != len(touched):
            return None
        interior = range(first + 1, len(cells) if outside else last)
        if any(cells[i] & ~row for i in interior):
            return None
        split = [cells[first] & ~row, cells[first] & row]
        if outside:
            middle = split + cells[first + 1 :] + [outside]
        elif first == last:
            return None
        else:
            middle = split + cells[first + 1 : last] + [cells[last] & row, cells[last] & ~row] + cells[last + 1 :]
        cells = [cell for cell in cells[:first] + middle if cell]
        union |= row
    return cells


def _nested(components: list[list[int]], num_classes: int) -> list[int]:
    """Put components into the cells that contain them and read the classes off from left to right."""
    everything = (1 << num_classes) - 1
    unions = [sum(cells) for cells in components]
    by_size = sorted(range(len(components)), key=lambda i: (-unions[i].bit_count(), len(components[i])))
    inside: dict[tuple[int, int], list[int]] = {}
    placed: list[int] = []
    for i in by_size:
        home = (-1, 0)
        for j in placed:
            for k, cell in enumerate(components[j]):
                if unions[i] & ~cell == 0:
                    home = (j, k)
        inside.setdefault(home, []).append(i)
        placed.append(i)

    def read(home: tuple[int, int], cell: int) -> list[int]:
        classes: list[int] = []
        for i in inside.get(home, []):
            for k, part in enumerate(components[i]):
                classes.extend(read((i, k), part))
            cell &= ~unions[i]
        while cell:
            lowest = cell & -cell
            classes.append(lowest.bit_length() - 1)
            cell ^= lowest
        return classes

    return read((-1, 0), everything)
