"""The time of every access of an export, and its hidden copies. The export runs node by node under a profiler.

A read mode that should be free may still copy. For example, a convolution makes its input contiguous if it is a channel
slice of several samples or of a channels_last tensor. docs/latency.md says what the profile shows and what it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from problems.objectives import OVER_READ, VIEW
from problems.showing.progress import ProgressBar, ShowProgress
from problems.showing.reprs import shown
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import ModelError
from upscale_opt.latency.access_nodes import AccessNodes, nodes_of_accesses
from upscale_opt.latency.access_traces import NODE, REFERENCE, Copy, NodeRunner, Range, profiled_pass
from upscale_opt.latency.retained_memory import retained_memory
from upscale_opt.models.network_checks import require_call, require_run, require_values, with_values
from upscale_opt.rewriting.exports import Exported
from upscale_opt.tracing.trace import as_tuple

FULL = "full"
"""The mode of an access that reads all stored channels of its input."""
FREE_MODES = (FULL, VIEW, OVER_READ)
"""Modes that read their input in place."""

DEFAULT_REPEATS = 10


@dataclass(frozen=True)
class CopyFound:
    """Copies of one type in one access.

    Attributes
    ----------
    operator
        The outermost operator that copies, with its name in the profiler (``aten::contiguous``, not the inner
        ``aten::copy_``).
    count
        Number of copies per pass.
    seconds
        Time of all these copies per pass, as a median over repeats. Device time on CUDA.
    bytes
        Bytes that each copy writes.
    """

    operator: str
    count: int
    seconds: float
    bytes: int


@shown
@dataclass(frozen=True)
class AccessProfile:
    """The time of one access, by parts.

    Attributes
    ----------
    name
        Name of the access: its key in the plan's `reads`.
    mode
        The plan's read mode, or ``full`` if all stored channels are read in place.
    kept, stored
        Number of channels that the access keeps, and that its input stores.
    input_bytes
        Size of the consumer's input.
    seconds
        Time of the consumer with its hidden copies: the median over repeats of the time inside its operators.
    selection_seconds
        Time of the selection before the consumer (slices, gather or concat).
    prologue_seconds
        Time of the elementwise operators and normalisations before the consumer that only this access uses.
    copies
        Copies in selection and consumer, without copies that the consumer also makes for a contiguous input.
    """

    name: str
    mode: str
    kept: int
    stored: int
    input_bytes: int
    seconds: float
    selection_seconds: float
    prologue_seconds: float
    copies: tuple[CopyFound, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.stored:
            raise ModelError(f"access {self.name!r} keeps {self.kept} of {self.stored} channels; keep 1 at least")

    @property
    def is_hidden_copy(self) -> bool:
        """Whether the mode should be free, but something at least as large as the input is copied."""
        return self.mode in FREE_MODES and any(own.bytes >= self.input_bytes for own in self.copies)

    @property
    def copied_bytes(self) -> int:
        """Bytes that all copies write per pass."""
        return sum(own.count * own.bytes for own in self.copies)

    @property
    def copy_seconds(self) -> float:
        """Time of all copies per pass."""
        return sum(own.seconds for own in self.copies)

    def __str__(self) -> str:
        copies = ", ".join(f"{own.count} {own.operator}" for own in self.copies) or "no copies"
        hidden = " (hidden)" if self.is_hidden_copy else ""
        read = f"{self.mode}, {self.kept} of {self.stored} channels, {1e6 * self.seconds:.0f} us"
        return f"{self.name}: {read}, {copies}{hidden}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        copies = [asdict(own) for own in self.copies]
        return {**asdict(self), "copies": copies, "is_hidden_copy": self.is_hidden_copy}


@entrance()
def profile_accesses(
    exported: Exported,
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int = DEFAULT_REPEATS,
    progress: ShowProgress = None,
) -> tuple[AccessProfile, ...]:
    """Measure time and copies of every read access of an export, in execution order.

    The export runs node by node under `torch.profiler`, in inference mode. Times are inside operators and include the
    profiler's overhead (about a microsecond per operator). Use them to compare accesses, and `profile` to measure the
    whole model.

    Parameters
    ----------
    exported
        The export.
    example_inputs
        A tensor or the tuple of positional inputs, on the export's device. Batch size and memory format affect the
        result.
    repeats
        Number of timed passes. One pass before them looks for copies.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Returns
    -------
    tuple of AccessProfile
        One profile per call of a consumer with one group. Writes of masked producers are not profiled.

    Raises
    ------
    ModelError
        If the number of repeats is below 1, or the export does not run on these inputs.
    """
    require_values(exported.module)
    given = as_tuple(with_values(example_inputs, exported.module))
    require_call(exported.module, given)
    require_run(exported.module, given, "the export")
    return profile_accesses_interleaved({"": exported}, given, repeats=repeats, progress=progress)[""]


def profile_accesses_interleaved(
    exports: Mapping[str, Exported],
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int = DEFAULT_REPEATS,
    progress: ShowProgress = None,
) -> dict[str, tuple[AccessProfile, ...]]:
    """Profile several exports. Their passes take turns (A B C A B C ...), so drift affects all of them equally.

    Parameters
    ----------
    exports
        Name to export.
    example_inputs, repeats, progress
        As for `profile_accesses`.

    Raises
    ------
    ModelError
        If the number of repeats is below 1, or an export does not run on these inputs.
    """
    if repeats < 1:
        raise ModelError(f"profiling needs at least 1 repeat, not {repeats}")
    inputs = as_tuple(example_inputs)
    accesses = {name: nodes_of_accesses(exported) for name, exported in exports.items()}
    runners = {
        name: NodeRunner(exported.module, frozenset(own.consumer for own in accesses[name]))
        for name, exported in exports.items()
    }
    rounds: dict[str, list[Mapping[str, Range]]] = {name: [] for name in exports}
    with retained_memory():
        found = {name: profiled_pass(runner, inputs, references=True) for name, runner in runners.items()}
        for _ in ProgressBar("profile accesses", range(repeats), unit="round", progress=progress, measures=True):
            for name, runner in runners.items():
                rounds[name].append(profiled_pass(runner, inputs))
    return {
        name: tuple(_profile(access, found[name], rounds[name], runners[name]) for access in accesses[name])
        for name in exports
    }


def _own_copies(access: AccessNodes, found: Mapping[str, Range]) -> list[tuple[str, int, Copy]]:
    """(node, index of the copy, copy) of selection and consumer, without copies that a contiguous input also needs."""
    own = [(name, i, copy) for name in access.selection for i, copy in enumerate(found[NODE + name].copies)]
    usual = Counter((copy.path, copy.entries) for copy in found[REFERENCE + access.consumer].copies)
    for i, copy in enumerate(found[NODE + access.consumer].copies):
        if usual[copy.path, copy.entries]:
            usual[copy.path, copy.entries] -= 1
        else:
            own.append((access.consumer, i, copy))
    return own


def _profile(
    access: AccessNodes, found: Mapping[str, Range], rounds: Sequence[Mapping[str, Range]], runner: NodeRunner
) -> AccessProfile:
    kinds: dict[tuple[str, int], list[float]] = {}
    for node, place, copy in _own_copies(access, found):
        entries = prod(runner.outputs[node]) if copy.entries is None else copy.entries
        kind = (copy.path[-1], entries * runner.entry_bytes[node])
        kinds.setdefault(kind, []).append(_copy_seconds(node, place, copy, rounds))

    def seconds(*nodes: str) -> float:
        return float(np.median([sum(own[NODE + node].seconds for node in nodes) for own in rounds]))

    return AccessProfile(
        access.name,
        FULL if not access.selection else access.mode,
        access.kept,
        access.stored,
        prod(runner.inputs[access.consumer]) * runner.entry_bytes[access.consumer],
        seconds(access.consumer),
        seconds(*access.selection),
        seconds(*access.prologue),
        tuple(CopyFound(name, len(times), sum(times), size) for (name, size), times in kinds.items()),
    )


def _copy_seconds(node: str, place: int, copy: Copy, rounds: Sequence[Mapping[str, Range]]) -> float:
    """Median time of one copy. Rounds in which the node made other copies are left out."""
    copies = [own[NODE + node].copies for own in rounds]
    times = [own[place].seconds for own in copies if place < len(own) and own[place].path == copy.path]
    return float(np.median(times)) if times else copy.seconds
