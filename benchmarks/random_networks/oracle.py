"""The masked model and its outputs and gradients, computed without any code of `upscale_opt.verifying`.

The entries of an export's parameters are matched with the model's by their values. This is possible because parameters
are random, and an export copies them. An entry that is zero is kept at zero by a mask, or was always zero.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from benchmarks.random_networks.program import Program

TOLERANCE = 1e-9
NUM_TRIES = 10
Gradients = dict[str, np.ndarray | None]


class Oracle:
    """The masked model's outputs and gradients on inputs of its own.

    Parameters
    ----------
    program
        The network, for inputs.
    model
        The network from which the export was made.
    masks
        Per consumer, its mask.
    outputs
        Per path of a module, the mask of its output channels, and their axis.
    """

    def __init__(
        self,
        program: Program,
        model: nn.Module,
        masks: Mapping[str, np.ndarray],
        outputs: Mapping[str, tuple[np.ndarray, int]],
    ) -> None:
        self._model, self._cut_off, self._call_with = model, tuple(outputs), program.call_with
        masked = _copied(model).double()
        for path, (kept, axis) in outputs.items():
            masked.get_submodule(path).register_forward_hook(functools.partial(_zero_dropped, kept, axis))
        self._values = {name: _values(p) for name, p in masked.named_parameters(remove_duplicate=False)}
        self._dropped = {
            name: (input_axis(program, masked, name), np.flatnonzero(~mask).tolist()) for name, mask in masks.items()
        }
        for name, (axis, columns) in self._dropped.items():
            for column in columns:
                tensor_of(masked, name).data.select(axis, column).zero_()
        batch = program.batch if program.fixed_batch else 3
        self._inputs = [
            x.double() if x.is_floating_point() else x
            for x in program.example_inputs(batch, seed=program.seed % 97 + 1)
        ]
        self._masked = masked
        self._expected, self._structure = tree_flatten(self._run(masked))

    @functools.cached_property
    def noise(self) -> float:
        """Relative change of the output if every parameter changes by a few units in the last place.

        It is the largest change in ten tries: a sign that depends on rounding does not change in half of them.
        """
        generator, changes = torch.Generator().manual_seed(1), [0.0]
        for _ in range(NUM_TRIES):
            found = tree_flatten(self._run(self._shaken(generator)))[0]
            changes += [_difference(a, b) for a, b in zip(found, self._expected, strict=True)]
        return max(changes)

    def error(self, module: nn.Module) -> float:
        """Largest difference of an output, relative to the output's largest value; infinite if shapes differ.

        Parameters
        ----------
        module
            The module of an export, in float64.
        """
        found, structure = tree_flatten(self._run(module))
        if structure != self._structure:
            return float("inf")
        return max((_difference(a, b) for a, b in zip(found, self._expected, strict=True)), default=0.0)

    def gradient_error(self, module: nn.Module) -> tuple[float, str] | None:
        """Largest difference of gradients, relative to the largest entry, and its parameter; None without gradients.

        Infinite if an entry of a parameter is not in the model, or an entry that is kept at zero has a gradient.

        Parameters
        ----------
        module
            As for `error`.
        """
        expected = self._gradients_of_masked
        if expected is None:
            return None
        found = self._gradients(module)
        if found is None:
            return float("inf"), "a backward pass that fails"
        values = {name: _values(p) for name, p in module.named_parameters(remove_duplicate=False)}
        errors = [(0.0, "")]
        size = self._size
        for name in dict.fromkeys((*found, *expected)):
            own, reference = found.get(name), expected.get(name)
            if name not in values:
                # An input, or a parameter that is not in the export: it must have no gradient.
                errors.append((_array_difference(own, reference, size), name))
            elif name in self._values:
                errors.append((_matched_difference(own, reference, values[name], self._values[name], size), name))
        return max(errors)

    def is_gradient_noise(self, error: float, name: str) -> bool:
        """Whether rounding changes the masked model's gradient of a tensor by about as much as an error."""
        expected, size, noise = self._gradients_of_masked, self._size, 0.0
        assert expected is not None
        generator = torch.Generator().manual_seed(1)
        for _ in range(NUM_TRIES):
            found = self._gradients(self._shaken(generator))
            assert found is not None
            noise = max(noise, _array_difference(found.get(name), expected.get(name), size))
        return noise > TOLERANCE and error <= 1000 * noise

    @functools.cached_property
    def overwrites(self) -> bool:
        """Whether the network writes into tensors that its own backward pass needs: then copies change its gradients.

        The copies are of inputs of layers with weights, and of outputs that are masked.
        """
        plain, copying = _copied(self._model).double(), _copied(self._model).double()
        for layer in copying.modules():
            if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
                layer.register_forward_pre_hook(lambda _layer, given: tuple(x.clone() for x in given))
        for path in self._cut_off:
            copying.get_submodule(path).register_forward_hook(lambda _module, _inputs, output: output.clone())
        a, b = self._gradients(plain), self._gradients(copying)
        if a is None or b is None:
            return a is not b
        largest = max((float(np.abs(own).max()) for own in a.values() if own is not None and own.size), default=0.0)
        return any(not _array_difference(b[name], a[name], largest) <= TOLERANCE for name in a)

    @functools.cached_property
    def _gradients_of_masked(self) -> Gradients | None:
        """None if there is no backward pass, or gradients that are not numbers."""
        found = self._gradients(self._masked)
        if found is None or not all(own is None or np.isfinite(own).all() for own in found.values()):
            return None
        for name, (axis, columns) in self._dropped.items():
            own = found[name]
            if own is not None:
                np.moveaxis(own, axis, 0)[columns] = 0
        return found

    @functools.cached_property
    def _size(self) -> float:
        """The largest entry of all gradients."""
        expected = self._gradients_of_masked or {}
        return max((float(np.abs(own).max()) for own in expected.values() if own is not None and own.size), default=0.0)

    def _gradients(self, module: nn.Module) -> Gradients | None:
        """Gradients of a weighted sum of all outputs, always with the same weights; None if autograd refuses."""
        inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in self._inputs]
        wanted = {f"input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
        wanted |= {name: p for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
        generator, loss = torch.Generator().manual_seed(7), torch.zeros((), dtype=torch.float64)
        try:
            for y in tree_flatten(module.eval()(*self._call_with([x.clone() for x in inputs])))[0]:
                if isinstance(y, torch.Tensor) and y.requires_grad:
                    weights = torch.rand(y.shape, generator=generator, dtype=torch.float64) + 0.5
                    loss = loss + (y * weights).sum() / y.detach().abs().max().clamp(min=1e-4)
            if not loss.requires_grad:
                return None
            loss.backward()  # not torch.autograd.grad, which finds no gradients behind a reentrant checkpoint
            # A copy, because two names may share one gradient.
            return {name: None if own.grad is None else own.grad.numpy().copy() for name, own in wanted.items()}
        except RuntimeError:
            return None
        finally:
            for own in wanted.values():
                own.grad = None

    def _shaken(self, generator: torch.Generator) -> nn.Module:
        shaken = _copied(self._masked)
        with torch.no_grad():
            for parameter in shaken.parameters():
                parameter.mul_(1 + 1e-15 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return shaken

    def _run(self, module: nn.Module) -> Any:
        with torch.no_grad():
            return module.eval()(*self._call_with([x.clone() for x in self._inputs]))


def _copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of weights that hooks have computed, which torch refuses to copy."""
    computed = [own for part in model.modules() for own in vars(part).values() if isinstance(own, torch.Tensor)]
    return copy.deepcopy(model, {id(own): own.detach().clone() for own in computed if not own.is_leaf})


def tensor_of(module: nn.Module, name: str) -> Any:
    """A parameter or buffer by its qualified name."""
    return functools.reduce(getattr, name.split("."), module)


def input_axis(program: Program, module: nn.Module, weight: str) -> int:
    """The dimension of a weight for its input channels: the first on the right of ``@``, as the text says."""
    if any(re.search(rf"@ self\.{re.escape(weight)}(?![\w.])", step.line) for step in program.steps):
        return 0
    owner = tensor_of(module, weight.rpartition(".")[0]) if "." in weight else module
    return 0 if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) else 1


def _zero_dropped(kept: np.ndarray, axis: int, _module: Any, _inputs: Any, output: Any) -> Any:
    """A forward hook: dropped output channels are multiplied by zero, so that gradients that are NaN stay NaN."""
    result = output.clone()
    for channel in np.flatnonzero(~kept).tolist():
        result.select(axis, channel).copy_(output.select(axis, channel).nan_to_num() * 0 + 0.0)
    return result


def _values(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().numpy().reshape(-1).copy()


def _difference(a: Any, b: Any) -> float:
    if not isinstance(b, torch.Tensor):
        return 0.0 if a == b else float("inf")
    if a.shape != b.shape:
        return float("inf")
    # Values are of order 1: much smaller ones are rounding noise of sums that cancel.
    difference = (a - b).abs().max().item() / max(b.abs().max().item(), 1e-4)
    return difference if np.isfinite(difference) else float("inf")  # not NaN, which a maximum loses


def _array_difference(a: np.ndarray | None, b: np.ndarray | None, size: float) -> float:
    """Largest difference of two gradients, relative to the larger of their size and a share of all gradients'."""
    if a is None and b is None:
        return 0.0
    a = np.zeros_like(b) if a is None else a
    b = np.zeros_like(a) if b is None else b
    if a.shape != b.shape:
        return float("inf")
    return _relative(np.abs(a - b), b, size)


def _matched_difference(
    a: np.ndarray | None, b: np.ndarray | None, here: np.ndarray, there: np.ndarray, size: float
) -> float:
    """As `_array_difference`, of the gradients of parameters whose entries have these values."""
    a = np.zeros_like(here) if a is None else a.reshape(-1)
    b = np.zeros_like(there) if b is None else b.reshape(-1)
    order = np.argsort(there, kind="stable")
    first, last = (np.searchsorted(there[order], here, side) for side in ("left", "right"))
    is_zero = here == 0
    if bool((~is_zero & (first == last)).any()):
        return float("inf")
    nearest = np.where(is_zero, np.abs(a), np.inf)
    for k in range(int((last - first).max(initial=0))):
        # Several entries may have the same value: one of their gradients must match.
        places = order[np.minimum(first + k, len(order) - 1)]
        nearest = np.where(first + k < last, np.minimum(nearest, np.abs(a - b[places])), nearest)
    return _relative(nearest, b, size)


def _relative(differences: np.ndarray, expected: np.ndarray, size: float) -> float:
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-4 * size)
    largest = float(differences.max(initial=0.0))
    if not np.isfinite(largest):
        return float("inf")  # not NaN, which a maximum loses
    return largest / scale if scale > 0 else float("inf") if largest > 0 else 0.0
