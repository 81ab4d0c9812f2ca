"""The export: a new module, the plan that it carries out, and the part of every parameter that it holds.

The parameters' slices are kept as data (`ParameterSlice`). The same export can therefore be filled from another
state_dict of the original model, for example random values for a verification, or trained values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import fx

from problems import ProblemError
from problems.files import write_bytes_atomically
from problems.objectives import COPY, PIECES
from problems.showing.reprs import shown, shown_as
from upscale_opt.arguments.checks import names
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import PlanError
from upscale_opt.models.memory_formats import memory_format_of
from upscale_opt.planning.plan_files import save_plan
from upscale_opt.planning.plans import Plan
from upscale_opt.rewriting.write_forms import IN_PLACE, WHOLE, WriteForm
from upscale_opt.saving.forms import FORMS, require_forms
from upscale_opt.saving.written_forms import to_bytes
from upscale_opt.showing.cards import exported_card
from upscale_opt.tracing.graphs import Graph

WEIGHTS_FILE = "model.safetensors"
PLAN_FILE = "plan.json"


@shown
@dataclass(frozen=True)
class Verification:
    """The outcome of a verification.

    Attributes
    ----------
    relative_error
        max |export - masked| / max |masked| over all outputs, in float64.
    variation
        max |difference between the outputs of two random inputs| / max |output|. It must be above `SENSITIVITY`.
        Otherwise the comparison would prove nothing.
    negative_control
        Relative error after two kept columns of one consumer are swapped. It must be above `SENSITIVITY`. None if no
        consumer keeps two different columns.
    first_difference
        Path of the first module whose output differs, or the parameter, input or output whose gradient differs. Or
        None.
    message
        What is wrong, in one sentence. None if the export is correct.
    gradients
        Largest relative error of the gradients of one random loss, over all parameters and floating-point inputs, in
        float64 (`upscale_opt.verifying.gradients`). None if they were not compared.
    gradients_reason
        Why gradients were not compared or prove nothing, for example because the network has no backward pass. None if
        they agree.
    gradient_control
        Relative error after two columns of one gradient are swapped. It must be above `SENSITIVITY`. None in the same
        cases as `negative_control`.
    """

    relative_error: float
    variation: float
    negative_control: float | None
    first_difference: str | None = None
    message: str | None = None
    gradients: float | None = None
    gradients_reason: str | None = None
    gradient_control: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the export is correct."""
        return self.message is None

    def __str__(self) -> str:
        if not self.passed:
            return f"NOT verified: {self.message}"
        return f"verified, relative error {self.relative_error:.1e}, {self.learning}"

    @property
    def learning(self) -> str:
        """The result of the gradient comparison, in words."""
        if self.gradients is not None:
            return f"gradients {self.gradients:.1e}"
        return f"gradients not verified: {self.gradients_reason or 'not asked for'}"


