"""A pointwise convolution that reads chosen channels of its input without a copy of them, where a GPU can do that.

`GatherConv2d` stands for a `Gather` followed by a 1 x 1 convolution. On CUDA devices, with Triton installed and no
gradient wanted, both are one kernel (`upscale_opt.modules.triton_kernels`); everywhere else they are just that.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from types import ModuleType

import torch
from torch import fx, nn

from upscale_opt.errors import UpscaleError
from upscale_opt.models.memory_formats import is_stored_by_pixel
from upscale_opt.modules.matrix_convolution import is_pointwise
from upscale_opt.modules.selections import Gather

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_COMPUTE_CAPABILITY = (8, 0)  # what Triton supports, https://github.com/triton-lang/triton#compatibility
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class GatherConv2d(nn.Conv2d):
    """``convolution(x.index_select(1, index))`` for a pointwise convolution, with no copy in between on CUDA.

    The kernel sums in float32 and keeps the memory format of the input; float32 is multiplied in float32 unless
    ``torch.backends.cuda.matmul`` allows TF32 (unlike in cuDNN's convolutions, which use TF32 by default). The first
    call of a shape tunes the kernel on the device, so a CUDA graph is captured after a warm-up, as always. It runs
    for 4-dimensional float32, float16 and bfloat16 tensors on CUDA devices of compute capability 8.0 and above, where
    no gradient is recorded (call the module under ``torch.no_grad`` or ``torch.inference_mode``) and autocast is off.

    Otherwise, and while torch.jit, torch.fx, torch.export or ONNX record the module, it is a `Gather` and a
    convolution, so that what they record needs no Triton. torch.compile sees the kernel as an operator.

    Parameters
    ----------
    index
        int64, shape (number of selected channels,): which channels of the input, in any order, also repeated. It moves
        with the module but is not part of its state_dict.
    out_channels
        Number of output channels.
    bias
        Whether there is one.
    device, dtype
        Of the parameters, as in ``nn.Conv2d``.

    Raises
    ------
    UpscaleError
        If `index` is not a vector of channel numbers.

    Examples
    --------
    >>> x = torch.arange(12.0).reshape(1, 3, 2, 2)
    >>> convolution = GatherConv2d(torch.tensor([2, 0]), 1, bias=False)
    >>> _ = nn.init.ones_(convolution.weight)
    >>> convolution(x).tolist()
    [[[[8.0, 10.0], [12.0, 14.0]]]]
    """

    def __init__(
        self,
        index: torch.Tensor,
        out_channels: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if index.dtype != torch.int64 or index.ndim != 1 or not len(index) or int(index.min()) < 0:
            raise UpscaleError("the index of a GatherConv2d must be a non-empty int64 vector of channels from 0 on")
        super().__init__(len(index), out_channels, 1, bias=bias, device=device, dtype=dtype)
        self.selection = Gather(index.to(device), axis=1)
        self._last_channel = int(index.max())

    @classmethod
    def from_convolution(cls, convolution: nn.Conv2d, index: torch.Tensor) -> GatherConv2d:
        """The same parameters (shared, not copied) behind a selection.

        Parameters
        ----------
        convolution
            A pointwise convolution whose weight has one column per entry of `index`.
        index
            int64, shape (convolution.in_channels,).

        Raises
        ------
        UpscaleError
            If the convolution is not pointwise or does not fit the index.
        """
        if type(convolution) is not nn.Conv2d or not is_pointwise(convolution) or convolution.stride != (1, 1):
            raise UpscaleError(
                "only a plain nn.Conv2d with a 1 x 1 kernel, stride 1, no padding and one group can select its input; "
                f"put a Gather in front of {convolution}"
            )
        if len(index) != convolution.in_channels:
            raise UpscaleError(
                f"the index selects {len(index)} channels and the convolution reads {convolution.in_channels}; "
                "slice its weight to the columns of the index first"
            )
        built = cls(index, convolution.out_channels, bias=convolution.bias is not None, device="meta")
        built.selection = Gather(index.to(convolution.weight.device), axis=1)
        built.weight, built.bias = convolution.weight, convolution.bias
        return built.train(convolution.training)

    @property
    def index(self) -> torch.Tensor:
        """int64, shape (in_channels,): the channels of the input that are read."""
        return self.selection.index

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Shape (batch, out_channels, height, width), of an `input` with all channels."""
        kernels = _kernels() if self._fuses(input) else None
        if kernels is None:
            return self._conv_forward(self.selection(input), self.weight, self.bias)
        arguments = (input, self.weight, self.bias, self.index, is_stored_by_pixel(input))
        if torch.compiler.is_compiling():
            return torch.ops.upscale_opt.gather_convolution(*arguments)
        with torch.cuda.device_of(input):
            return kernels.convolve(*arguments)

    def _fuses(self, x: torch.Tensor) -> bool:
        """Whether the kernel could read this input, were it there, and nobody needs to see what it does."""
        if isinstance(x, fx.Proxy) or not (x.is_cuda or _INTERPRETED) or _is_recording():
            return False
        tensors = (x, self.weight, self.index) if self.bias is None else (x, self.weight, self.index, self.bias)
        return (
            type(x) in (torch.Tensor, nn.Parameter)
            and x.ndim == 4
            and x.numel() > 0
            and x.shape[1] > self._last_channel
            and x.dtype in _DTYPES
            and self.weight.dtype == x.dtype
            and all(tensor.device == x.device for tensor in tensors)
            and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
            and not torch.is_autocast_enabled(x.device.type)
            and (torch.compiler.is_compiling() or _is_capable(x.device))
        )

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{super().extra_repr()}, num_selected={len(self.index)}"


def is_fused_on(device: torch.device) -> bool:
    """Whether gather and convolution are one kernel on a device."""
    return device.type == "cuda" and _HAS_TRITON and torch.cuda.get_device_capability(device) >= _COMPUTE_CAPABILITY


def _kernels() -> ModuleType | None:
    """The module of the kernels, or None without Triton."""
    if not _HAS_TRITON:
        return None
    try:
        from upscale_opt.modules import triton_kernels
    except ImportError:
        return None
    return triton_kernels


@functools.cache
def _is_capable(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= _COMPUTE_CAPABILITY


def _is_recording() -> bool:
    """Whether somebody follows the operators one by one, to write them down, transform or count them."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() or _INTERPRETED
    return (
        torch.jit.is_tracing()
        or torch.compiler.is_exporting()
        or torch.onnx.is_in_onnx_export()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )
