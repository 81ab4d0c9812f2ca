"""Writes: the modules with which an export adds the channels that a producer computes to some channels of a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn


class RangeAdd(nn.Module):
    """Adds a tensor to a contiguous range of channels of another tensor: ``x[:, a:b] += y``.

    If `inplace` is set, a call without gradients writes into `x` itself. Then nothing but the range is moved. A call
    that records gradients never writes into `x`, because the backward pass of an earlier reader needs its old values.

    Parameters
    ----------
    axis
        The axis of the channels.
    before, length, behind
        Number of channels of `x` before the range to which `y` is added, in it, and behind it.
    inplace
        Whether nothing else needs the old values of `x`, so that they may be overwritten.

    Attributes
    ----------
    pads
        Add the whole tensor ``pad(y)`` instead, for runtimes that have no additions to ranges (ONNX). Default False.
    """

    def __init__(self, axis: int, before: int, length: int, behind: int, inplace: bool = False) -> None:
        super().__init__()
        self.axis, self.inplace = axis, inplace
        self.before, self.length, self.behind = before, length, behind
        self.pads = False

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of `x`. `y` has `length` entries along `axis`."""
        if isinstance(x, fx.Proxy):
            return self._joined(x, y)
        if self.pads:
            return x + between_zeros(y, self.axis, self.before, self.behind)
        total = _target(x, y, self.inplace)
        total.narrow(self.axis, self.before, self.length).add_(y)
        return total

    def _joined(self, x: Any, y: Any) -> torch.Tensor:
        """The same in operators whose channels a trace can follow, so that an export can be exported again."""
        start, widths = 0, (self.before, self.length, self.behind)
        pieces = []
        for side, width in enumerate(widths):
            part = torch.narrow(x, self.axis, start, width)
            pieces += [part + y if side == 1 else part] if width else []
            start += width
        return torch.cat(pieces, self.axis)

    def extra_repr(self) -> str:
        """Return the text that `print` shows."""
        return f"axis={self.axis}, {self.before} + {self.length} + {self.behind}, inplace={self.inplace}"


class ScatterAdd(nn.Module):
    """Adds the channels of one tensor to the given channels of another tensor. This is a write that is not contiguous.

    Parameters
    ----------
    index
        int64, shape (number of written entries,): positions of these entries along the axis. A buffer that is not
        part of the state_dict.
    axis
        The axis of the channels.
    inplace
        As for `RangeAdd`.
    """

    index: torch.Tensor

    def __init__(self, index: torch.Tensor, axis: int, inplace: bool = False) -> None:
        super().__init__()
        self.axis, self.inplace = axis, inplace
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of `x`. `y` has len(index) entries along `axis`."""
        if isinstance(x, fx.Proxy):
            return x.index_add(self.axis, self.index, y)
        total = _target(x, y, self.inplace)
        return total.index_add_(self.axis, self.index, y.to(total.dtype))


@contextmanager
def padded_writes(module: nn.Module) -> Iterator[None]:
    """Let additions to ranges add padded tensors while a module is written as ONNX.

    ONNX has no addition in place. Of what `RangeAdd` does otherwise, one exporter of torch makes several transposes and
    a scatter of indices, and the other one forgets it without a word.
    """
    writes = [own for own in module.modules() if isinstance(own, RangeAdd)]
    before = [own.pads for own in writes]
    try:
        for own in writes:
            own.pads = True
        yield
    finally:
        for own, pads in zip(writes, before, strict=True):
            own.pads = pads


def between_zeros(y: Any, axis: int, before: int, behind: int) -> Any:
    """A copy of a tensor with zeros before and behind it along an axis."""
    return nn.functional.pad(y, padding_of(y.ndim, axis, before, behind))


def padding_of(ndim: int, axis: int, before: int, behind: int) -> list[int]:
    """The argument `pad` of `torch.nn.functional.pad` that pads one axis.

    Examples
    --------
    >>> padding_of(4, 1, 3, 5)
    [0, 0, 0, 0, 3, 5]
    """
    return [0, 0] * (ndim - 1 - axis) + [before, behind]


def _target(x: torch.Tensor, y: torch.Tensor, inplace: bool) -> torch.Tensor:
    """The tensor to add to: `x` itself if it may be overwritten in this call, otherwise a copy.

    It has the dtype of the sum. The two dtypes may differ under autocast.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    if x.dtype != dtype:
        return x.to(dtype)
    may = inplace and not torch.is_grad_enabled() and not x.requires_grad
    return x if may else x.clone()
