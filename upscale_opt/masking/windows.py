"""Windows: every producer and every reader of a stream has one contiguous range of its stored channels.

A stream is a block that several producers are added to and that several consumers read. With windows, an export needs
only views and additions to ranges of it: ``conv(x[:, c:d])`` and ``x[:, a:b] += y``. A `WindowChoice` holds the order
of the stored channels and the windows. `window_masks` turns choices into masks, and
`upscale_opt.planning.window_plans.window_plan` turns them into a plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from upscale_opt.arguments.checks import an, channel_numbers, described, named, named_values, settle_fields
from upscale_opt.arguments.entrance import MASKS, OUTPUTS, entrance
from upscale_opt.errors import MaskError
from upscale_opt.importance import num_inputs
from upscale_opt.masking.input_masks import effective_masks, normalise_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.output_masks import normalise_output_masks
from upscale_opt.tracing.graphs import Graph, TensorLayout
from upscale_opt.tracing.writes import writes_of

Window = tuple[int, int]
"""First position of a window in the order of the stored channels, and the position behind its last one."""


@dataclass(frozen=True, eq=False)
class WindowChoice:
    """The stored channels of one block, in order, and the windows of its accesses.

    Attributes
    ----------
    order
        int64: the channels that are stored, in order. Channels of the block that are not listed are not stored.
    windows
        Access name to window. The name of a read is that of its consumer's module (``layer1.0.conv1``). The name of a
        write is ``write`` and its producer's module (``write layer1.0.conv2``). Names of weights are accepted for
        reads. Accesses that are not listed have the whole order as their window.

    Raises
    ------
    MaskError
        If a channel is listed twice, or a window is empty or leaves the order.

    Examples
    --------
    >>> choice = WindowChoice([2, 0, 3], {"head": (0, 2)})
    >>> choice.channels("head").tolist(), choice.channels("tail").tolist()
    ([2, 0], [2, 0, 3])
    """

    order: np.ndarray
    windows: Mapping[str, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle_fields(self, order=channel_numbers, windows=named("its window", "access", MaskError))
        size = len(self.order)
        if not size or len(np.unique(self.order)) != size or self.order.min() < 0:
            raise MaskError("an order of windows lists every stored channel once; give at least one channel")
        for name, window in self.windows.items():
            if not _is_window(window, size):
                raise MaskError(
                    f"the window of {name!r} is {described(window) if not isinstance(window, tuple) else window}; give "
                    f"its first position and the one behind its last, within the {size} positions of the order"
                )

    def channels(self, access: str) -> np.ndarray:
        """The channels in the window of an access; int64, in order."""
        start, stop = self.windows.get(access, (0, len(self.order)))
        window: np.ndarray = self.order[start:stop]
        return window


def _is_window(window: Any, size: int) -> bool:
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        return False
    whole = all(isinstance(end, (int, np.integer)) and not isinstance(end, bool) for end in window)
    return whole and 0 <= window[0] < window[1] <= size


WINDOWS = named_values(
    an("upscale_opt.masking.windows", "WindowChoice", "a WindowChoice", MaskError), "its windows", "block", MaskError
)
"""The check of an argument that maps blocks to choices."""


@entrance(choices=WINDOWS, masks=MASKS, output_masks=OUTPUTS)
def window_masks(
    graph: Graph,
    choices: Mapping[str, WindowChoice],
    *,
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | None = None,
    output_masks: Mapping[str, Any] | None = None,
) -> MaskedGraph:
    """The masks of windows. `upscale_opt.prepare` makes a `MaskedModel` of the result.

    A consumer's mask keeps the channels of its window. A producer's mask keeps those of its window, unless that is the
    whole order: then it needs no mask.

    Parameters
    ----------
    graph
        The traced model.
    choices
        Block name (`Graph.blocks`) to choice.
    masks, output_masks
        Masks of other channels, in the formats of `normalise_masks` and `normalise_output_masks`. In the channels of
        `choices`, they have no effect. Default: everything else is kept.

    Raises
    ------
    MaskError
        If a block or an access does not exist, if an order lists a channel that its block does not have, or if the
        access is a convolution with several groups, which has no window.
    """
    columns = normalise_masks(graph, masks or {})
    rows = normalise_output_masks(graph, output_masks or {})
    numbers = {block.name: b for b, block in enumerate(graph.blocks)}
    writes = writes_of(graph)
    for name, choice in choices.items():
        if name not in numbers:
            raise MaskError(f"there is no block {name!r}{_near(name, numbers)}")
        b = numbers[name]
        if choice.order.max() >= graph.blocks[b].size:
            raise MaskError(f"block {name!r} has {graph.blocks[b].size} channels, but its order lists others")
        reads = [read for read in graph.reads if b in read.input.blocks]
        own = {read.name: read.weight for read in reads} | {read.weight: read.weight for read in reads}
        adding = {write.name: write for write in writes.values() if b in write.layout.blocks}
        for access in choice.windows:
            if access not in own and access not in adding:
                raise MaskError(f"block {name!r} has no access {access!r}{_near(access, [*own, *adding])}")
        for weight, names in _by_weight(own).items():
            kept = _one_window(choice, weight, names)
            before = columns.get(weight, np.ones(num_inputs(graph, weight), dtype=bool))
            columns[weight] = _within(graph, graph.consumers[weight].input, b, kept, before)
        for access, write in adding.items():
            window = choice.channels(access)
            whole = len(window) == len(choice.order)
            if whole and write.weight not in rows:
                continue
            width = sum(graph.blocks[own].size for own in write.layout.blocks)
            before = rows.get(write.weight, np.ones(width, dtype=bool))
            kept = np.arange(graph.blocks[b].size) if whole else window
            rows[write.weight] = _within(graph, write.layout, b, kept, before)
    rows = {weight: mask for weight, mask in rows.items() if not mask.all()}
    return replace(effective_masks(graph, columns), output_masks=rows)


def _by_weight(own: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of all accesses of each weight."""
    names: dict[str, list[str]] = {}
    for name, weight in own.items():
        names.setdefault(weight, []).append(name)
    return names


def _one_window(choice: WindowChoice, weight: str, names: list[str]) -> np.ndarray:
    """The channels that a consumer keeps. All its calls have one window."""
    given = {tuple(choice.windows[name]) for name in names if name in choice.windows}
    if len(given) > 1:
        raise MaskError(f"the calls of {weight} have different windows; give them the same one")
    named = next((name for name in names if name in choice.windows), names[0])
    return choice.channels(named)


def _within(graph: Graph, layout: TensorLayout, block: int, kept: np.ndarray, before: np.ndarray) -> np.ndarray:
    """A mask in which the channels of one block are those that are kept, and other channels are as before."""
    own = np.zeros(graph.blocks[block].size, dtype=bool)
    own[kept] = True
    after, start = before.copy(), 0
    for b in layout.blocks:
        length = graph.blocks[b].size * layout.size
        if b == block:
            after[start : start + length] = own.repeat(layout.size)
        start += length
    return after


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
