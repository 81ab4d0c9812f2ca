"""Compares an export with the masked model, outputs and gradients, in float64 and with random parameters.

Fresh networks have BatchNorm statistics of 0 and 1, shifts of 0, and sometimes outputs of order 1e-10. A comparison of
such networks proves nothing. A `Verifier` therefore gives a copy of the masked model random statistics, affine
parameters and biases. It puts the same values through the export's parameter slices, and compares outputs relatively.
Two more checks show that the comparison can fail: the output must vary with the input, and a swap of two kept columns
must change it. Then the gradients of a random loss are compared (`upscale_opt.verifying.gradients`). All random
generators start every run in the same state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import VerificationError
from upscale_opt.masking.input_masks import effective_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.attributes import attribute_of, copy_with, named_tensors
from upscale_opt.models.network_checks import require_values, with_values
from upscale_opt.models.outputs import NO_TENSOR, clones, relative_error, tensors
from upscale_opt.models.preservation import Preservation, unchanged
from upscale_opt.models.random_draws import draws_of
from upscale_opt.rewriting.exports import Exported, Verification
from upscale_opt.rewriting.stored_layouts import stored_positions
from upscale_opt.tracing.buffers import changing_buffers, frozen_statistics
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.network_fits import require_fitting_inputs, require_same_network
from upscale_opt.tracing.prologues import prologues_of
from upscale_opt.tracing.trace import as_tuple, trace
from upscale_opt.tracing.validity import BATCH
from upscale_opt.tracing.writes import writes_of
from upscale_opt.verifying.differences import outputs_by_node, variation_of, variation_of_draws
from upscale_opt.verifying.gradients import Comparison, Gradients, shaken
from upscale_opt.verifying.masked_copies import drop_columns
from upscale_opt.verifying.multiplications import Multiplication
from upscale_opt.verifying.other_sizes import difference_at_another_size
from upscale_opt.verifying.randomisation import random_inputs, randomise
from upscale_opt.verifying.starts import TOLERANCE, Start, as_compared

SENSITIVITY = 1e-6
NUM_SHAKES = 10


@entrance()
def verify(
    model: nn.Module,
    exported: Exported,
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    gradients: bool = True,
    seed: int = 0,
) -> Verification:
    """Compare an export with the masked model in float64. Returns the result, also if it fails.

    Parameters
    ----------
    model
        The original model in eval mode. It is not changed.
    exported
        The export.
    example_inputs
        A tensor or the tuple of positional inputs. Random values of the same shapes are used, two samples each.
    gradients
        Also compare the gradients of a random loss. Default True. A network without a backward pass passes, and
        `Verification.gradients_reason` says why nothing was compared.
    seed
        Seed of the random values.
    """
    require_values(model)
    require_same_network(model, exported.graph)
    require_fitting_inputs(model, exported.graph, example_inputs)
    plan, given = exported.plan, with_values(example_inputs, model)
    masked = MaskedGraph(exported.graph, plan.masks, plan.output_masks)
    verifier = Verifier(model, given, masked, gradients=gradients, seed=seed)
    return verifier.check(exported)


class Verifier:
    """The masked model with random parameters, and its outputs. Checks any number of exports of it.

    Parameters
    ----------
    model
        The original model in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs.
    masked
        The trace of the model and its masks. Default: the model is traced here, and only channels with zero weights are
        dropped.
    gradients
        Also compare gradients. Default True: one backward pass of the masked model, and one of each export.
    seed
        Seed of the random parameters and inputs.

    Raises
    ------
    ModelError
        If a weight is NaN or infinite.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: torch.Tensor | Sequence[Any],
        masked: MaskedGraph | None = None,
        *,
        gradients: bool = True,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.seed = seed
        self.with_gradients = gradients
        own = effective_masks(trace(model, example_inputs)) if masked is None else masked
        require_finite(own.graph)
        self.graph, self.masks, self.output_masks = own.graph, dict(own.masks), dict(own.output_masks)
        generator = torch.Generator().manual_seed(seed)
        given = as_tuple(example_inputs)
        self._start = Start(changes_itself=True)  # until a run shows that it does not
        with unchanged(model):  # copies share classes and closures with the model
            self._randomise(given, generator)
            self.state = dict(named_tensors(self.masked))
            self.outputs = self._run(self.masked)

    def _randomise(self, given: tuple[Any, ...], generator: torch.Generator) -> None:
        """Make the masked model with random values and inputs: batches of two samples, or else the given shapes."""
        failures = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)
        # A trace that asked for the batch size holds for the given one.
        fixed = self.graph.settled and any(BATCH in axes for axes in self.graph.validity.conditions.values())
        for batch, jitter in ((None, True),) if fixed else ((2, True), (None, True), (2, False)):
            try:
                return self._try_values(given, generator, batch, jitter=jitter)
            except failures:
                continue
        return self._try_values(given, generator, None, jitter=False)

    def _try_values(
        self, given: tuple[Any, ...], generator: torch.Generator, batch: int | None, *, jitter: bool
    ) -> None:
        self.masked = self._masked_model()
        # If only the given batch size works: two draws instead of two samples.
        self.inputs = [random_inputs(given, generator, batch=batch) for _ in range(1 if batch else 2)]
        tensors = dict(named_tensors(self.masked))
        names = frozen_statistics(self.graph) if jitter else ()
        randomise(self.masked, self.inputs[0], generator, [tensors[name] for name in names if name in tensors])

    def _masked_model(self) -> nn.Module:
        axes = {weight: read.input_axis for weight, read in self.graph.consumers.items()}
        masked: nn.Module = copy_with(self.model, lambda _, tensor: _double(tensor, copy=True))
        self._multiplications: list[Multiplication] = []
        drop_columns(masked, self.masks, axes)
        self._fill_empty_weights(masked)
        writes = writes_of(self.graph)
        for weight, mask in self.output_masks.items():
            write = writes[weight]
            multiplication = Multiplication(mask, write.layout.axis)
            masked.get_submodule(write.module).register_forward_hook(multiplication)
            self._multiplications.append(multiplication)
        return masked

    def _fill_empty_weights(self, masked: nn.Module) -> None:
        """Fill heads that are zero in a fresh network with random weights, where their masks keep them."""
        generator = torch.Generator().manual_seed(0)
        for weight, read in self.graph.consumers.items():
            tensor = attribute_of(masked, weight).detach()
            if not tensor.any():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
                if weight in self.masks:
                    tensor.transpose(read.input_axis, 0)[torch.from_numpy(~self.masks[weight]).to(tensor.device)] = 0

    def check(self, exported: Exported) -> Verification:
        """Compare one export. Returns the result, also if it fails."""
        stale = self._first_foreign_weight(exported)
        if stale is not None:
            message = f"{stale} does not hold the model's weights; export the model again"
            return Verification(float("nan"), 0.0, None, stale, message)
        module = self._with_random_state(exported)
        try:
            with unchanged(self.model):
                return self._compare(module, exported)
        finally:
            # Graph modules refer to themselves. This one would keep its tensors until the garbage collector runs.
            for _, tensor in named_tensors(module):
                tensor.data = tensor.new_empty(0)

    def _with_random_state(self, exported: Exported) -> fx.GraphModule:
        """A copy of an export with the slices of the random parameters, in float64."""
        state = dict(exported.slices_of(self.state))

        def tensor_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
            sliced = name in state and name not in exported.graph.constants
            return _double(state.pop(name)) if sliced else _double(tensor, copy=True)

        return copy_with(exported.module, tensor_of)

    def _compare(self, module: fx.GraphModule, exported: Exported) -> Verification:
        """Compare outputs, variation, negative control and gradients of the module with the random state."""
        if not self.outputs:
            return Verification(float("nan"), 0.0, None, None, NO_TENSOR)
        error = self._error(module)
        variation = variation_of(self.outputs, len(self.inputs))
        if not error <= TOLERANCE:
            message = self._irreproducible()
            if message is not None:
                return Verification(error, variation, None, None, message)
            noise = self._rounding_noise()
            if noise > TOLERANCE:
                message = f"rounding alone changes the output by {noise:.1e}, so nothing is proven; keep more channels"
                return Verification(error, variation, None, None, message)
            first = self._first_difference(module, exported)
            message = f"relative error {error:.1e} is above {TOLERANCE:g}; the first module that differs is {first}"
            return Verification(error, variation, None, first, message)
        if not variation > SENSITIVITY:
            draw = self.outputs[: len(self.outputs) // len(self.inputs)]
            variation = max(variation, variation_of_draws(self.masked, self.inputs[0], draw, self.seed + 1))
        if not variation > SENSITIVITY:
            message = "the output does not vary with the input, so nothing is proven; check the model and input shape"
            return Verification(error, variation, None, None, message)
        control = self._negative_control(module)
        if control is not None and not control > SENSITIVITY:
            message = f"swapping two kept columns changes the output by {control:.1e} only, so nothing is proven"
            return Verification(error, variation, control, None, message)
        message = difference_at_another_size(self.graph, self.masked, module, self.inputs[0], self.seed + 2)
        if message is not None:
            return Verification(error, variation, control, None, message)
        learning = self._compare_gradients(module, exported)
        return Verification(
            *(error, variation, control, learning.first, learning.message),
            *(learning.error, learning.reason, learning.control),
        )

    def _compare_gradients(self, module: fx.GraphModule, exported: Exported) -> Comparison:
        return self.gradients.compare(module, exported, self.graph.reads) if self.with_gradients else Comparison()

    @cached_property
    def gradients(self) -> Gradients:
        """The gradients of the masked model. They are computed once.

        They are those of a copy with the same values that has not run yet: a run may fill caches without gradients.
        """
        masked = self._masked_model()
        with torch.no_grad():
            for name, tensor in named_tensors(masked):
                own = self.state.get(name)
                if own is not None and own.shape == tensor.shape and not torch.equal(tensor, own):
                    tensor.copy_(own)
        axes = {weight: read.input_axis for weight, read in self.graph.consumers.items()}
        dropped = {weight: (axes[weight], ~mask) for weight, mask in self.masks.items()}
        return Gradients(
            *(masked, self.inputs[0], self._start.running, dropped),
            multiplications=self._multiplications,
            seed=self.seed,
        )

    def _irreproducible(self) -> str | None:
        """A message if the network draws random numbers or changes from run to run. None for other networks."""
        first, again = self._run_on(self.masked, 2)
        same = len(again) == len(first) and all(map(_same, again, first))
        draws = draws_of(self.masked, clones(self.inputs[0]))
        if draws:
            return (
                f"the network draws random numbers in eval mode ({', '.join(draws)}), and fewer or others where "
                "channels are removed, so nothing is proven; switch that off in eval mode, or pass noise as an input"
            )
        if not same:
            return (
                "the masked model gives another output whenever it is run with the same inputs, so nothing is proven; "
                "let its forward change none of its own tensors, and draw nothing from generators of its own"
            )
        return None

    def require(self, exported: Exported) -> Verification:
        """As `check`, but raise an error if the export is wrong.

        Raises
        ------
        VerificationError
            The message names the first module that differs.
        """
        verification = self.check(exported)
        if verification.message is not None:
            raise VerificationError(verification.message)
        return verification

    def _first_foreign_weight(self, exported: Exported) -> str | None:
        """The first parameter of the export that differs from the slice of the model's parameter."""
        found = exported.module.state_dict()
        changing = changing_buffers(self.graph)
        for name, expected in exported.slices_of(self.model.state_dict()):
            if name in changing:
                continue
            if found[name].shape != expected.shape or not torch.equal(found[name], expected.to(found[name].device)):
                return name
        return None

    def _rounding_noise(self) -> float:
        """Change of the masked model's output if its parameters change by a few units in the last place.

        If masks leave no path through a network, normalisations amplify rounding errors. The result is the largest
        change in ten tries, or the first change above the tolerance. One try is not enough: it keeps the sign of a
        rounding error with probability one half.
        """
        generator = torch.Generator().manual_seed(1)
        largest = 0.0
        for _ in range(NUM_SHAKES):
            largest = max(largest, self._error(shaken(self.masked, generator)))
            if largest > TOLERANCE:
                break
        return largest

    def _error(self, module: nn.Module) -> float:
        found = self._run(module)
        if len(found) != len(self.outputs):
            return float("inf")
        return max((relative_error(a, b) for a, b in zip(found, self.outputs, strict=True)), default=float("nan"))

    def _run(self, module: nn.Module) -> list[torch.Tensor]:
        """All output tensors, for all draws. The module is restored afterwards, so every run starts from the same
        state.
        """
        found: list[torch.Tensor] = []
        with torch.no_grad(), self._start.same(module) as state:
            for inputs in self.inputs:
                with as_compared():
                    found += [y if state is None else y.clone() for y in tensors(module(*clones(inputs)))]
            self._start.changes_itself = state is not None and state.changed()
        return found

    def _run_on(self, module: nn.Module, times: int) -> list[list[torch.Tensor]]:
        """The outputs of several runs on the same inputs, in a row. Changes by one run stay for the next run."""
        found = []
        with torch.no_grad(), Preservation(module):
            for _ in range(times):
                with as_compared():
                    found.append([y.clone() for y in tensors(module(*clones(self.inputs[0])))])
        return found

    def _negative_control(self, module: fx.GraphModule) -> float | None:
        """Largest error over a few swaps of two kept columns. Late consumers are tried first."""
        largest: float | None = None
        for read in reversed(self.graph.reads):
            weight = attribute_of(module, read.weight)
            original = weight.detach().clone()
            columns = original.transpose(0, read.input_axis)
            kept = torch.nonzero(columns.flatten(1).norm(dim=1)).flatten()
            if len(kept) < 2 * read.input.size:
                continue
            first, second = int(kept[0]), int(kept[-1])
            if torch.equal(columns[first], columns[second]):
                continue
            order = torch.arange(len(columns))
            order[[first, second]] = order[[second, first]]
            swapped = original.index_select(read.input_axis, order.to(original.device))
            with torch.no_grad():
                weight.copy_(swapped)
                largest = max(largest or 0.0, self._error(module))
                weight.copy_(original)
            if largest > SENSITIVITY:
                break
        return largest

    def _first_difference(self, module: fx.GraphModule, exported: Exported) -> str:
        """The first module whose output differs. The layouts say which channels to compare."""
        traced = copy.deepcopy(self.graph.module).double()
        traced.load_state_dict({name: self.state.get(name, own) for name, own in traced.state_dict().items()})
        expected = outputs_by_node(traced, self.inputs[0])
        found = outputs_by_node(module, self.inputs[0])
        early = {name for name, reading in exported.plan.readings.items() if not reading.late}
        selected = {name for read, own in prologues_of(self.graph).items() if read in early for name in own.nodes}
        for node in traced.graph.nodes:
            if node.op != "call_module" or node.name not in found or node.name in selected:
                continue
            a, b = found[node.name], expected[node.name]
            layout = self.graph.layouts.get(node.name)
            if layout is not None:
                index = stored_positions(self.graph, exported.plan, layout)
                b = b.index_select(layout.axis, torch.from_numpy(index).to(b.device))
            if a.shape != b.shape or not relative_error(a, b) <= TOLERANCE:
                return str(node.target)
        return "the output"


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _double(tensor: torch.Tensor, *, copy: bool = False) -> torch.Tensor:
    """A floating-point tensor in float64; other tensors unchanged. Without `copy`, it may be the same tensor."""
    return tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=copy)
