"""The second check of a random network: its masked model's outputs and gradients, by nothing that makes an export."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from benchmarks.random_networks.program import Program
from upscale_opt import Exported


class Oracle:
    """The masked model's outputs on inputs of its own; shares nothing with `upscale_opt.verification`.

    Parameters
    ----------
    program
        The network, for inputs.
    model
        The network as the export was made from.
    masks
        What every consumer keeps.
    outputs
        Path of a module to what is kept of its output channels.
    """

    def __init__(
        self,
        program: Program,
        model: nn.Module,
        masks: Mapping[str, np.ndarray],
        outputs: Mapping[str, tuple[np.ndarray, int]],
    ) -> None:
        masked = copy.deepcopy(model).double()
        for path, (kept, axis) in outputs.items():
            masked.get_submodule(path).register_forward_hook(functools.partial(_zero_dropped, kept, axis))
        for name, mask in masks.items():
            weight, axis = tensor_of(masked, name).data, input_axis(masked, name)
            for column in range(weight.shape[axis]):
                if not mask[column]:
                    weight.select(axis, column).zero_()
        batch = program.batch if program.fixed_batch else 3
        self._inputs = [
            x.double() if x.is_floating_point() else x
            for x in program.example_inputs(batch, seed=program.seed % 97 + 1)
        ]
        self._masked = masked
        self._seed = program.seed % 89
        self._expected, self._structure = tree_flatten(self._run(masked))

    @functools.cached_property
    def noise(self) -> float:
        """How much the output changes, relatively, if every parameter changes by a few units in the last place.

        The largest change in ten tries: a sign that rounding decides stays what it is in half of them.
        """
        generator, changes = torch.Generator().manual_seed(1), [0.0]
        for _ in range(10):
            shaken = copy.deepcopy(self._masked)
            with torch.no_grad():
                for parameter in shaken.parameters():
                    parameter.mul_(1 + 1e-15 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            changes += [_difference(a, b) for a, b in zip(tree_flatten(self._run(shaken))[0], self._expected)]
        return max(changes)

    def error(self, exported: Exported) -> float:
        """Largest difference of an output, relative to the output's largest value; infinite if shapes differ."""
        found, structure = tree_flatten(self._run(copy.deepcopy(exported.module).double()))
        if structure != self._structure:
            return float("inf")
        return max((_difference(a, b) for a, b in zip(found, self._expected)), default=0.0)

    @functools.cached_property
    def _gradients(self) -> dict[str, torch.Tensor | None] | None:
        """Of one random loss, for every parameter that has one; None where autograd refuses, or not finite."""
        try:
            found = self._differentiate(self._masked)
        except RuntimeError:
            return None
        finite = all(bool(own.isfinite().all()) for own in found.values() if own is not None)
        return found if finite else None

    def gradient_error(self, exported: Exported) -> float:
        """Largest difference of a parameter's gradient, relative to all gradients; infinite where only one has one.

        0 where the masked model has no gradients at all.
        """
        expected = self._gradients
        if expected is None:
            return 0.0
        found = self._differentiate(copy.deepcopy(exported.module).double())
        scale = max([1e-30, *(float(own.abs().max()) for own in expected.values() if own is not None and own.numel())])
        worst = 0.0
        for name, gradient in found.items():
            wanted, piece = expected.get(name), exported.slices.get(name)
            if wanted is None or gradient is None:
                # Autograd leaves out what reaches the loss in no way, which may be zero everywhere instead.
                only = gradient if wanted is None else wanted if piece is None else piece.of(wanted)
                worst = max(worst, 0.0 if only is None or not only.any() else float("inf"))
                continue
            difference = (gradient - (wanted if piece is None else piece.of(wanted))).abs()
            worst = max(worst, float(difference.max()) / scale if difference.numel() else 0.0)
        return worst

    @functools.cached_property
    def gradient_noise(self) -> float:
        """As `noise`, for gradients."""
        generator, changes = torch.Generator().manual_seed(1), [0.0]
        expected = self._gradients or {}
        scale = max([1e-30, *(float(own.abs().max()) for own in expected.values() if own is not None and own.numel())])
        for _ in range(10):
            shaken = copy.deepcopy(self._masked)
            with torch.no_grad():
                for parameter in shaken.parameters():
                    parameter.mul_(1 + 1e-15 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            found = self._differentiate(shaken)
            pairs = [(found[name], own) for name, own in expected.items() if own is not None and own.numel()]
            changes += [float((a - b).abs().max()) / scale for a, b in pairs if a is not None]
        return max(changes)

    def _differentiate(self, module: nn.Module) -> dict[str, torch.Tensor | None]:
        """The gradients of the sum of all outputs, weighted at random."""
        module.zero_grad()
        outputs = tree_flatten(module.eval()(*[x.clone() for x in self._inputs]))[0]
        generator = torch.Generator().manual_seed(self._seed)
        terms = [
            (y * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum()
            for y in outputs
            if isinstance(y, torch.Tensor)
        ]
        loss = torch.stack(terms).sum()
        if loss.requires_grad:
            loss.backward()
        return {name: parameter.grad for name, parameter in module.named_parameters()}

    def _run(self, module: nn.Module) -> Any:
        with torch.no_grad():
            return module.eval()(*[x.clone() for x in self._inputs])


def _zero_dropped(kept: np.ndarray, axis: int, _module: Any, _inputs: Any, output: Any) -> Any:
    """A forward hook: dropped output channels become zero."""
    result = output.clone()
    for channel in np.flatnonzero(~kept).tolist():
        result.select(axis, channel).zero_()
    return result


def tensor_of(module: nn.Module, name: str) -> Any:
    """A parameter or buffer by its qualified name."""
    return functools.reduce(getattr, name.split("."), module)


def input_axis(module: nn.Module, weight: str) -> int:
    """The dimension of a weight that its inputs are on."""
    owner = tensor_of(module, weight.rpartition(".")[0]) if "." in weight else module
    return 0 if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) else 1


def _difference(a: Any, b: Any) -> float:
    if not isinstance(b, torch.Tensor):
        return 0.0 if a == b else float("inf")
    if a.shape != b.shape:
        return float("inf")
    # Values are of order 1: what is far below is rounding noise, of sums that cancel.
    return (a - b).abs().max().item() / max(b.abs().max().item(), 1e-4)
