"""Output masks in the masked model: hooks that multiply the output of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Multiplication:
    """A forward hook that multiplies dropped channels by zero. Infinite values there become zero too.

    A NaN gradient stays NaN after a product, as in an export. A plain choice between the output and zero would hide it.

    Parameters
    ----------
    mask
        Boolean array, True = kept.
    axis
        The dimension of the output that holds the channels.

    Attributes
    ----------
    kept
        The mask. A check may replace it for a time: by a mask that keeps all channels, or by None for no product at
        all.
    """

    def __init__(self, mask: np.ndarray, axis: int) -> None:
        self.kept: np.ndarray | None = mask
        self._axis = axis

    def __call__(self, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """The output of the layer, with dropped channels set to zero."""
        if self.kept is None:
            return output
        shape = [-1 if d == self._axis else 1 for d in range(output.ndim)]
        nothing = 0 * output.nan_to_num() + 0.0  # `+ 0.0` avoids -0.0
        return torch.where(torch.from_numpy(self.kept).to(output.device).reshape(shape), output, nothing)


@contextmanager
def keeping_everything(multiplications: Sequence[Multiplication], *, multiply: bool) -> Iterator[None]:
    """A context where no channel is dropped: outputs are multiplied by one, or not multiplied."""
    masks = [own.kept for own in multiplications]
    try:
        for own, mask in zip(multiplications, masks, strict=True):
            own.kept = np.ones_like(mask) if multiply else None
        yield
    finally:
        for own, mask in zip(multiplications, masks, strict=True):
            own.kept = mask
