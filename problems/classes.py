"""Signature classes: stored channels that the same readers keep. An order may treat them alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.showing.reprs import shown


@shown
@dataclass(frozen=True, eq=False)
class Classes:
    """The signature classes of a problem: stored channels of one block that the same readers keep.

    Channels of a class are interchangeable. For the objectives of `problems.evaluation`, some optimal order keeps
    every class contiguous (docs/model.md). Nothing moves in a pinned block. There a class is a maximal run of equal
    signature instead, and the classes are listed in their fixed order.

    Attributes
    ----------
    block
        int, shape (num_classes,): the block of each class; classes are grouped by block, in block order.
    weight
        int, shape (num_classes,): number of channels in each class.
    signature
        bool, shape (num_classes, num_readers): ``signature[s, r]`` says that reader r keeps class s.
    members
        One int array per class: its channels, ascending.
    """

    block: np.ndarray
    weight: np.ndarray
    signature: np.ndarray
    members: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.members)

    def of_block(self, block: int) -> np.ndarray:
        """Indices of the classes of one block, ascending."""
        return np.flatnonzero(self.block == block)


def class_labels(bits: np.ndarray) -> np.ndarray:
    """Label equal rows equally, labels in order of first appearance; shape (num_rows,)."""
    if len(bits) == 0:
        return np.zeros(0, dtype=np.int64)
    packed = np.ascontiguousarray(np.packbits(bits, axis=1)) if bits.shape[1] else np.zeros((len(bits), 1), np.uint8)
    rows = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def run_labels(bits: np.ndarray) -> np.ndarray:
    """Label maximal runs of equal consecutive rows 0, 1, 2, ...; shape (num_rows,)."""
    changes = (bits[1:] != bits[:-1]).any(axis=1)
    return np.concatenate([[0], np.cumsum(changes)])
