"""Least squares of one layer from sums of products, with a ridge that other images choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from upscale_opt.spdy.least_squares import solved

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridges that are tried, relative to the mean of the diagonal of X'X."""


class Moments:
    """Sums of products of the rows of X and Y.

    Parameters
    ----------
    with_bias
        Whether a bias is fitted, too.
    """

    def __init__(self, with_bias: bool) -> None:
        self.with_bias, self.number = with_bias, 0
        self.gram: Any = 0.0
        self.cross: Any = 0.0
        self.sum_x: Any = 0.0
        self.sum_y: Any = 0.0

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in rows, float64 of shape (rows, columns) and (rows, outputs)."""
        self.number += len(x)
        self.gram = self.gram + x.T @ x
        self.cross = self.cross + x.T @ y
        self.sum_x, self.sum_y = self.sum_x + x.sum(0), self.sum_y + y.sum(0)

    def __add__(self, other: Moments) -> Moments:
        """The moments of the rows of both."""
        both = Moments(self.with_bias)
        for name in ("number", "gram", "cross", "sum_x", "sum_y"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def solve(self, dense: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight V, shape (outputs, columns), and the bias, if there is one.

        V minimises ``||Y - X V'||^2 + eps ||V - W||^2``. It is W if the fit is no better.

        Parameters
        ----------
        dense
            W, float64 of shape (outputs, columns).
        ridge
            eps relative to the mean of the diagonal of X'X.
        """
        gram, cross, mean = self.gram, self.cross, self.sum_x / self.number
        if self.with_bias:
            gram = gram - self.number * torch.outer(mean, mean)
            cross = cross - torch.outer(mean, self.sum_y)
        epsilon = max(ridge * float(gram.diagonal().mean()), 1e-12)
        gram = gram.clone()
        gram.diagonal().add_(epsilon)
        right = cross + epsilon * dense.T
        found = solved(gram, right)
        if not _gain(found, gram, right) >= _gain(dense.T, gram, right):  # also if it is not finite
            found = dense.T
        bias = self.sum_y / self.number - found.T @ mean if self.with_bias else None
        return found.T, bias

    def error(self, weight: torch.Tensor, bias: torch.Tensor | None) -> float:
        """``||Y - X V' - b||^2`` of these rows without its constant ``||Y||^2``."""
        value = _gain(weight.T, self.gram, self.cross)
        if bias is not None:
            value -= float(2 * bias @ (weight @ self.sum_x - self.sum_y) + self.number * bias @ bias)
        return -value


def best_ridge(parts: Sequence[Moments], dense: torch.Tensor) -> float:
    """The ridge whose fit to one half of the images errs least on the other half, both ways round.

    Parameters
    ----------
    parts
        Moments of the two halves.
    dense
        The dense weight, float64 of shape (outputs, columns).
    """
    first, second = parts
    errors = [second.error(*first.solve(dense, ridge)) + first.error(*second.solve(dense, ridge)) for ridge in RIDGES]
    return RIDGES[min(range(len(RIDGES)), key=errors.__getitem__)]


def _gain(weight: torch.Tensor, gram: torch.Tensor, right: torch.Tensor) -> float:
    """What a weight gains over zeros: minus the objective, but for a constant."""
    return float((weight * (2 * right - gram @ weight)).sum())
