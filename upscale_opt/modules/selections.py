"""Selections: what an export puts in front of a consumer to hand it its channels.

A view or an over-read is a ``narrow``, pieces are a ``torch.cat`` of some; a copy is a `Gather`, which keeps
the memory format.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.models.memory_formats import is_stored_by_pixel


class Gather(nn.Module):
    """Selects channels along one axis, by the fastest gather that keeps the memory format.

    A channels_last tensor, or a slice of one, is gathered as a matrix of pixels by channels: ``index_select(1, ...)``
    on it is many times slower and silently returns a contiguous tensor, which spoils the format for everything that
    follows.

    Parameters
    ----------
    index
        int64, shape (number of entries,): which entries of the axis, in order. A buffer that moves with the module
        but is not part of its state_dict, since the plan holds it.
    axis
        Which axis.
    """

    index: torch.Tensor

    def __init__(self, index: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., len(index), ...) with `axis` selected."""
        if isinstance(x, fx.Proxy):
            return self._joined(x)
        if self.axis == 1 and x.ndim == 4 and is_stored_by_pixel(x):
            batch, channels, height, width = x.shape
            pixels = x.permute(0, 2, 3, 1).reshape(-1, channels).index_select(1, self.index)
            return pixels.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        return x.index_select(self.axis, self.index)

    def _joined(self, x: Any) -> torch.Tensor:
        """The same selection in operators that can be traced, so that an export can be exported again."""
        index = self.index.cpu()
        runs = torch.tensor_split(index, (torch.nonzero(index.diff() != 1).flatten() + 1).tolist())
        pieces = [torch.narrow(x, self.axis, int(run[0]), len(run)) for run in runs]
        return torch.cat(pieces, self.axis)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"num_selected={len(self.index)}, axis={self.axis}"


class ScatterAdd(nn.Module):
    """Adds some channels to those of another tensor that they belong to: a write that is not contiguous.

    Parameters
    ----------
    index
        int64, shape (number of entries written,): their places along the axis. A buffer outside the state_dict.
    axis
        Which axis.
    """

    index: torch.Tensor

    def __init__(self, index: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Shape of `x`; `y` has len(index) entries along `axis`."""
        return x.index_add(self.axis, self.index, y)


class Factor(nn.Module):
    """Makes channels zero that a mask drops, where parameters cannot.

    They become +0: a product with zero would leave -0 of negative values, whose reciprocal is another one.

    Parameters
    ----------
    kept
        bool per channel, in a shape that broadcasts. A buffer outside the state_dict.
    """

    kept: torch.Tensor

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape of `x`."""
        return torch.where(self.kept, x, 0)
