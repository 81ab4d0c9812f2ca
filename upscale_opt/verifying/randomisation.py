"""Random networks that do not hide errors: statistics, affine parameters and biases are well-conditioned.

With purely random BatchNorm statistics, the signal of a deep network vanishes, explodes or saturates. Then rounding
noise grows until it hides everything else. So each layer is randomised in execution order, from the signal that reaches
it. Its statistics are those of the signal, jittered. Its weights are scaled to unit output variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from upscale_opt.models.double_precision import in_double_precision
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.outputs import clones

ROUNDING = 1e-9
"""Values below this, relative to the terms they are made of, may be rounding noise."""


def random_inputs(inputs: tuple[Any, ...], generator: torch.Generator, *, batch: int | None = 2) -> tuple[Any, ...]:
    """Random values for every tensor: normal float64 for floating-point tensors, the given range for integer tensors.

    Parameters
    ----------
    inputs
        Positional inputs, maybe nested. Inputs that are not tensors stay unchanged.
    generator
        Source of randomness, on the CPU.
    batch
        Length of the first axis of all tensors with as many samples as the first tensor. None: the given lengths.
    """

    def drawn(x: torch.Tensor) -> torch.Tensor:
        shape = x.shape if batch is None or x.ndim < 1 or x.shape[0] != size else (batch, *x.shape[1:])
        if x.is_floating_point():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(x.device)
        if x.dtype != torch.bool and x.numel():
            low, high = int(x.min()), int(x.max())
            return torch.randint(low, high + 1, shape, generator=generator, dtype=x.dtype).to(x.device)
        return x.expand(shape) if x.ndim > 0 and x.shape[1:] == shape[1:] and len(x) == 1 else x

    size = next((x.shape[0] for x in nested_tensors(inputs) if x.ndim > 1), 1)
    random: tuple[Any, ...] = map_tensors(drawn, inputs)
    return random


@torch.no_grad()
def randomise(
    model: nn.Module, inputs: tuple[Any, ...], generator: torch.Generator, statistics: Iterable[torch.Tensor] = ()
) -> None:
    """Give a float64 model in eval mode random biases, affine parameters and statistics, in place.

    This runs the model once. Zero weights stay zero, so a masked model stays masked.

    Parameters
    ----------
    model
        The model, in float64 and eval mode.
    inputs
        Inputs from `random_inputs`.
    generator
        Source of randomness, on the CPU.
    statistics
        Buffers that the model computes with directly, such as those of a frozen normalisation. They are jittered. Zeros
        become slightly larger, so no buffer gets a new negative entry.
    """
    for buffer in statistics:
        jittered = buffer * _uniform(buffer, 0.5, 1.5, generator)
        buffer.copy_(torch.where(buffer == 0, _uniform(buffer, 0, 0.2, generator), jittered))
    hooks = []
    for module in model.modules():
        bias, weight = getattr(module, "bias", None), getattr(module, "weight", None)
        if isinstance(bias, nn.Parameter):
            bias.copy_(_uniform(bias, -0.2, 0.2, generator))
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            for name, own in module.named_parameters(recurse=False):
                if name.startswith("bias"):
                    own.copy_(_uniform(own, -0.2, 0.2, generator))
        if isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) and isinstance(weight, nn.Parameter):
            weight.copy_(_uniform(weight, 0.5, 1.5, generator))
        if isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(_set_statistics_once(generator)))
        elif isinstance(module, (_ConvNd, nn.Linear)):
            hooks.append(module.register_forward_hook(_scale_once()))
    try:
        with in_double_precision():
            model(*clones(inputs))
    finally:
        for hook in hooks:
            hook.remove()


def _set_statistics_once(generator: torch.Generator) -> Callable[[Any, Any], None]:
    """A pre-hook. At the first call, the running statistics become those of the input, jittered."""
    pending = [True]

    @torch.no_grad()  # the network may compute gradients on the way
    def hook(module: Any, inputs: Any) -> None:
        if not pending or module.running_mean is None:
            return
        pending.clear()
        (x,) = inputs
        dims = [d for d in range(x.ndim) if d != 1]
        mean, var = x.mean(dims), x.var(dims, correction=0)
        floor = 0.1 * var.mean() + 1e-12
        spread = var.sqrt() + 1e-2 * (1 + mean.abs())
        module.running_mean.copy_(mean + spread * _uniform(mean, -0.3, 0.3, generator))
        module.running_var.copy_(var * _uniform(var, 0.5, 1.5, generator) + floor)

    return hook


def _scale_once() -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
    """A forward hook. At the first call, it scales the weight so that the output without bias has unit variance."""
    pending = [True]

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not pending:
            return output
        pending.clear()
        shape = [-1] + [1] * (module.weight.ndim - 2)  # with or without a batch axis
        bias = 0 if module.bias is None else module.bias.reshape(shape)
        scale = (output - bias).detach().std()
        size = max([1.0, *(float(x.abs().max()) for x in inputs if x.numel())])
        if not scale > ROUNDING * size * module.weight.abs().max():
            return output
        module.weight.data.div_(scale)  # not the parameter: the network may compute gradients on the way
        return (output - bias) / scale + bias

    return hook


def _uniform(like: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    values = torch.empty(like.shape, dtype=like.dtype).uniform_(low, high, generator=generator)
    return values.to(like.device)
