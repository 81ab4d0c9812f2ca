"""A 1x1 convolution as a matrix product. It reads a slice of channels without a copy, for all batch sizes and formats.

PyTorch's convolution first makes a slice of channels contiguous if there are several samples, or if the tensor is in
channels_last. This is a hidden copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.checks import described
from upscale_opt.errors import ModelError


def is_pointwise(module: nn.Module) -> bool:
    """Whether a module is a 1x1 convolution with one group and no padding, so that `MatrixConv2d` can replace it."""
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, MatrixConv2d):
        return False
    return module.kernel_size == (1, 1) and module.groups == 1 and module.padding in ((0, 0), "valid", "same")


class MatrixConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` with a 1x1 kernel, one group and no padding, computed as a matrix product.

    The output has the memory format of the input. With a stride, the module first selects the pixels, which copies
    them (a quarter of the input at stride 2). For inputs without a batch axis it calls `torch.nn.Conv2d`.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> MatrixConv2d:
        """Build the module from a convolution. Both share parameters and hooks and have the same training mode.

        Raises
        ------
        ModelError
            If the convolution is not pointwise (`is_pointwise`).
        """
        if not is_pointwise(convolution):
            raise ModelError(f"{described(convolution)} is no 1x1 convolution of one group; give one (is_pointwise)")
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.__dict__.update(convolution.__dict__)
        return made

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map shape (batch, in_channels, height, width) to (batch, out_channels, height, width).

        A stride reduces height and width.
        """
        if input.ndim != 4:
            return super().forward(input)
        x: Any = input
        rows, columns = self.stride
        if self.stride != (1, 1):
            x = x[:, :, ::rows, ::columns]
        matrix = self.weight.flatten(1)
        if x.stride(1) == 1 and x.shape[1] > 1:
            return nn.functional.linear(x.permute(0, 2, 3, 1), matrix, self.bias).permute(0, 3, 1, 2)
        batch, _, height, width = x.shape
        # `matmul` would merge the batch with the pixels, and copy the slice for this.
        matrices = matrix.expand(batch, -1, -1)
        if self.bias is None:
            return torch.bmm(matrices, x.flatten(2)).unflatten(2, (height, width))
        return torch.baddbmm(self.bias[:, None], matrices, x.flatten(2)).unflatten(2, (height, width))
