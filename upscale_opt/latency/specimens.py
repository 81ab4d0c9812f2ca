"""Specimens: what a calibration times. One consumer alone reads channels of a random tensor in one way.

A specimen does the same as an export: the selection, the prologue (operators that only this consumer uses), and the
consumer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from problems.objectives import COPY, OVER_READ, PIECES
from upscale_opt.latency.cost_tables import Case
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.matrix_convolution import MatrixConv2d
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.layer_shapes import LINEAR, Layer
from upscale_opt.planning.reading import ALIGNMENT, CONTIGUOUS, FUSED, GATHERING, MATMUL, SELECTING, Reading
from upscale_opt.rewriting.fx_editing import runs_of
from upscale_opt.rewriting.stored_layouts import entries

PROLOGUE_FUNCTIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
"""Functions and methods that may stand in front of a consumer, with the modules of the same meaning."""
FUSED_PROLOGUES = (("BatchNorm2d",), ("BatchNorm2d", "ReLU"), ("BatchNorm2d", "relu"))
"""What the fused kernel can do in front of a consumer."""
BEHIND = "behind"
"""Name of the gather after a prologue. Other gathers are named by the number of their operand."""


def positions_of(case: Case, stored: int, rng: np.random.Generator) -> np.ndarray:
    """Stored channels that a specimen reads, ascending: a middle range, evenly distributed runs, or random channels."""
    if case.reading.mode == COPY:
        return np.sort(rng.choice(stored, case.channels, replace=False))
    if case.reading.mode == PIECES:
        gaps = np.diff(np.linspace(0, stored - case.channels, case.runs).round().astype(np.int64))
        lengths = np.diff(np.linspace(0, case.channels, case.runs + 1).round().astype(np.int64))
        starts = np.concatenate([[0], np.cumsum(lengths[:-1] + gaps)])
        return np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    middle = (stored - case.channels) // 2
    first = middle - middle % ALIGNMENT + case.shifted
    return np.arange(first, first + case.channels)


class Specimen(nn.Module):
    """A consumer that reads in one way. Its inputs come from `inputs_of`.

    Parameters
    ----------
    layer
        The consumer.
    case
        How the consumer reads.
    stored
        Number of stored channels of its input.
    rng
        Random generator for the channels of a copy.
    """

    def __init__(self, layer: Layer, case: Case, stored: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.axis = layer.axis
        widths = _widths(layer, case, stored)
        positions = np.arange(case.channels) if case.reading.mode == CONTIGUOUS else positions_of(case, stored, rng)
        starts = np.cumsum([0, *widths])
        self.parts: list[list[tuple[int, int]] | None] = []
        self.gathers = nn.ModuleDict()
        self.behind: tuple[int, int] | None = None
        chosen = positions
        if case.reading.late:
            if case.reading.kernel not in SELECTING:
                self._select_behind(layer, case, positions)
            positions = np.arange(stored)
        for i, width in enumerate(widths):
            own = positions[(positions >= starts[i]) & (positions < starts[i + 1])] - starts[i]
            whole = len(own) == width
            runs = [(int(run[0]) * layer.channel_size, len(run) * layer.channel_size) for run in runs_of(own)]
            if case.reading.kernel in SELECTING:
                self.parts.append(None)
                continue
            if case.reading.mode == COPY and not whole and (len(runs) > 1 or not layer.operands):
                index = torch.from_numpy(entries(own, layer.channel_size))
                self.gathers[str(i)] = Gather(index, layer.axis)
            self.parts.append(None if whole else runs)
        between = stored if case.reading.late else case.channels
        prologue = [channelwise_module(name, between) for name in layer.prologue]
        self.consumer = consumer(layer, case, chosen)
        self.fused = nn.ModuleList(prologue if case.reading.kernel == FUSED else [])
        self.prologue = nn.ModuleList(prologue if not self.fused else [])
        if self.fused:
            fused: Any = self.consumer
            fused.with_prologue(*self.fused)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The consumer's output."""
        pieces: list[torch.Tensor] = []
        for i, (x, runs) in enumerate(zip(inputs, self.parts, strict=True)):
            if runs is None:
                pieces.append(x)
            elif str(i) in self.gathers:
                pieces.append(self.gathers[str(i)](x))
            else:
                pieces += [x.narrow(self.axis, start, length) for start, length in runs]
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, self.axis)
        for module in self.prologue:
            y = module(y)
        if self.behind is not None:
            y = y.narrow(self.axis, *self.behind)
        elif BEHIND in self.gathers:
            y = self.gathers[BEHIND](y)
        result: torch.Tensor = self.consumer(y)
        return result

    def _select_behind(self, layer: Layer, case: Case, positions: np.ndarray) -> None:
        """Select these channels directly before the consumer."""
        if case.reading.mode == COPY:
            self.gathers[BEHIND] = Gather(torch.from_numpy(entries(positions, layer.channel_size)), layer.axis)
        else:
            self.behind = int(positions[0]) * layer.channel_size, len(positions) * layer.channel_size


