"""Compares the backward passes of an export and the masked model: one random loss, and all of its gradients.

The loss is the sum over the output tensors of <random weights, output>. Its gradients are compared for all parameters
and for all floating-point inputs. The scale of the relative errors matters. Some gradients are zero except for
rounding, for example of the bias of a key in attention, or of a bias before a normalisation. So no gradient is compared
relative to its own size alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from upscale_opt.errors import first_line
from upscale_opt.models.nested import map_tensors
from upscale_opt.models.outputs import tensors
from upscale_opt.rewriting.exports import Exported, ParameterSlice
from upscale_opt.tracing.graphs import Read
from upscale_opt.verifying.multiplications import Multiplication, keeping_everything

TOLERANCE = 1e-9
SENSITIVITY = 1e-6
FLOOR = 1e-4
"""An error is relative to the largest entry of its gradient, or to this share of the largest entry of all gradients.

The larger of the two counts. So the tolerance is at least 1e-13 of the largest gradient. That is several hundred times
the rounding of float64, and a ten-thousandth of the tolerance for the largest gradient. A wrong gradient is still found
if it is a hundred million times smaller than the largest gradient.
"""
NUM_SHAKES = 10
MARGIN = 1e3
"""An error up to this multiple of the measured noise still counts as noise. Errors of noise up to `SENSITIVITY` pass:
rounding changes these gradients so much that they cannot agree better.
"""

INFINITE = float("inf")
OVERWRITTEN = "forward writes into what its own backward pass needs, unless that is copied first"

Gradient = dict[str, torch.Tensor | None]
Running = Callable[[nn.Module], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of gradients.

    Attributes
    ----------
    error
        Largest relative error. Infinite if a gradient is missing. None if nothing could be compared.
    reason
        Why nothing could be compared. None if something was compared.
    control
        Relative error after two columns of one gradient are swapped. None if no consumer has two different columns.
    first
        The first parameter, input or output that differs.
    message
        What is wrong, in one sentence. None if nothing is wrong.
    """

    error: float | None = None
    reason: str | None = None
    control: float | None = None
    first: str | None = None
    message: str | None = None