@dataclass(frozen=True, eq=False)
class ParameterSlice:
    """The part of an original parameter that an export holds.

    Attributes
    ----------
    indices
        Dimension to int64 indices along it. Dimensions that are not listed are complete.
    masks
        Dimension to a Boolean array over its original length. Entries that are not kept are zero: over-read or
        over-written channels, or partly masked channels after a flatten.
    columns
        For convolutions with several groups: int64, shape (groups, stored inputs per group). For each group, the
        indices along dimension 1 that its rows hold.
    """

    indices: Mapping[int, np.ndarray] = field(default_factory=dict)
    masks: Mapping[int, np.ndarray] = field(default_factory=dict)
    columns: np.ndarray | None = None

    def held(self, shape: tuple[int, ...]) -> torch.Tensor | None:
        """Entries of the slice that a mask makes zero; bool, broadcasts to its `shape`. None if there are none."""
        zero = torch.zeros([1] * len(shape), dtype=torch.bool)
        for dimension, mask in self.masks.items():
            dropped = torch.from_numpy(~mask)
            if dimension == 1 and self.columns is not None:
                rows = torch.arange(shape[0]) // (shape[0] // len(self.columns))
                zero = zero | dropped[torch.from_numpy(self.columns)[rows]].reshape(*shape[:2], *[1] * (len(shape) - 2))
                continue
            if dimension in self.indices:
                dropped = dropped[torch.from_numpy(self.indices[dimension])]
            zero = zero | dropped.reshape([-1 if d == dimension else 1 for d in range(len(shape))])
        return zero if bool(zero.any()) else None

    def reorders(self) -> bool:
        """Whether the kept rows or columns have a different order than in the original."""
        columns = [] if self.columns is None else list(self.columns)
        return any(bool((np.diff(part) < 0).any()) for part in (*self.indices.values(), *columns))

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Slice a tensor of the original shape. The result is a new tensor in the same memory format."""
        result, memory_format = tensor.detach(), memory_format_of(tensor)
        for dimension, index in self.indices.items():
            if not np.array_equal(index, np.arange(tensor.shape[dimension])):
                result = result.index_select(dimension, torch.from_numpy(index).to(tensor.device))
        for dimension, mask in self.masks.items():
            left = mask[self.indices[dimension]] if dimension in self.indices else mask
            if not left.all():
                keep = torch.from_numpy(left).to(tensor.device)
                shape = [-1 if d == dimension else 1 for d in range(tensor.ndim)]
                result = torch.where(keep.reshape(shape), result, 0)
        if self.columns is not None:
            groups = len(self.columns)
            rows = torch.arange(groups, device=tensor.device).repeat_interleave(len(result) // groups)
            columns = torch.from_numpy(self.columns).to(tensor.device)[rows]
            shape = [*columns.shape, *[1] * (tensor.ndim - 2)]
            result = result.gather(1, columns.reshape(shape).expand(-1, -1, *tensor.shape[2:]))
        if result.data_ptr() == tensor.data_ptr():
            result = result.clone(memory_format=memory_format)
        return result.to(memory_format=memory_format)


@shown_as(exported_card)
@dataclass(frozen=True, eq=False)
class Exported:
    """A pruned and reordered model.

    Attributes
    ----------
    module
        The new GraphModule, with the original module names.
    plan
        The plan that the module was made from.
    graph
        The trace of the original model.
    slices
        Parameter or buffer name to the part of the original that it holds. Names that are not listed are unchanged.
    verification
        The result of `upscale_opt.verify`, or None if the export was not verified.
    example_inputs
        The inputs that the export was made for, as tensors on the meta device: shapes, dtypes and memory formats. None
        if unknown.
    unused
        Paths of parts of the model that have parameters but that the traced forward does not use. Examples are
        auxiliary heads that run only in training. They and their loss are not in the export.
    training_only
        Paths of other parts that run additional operators in training, such as stochastic depth written as ``if
        self.training``. ``""`` is the model itself. These operators are not in the export.
    training_unknown
        Why it is unknown what the model does differently in training. The export then uses the arguments of eval mode
        in training too. None if it is known.
    writes
        How every masked producer writes.
    """

    module: fx.GraphModule
    plan: Plan
    graph: Graph
    slices: Mapping[str, ParameterSlice]
    verification: Verification | None = None
    example_inputs: tuple[Any, ...] | None = None
    unused: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    training_unknown: str | None = None
    writes: tuple[WriteForm, ...] = ()

    def __call__(self, *inputs: Any) -> Any:
        """Run the exported module."""
        return self.module(*inputs)

    def __str__(self) -> str:
        before = sum(p.numel() for p in self.graph.module.parameters())
        after = sum(p.numel() for p in self.module.parameters())
        verified = "not verified" if self.verification is None else str(self.verification)
        left_out = [f"not exported, nor is its loss: {', '.join(self.unused)}"] if self.unused else []
        sizes = [str(self.graph.validity)] if self.graph.settled and self.graph.validity.conditions else []
        told = [f"{after:,} of {before:,} parameters", str(self.plan), verified, *sizes, *left_out]
        told += self.training_notes
        return "; ".join(told)

    @property
    def training_notes(self) -> tuple[str, ...]:
        """How the export differs from the model in training, in words."""
        notes = []
        if self.training_only:
            first = ", ".join(path or "the model itself" for path in self.training_only[:3])
            more = f" and {len(self.training_only) - 3} more" if len(self.training_only) > 3 else ""
            notes.append(f"left out, what only runs in training in {first}{more}")
        if self.training_unknown is not None:
            notes.append(f"trains as in eval mode, since training mode cannot be traced ({self.training_unknown})")
        return tuple(notes)

    @property
    def moved(self) -> dict[str, str]:
        """What this export moves in a call without gradients beyond views and additions in place, and why.

        Access name to one sentence: reads that copy, and producers whose rows are not added in place.
        """
        reads = {
            name: f"read by a copy ({reading.mode})"
            for name, reading in self.plan.readings.items()
            if reading.mode in (COPY, PIECES) and not name.startswith("write ")
        }
        writes = {
            own.name: str(own)
            for own in self.writes
            if not (own.form == IN_PLACE and own.is_range) and (own.reason or own.form != WHOLE)
        }
        return {**reads, **writes}

    @entrance()
    def state_of(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert a state_dict of the original model to the export's state_dict.

        Raises
        ------
        PlanError
            If an entry is missing.
        """
        return dict(self.slices_of(state_dict))

    def slices_of(self, state_dict: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """The entries of `state_of`, one after the other, so that two copies of a large model are not needed.

        Buffers that are not part of a state_dict are included if they are given.

        Raises
        ------
        PlanError
            If an entry is missing.
        """
        for name, own in self.module.state_dict().items():
            if name in self.graph.constants:
                yield name, own
                continue
            if name not in state_dict:
                raise PlanError(f"the state_dict lacks {name!r}; it belongs to another model")
            yield name, self.slices.get(name, ParameterSlice()).of(state_dict[name])
        persistent = self.module.state_dict().keys()
        for name, _ in self.module.named_buffers(remove_duplicate=False):
            if name not in persistent and name in state_dict and name not in self.graph.constants:
                yield name, self.slices.get(name, ParameterSlice()).of(state_dict[name])

    @entrance(forms=names)
    def save(self, directory: str | Path, forms: Iterable[str] = ()) -> None:
        """Write ``plan.json`` and ``model.safetensors`` (the pruned state_dict). The directory is created if necessary.

        Parameters
        ----------
        directory
            The directory to write to.
        forms
            Additional forms to write (`upscale_opt.save_as`): ``pt2``, ``torchscript``, ``onnx``. The files are
            ``model.pt2``, ``model.ts`` and ``model.onnx``.

        Raises
        ------
        PlanError
            If the directory cannot be written.
        UpscaleError
            If a form cannot be made. Then no file is written.
        """
        forms = list(dict.fromkeys([forms] if isinstance(forms, str) else forms))
        require_forms(forms)
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(f"cannot write {directory}: {error.strerror}; choose a writable directory") from error
        state = {name: tensor.contiguous().cpu() for name, tensor in self.module.state_dict().items()}
        contents = {WEIGHTS_FILE: save(_unshared(state))}
        contents |= {FORMS[form].file: to_bytes(self, form) for form in forms}
        try:
            for name, content in contents.items():
                write_bytes_atomically(content, directory / name)
        except ProblemError as error:
            raise PlanError(str(error)) from error
        save_plan(self.plan, directory / PLAN_FILE)


def gradients_of(exports: Mapping[str, Exported]) -> dict[str, float | str]:
    """For each verified export, by name: the relative error of the gradients, or why there is none."""
    found = {name: exported.verification for name, exported in exports.items() if exported.verification is not None}
    return {name: own.learning if own.gradients is None else own.gradients for name, own in found.items()}


def _unshared(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Clone tensors that share memory, because safetensors stores each tensor separately."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result
