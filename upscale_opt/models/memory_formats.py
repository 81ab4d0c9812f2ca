"""Memory formats of tensors, found from their strides.

`torch.Tensor.is_contiguous` does not suffice: a tensor of one channel is contiguous in both formats.
"""

from __future__ import annotations

import torch


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether a tensor is stored pixel by pixel, in channels_last and not in the usual format.

    ``x.is_contiguous(memory_format=torch.channels_last)`` is also true for every contiguous tensor of one channel or
    one pixel. For these tensors the strides show which format is meant.

    Examples
    --------
    >>> x = torch.ones(2, 1, 4, 4)
    >>> is_channels_last(x), is_channels_last(x.to(memory_format=torch.channels_last))
    (False, True)
    """
    if x.ndim != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    _, channels, height, width = x.shape
    if not x.is_contiguous():
        return True
    return x.stride(1) == 1 if height * width > 1 else channels > 1 and x.stride(3) == channels


def memory_format_of(x: torch.Tensor) -> torch.memory_format:
    """Return ``torch.channels_last`` if a tensor is in that format, else ``torch.contiguous_format``."""
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def is_stored_by_pixel(x: torch.Tensor) -> bool:
    """Whether the channels of a pixel lie closer together than the pixels.

    This holds for channels_last tensors and for slices of them.

    Parameters
    ----------
    x
        Shape (batch, channels, height, width).

    Examples
    --------
    >>> x = torch.ones(2, 8, 4, 4)
    >>> is_stored_by_pixel(x[:, 2:5]), is_stored_by_pixel(x.to(memory_format=torch.channels_last)[:, 2:5])
    (False, True)
    """
    return x.stride(1) < x.stride(3) and x.stride(1) < x.stride(2)
