"""The exact alternative to AdaPrune: ridge least squares on unfolded inputs, restricted to the kept channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import watched

RIDGE = 1e-4
"""Default weight of the ridge, relative to the mean of the diagonal of X'X."""


@dataclass(frozen=True, eq=False)
class Moments:
    """The moments of a layer's inputs and outputs that least squares needs.

    Attributes
    ----------
    gram
        X'X over all images and positions, float64 of shape (d, d) with d = columns x kernel. X has the unfolded inputs.
    power
        Sum of squares of the dense outputs, with bias.
    """

    gram: torch.Tensor
    power: float

    def error(self, weight: torch.Tensor, dense: torch.Tensor) -> float:
        """||Y - layer(X; weight)||^2 / ||Y||^2."""
        gap = (dense - weight).flatten(1).double().to(self.gram.device)
        return float(((gap @ self.gram) * gap).sum().clamp(min=0)) / max(self.power, 1e-30)

    def penalised_error(self, weight: torch.Tensor, dense: torch.Tensor, ridge: float = RIDGE) -> float:
        """The objective of `solve`, divided by ||Y||^2. It never decreases if more channels are dropped."""
        gap = float((dense - weight).double().square().sum())
        return self.error(weight, dense) + self.epsilon(ridge) * gap / max(self.power, 1e-30)

    def epsilon(self, ridge: float) -> float:
        """The ridge as a number: a share of the mean of the diagonal, never 0."""
        return max(ridge * float(self.gram.diagonal().mean()), 1e-12)

    def solve(self, dense: torch.Tensor, kept: np.ndarray, ridge: float = RIDGE) -> torch.Tensor:
        """The weight V that minimises ||Y - X V||^2 + eps ||V - W||^2, zero outside the kept columns. W is the dense
        weight.

        The ridge pulls V towards the dense weight, not towards zero. So for any eps, the error of V is at most that of
        W with dropped columns. A layer whose inputs are all zero keeps its weights.

        Parameters
        ----------
        dense
            The dense weight W, shape (outputs, columns, *kernel).
        kept
            The columns to keep; bool of shape (columns,).
        ridge
            eps relative to the mean of the diagonal of X'X.
        """
        flat = dense.flatten(1).double().to(self.gram.device)
        entries = torch.from_numpy(np.repeat(kept, flat.shape[1] // len(kept))).to(self.gram.device)
        rows = self.gram[entries]
        inner = rows[:, entries].clone()
        inner.diagonal().add_(self.epsilon(ridge))
        # With all terms of W on the right side: (G_KK + eps) V = G_KA W + eps W_K.
        right = rows @ flat.T + self.epsilon(ridge) * flat[:, entries].T
        found = solved(inner, right)
        result = torch.zeros_like(flat)
        result[:, entries] = found.T
        return result.reshape(dense.shape).to(dense)


def moments_of(
    dense: nn.Module, names: Iterable[str], data: CalibrationData, *, batch_size: int = 32
) -> dict[str, Moments]:
    """The moments of layers, from one run of the dense model over all images.

    Memory: 8 d^2 bytes per layer, 170 MB for a 3x3 convolution of 512 channels.
    """
    grams: dict[str, torch.Tensor] = {}
    powers: dict[str, float] = {}

    def look(name: str, module: Any, x: torch.Tensor, y: torch.Tensor) -> None:
        rows = unfolded(module, x).double()
        grams[name] = grams[name].addmm_(rows.T, rows) if name in grams else rows.T @ rows
        powers[name] = powers.get(name, 0.0) + float(y.double().square().sum())

    with watched(dense, names, look), torch.no_grad():
        for inputs, _ in data.batches(batch_size):
            dense(*inputs)
    return {name: Moments(gram, powers[name]) for name, gram in grams.items()}


def solved(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The V with gram V = right, for a symmetric matrix without negative eigenvalues; the smallest, if several fit."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not int(failed):
        return torch.cholesky_solve(right, factor)
    # lstsq is no way out: its driver on the CPU (gelsy) misses the least error if columns are zero.
    return torch.linalg.pinv(gram, hermitian=True) @ right


def unfolded(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The unfolded inputs: one row per image and position, one column per kernel entry, with channels outermost."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    padding: Any = module.padding
    if isinstance(padding, str):  # "same", which may be uneven, or "valid"
        x, padding = functional.pad(x, module._reversed_padding_repeated_twice), 0
    columns = functional.unfold(x, module.kernel_size, module.dilation, padding, module.stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])
