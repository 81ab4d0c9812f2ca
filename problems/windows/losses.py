"""What a stream loses per channel if some pairs of a writer and a reader are cut: second moments of scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from problems.conversions import booleans, finite_numbers
from problems.errors import ProblemError
from problems.showing.reprs import shown

REMEMBERED_BYTES = 2**28
"""Most bytes of losses that one `ChannelLosses` remembers."""

CHUNK_BYTES = 2**26
"""Bytes of an intermediate array, beyond which work is done channel by channel in chunks."""

DEFINITENESS = 1e-9
"""How far below zero a loss may be because sums are rounded, as a share of the sum of a channel's squared scores."""


@shown
@dataclass(frozen=True, eq=False)
class ChannelLosses:
    """Second moments of the pairs' scores, channel by channel.

    A pair's score is what the loss of the network loses, to first order, if the pair's writer and reader do not both
    hold the channel. The loss of a channel is the mean over images of the squared sum of the scores of the pairs that
    are cut: ``sum over p, q of x_p x_q E[s_p s_q]`` with ``x_p = 1`` where pair p is cut.

    Parameters
    ----------
    moments
        Shape (pairs * (pairs + 1) / 2, channels), float64, units of squared scores: ``E[s_p s_q]`` for p <= q in the
        order of ``numpy.triu_indices(pairs)``. Use `from_scores` or `from_matrices` to make them. Read-only.

    Raises
    ------
    ProblemError
        If the shape fits no number of pairs, a number is not finite, or the moments of a channel are those of no
        scores (their matrix is not positive semidefinite).

    Notes
    -----
    Memory: 8 * channels * pairs * (pairs + 1) / 2 bytes. With 20 accesses (100 pairs) and 2048 channels these are
    83 MB, however many images there were.

    Examples
    --------
    >>> losses = ChannelLosses.from_scores([[[1.0], [2.0]], [[3.0], [-2.0]]])  # 2 images, 2 pairs, 1 channel
    >>> losses.of_cut([[False, False], [True, False], [True, True]]).ravel().tolist()
    [0.0, 5.0, 5.0]
    """

    moments: np.ndarray

    def __post_init__(self) -> None:
        moments = finite_numbers(self.moments, "moments")
        if moments.ndim != 2 or moments.shape[1] < 1:
            raise ProblemError(f"moments have shape {moments.shape}; give (products of pairs, channels)")
        moments.flags.writeable = False
        object.__setattr__(self, "moments", moments)
        if self.num_pairs * (self.num_pairs + 1) // 2 != len(moments):
            raise ProblemError(
                f"moments have {len(moments)} rows, which is pairs * (pairs + 1) / 2 for no number of pairs"
            )
        self._require_definite()

    @classmethod
    def from_scores(cls, scores: Any) -> ChannelLosses:
        """The moments of scores that were measured image by image.

        Parameters
        ----------
        scores
            Shape (images, pairs, channels). Pairs are in the order of `WindowProblem.pairs`.

        Raises
        ------
        ProblemError
            If there is no image, or the shape is another.
        """
        scores = finite_numbers(scores, "scores")
        if scores.ndim != 3 or not len(scores):
            raise ProblemError(f"scores have shape {scores.shape}; give (images, pairs, channels), at least one image")
        images, pairs, channels = scores.shape
        rows, columns = np.triu_indices(pairs)
        moments = np.empty((len(rows), channels))
        for own in chunks(channels, 8 * pairs * (pairs + images)):
            part = np.ascontiguousarray(scores[:, :, own].transpose(2, 1, 0))
            with np.errstate(over="ignore"):
                gram = part @ part.transpose(0, 2, 1) / images
            moments[:, own] = gram[:, rows, columns].T
        return cls(moments)

    @classmethod
    def from_matrices(cls, matrices: Any) -> ChannelLosses:
        """The moments of one symmetric matrix per channel, shape (channels, pairs, pairs): ``E[s_p s_q]``.

        Raises
        ------
        ProblemError
            If the shape is another, or a matrix is not symmetric.
        """
        matrices = finite_numbers(matrices, "matrices")
        if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
            raise ProblemError(f"matrices have shape {matrices.shape}; give (channels, pairs, pairs)")
        if not np.allclose(matrices, matrices.transpose(0, 2, 1), rtol=1e-9, atol=0):
            raise ProblemError("matrices of moments must be symmetric; give E[s_p s_q] in both places")
        rows, columns = np.triu_indices(matrices.shape[1])
        return cls(matrices[:, rows, columns].T)

    @cached_property
    def num_pairs(self) -> int:
        """Number of pairs of a writer and a later reader."""
        return int((np.sqrt(8 * len(self.moments) + 1) - 1) / 2 + 0.5)

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.moments.shape[1]

    @cached_property
    def rows(self) -> np.ndarray:
        """Per row of the moments, the lower pair of its product."""
        return np.triu_indices(self.num_pairs)[0]

    @cached_property
    def columns(self) -> np.ndarray:
        """Per row of the moments, the higher pair of its product."""
        return np.triu_indices(self.num_pairs)[1]

    @cached_property
    def total(self) -> np.ndarray:
        """Per channel what is lost if all pairs are cut, shape (channels,)."""
        return self._computed(np.ones((1, self.num_pairs), dtype=bool))[0]

    def of_cut(self, cut: Any) -> np.ndarray:
        """Losses of all channels under some sets of cut pairs.

        Parameters
        ----------
        cut
            Boolean, shape (sets, pairs).

        Returns
        -------
        np.ndarray
            Shape (sets, channels). What was asked for before is remembered, up to `REMEMBERED_BYTES`, so that a loop
            over prices computes no loss twice.

        Raises
        ------
        ProblemError
            If the shape is another.
        """
        cut = booleans(cut, "the cut pairs")
        if cut.ndim != 2 or cut.shape[1] != self.num_pairs:
            raise ProblemError(f"the cut pairs have shape {cut.shape}; give (sets, {self.num_pairs} pairs)")
        keys = [row.tobytes() for row in np.packbits(cut, axis=1)]
        remembered = self._remembered
        new = {key: i for i, key in enumerate(keys) if key not in remembered}
        if new:
            if 8 * self.num_channels * (len(remembered) + len(new)) > REMEMBERED_BYTES:
                wanted = {key: remembered[key] for key in keys if key in remembered}
                remembered.clear()
                remembered.update(wanted)
            remembered.update(zip(new, self._computed(cut[list(new.values())])))
        return np.array([remembered[key] for key in keys]).reshape(len(cut), self.num_channels)

    @cached_property
    def _remembered(self) -> dict[bytes, np.ndarray]:
        return {}

    def _computed(self, cut: np.ndarray) -> np.ndarray:
        weights = np.where(self.rows == self.columns, 1.0, 2.0)
        parts = [
            ((cut[own][:, self.rows] & cut[own][:, self.columns]) * weights) @ self.moments
            for own in chunks(len(cut), 8 * (2 * len(weights) + self.num_channels))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.num_channels))

    def _require_definite(self) -> None:
        pairs = self.num_pairs
        diagonal = self.moments[self.rows == self.columns]
        shift = DEFINITENESS * diagonal.sum(axis=0) + np.finfo(float).tiny
        for own in chunks(self.num_channels, 8 * pairs * pairs):
            matrices = np.zeros((len(shift[own]), pairs, pairs))
            matrices[:, self.columns, self.rows] = self.moments[:, own].T
            matrices[:, np.arange(pairs), np.arange(pairs)] += shift[own, np.newaxis]
            try:
                np.linalg.cholesky(matrices)
            except np.linalg.LinAlgError as error:
                raise ProblemError(
                    "the moments of a channel are those of no scores (not positive semidefinite); give means of "
                    "products of scores over the same images"
                ) from error


def chunks(count: int, bytes_each: int) -> list[slice]:
    """Slices that cover `count` items, of which each takes some bytes."""
    size = max(1, CHUNK_BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
