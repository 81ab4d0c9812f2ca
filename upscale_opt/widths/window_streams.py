"""The streams of a network whose accesses can have windows, as window problems, and why others cannot.

The accesses of a problem are the stream's writers and readers in execution order. In front of them stands `STORED`, a
writer that is always whole. It carries what does not depend on single windows: what a reader loses beyond its pairs
(the shift of a BatchNorm), and the work of operators that run over all stored channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from problems.windows.decision import Windows
from problems.windows.losses import ChannelLosses
from problems.windows.problem import Role, StreamAccess, WindowProblem, pairs_of
from upscale_opt.importance.observation import Loss
from upscale_opt.importance.stream_accesses import Stream, stream_of
from upscale_opt.importance.streams import StreamScores, stream_scores
from upscale_opt.masking.windows import WindowChoice
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.writes import Write, writes_of
from upscale_opt.widths.candidates import step_between
from upscale_opt.widths.window_times import conflict, layer_of

STORED = "stored"
"""The access that stands for all stored channels."""


@dataclass(frozen=True, eq=False)
class WindowStream:
    """A stream whose windows are chosen.

    Attributes
    ----------
    block
        Number of the block.
    problem
        Its accesses and losses, with prices of 0. The first access is `STORED`. The channels that stay at the least
        width are `full`.
    step
        Channels: windows are multiples of it where that pays.
    """

    block: int
    problem: WindowProblem
    step: int

    @property
    def name(self) -> str:
        """Name of the block."""
        return self.problem.name

    def holding(self, number: int) -> WindowStream:
        """The same stream, but every access holds this many of the strongest channels, or those it held before."""
        full = self.problem.full.copy()
        full[np.argsort(-self.problem.losses.total, kind="stable")[:number]] = True
        return replace(self, problem=replace(self.problem, full=full))

    def choice(self, windows: Windows) -> WindowChoice:
        """The windows in the form of `upscale_opt.masking.windows`."""
        ranges = zip(windows.starts.tolist(), windows.stops.tolist(), strict=True)
        named = dict(zip((own.name for own in self.problem.accesses), ranges, strict=True))
        whole = (0, len(windows.order))
        return WindowChoice(
            windows.order, {name: own for name, own in named.items() if name != STORED and own != whole}
        )

    def whole(self, channels: np.ndarray) -> Windows:
        """Full windows over some channels: what conventional pruning has."""
        number = self.problem.num_accesses
        return Windows(np.asarray(channels), [0] * number, [len(channels)] * number)


def stream_names(
    graph: Graph, parts: Any, candidates: Mapping[int, tuple[int, ...]]
) -> tuple[list[str], dict[str, str]]:
    """The blocks that can have windows, and the other blocks of several writers, each with the reason why not.

    Parameters
    ----------
    graph, parts
        The traced network and its operator groups (`upscale_opt.widths.operator_groups.Partition`).
    candidates
        Free block to its candidate widths.
    """
    able, left_out = [], dict[str, str]()
    for b, block in enumerate(graph.blocks):
        stream = stream_of(graph, b)
        if len(stream.writers) < 2 or block.pinned:
            continue
        reason = _obstacle(graph, parts, candidates, stream)
        if reason is None:
            able.append(block.name)
        else:
            left_out[block.name] = reason
    return able, left_out


def window_streams(
    graph: Graph,
    parts: Any,
    candidates: Mapping[int, tuple[int, ...]],
    data: Any,
    *,
    loss: Loss | None = None,
    seed: int = 0,
) -> tuple[list[WindowStream], dict[str, str]]:
    """Score the streams of a network and make their window problems.

    Parameters
    ----------
    graph, parts, candidates
        As for `stream_names`.
    data, loss, seed
        As for `upscale_opt.importance.fisher.block_losses`. Give the same ones, and dropping a channel of a stream for
        all its accesses has the loss that it has there.

    Returns
    -------
    tuple
        The streams in the order of their blocks, and block name to the reason why a stream is left out.
    """
    able, left_out = stream_names(graph, parts, candidates)
    scores = stream_scores(graph, data, blocks=able, loss=loss, seed=seed) if able else {}
    number = {block.name: b for b, block in enumerate(graph.blocks)}
    return [window_stream(graph, candidates[number[name]], number[name], scores[name]) for name in able], left_out


def window_stream(graph: Graph, widths: tuple[int, ...], block: int, scores: StreamScores) -> WindowStream:
    """The window problem of one stream, from its scores.

    Parameters
    ----------
    graph
        The traced network.
    widths
        Candidate widths of the block, ascending.
    block
        Number of the block.
    scores
        Its scores.
    """
    stream = stream_of(graph, block)
    accesses, columns = _accesses(graph, stream)
    pairs = pairs_of([own.role for own in accesses])
    number = {pair: p for p, pair in enumerate(scores.pairs)}
    values = np.zeros((len(scores.scores), len(pairs), graph.blocks[block].size))
    for p, (t, j) in enumerate(pairs.tolist()):
        reader = columns[j]
        if t == 0:
            values[:, p] = scores.rest[:, reader]
        elif (columns[t], reader) in number:
            values[:, p] = scores.scores[:, number[columns[t], reader]]
    losses = ChannelLosses.from_scores(values)
    full = np.zeros(graph.blocks[block].size, dtype=bool)
    full[np.argsort(-losses.total, kind="stable")[: widths[0]]] = True
    problem = WindowProblem(accesses, losses, np.zeros(len(accesses)), full, graph.blocks[block].name)
    return WindowStream(block, problem, step_between(widths))


def _accesses(graph: Graph, stream: Stream) -> tuple[list[StreamAccess], list[int]]:
    """The accesses in execution order, `STORED` first, and the number of each among the writers or the readers."""
    place = {node.name: i for i, node in enumerate(graph.module.graph.nodes)}
    writes = {own.name: own for own in writes_of(graph).values()}
    narrow = _narrow_writers(graph, stream, writes)
    found = [(-1, StreamAccess(STORED, Role.WRITER, True), -1)]
    for t, writer in enumerate(stream.writers):
        name = f"write {writer.name}"
        head = writes[name].chain[0] if name in writes else writer.node
        found.append((place[head], StreamAccess(name, Role.WRITER, name not in narrow), t))
    for j, read in enumerate(stream.readers):
        whole = read.input.blocks != (stream.block,) or read.groups > 1
        found.append((place[read.node], StreamAccess(read.name, Role.READER, whole), j))
    found.sort(key=lambda own: own[0])
    return [access for _, access, _ in found], [number for _, _, number in found]


def _narrow_writers(graph: Graph, stream: Stream, writes: Mapping[str, Write]) -> set[str]:
    """The writers that an export can narrow: those that are added in place to what is there before them.

    What the stream starts with is whole. If both operands of the first addition are producers, the earlier one is.
    """
    own = [writes[f"write {writer.name}"] for writer in stream.writers if f"write {writer.name}" in writes]
    last = {write.addition: write.name for write in own}
    return {
        write.name
        for write in own
        if write.addition is not None
        and last[write.addition] == write.name
        and write.layout.blocks == (stream.block,)
        and not write.mixes
    }


def _obstacle(graph: Graph, parts: Any, candidates: Mapping[int, tuple[int, ...]], stream: Stream) -> str | None:
    """Why a stream cannot have windows; None if it can."""
    b = stream.block
    if b not in candidates:
        return str(parts.fixed.get(b, "its width is not free"))
    if len(candidates[b]) < 2:
        return "it is too narrow for another width"
    if stream.product is not None:
        return f"{stream.product} multiplies what two of its writers write"
    if stream.constants:
        return f"{stream.constants[0]} scales its channels"
    if not stream.pairs:
        return "nobody reads what is written into it"
    names = [read.weight for read in stream.readers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"{layer_of(twice)} reads it more than once"
    accesses, _ = _accesses(graph, stream)
    if sum(not own.pinned for own in accesses) < 2:
        return "fewer than two of its accesses can have windows"
    return conflict(graph, parts, b)