class Gradients:
    """The gradients of the masked model. Compares the gradients of any number of exports with them.

    Parameters
    ----------
    masked
        The masked model in float64 and eval mode.
    inputs
        Positional inputs in float64.
    running
        Makes the context in which a module runs, forward and backward.
    dropped
        Name of a masked weight to the axis of its input channels, and a Boolean array, True = dropped. The gradients of
        dropped channels are not compared.
    multiplications
        The output masks: hooks of the masked model.
    seed
        Seed of the weights of the loss.
    """

    def __init__(
        self,
        masked: nn.Module,
        inputs: tuple[Any, ...],
        running: Running,
        dropped: Mapping[str, tuple[int, np.ndarray]],
        *,
        multiplications: Sequence[Multiplication] = (),
        seed: int = 0,
    ) -> None:
        self.multiplications = multiplications
        self.masked = masked
        self.inputs = inputs
        self.running = running
        self.dropped = dropped
        self.weights: list[torch.Tensor | None] = []
        self.expected: Gradient = {}
        self.reason: str | None = None
        generator = torch.Generator().manual_seed(seed)
        try:
            with self._run(masked) as (leaves, outputs):
                self.weights = [_weights_like(y, generator) for y in outputs]
                self.expected = self._of_masked(masked, leaves, outputs)
        except Exception as error:  # any error of user code: a network may have no backward pass
            self.reason = f"the masked model has no backward pass ({first_line(error)})"
            return
        if all(weight is None for weight in self.weights):
            self.reason = "no output depends on a parameter or an input in a way that autograd follows"
            return
        unusable = [name for name, own in self.expected.items() if own is not None and not bool(own.isfinite().all())]
        if unusable:
            self.reason = f"the masked model's gradient of {unusable[0]} is not finite"
        elif not self.size > 0:
            self.reason = "every gradient of the masked model is zero"

    @property
    def size(self) -> float:
        """The largest entry of all gradients."""
        return max((_largest(own) for own in self.expected.values() if own is not None), default=0.0)

    def compare(self, module: nn.Module, exported: Exported, reads: Sequence[Read]) -> Comparison:
        """Compare the gradients of an export.

        Parameters
        ----------
        module
            The export's module with the slices of the masked model's parameters, in float64.
        exported
            The export.
        reads
            The export's consumers, for the negative control.
        """
        if self.reason is not None:
            return Comparison(reason=self.reason)
        different = self._first_frozen(module)
        if different is not None:
            message = f"{different} is frozen in one of export and masked model only"
            return Comparison(INFINITE, first=different, message=message)
        try:
            with self._run(module) as (leaves, outputs):
                for i, (y, weight) in enumerate(zip(outputs, self.weights, strict=True)):
                    if (weight is None) != (not y.requires_grad):
                        which = "the masked model" if weight is not None else "the export"
                        message = f"only in {which} do gradients flow back from output {i}"
                        return Comparison(INFINITE, first=f"output {i}", message=message)
                found = self._backward(module, leaves, outputs)
        except Exception as error:
            if self._overwrites_what_it_needs():
                return Comparison(reason=OVERWRITTEN)
            message = f"the masked model has a backward pass, the export has none ({first_line(error)})"
            return Comparison(INFINITE, message=message)
        return self._judge(found, exported, reads)

    def _judge(self, found: Gradient, exported: Exported, reads: Sequence[Read]) -> Comparison:
        """The largest error. Fails if an error is above the tolerance and rounding does not explain it."""
        pieces = {name: exported.slices.get(name, ParameterSlice()) for name in found}
        errors: dict[str, float] = {}
        size = self.size
        for name, own in found.items():
            if name in exported.graph.constants:
                continue
            expected = self.expected.get(name)
            held = None if own is None else pieces[name].held(tuple(own.shape))
            if own is not None and held is not None and bool(own[held.to(own.device).expand(own.shape)].any()):
                message = f"what the masks drop of {name} is not held at zero: it has a gradient"
                return Comparison(INFINITE, first=name, message=message)
            kept = None if expected is None else pieces[name].of(expected)
            errors[name] = _error(own, kept, size)
            if expected is not None and kept is not None and _is_lost(expected, kept, size):
                message = f"the export lacks a part of {name} that the masked model learns"
                return Comparison(INFINITE, first=name, message=message)
        parameters = dict(self.masked.named_parameters(remove_duplicate=False))
        compared = {id(parameters[name]) for name in found if name in parameters}  # maybe by another of its names
        missing = [
            name
            for name, own in self.expected.items()
            if id(parameters.get(name)) not in compared and name not in found and own is not None and _largest(own) > 0
        ]
        if missing:
            message = f"the masked model learns {missing[0]}, which is not in the export"
            return Comparison(INFINITE, first=missing[0], message=message)
        suspects = {name: error for name, error in errors.items() if not error <= TOLERANCE}
        noise = self._noise(suspects) if suspects else {}
        for name, error in suspects.items():
            if not error <= MARGIN * noise[name] or not noise[name] > TOLERANCE:
                if self._overwrites_what_it_needs():
                    return Comparison(reason=OVERWRITTEN)
                message = (
                    f"outputs agree, but the gradient of {name} does not: relative error {error:.1e} is above "
                    f"{TOLERANCE:g}; the export does not learn what the masked model learns"
                )
                return Comparison(max(errors.values()), first=name, message=message)
        undecided = [name for name, error in suspects.items() if not error <= SENSITIVITY]
        if undecided:
            name = undecided[0]
            return Comparison(reason=f"rounding alone changes the gradient of {name} by {noise[name]:.1e}")
        control = self._control(found, pieces, reads, size)
        if control is not None and not control > SENSITIVITY:
            reason = f"swapping two columns of a gradient changes it by {control:.1e} only"
            return Comparison(reason=reason, control=control)
        return Comparison(max(errors.values(), default=0.0), control=control)

    def _control(
        self, found: Gradient, pieces: dict[str, ParameterSlice], reads: Sequence[Read], size: float
    ) -> float | None:
        """Largest error over swaps of two columns of one gradient. Late consumers are tried first."""
        largest: float | None = None
        for read in reversed(reads):
            own, expected = found.get(read.weight), self.expected.get(read.weight)
            if own is None or expected is None:
                continue
            columns = own.transpose(0, read.input_axis)
            used = torch.nonzero(columns.flatten(1).abs().amax(dim=1) > SENSITIVITY * size).flatten()
            if len(used) < 2:
                continue
            order = torch.arange(len(columns), device=own.device)
            order[used[[0, -1]]] = order[used[[-1, 0]]]
            swapped = own.index_select(read.input_axis, order)
            if torch.equal(swapped, own):
                continue
            largest = max(largest or 0.0, _error(swapped, pieces[read.weight].of(expected), size))
            if largest > SENSITIVITY:
                break
        return largest

    def _noise(self, names: Sequence[str] | dict[str, float]) -> dict[str, float]:
        """Change of the masked model's gradients if its parameters change in the last place.

        Rounding may decide a ReLU or the largest entry of a window, and so the path of a gradient. Each try flips such
        a decision with probability one half.
        """
        generator = torch.Generator().manual_seed(1)
        noise = dict.fromkeys(names, 0.0)
        for _ in range(NUM_SHAKES):
            module = shaken(self.masked, generator)
            with self._run(module) as (leaves, outputs):
                found = self._of_masked(module, leaves, outputs)
            for name in names:
                noise[name] = max(noise[name], _error(found.get(name), self.expected.get(name), self.size))
        return noise

    def _overwrites_what_it_needs(self) -> bool:
        """Whether the backward pass needs values that the forward pass overwrites (unless they are copied first).

        Copies of layers' inputs, and outputs multiplied by one, change no derivative. But they may change gradients, or
        make a backward pass run that autograd refused. Then the network writes into values that its backward pass
        needs.
        """
        found: list[Gradient | None] = []
        for copy_first in (True, False):
            with keeping_everything(self.multiplications, multiply=copy_first), _copied_inputs(self.masked, copy_first):
                try:
                    with self._run(self.masked) as (leaves, outputs):
                        found.append(self._backward(self.masked, leaves, outputs))
                except Exception:  # see `__init__`
                    found.append(None)
        copied, plain = found
        if copied is None or plain is None:
            return copied is not plain
        return any(not _error(copied[name], own, self.size) <= TOLERANCE for name, own in plain.items())

    def _first_frozen(self, module: nn.Module) -> str | None:
        """The first parameter that requires a gradient in only one of the two models."""
        here = {name: p.requires_grad for name, p in module.named_parameters(remove_duplicate=False)}
        there = {name: p.requires_grad for name, p in self.masked.named_parameters(remove_duplicate=False)}
        return next((name for name, own in here.items() if there.get(name, own) != own), None)

    @contextmanager
    def _run(self, module: nn.Module) -> Iterator[tuple[dict[str, torch.Tensor], list[torch.Tensor]]]:
        """A forward pass. Yields the inputs that have gradients, and the outputs. Run the backward pass in this
        context.
        """
        leaves: dict[str, torch.Tensor] = {}

        def given(x: torch.Tensor) -> torch.Tensor:
            if not (x.is_floating_point() or x.is_complex()):
                return x.clone()
            name = f"input {len(leaves)}"
            leaves[name] = x.detach().clone().requires_grad_()
            return leaves[name].clone()  # not a leaf, so it may be changed in place

        inputs = map_tensors(given, self.inputs)
        try:
            with torch.enable_grad(), self.running(module):
                yield leaves, tensors(module(*inputs))
        finally:
            for parameter in module.parameters():
                parameter.grad = None

    def _backward(self, module: nn.Module, leaves: dict[str, torch.Tensor], outputs: list[torch.Tensor]) -> Gradient:
        """All gradients of the random loss, by ``.grad``, because checkpointing refuses `torch.autograd.grad`."""
        pairs = [(y, weight) for y, weight in zip(outputs, self.weights, strict=True) if weight is not None]
        if pairs:
            torch.autograd.backward([y for y, _ in pairs], [weight for _, weight in pairs])
        gradients: Gradient = dict(leaves)
        gradients |= dict(module.named_parameters(remove_duplicate=False))
        return {name: None if own is None else own.grad for name, own in gradients.items()}

    def _of_masked(self, module: nn.Module, leaves: dict[str, torch.Tensor], outputs: list[torch.Tensor]) -> Gradient:
        """As `_backward`, for the masked model. Gradients of dropped columns are set to zero: they are not learned."""
        gradients = self._backward(module, leaves, outputs)
        for name, (axis, dropped) in self.dropped.items():
            own = gradients.get(name)
            if own is not None:
                own.transpose(axis, 0)[torch.from_numpy(dropped).to(own.device)] = 0
        return gradients


