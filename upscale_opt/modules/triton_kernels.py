"""A Triton kernel of a pointwise convolution that selects its input channels, normalises and activates them.

It writes neither a gathered nor a normalised tensor to memory.

Triton is optional, so `upscale_opt.modules.gather_convolution` imports this module only when it needs the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch.library import triton_op, wrap_triton
from triton import language as tl
from triton.runtime.jit import JITFunction
from triton.testing import do_bench


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    index: torch.Tensor,
    channels_last: bool,
    norm: Sequence[torch.Tensor] = (),
    eps: float = 0.0,
    relu: bool = False,
) -> torch.Tensor:
    """Compute ``conv2d(relu(batch_norm(x.index_select(1, index))), weight, bias)`` in one kernel launch.

    Sums are in float32. What the convolution reads is rounded to the dtype of `x`, as if it were written to memory.

    Arguments are not checked. An index outside the channels of `x` reads memory outside the tensor.

    Parameters
    ----------
    x
        float32, float16 or bfloat16, shape (batch, channels, height, width), any strides, not empty.
    weight
        The same dtype, shape (output channels, len(index), 1, 1).
    bias
        The same dtype, shape (output channels,), or None.
    index
        int64, shape (input channels of the convolution,): channels of `x`, in any order. Channels may repeat.
    channels_last
        Whether the result, of shape (batch, output channels, height, width), is in channels_last.
    norm, eps
        Mean and variance, or mean, variance, weight and bias of a BatchNorm in eval mode, each of shape (len(index),),
        and what it adds to the variance. Empty: no normalisation.
    relu
        Whether negative values become 0 in front of the convolution.
    """
    out, grid, arguments, constants = _launch(x, weight, bias, index, channels_last, norm, eps, relu)
    _tuned_kernel[grid](*arguments, **constants)
    return out


@triton_op("upscale_opt::gather_convolution", mutates_args=())
def gather_convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    index: torch.Tensor,
    channels_last: bool,
    norm: Sequence[torch.Tensor],
    eps: float,
    relu: bool,
) -> torch.Tensor:
    """Run `convolve` as an operator whose Triton kernel is visible to torch.compile."""
    out, grid, arguments, constants = _launch(x, weight, bias, index, channels_last, norm, eps, relu)
    wrap_triton(_tuned_kernel)[grid](*arguments, **constants)
    return out


def _launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    index: torch.Tensor,
    channels_last: bool,
    norm: Sequence[torch.Tensor],
    eps: float,
    relu: bool,
) -> tuple[torch.Tensor, Callable[[dict[str, int]], tuple[int]], tuple[Any, ...], dict[str, Any]]:
    """Return the output tensor, the grid, the arguments of the kernel and its constants.

    Pixels have up to three indices: (outer, inner, pixel). The strides of both tensors decide which axes can be merged.
    A block of pixels lies within one pair (outer, inner), so fewer axes mean fewer partly empty blocks.
    """
    batch, _, height, width = x.shape
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty((batch, len(weight), height, width), dtype=x.dtype, device=x.device, memory_format=layout)
    tensors = (x, out)
    rows_join = all(t.stride(2) == width * t.stride(3) for t in tensors)
    if rows_join and all(t.stride(0) == height * t.stride(2) for t in tensors):
        outer, inner, pixels = 1, 1, batch * height * width
    elif rows_join:
        outer, inner, pixels = batch, 1, height * width
    else:
        outer, inner, pixels = batch, height, width
    total = batch * height * width
    given: list[torch.Tensor | None] = [*norm, None, None, None, None]
    mean, variance, scale, shift = given[:4]
    arguments = (
        *(x, weight, bias, index, out),
        *(mean, variance, scale, shift, eps),
        *(len(weight), len(index), inner, pixels, 0 if isinstance(total, torch.SymInt) else total.bit_length()),
        *(stride for t in tensors for stride in (t.stride(0), t.stride(2), t.stride(1), t.stride(3))),
        *(weight.stride(0), weight.stride(1)),
    )
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"

    def grid(meta: dict[str, int]) -> tuple[int]:
        tiles = triton.cdiv(len(weight), meta["BLOCK_OUTPUTS"]) * triton.cdiv(pixels, meta["BLOCK_PIXELS"])
        return (tiles * outer * inner,)

    constants = {
        "HAS_BIAS": bias is not None,
        "HAS_NORM": mean is not None,
        "HAS_AFFINE": scale is not None,
        "RELU": relu,
        "PRECISION": precision,
    }
    return out, grid, arguments, constants


@triton.jit(do_not_specialize=["size"])
def _kernel(  # type: ignore[no-untyped-def]
    x,
    weight,
    bias,
    index,
    out,
    mean,
    variance,
    scale,
    shift,
    eps,
    num_outputs,
    num_channels,
    num_inner,
    num_pixels,
    size,  # bit length of the total number of pixels, so that the tuning runs once per power of two
    x_outer,
    x_inner,
    x_channel,
    x_pixel,
    out_outer,
    out_inner,
    out_channel,
    out_pixel,
    weight_output,
    weight_channel,
    HAS_BIAS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_AFFINE: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Compute one block of outputs by pixels. Neighbours in the grid read the same pixels, which stay in the cache."""
    program = tl.program_id(0)
    num_output_blocks = tl.cdiv(num_outputs, BLOCK_OUTPUTS)
    num_pixel_blocks = tl.cdiv(num_pixels, BLOCK_PIXELS)
    row = program // (num_output_blocks * num_pixel_blocks)
    outer = (row // num_inner).to(tl.int64)
    inner = (row % num_inner).to(tl.int64)
    output = program % num_output_blocks * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    pixel = program // num_output_blocks % num_pixel_blocks * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    is_output = output < num_outputs
    is_pixel = pixel < num_pixels

    x_pixels = x + outer * x_outer + inner * x_inner + pixel.to(tl.int64)[None, :] * x_pixel
    weight_rows = weight + output[:, None] * weight_output
    total = tl.zeros((BLOCK_OUTPUTS, BLOCK_PIXELS), dtype=tl.float32)
    for start in range(0, num_channels, BLOCK_CHANNELS):
        column = start + tl.arange(0, BLOCK_CHANNELS)
        is_column = column < num_channels
        channel = tl.load(index + column, mask=is_column, other=0)
        values = tl.load(
            x_pixels + channel[:, None] * x_channel, mask=is_column[:, None] & is_pixel[None, :], other=0.0
        )
        if HAS_NORM:
            # Columns beyond the last one are multiplied by weights of zero, so their values only have to be finite.
            deviation = tl.sqrt(tl.load(variance + column, mask=is_column, other=1.0).to(tl.float32) + eps)
            centre = tl.load(mean + column, mask=is_column, other=0.0).to(tl.float32)
            normal = (values.to(tl.float32) - centre[:, None]) / deviation[:, None]
            if HAS_AFFINE:
                slope = tl.load(scale + column, mask=is_column, other=0.0).to(tl.float32)
                offset = tl.load(shift + column, mask=is_column, other=0.0).to(tl.float32)
                normal = normal * slope[:, None] + offset[:, None]
            values = normal.to(x.dtype.element_ty)
        if RELU:
            values = tl.where(values < 0, 0.0, values).to(x.dtype.element_ty)
        weights = tl.load(
            weight_rows + column[None, :] * weight_channel, mask=is_output[:, None] & is_column[None, :], other=0.0
        )
        total = tl.dot(weights, values, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)[:, None]

    out_pixels = out + outer * out_outer + inner * out_inner + pixel.to(tl.int64)[None, :] * out_pixel
    tl.store(
        out_pixels + output.to(tl.int64)[:, None] * out_channel,
        total.to(out.dtype.element_ty),
        mask=is_output[:, None] & is_pixel[None, :],
    )


def _config(outputs: int, pixels: int, channels: int, warps: int, stages: int) -> triton.Config:
    blocks = {"BLOCK_OUTPUTS": outputs, "BLOCK_PIXELS": pixels, "BLOCK_CHANNELS": channels}
    return triton.Config(blocks, num_warps=warps, num_stages=stages)


_CONFIGS = [
    _config(32, 32, 32, 2, 4),
    _config(32, 128, 32, 4, 4),
    _config(64, 64, 32, 4, 4),
    _config(128, 64, 32, 4, 4),
    _config(64, 128, 64, 4, 3),
    _config(128, 128, 32, 8, 3),
]


def _milliseconds(call: Callable[[], Any], quantiles: Sequence[float]) -> list[float]:
    """Time one configuration. The measurement is shorter than Triton's default, because a network has many shapes."""
    return do_bench(call, warmup=5, rep=20, quantiles=quantiles)


# Triton's interpreter has nothing to time, so it gets only one configuration.
_tuned_kernel = triton.autotune(
    configs=_CONFIGS if isinstance(_kernel, JITFunction) else _CONFIGS[:1],
    key=["num_outputs", "num_channels", "size", "x_pixel", "HAS_NORM"],
    do_bench=_milliseconds,
)(_kernel)
