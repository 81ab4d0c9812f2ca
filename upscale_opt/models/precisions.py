"""Precisions in which networks compute: the dtype, and whether CUDA devices may round float32 to TF32.

This module also rescales random weights so that values fit float16. The dtype belongs to the model. TF32 is a setting
of torch for the whole process. By default cuDNN's convolutions use TF32 and matrix products do not. The two ways to
compute a 1x1 convolution then differ in precision, and not only in their kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from upscale_opt.errors import ModelError
from upscale_opt.models.outputs import tensors

FLOAT32, TF32, FLOAT16, BFLOAT16 = "float32", "tf32", "float16", "bfloat16"
PRECISIONS = (FLOAT32, TF32, FLOAT16, BFLOAT16)
"""Names of precisions. On a GPU, `float32` switches TF32 off in convolutions and matrix products, `tf32` on."""
TENSOR_CORES = (8, 0)
"""Lowest compute capability with TF32 and bfloat16."""
SMALLEST, LARGEST = 2.0**-4, 2.0**8
"""Allowed range of the largest value of a layer's output. Outside of it, random weights are rescaled for float16."""
MOST_PASSES = 8
_SETTINGS = {(False, False): "off", (True, False): "convolutions", (False, True): "products", (True, True): "on"}


def dtype_of(precision: str) -> torch.dtype:
    """Return the dtype of a precision.

    Raises
    ------
    ModelError
        If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"there is no dtype {precision!r}; choose one of {', '.join(PRECISIONS)}")
    found: torch.dtype = torch.float32 if precision == TF32 else getattr(torch, precision)
    return found


def settle(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision on a device. On CUDA, also switch TF32 on or off for the whole process.

    Raises
    ------
    ModelError
        If the device does not support the precision, or another setting of torch overrides the choice of TF32.
    """
    dtype = dtype_of(precision)
    if device.type != "cuda":
        if precision == TF32:
            raise ModelError(f"tf32 needs a CUDA device, and this is {device.type}; choose float32")
        return dtype
    if precision in (TF32, BFLOAT16) and torch.cuda.get_device_capability(device) < TENSOR_CORES:
        name = torch.cuda.get_device_name(device)
        raise ModelError(
            f"{precision} needs compute capability 8.0, which {name} does not have; choose float32 or float16"
        )
    torch.backends.cuda.matmul.allow_tf32 = precision == TF32
    torch.backends.cudnn.allow_tf32 = precision == TF32
    found, wanted = tf32_setting(device, dtype), "on" if precision == TF32 else "off"
    if dtype is torch.float32 and found != wanted:
        raise ModelError(f"TF32 is {found} and not {wanted}: torch.backends.fp32_precision says so; set that to 'none'")
    return dtype


def tf32_setting(device: torch.device, dtype: torch.dtype) -> str:
    """Say where float32 is rounded to TF32: `on`, `off`, `convolutions` or `products`.

    The result is empty for other dtypes and for devices without CUDA.
    """
    if device.type != "cuda" or dtype is not torch.float32:
        return ""
    backends: Any = torch.backends
    cudnn = backends.cudnn
    convolutions = _is_tf32(cudnn.conv.fp32_precision, cudnn.fp32_precision, backends.fp32_precision)
    return _SETTINGS[convolutions, _is_tf32(backends.cuda.matmul.fp32_precision, backends.fp32_precision)]


def in_precision(
    model: nn.Module, x: torch.Tensor, precision: str, *, random_weights: bool
) -> tuple[nn.Module, torch.Tensor, tuple[str, ...]]:
    """Convert a float32 model (in place) and its input to a precision. Return both, and notes for the user.

    For float16, random weights are first rescaled layer by layer if the values of a layer would not fit float16.

    Parameters
    ----------
    model
        In eval mode, in float32, on the device of the input.
    x
        Its input.
    precision
        One of `PRECISIONS`.
    random_weights
        Whether the weights are random. Only then may they be rescaled.

    Raises
    ------
    ModelError
        If the device does not support the precision, or the model does not run in it.
    """
    dtype = settle(precision, x.device)
    if dtype is torch.float32:
        return model, x, ()
    notes: tuple[str, ...] = ()
    if dtype is torch.float16 and random_weights:
        number = _rescaled(model, (x,))
        if number:
            notes = (f"random weights of {number} layers are rescaled: their values would not fit float16",)
    model, x = model.to(dtype), x.to(dtype)
    finite = _runs_finitely(model, (x,), precision)
    if not finite:
        notes = (*notes, f"outputs in {precision} are not finite: latencies can be measured, values not be compared")
    return model, x, notes


def rescale(model: nn.Module, example_inputs: Sequence[Any]) -> int:
    """Rescale weights in place so that the values of every layer fit float16. Return the number of rescaled layers.

    If the largest value of a layer's output lies outside `SMALLEST` to `LARGEST`, the layer's weight and bias are
    divided by that value. In the same pass, later layers already get the divided output. Values that are too small
    are rescaled as well: a comparison of outputs that are all zero says nothing.

    Parameters
    ----------
    model
        In eval mode.
    example_inputs
        Its positional inputs.
    """
    changed: set[str] = set()
    done: set[str] = set()

    def fitted(name: str) -> Any:
        def hook(layer: nn.Module, _inputs: Any, output: Any) -> Any:
            if name in done or not isinstance(output, torch.Tensor) or not output.numel():
                return output
            top = float(output.abs().max())
            if not 0 < top < float("inf") or SMALLEST <= top <= LARGEST:
                return output
            for tensor in (layer.weight, layer.bias):
                if tensor is not None:
                    tensor.data.div_(top)  # type: ignore[operator]
            changed.add(name)
            done.add(name)  # at most once in a pass
            return output / top

        return hook

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, _LAYERS)}
    hooks = [layer.register_forward_hook(fitted(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for _ in range(MOST_PASSES):
                done.clear()
                model(*example_inputs)
                if not done:
                    break
    finally:
        for own in hooks:
            own.remove()
    return len(changed)


def _rescaled(model: nn.Module, example_inputs: Sequence[Any]) -> int:
    """Call `rescale`. A model that does not run gives 0; `_runs_finitely` reports its error afterwards."""
    try:
        return rescale(model, example_inputs)
    except Exception:  # a network may raise anything
        return 0


_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def _runs_finitely(model: nn.Module, example_inputs: Sequence[Any], precision: str) -> bool:
    """Whether all outputs are finite.

    Raises
    ------
    ModelError
        If the model does not run.
    """
    try:
        with torch.inference_mode():
            found = tensors(model(*example_inputs))
    except Exception as error:  # a network may raise anything
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the model does not run in {precision} ({reason}); choose another --dtype") from error
    return all(bool(torch.isfinite(own).all()) for own in found if own.is_floating_point())


def _is_tf32(*settings: str) -> bool:
    """Whether the first setting other than ``none`` is ``tf32``."""
    return next((own for own in settings if own != "none"), "ieee") == "tf32"
