"""Random networks that an error cannot hide in: statistics, affine parameters and biases that are well-conditioned.

Purely random BatchNorm statistics let the signal of a deep network vanish, explode or saturate; then rounding noise
grows until nothing can be told from it. Here each layer is randomised in execution order, on the signal that reaches
it: the statistics are those of that signal, jittered, and weights are scaled to unit output variance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


def random_inputs(inputs: tuple[Any, ...], generator: torch.Generator) -> tuple[Any, ...]:
    """Two random float64 samples of every floating-point tensor; other inputs are kept as they are."""
    random = []
    for x in inputs:
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            shape = (2, *x.shape[1:]) if x.ndim > 1 else x.shape
            x = torch.randn(shape, generator=generator, dtype=torch.float64).to(x.device)
        random.append(x)
    return tuple(random)


def randomise(model: nn.Module, inputs: tuple[Any, ...], generator: torch.Generator) -> None:
    """Give a float64 model in eval mode random biases, affine parameters and statistics, in place.

    Runs the model once. Zero weights stay zero, so a masked model stays masked.

    Parameters
    ----------
    model
        In float64 and eval mode.
    inputs
        As `random_inputs` makes them.
    generator
        Source of randomness, on the CPU.
    """
    hooks = []
    for module in model.modules():
        bias, weight = getattr(module, "bias", None), getattr(module, "weight", None)
        if isinstance(bias, nn.Parameter):
            bias.copy_(_uniform(bias, -0.2, 0.2, generator))
        if isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) and isinstance(weight, nn.Parameter):
            weight.copy_(_uniform(weight, 0.5, 1.5, generator))
        if isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(_set_statistics_once(generator)))
        elif isinstance(module, (_ConvNd, nn.Linear)):
            hooks.append(module.register_forward_hook(_scale_once()))
    model(*(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs))
    for hook in hooks:
        hook.remove()


def _set_statistics_once(generator: torch.Generator) -> Callable[[Any, Any], None]:
    """A pre-hook: at the first call the running statistics become those of the input, jittered."""
    pending = [True]

    def hook(module: Any, inputs: Any) -> None:
        if not pending or module.running_mean is None:
            return
        pending.clear()
        (x,) = inputs
        dims = [d for d in range(x.ndim) if d != 1]
        mean, var = x.mean(dims), x.var(dims, correction=0)
        floor = 1e-2 * var.mean() + 1e-12
        module.running_mean.copy_(mean + var.sqrt() * _uniform(mean, -0.3, 0.3, generator))
        module.running_var.copy_(var * _uniform(var, 0.5, 1.5, generator) + floor)

    return hook


def _scale_once() -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
    """A forward hook: at the first call the weight is scaled so that the output, bias apart, has unit variance."""
    pending = [True]

    def hook(module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not pending:
            return output
        pending.clear()
        shape = [1, -1] + [1] * (output.ndim - 2) if isinstance(module, _ConvNd) else [-1]
        bias = 0 if module.bias is None else module.bias.reshape(shape)
        scale = (output - bias).std()
        if not scale > 0:
            return output
        module.weight.div_(scale)
        return (output - bias) / scale + bias

    return hook


def _uniform(like: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    values = torch.empty(like.shape, dtype=like.dtype).uniform_(low, high, generator=generator)
    return values.to(like.device)
