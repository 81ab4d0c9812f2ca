"""Masks of outputs in the masked model: hooks that multiply what a layer puts out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Multiplication:
    """A forward hook: channels that a mask drops are multiplied by zero; what is infinite there becomes zero, too.

    A gradient that is NaN stays NaN behind a product, as it does in an export; a choice of tensors would hide it.

    Parameters
    ----------
    mask
        Boolean array, True = kept.
    axis
        The dimension of the output that the channels are on.

    Attributes
    ----------
    kept
        The mask, or another one while somebody looks what the multiplication itself does. None: nothing is multiplied.
    """

    def __init__(self, mask: np.ndarray, axis: int) -> None:
        self.kept: np.ndarray | None = mask
        self._axis = axis

    def __call__(self, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """What the layer puts out, of which dropped channels are zero."""
        if self.kept is None:
            return output
        shape = [-1 if d == self._axis else 1 for d in range(output.ndim)]
        nothing = 0 * output.nan_to_num() + 0.0  # and never -0.0
        return torch.where(torch.from_numpy(self.kept).to(output.device).reshape(shape), output, nothing)


@contextmanager
def keeping_everything(multiplications: Sequence[Multiplication], *, multiply: bool) -> Iterator[None]:
    """No channel is dropped inside: every output is multiplied by one, or by nothing."""
    masks = [own.kept for own in multiplications]
    try:
        for own, mask in zip(multiplications, masks, strict=True):
            own.kept = np.ones_like(mask) if multiply else None
        yield
    finally:
        for own, mask in zip(multiplications, masks, strict=True):
            own.kept = mask
