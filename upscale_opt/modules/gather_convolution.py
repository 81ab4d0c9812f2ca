"""A pointwise convolution that reads selected channels of its input. On a GPU it can do so without a copy of them.

`GatherConv2d` replaces a `Gather` followed by a 1 x 1 convolution. On CUDA devices, with Triton installed and no
gradient recorded, one kernel does both (`upscale_opt.modules.triton_kernels`). In all other cases the module runs a
gather and then a convolution.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from types import ModuleType
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.errors import UpscaleError
from upscale_opt.models.memory_formats import is_stored_by_pixel
from upscale_opt.modules.matrix_convolution import is_pointwise
from upscale_opt.modules.selections import Gather

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_COMPUTE_CAPABILITY = (8, 0)  # lowest one that Triton supports, https://github.com/triton-lang/triton#compatibility
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class GatherConv2d(nn.Conv2d):
    """``convolution(x.index_select(1, index))`` for a pointwise convolution, without the intermediate copy on CUDA.

    The kernel runs for 4-dimensional float32, float16 and bfloat16 tensors on CUDA devices of compute capability 8.0
    and above. No gradient may be recorded (call the module under ``torch.no_grad`` or ``torch.inference_mode``), and
    autocast must be off. The kernel sums in float32 and keeps the memory format of the input. It multiplies float32 in
    float32, unless ``torch.backends.cuda.matmul`` allows TF32. (cuDNN's convolutions use TF32 by default.)

    The first call with a shape tunes the kernel on the device. Run a warm-up before you capture a CUDA graph, as
    always.

    A BatchNorm and a ReLU may stand between the selection and the convolution (`with_prologue`). In eval mode the
    kernel does their work, too.

    In all other cases the module runs a `Gather`, these modules, and a convolution. It also does so while
    torch.jit, torch.fx, torch.export or ONNX record it, so that the recorded program needs no Triton. torch.compile
    sees the kernel as an operator.

    Parameters
    ----------
    index
        int64, shape (number of selected channels,): the selected channels of the input, in any order. Channels may
        repeat. The index moves with the module, but is not part of its state_dict.
    out_channels
        Number of output channels.
    bias
        Whether there is a bias.
    device, dtype
        Device and dtype of the parameters, as in ``nn.Conv2d``.

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
        self._prologue: tuple[nn.Module, ...] = ()
        self._has_relu = False
        self.selection = Gather(index.to(device), axis=1)
        self._last_channel = int(index.max())

    @classmethod
    def from_convolution(cls, convolution: nn.Conv2d, index: torch.Tensor) -> GatherConv2d:
        """Build the module from a convolution. The parameters are shared, not copied.

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

    def with_prologue(self, norm: nn.BatchNorm2d, relu: nn.Module | bool = False) -> GatherConv2d:
        """Let the selected channels pass through a BatchNorm, and perhaps a ReLU, before the convolution.

        The modules stay where they are registered: this module only refers to them. So their names in a state_dict do
        not change, and whoever moves or converts this module alone does not move or convert them.

        Parameters
        ----------
        norm
            A BatchNorm2d with as many features as channels are selected.
        relu
            An nn.ReLU, True for a ReLU that is no module, or False.

        Returns
        -------
        GatherConv2d
            The module itself.

        Raises
        ------
        UpscaleError
            If the modules are others, or the numbers of channels differ.
        """
        if type(norm) is not nn.BatchNorm2d or norm.num_features != self.in_channels:
            raise UpscaleError(f"give an nn.BatchNorm2d of {self.in_channels} features; this is {norm}")
        if not isinstance(relu, bool) and type(relu) is not nn.ReLU:
            raise UpscaleError(f"give an nn.ReLU, True or False; this is {relu}")
        self._prologue = (norm,) if isinstance(relu, bool) else (norm, relu)
        self._has_relu = relu is not False
        return self

    @property
    def index(self) -> torch.Tensor:
        """Channels of the input that the module reads: int64, shape (in_channels,)."""
        return self.selection.index

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return a tensor of shape (batch, out_channels, height, width). `input` has all channels."""
        kernels = _kernels() if self._fuses(input) else None
        if kernels is None:
            selected = self.selection(input)
            for module in self._prologue:
                selected = module(selected)
            if self._has_relu and len(self._prologue) == 1:
                selected = torch.relu(selected)
            return self._conv_forward(selected, self.weight, self.bias)
        norm, eps, relu = list(self._norm_tensors()), self._eps, self._has_relu
        arguments = (input, self.weight, self.bias, self.index, is_stored_by_pixel(input), norm, eps, relu)
        if torch.compiler.is_compiling():
            return torch.ops.upscale_opt.gather_convolution(*arguments)
        with torch.cuda.device_of(input):
            return kernels.convolve(*arguments)

    def _norm_tensors(self) -> tuple[torch.Tensor, ...]:
        """Mean, variance, weight and bias of the BatchNorm, as far as it has them; empty without one."""
        if not self._prologue:
            return ()
        norm: Any = self._prologue[0]
        found = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return tuple(tensor for tensor in found if tensor is not None)

    @property
    def _eps(self) -> float:
        norm: Any = self._prologue[0] if self._prologue else None
        return float(norm.eps) if norm is not None else 0.0

    def _has_plain_prologue(self) -> bool:
        """Whether the kernel can do what the modules in front of the convolution do now, without hooks on them."""
        if not self._prologue:
            return True
        norm: Any = self._prologue[0]
        hooked = any(own._forward_hooks or own._forward_pre_hooks for own in self._prologue)
        return not norm.training and norm.running_mean is not None and not hooked

    def _fuses(self, x: torch.Tensor) -> bool:
        """Whether the kernel supports this input, and no tool is recording the operators.

        Whether Triton is installed is checked elsewhere (`_kernels`).
        """
        if isinstance(x, fx.Proxy) or not (x.is_cuda or _INTERPRETED) or _is_recording():
            return False
        norm = self._norm_tensors()
        tensors = (x, self.weight, self.index, *norm, *(() if self.bias is None else (self.bias,)))
        return (
            self._has_plain_prologue()
            and type(x) in (torch.Tensor, nn.Parameter)
            and x.ndim == 4
            and x.numel() > 0
            and x.shape[1] > self._last_channel
            and x.dtype in _DTYPES
            and self.weight.dtype == x.dtype
            and all(tensor.dtype in (x.dtype, torch.float32) for tensor in norm)
            and all(tensor.device == x.device for tensor in tensors)
            and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
            and not torch.is_autocast_enabled(x.device.type)
            and (torch.compiler.is_compiling() or _is_capable(x.device))
        )

    def extra_repr(self) -> str:
        """Return the text that `print` shows."""
        return f"{super().extra_repr()}, num_selected={len(self.index)}"


def is_fused_on(device: torch.device) -> bool:
    """Whether gather and convolution run as one kernel on a device."""
    return device.type == "cuda" and _HAS_TRITON and torch.cuda.get_device_capability(device) >= _COMPUTE_CAPABILITY


def _kernels() -> ModuleType | None:
    """Return the module with the kernels, or None without Triton."""
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
    """Whether a tool is following the single operators, to record, transform or count them."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() or _INTERPRETED
    return (
        torch.jit.is_tracing()
        or torch.compiler.is_exporting()
        or torch.onnx.is_in_onnx_export()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )
