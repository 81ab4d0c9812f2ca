"""Rules of recurrent layers: LSTM, GRU and RNN, and their cells.

Unit i of a layer is row i of every gate in the weights and biases, and column i of the weights that read its output:
the layer's own next step, the next layer, and consumers of the output and of the last states. A unit that nobody reads
is removed. The layers of one module have one hidden size, so they store equally many units each
(`upscale_opt.channels.flow.Flow.alike`).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from upscale_opt.channels.findings import Packed, Stacked, Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout

_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def recurrent(flow: Flow, node: fx.Node) -> Value:
    """``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``: they read the last axis of a sequence, and compute units on this axis."""
    module, source = flow.module(node), flow.source(node)
    sequence = flow.value(source)
    if not flow.is_tensor(source) and not isinstance(sequence, Packed):
        return flow.unknown(node, f"{flow.operator(node)} of what is no tensor")
    axis = 2 if isinstance(sequence, Packed) else len(flow.shape(source)) - 1
    names = _suffixes(module)
    initial = _initial_states(flow, node, axis, len(names))
    x = sequence.channels if isinstance(sequence, Packed) else flow.channels(node, source, axis)
    if x is None or initial is None or len(x) != module.input_size:
        return flow.unknown(node)
    if not all(_uses(flow, node, suffix) for suffix in names):
        return flow.unknown(node, "a weight that is used in two ways")
    outputs: list[np.ndarray] = []
    units: list[np.ndarray] = []
    read_from = source.name
    directions = 2 if module.bidirectional else 1
    for k, suffix in enumerate(names):
        if k and k % directions == 0:
            x, read_from = np.concatenate(outputs[-directions:]), node.name
        output, own = _layer(flow, node, suffix, x, read_from)
        outputs.append(output)
        units.append(own)
    for given, parts in zip(initial, (outputs, units), strict=False):
        for first, other in zip(given, parts, strict=True):
            flow.table.tie(first, other)
    for parts in (outputs, units) if len(names) > 1 else ():
        flow.alike.append(tuple(Layout(axis, part) for part in parts))
    states = [_last_states(flow, node, place, axis, parts) for place, parts in enumerate((outputs, units))]
    last = tuple(states) if _has_cells(module) else states[0]
    computed = np.concatenate(outputs[-directions:])
    return (Packed(computed) if isinstance(sequence, Packed) else Layout(axis, computed), last)


def cell(flow: Flow, node: fx.Node) -> Value:
    """``nn.LSTMCell``, ``nn.GRUCell`` and ``nn.RNNCell``: one step of one layer."""
    module, source = flow.module(node), flow.source(node)
    if not flow.is_tensor(source):
        return flow.unknown(node)
    axis = len(flow.shape(source)) - 1
    initial = _initial_states(flow, node, axis, 1)
    x = flow.channels(node, source, axis)
    if x is None or initial is None or len(x) != module.input_size:
        return flow.unknown(node)
    if not _uses(flow, node, ""):
        return flow.unknown(node, "a weight that is used in two ways")
    units, _ = _layer(flow, node, "", x, source.name)
    for (given,) in initial:
        flow.table.tie(given, units)
    result = Layout(axis, units)
    return (result, result) if _has_cells(module) else result


def pack(flow: Flow, node: fx.Node) -> Value:
    """``pack_padded_sequence`` keeps the channels of the last axis. It gets the lengths of the sequences besides."""
    source = flow.source(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if (
        x is None
        or len(flow.shape(source)) != 3
        or x.axis != 2
        or flow.value(flow.argument(node, "lengths")) is not None
    ):
        return flow.unknown(node)
    return Packed(x.channels)


def unpack(flow: Flow, node: fx.Node) -> Value:
    """``pad_packed_sequence`` returns a tensor with the channels of the packed sequence, and lengths."""
    value = flow.value(flow.source(node))
    if not isinstance(value, Packed):
        return flow.unknown(node) if value is not None else flow.opaque(node)
    return (Layout(2, value.channels), None)


def _layer(flow: Flow, node: fx.Node, suffix: str, x: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """One layer in one direction: the channels of its output, and its units. They are the same without projection."""
    module, path = flow.module(node), node.target
    name = f"{path}.{suffix.removeprefix('_')}" if suffix else str(path)
    recurrent, incoming = f"{path}.weight_hh{suffix}", f"{path}.weight_ih{suffix}"
    projection = f"{path}.weight_hr{suffix}" if getattr(module, "proj_size", 0) else None
    size = flow.parameter(recurrent).shape[1]
    if projection is None:
        output = units = flow.units(recurrent, size, name)
    else:
        units = flow.units(projection, module.hidden_size, f"{name}.units")
        output = flow.units(recurrent, size, name)
        flow.follow(projection, 0, output)
        flow.table.need(
            units
        )  # torch takes a layer with as many units as projected channels for one without projection
    rows = np.tile(units, _GATES[type(module)])
    biases = [f"{path}.bias_{kind}{suffix}" for kind in ("ih", "hh")] if module.bias else []
    for own in (incoming, recurrent, *biases):
        flow.follow(own, 0, rows)
    flow.compute_units(node, x, units, weight=incoming, source=source)
    flow.compute_units(node, output, units, weight=recurrent, source=node.name)
    if projection is not None:
        flow.compute_units(node, units, output, weight=projection, source=node.name)
    return output, units


def _suffixes(module: Any) -> list[str]:
    """The endings of the names of a module's weights, layer by layer, with both directions of a layer in turn."""
    directions = ("", "_reverse") if module.bidirectional else ("",)
    return [f"_l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]


def _uses(flow: Flow, node: fx.Node, suffix: str) -> bool:
    """Whether the weights of a layer are used only by recurrent layers with as many gates."""
    module = flow.module(node)
    kinds = ("ih", "hh", "hr") if getattr(module, "proj_size", 0) else ("ih", "hh")
    way = ("recurrent", _GATES[type(module)])
    found = [flow.is_used_as(f"{node.target}.weight_{kind}{suffix}", (*way, kind)) for kind in kinds]
    return all(found)


def _has_cells(module: nn.Module) -> bool:
    return isinstance(module, (nn.LSTM, nn.LSTMCell))


def _initial_states(flow: Flow, node: fx.Node, axis: int, number: int) -> list[list[np.ndarray]] | None:
    """The channels of the given initial states: for each state, those of each of `number` layers.

    Empty if no states are given. None if they are not known.
    """
    given: Any = flow.argument(node, "hx")
    if given is None:
        return []
    several = _has_cells(flow.module(node))
    if several and isinstance(given, fx.Node):
        values = flow.value(given)
        if not isinstance(values, tuple):
            return None
        states: list[Any] = [(value, None) for value in values]
    else:
        states = [(flow.value(own), own) for own in (given if several else [given])]
    found = []
    for value, own in states:
        if isinstance(value, Stacked):
            channels: list[np.ndarray | None] = [*value.parts]
        elif isinstance(value, Layout) and own is None:
            channels = [value.channels if value.axis == axis else None] * number
        else:
            channels = [flow.channels(node, own, axis)] * number
        fits = [parts for parts in channels if parts is not None]
        if len(fits) != number or len(channels) != number:
            return None
        found.append(fits)
    return found if len(found) == (2 if several else 1) else None


def _last_states(flow: Flow, node: fx.Node, place: int, axis: int, parts: list[np.ndarray]) -> Value:
    """The layout of a tensor of last states. Its first axis has the layers.

    The layers are tied if somebody uses the tensor without taking single layers from it.
    """
    if len(parts) == 1:
        return Layout(axis, parts[0])
    holders = [own for own in node.users if _takes(own, 1)]
    if _has_cells(flow.module(node)):
        holders = [own for holder in holders for own in holder.users if _takes(own, place)]
    if all(_takes_layers(flow, user, own) for own in holders for user in own.users):
        return Stacked(axis, tuple(parts))
    for own in parts[1:]:
        flow.table.tie(parts[0], own)
    return Layout(axis, parts[0])


def _takes(node: fx.Node, index: int) -> bool:
    return node.target is operator.getitem and node.args[1] in (index, index - 2)


def _takes_layers(flow: Flow, user: fx.Node, states: fx.Node) -> bool:
    """Whether a node takes single layers from a tensor of last states, or starts another layer with it."""
    if user.op == "call_module":
        return isinstance(flow.module(user), LAYERS) and user.args[0] is not states
    if user.target is operator.getitem:
        index: Any = user.args[1]
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        return type(first) is int and all(own == slice(None) for own in rest)
    if user.target in ("select", torch.select):
        return len(user.args) == 3 and user.args[1] in (0,) and type(user.args[2]) is int
    if user.target in ("unbind", torch.unbind):
        return len(user.args) == 1 or user.args[1] in (0,)
    return False
