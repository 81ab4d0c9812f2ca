"""Random recurrent layers: LSTM, GRU and RNN of every form, their cells, their states and packed sequences."""

from __future__ import annotations

from benchmarks.random_networks.builder import Builder, Value

_WIDTHS = (4, 6, 3, 5, 2, 1)


def recurrent_layer(b: Builder) -> None:
    """A recurrent layer of one or two layers and directions; its output, its last states, or both."""
    x = _sequence(b)
    layer = _layer(b, _text(b, x, b.pick(_WIDTHS), projects=True))
    result = b.bind(f"{layer}({x})")
    _use(b, layer, result)


def recurrent_states(b: Builder) -> None:
    """A recurrent layer that starts with zeros, with parameters, with another layer's states or with features."""
    x = _sequence(b)
    width = b.pick(_WIDTHS)
    text = _text(b, x, width)
    layer = _layer(b, text)
    number, has_cells = _number(b, layer), _has_cells(b, layer)
    kind = b.integer(0, 3)
    if kind == 0:
        state = f"torch.zeros({number}, {b.size(x, 0)}, {width}, dtype={x}.dtype, device={x}.device)"
        state = b.pick((state, f"{x}.new_zeros({number}, {x}.shape[0], {width})"))
        given = f"({state}, {state})" if has_cells else state
    elif kind == 1:
        states = [f"{b.parameter(number, 1, width)}.expand(-1, {x}.shape[0], -1).contiguous()" for _ in "hc"]
        given = f"({', '.join(states)})" if has_cells else states[0]
    elif kind == 2:
        before = b.bind(f"{b.module(text)}({x})[1]")
        given = f"({before}[0], {before}[1])" if has_cells and b.chance(0.5) else before
    else:
        features = b.emit(f"{b.module(f'nn.Linear({x.shape[-1]}, {width})')}({x}.mean(1))")
        state = f"{features}.tanh().unsqueeze(0).repeat({number}, 1, 1)"
        given = f"({state}, {state} * 0.5)" if has_cells else state
    _use(b, layer, b.bind(f"{layer}({x}, {given})"))


def recurrent_cell(b: Builder) -> None:
    """A few steps of a cell, and their stack or the last one."""
    x, width = _sequence(b), b.pick(_WIDTHS)
    kind = b.pick(("GRUCell", "LSTMCell", "RNNCell"))
    cell = b.module(f"nn.{kind}({x.shape[-1]}, {width}{b.pick(('', ', bias=False'))})")
    zeros = f"{x}.new_zeros({x}.shape[0], {width})"
    first = b.pick(("", f", ({zeros}, {zeros})" if kind == "LSTMCell" else f", {zeros}"))
    states = [b.bind(f"{cell}({x}[:, 0]{first})")]
    for t in range(1, min(3, x.shape[1])):
        states.append(b.bind(f"{cell}({x}[:, {t}], {states[-1]})"))
    outputs = [f"{own}[0]" if kind == "LSTMCell" else own for own in states]
    b.emit(b.pick((f"torch.stack([{', '.join(outputs)}], 1)", f"{outputs[-1]} * 1", f"{states[-1]}[1] + 1")))


def recurrent_residual(b: Builder) -> None:
    """``x + layer(x)``, or the sum of the two directions of a layer."""
    x = _sequence(b)
    kind = b.pick(("GRU", "LSTM", "RNN"))
    if b.chance(0.5) and x.shape[-1] % 2 == 0:
        layer = b.module(f"nn.{kind}({x.shape[-1]}, {x.shape[-1] // 2}, batch_first=True, bidirectional=True)")
        b.emit(f"{x} + {layer}({x})[0]")
        return
    width = x.shape[-1]
    layer = b.module(f"nn.{kind}({width}, {width}, batch_first=True, bidirectional=True)")
    y = b.emit(f"{layer}({x})[0]")
    b.emit(b.pick((f"{y}[..., :{width}] + {y}[..., {width}:] + {x}", f"sum({y}.chunk(2, -1))")))


