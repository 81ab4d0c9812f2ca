"""Memory formats of tensors, told by their strides: a tensor of one channel is contiguous in either format."""

from __future__ import annotations

import torch


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the strides of a tensor are those of channels_last, and not those of a contiguous one.

    ``x.is_contiguous(memory_format=torch.channels_last)`` also holds for every contiguous tensor of one channel or one
    pixel.

    Examples
    --------
    >>> x = torch.ones(2, 1, 4, 4)
    >>> is_channels_last(x), is_channels_last(x.to(memory_format=torch.channels_last))
    (False, True)
    """
    if x.ndim != 4:
        return False
    _, channels, height, width = x.shape
    strides = (height * width * channels, 1, width * channels, channels)
    return x.stride() == strides != (channels * height * width, height * width, width, 1)


def has_adjacent_channels(x: torch.Tensor) -> bool:
    """Whether the channels of a pixel are neighbours in memory, as in channels_last tensors and slices of them.

    Examples
    --------
    >>> x = torch.ones(2, 8, 4, 4)
    >>> has_adjacent_channels(x[:, 2:5]), has_adjacent_channels(x.to(memory_format=torch.channels_last)[:, 2:5])
    (False, True)
    """
    return x.ndim == 4 and x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()