def inputs_of(
    layer: Layer,
    case: Case,
    stored: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format,
) -> tuple[torch.Tensor, ...]:
    """Random inputs of a specimen: the input, or the operands of the concat that only this consumer reads."""
    made = []
    for width in _widths(layer, case, stored):
        shape = list(layer.input_shape)
        shape[layer.axis] = width * layer.channel_size
        x = torch.randn(shape, device=device).to(dtype)
        made.append(x.contiguous(memory_format=memory_format) if x.ndim == 4 else x)
    return tuple(made)


def consumer(layer: Layer, case: Case, positions: np.ndarray) -> nn.Module:
    """The consumer with random weights. `positions` are the channels that it reads, for a gathering kernel."""
    features = case.channels * layer.channel_size
    if layer.kind == LINEAR:
        return nn.Linear(features, layer.outputs, bias=layer.bias)
    kind: Any = getattr(nn, layer.kind)
    made: nn.Module = kind(
        features,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        bias=layer.bias,
    )
    if not isinstance(made, nn.Conv2d) or not case.reading.kernel:
        return made
    return MatrixConv2d.of(made) if case.reading.kernel == MATMUL else _gathering(made, positions)


def _gathering(convolution: nn.Conv2d, positions: np.ndarray) -> nn.Module:
    return GatherConv2d.from_convolution(convolution, torch.from_numpy(positions))


def forms_of(
    layer: Layer, kept: int, stored: int, spans: Sequence[int], runs: Sequence[int], *, gathering: bool = False
) -> list[Case]:
    """All readings to time: ranges of the given spans, pieces with the given runs, and a copy.

    If there is a prologue, ranges and copies after it are timed too. 1x1 convolutions are also timed as matrix
    products. With `gathering`, a copy by the consumer itself is timed, if the consumer supports it.
    """
    kernels = ("", MATMUL) if layer.is_pointwise else ("",)
    contiguous = Case(Reading(CONTIGUOUS), kept)
    if kept == stored:
        return [contiguous, *(Case(Reading(OVER_READ, kernel=kernel), kept) for kernel in kernels if kernel)]
    late = layer.has_prologue
    gathers = gathering and layer.is_pointwise and set(layer.stride) == {1}
    fuses = gathers and layer.prologue in FUSED_PROLOGUES
    return [
        contiguous,
        *(Case(Reading(OVER_READ, kernel=kernel), span) for span in spans for kernel in kernels),
        *(Case(Reading(OVER_READ, kernel=kernel), kept, shifted=True) for kernel in kernels),
        *(Case(Reading(PIECES), kept, number) for number in runs),
        Case(Reading(COPY), kept),
        *(
            Case(Reading(OVER_READ, kernel=kernel, late=True), span)
            for span in spans
            for kernel in kernels
            if late and span < stored
        ),
        *(Case(Reading(OVER_READ, kernel=kernel, late=True), kept, shifted=True) for kernel in kernels if late),
        *([Case(Reading(COPY, late=True), kept)] if late else []),
        *([Case(Reading(COPY, kernel=GATHERING, late=late), kept)] if gathers else []),
        *([Case(Reading(COPY, kernel=FUSED), kept)] if fuses else []),
    ]


def _widths(layer: Layer, case: Case, stored: int) -> list[int]:
    """Number of channels of every input of a specimen."""
    if case.reading.mode == CONTIGUOUS and layer.operands:
        # As if dropped channels had never been stored: every operand shrinks in proportion.
        bounds = np.cumsum([0, *layer.operands]) * case.channels // max(1, sum(layer.operands))
        return [int(width) for width in np.diff(bounds) if width]
    return list(layer.operands) if layer.operands else [case.channels if case.reading.mode == CONTIGUOUS else stored]


def channelwise_module(name: str, channels: int) -> nn.Module:
    """The module of a prologue's operator; functions and methods become the equivalent module."""
    if name.startswith("BatchNorm"):
        made: nn.Module = getattr(nn, name)(channels)
        return made
    kind: Any = PROLOGUE_FUNCTIONS.get(name) or getattr(nn, name)
    if kind is nn.Threshold:
        return nn.Threshold(0.0, 0.0)
    return kind()