def packed_sequence(b: Builder) -> None:
    """A packed sequence with known lengths, or with lengths that are computed."""
    x = _sequence(b)
    layer = _layer(b, _text(b, x, b.pick(_WIDTHS)))
    lengths = f"torch.full(({x}.shape[0],), {b.integer(1, x.shape[1])}, device='cpu')"
    packed = b.bind(
        f"nn.utils.rnn.pack_padded_sequence({x}, {lengths}, batch_first=True, "
        f"enforce_sorted={b.pick(('False', 'True'))})"
    )
    result = b.bind(f"{layer}({packed})")
    if b.chance(0.5):
        b.emit(f"nn.utils.rnn.pad_packed_sequence({result}[0], batch_first=True)[0]")
    else:
        b.emit(f"{result}[1]{'[0]' if _has_cells(b, layer) else ''}[-1]")


def _sequence(b: Builder) -> Value:
    """A sequence (batch, time, features). Images become sequences of columns."""
    x = b.tensor(3, 3, 4)
    if x.ndim == 4:
        return b.emit(b.pick((f"{x}.mean(2).transpose(1, 2)", f"{x}.flatten(2).permute(0, 2, 1)[:, :4]")))
    return b.emit(f"{x}.transpose(1, 2)") if b.chance(0.7) else x


def _text(b: Builder, x: Value, width: int, *, projects: bool = False) -> str:
    """The constructor of a recurrent layer."""
    kind = b.pick(("GRU", "LSTM", "RNN"))
    options = ["", "", ", num_layers=2", ", bidirectional=True", ", num_layers=2, bidirectional=True", ", bias=False"]
    if kind == "RNN":
        options.append(", nonlinearity='relu'")
    if kind == "LSTM" and projects and width > 1:
        options.append(f", proj_size={width - 1}, num_layers=2")
    return f"nn.{kind}({x.shape[-1]}, {width}, batch_first=True{b.pick(options)})"


def _layer(b: Builder, text: str) -> str:
    """A recurrent layer, sometimes with zero columns."""
    layer = b.module(text)
    if b.chance(0.2):
        weight = b.pick(("weight_hh_l0", "weight_ih_l0"))
        columns = b.evaluate(f"{layer}.{weight}.shape[1]")
        zeros = sorted(b.source.sample(range(columns), b.integer(1, max(1, columns - 1))))
        b.declare(f"{layer}.{weight}.data[:, {zeros}] = 0")
    return layer


def _use(b: Builder, layer: str, result: str) -> None:
    """Use what a recurrent layer returns."""
    number, states = _number(b, layer), f"{result}[1]"
    states = f"{states}[{b.pick((0, 0, 1))}]" if _has_cells(b, layer) else states
    forms = [f"{result}[0] * 1", f"{result}[0] * 1", f"{states}[-1]", f"{result}[0].mean(1)", f"{result}[0][:, -1]"]
    forms += [f"{states}.transpose(0, 1).flatten(1)", f"torch.relu({states}).permute(1, 0, 2)"]
    if number > 1:
        forms += [f"torch.cat([{states}[-2], {states}[-1]], 1)", f"{states}[0, :, :] + {states}.select(0, 1)"]
        forms += [f"torch.stack([*{states}.unbind(0)[:2]], 1)"]
    if b.evaluate(f"{result}[0].shape[-1] == {states}.shape[-1]"):
        forms += [f"{result}[0] + {states}[-1][:, None]"]
    b.emit(b.pick(forms))
    if b.chance(0.2):
        b.emit(b.pick(forms))


def _number(b: Builder, layer: str) -> int:
    """Number of layers times directions."""
    module = b.evaluate(layer)
    return int(module.num_layers) * (2 if module.bidirectional else 1)


def _has_cells(b: Builder, layer: str) -> bool:
    return bool(b.evaluate(f"isinstance({layer}, nn.LSTM)"))


OPERATORS = {
    recurrent_layer: 3,
    recurrent_states: 2,
    recurrent_cell: 1,
    recurrent_residual: 1,
    packed_sequence: 1,
}
"""Operators with their relative frequencies."""
