"""Selections: the modules that an export puts in front of a consumer to select its channels.

A view or an over-read is a ``narrow``. Pieces are a ``torch.cat`` of several ``narrow``. A copy is a `Gather`, which
keeps the memory format.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.models.memory_formats import is_stored_by_pixel


class Gather(nn.Module):
    """Selects channels along one axis, with the fastest gather that keeps the memory format.

    A channels_last tensor, or a slice of one, is gathered as a matrix of pixels by channels. ``index_select(1, ...)``
    is many times slower on such a tensor. It also returns a contiguous tensor without warning, so that all following
    operators lose the channels_last format.

    Parameters
    ----------
    index
        int64, shape (number of entries,): the selected entries of the axis, in order. A buffer that moves with the
        module. It is not part of the state_dict, because the plan holds it.
    axis
        The axis of the channels.
    """

    index: torch.Tensor

    def __init__(self, index: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the selected entries: `axis` has length len(index), and other axes are unchanged."""
        if isinstance(x, fx.Proxy):
            return self._joined(x)
        if self.axis == 1 and x.ndim == 4 and is_stored_by_pixel(x):
            batch, channels, height, width = x.shape
            pixels = x.permute(0, 2, 3, 1).reshape(-1, channels).index_select(1, self.index)
            return pixels.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        return x.index_select(self.axis, self.index)

    def _joined(self, x: Any) -> torch.Tensor:
        """Make the same selection of operators that torch.fx can trace, so that an export can be exported again."""
        index = self.index.cpu()
        runs = torch.tensor_split(index, (torch.nonzero(index.diff() != 1).flatten() + 1).tolist())
        pieces = [torch.narrow(x, self.axis, int(run[0]), len(run)) for run in runs]
        return torch.cat(pieces, self.axis)

    def extra_repr(self) -> str:
        """Return the text that `print` shows."""
        return f"num_selected={len(self.index)}, axis={self.axis}"


class Factor(nn.Module):
    """Sets the channels that a mask drops to zero, in cases where zeros in parameters do not have this effect.

    These channels become +0. A product with zero would turn negative values into -0, whose reciprocal is different.

    Parameters
    ----------
    kept
        bool per channel, in a shape that broadcasts. A buffer that is not part of the state_dict.
    """

    kept: torch.Tensor

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of `x`."""
        return torch.where(self.kept, x, 0)