@contextmanager
def _copied_inputs(module: nn.Module, wanted: bool) -> Iterator[None]:
    """A context where convolutions and linear layers read copies of their inputs, if `wanted`."""

    def copied(_layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in given)

    layers = [own for own in module.modules() if wanted and isinstance(own, (_ConvNd, nn.Linear))]
    hooks = [own.register_forward_pre_hook(copied) for own in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shaken(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy of a module whose parameters differ by a few units in the last place of float64."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.mul_(1 + 1e-15 * noise.to(parameter.device))
    return other


def _weights_like(output: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    """Random weights for an output, scaled so that all outputs count equally. None if the output has no gradient."""
    if not output.requires_grad:
        return None
    weights = torch.randn(output.shape, generator=generator, dtype=output.dtype).to(output.device)
    largest = _largest(output)
    return weights / largest if 0 < largest < float("inf") else weights


def _error(found: torch.Tensor | None, expected: torch.Tensor | None, size: float) -> float:
    """max |found - expected|, relative to the expected gradient's size. None counts as zero. Infinite, never NaN."""
    if found is None and expected is None:
        return 0.0
    if found is None or expected is None:
        given = expected if found is None else found
        assert given is not None
        difference, own = _largest(given), 0.0 if expected is None else _largest(expected)
    elif found.shape != expected.shape:
        return float("inf")
    else:
        difference, own = _largest(found - expected), _largest(expected)
    return difference / max(own, FLOOR * size) if math.isfinite(difference) else INFINITE


def _is_lost(expected: torch.Tensor, kept: torch.Tensor, size: float) -> bool:
    """Whether `kept` lacks a part of a gradient that is larger than rounding errors."""
    lost = float(expected.abs().sum()) - float(kept.abs().sum())
    return lost > SENSITIVITY * max(_largest(expected), FLOOR * size)


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0
