"""Random operators with weights: convolutions and linear layers of every kind, and unusual uses of their parameters."""

from __future__ import annotations

from benchmarks.random_networks.builder import CHANNELS, Builder, Inapplicable, Value


def convolution(b: Builder) -> None:
    """A convolution with groups = 1 over dimension 1, sometimes with zero columns."""
    x = b.tensor(4, 4, 3, 5)
    name = b.module(conv_text(b, x, b.pick(CHANNELS)))
    zero_columns(b, name, x.shape[1])
    b.emit(f"{name}({x})" if b.chance(0.9) else f"{name}(input={x})")


def linear(b: Builder) -> None:
    """A linear layer over the last dimension, sometimes with zero columns."""
    x = b.tensor(2, 2, 3, 4)
    name = b.module(f"nn.Linear({x.shape[-1]}, {b.pick(CHANNELS)}{b.pick(('', ', bias=False'))})")
    zero_columns(b, name, x.shape[-1])
    b.emit(f"{name}({x})")


def residual_convolution(b: Builder) -> None:
    """``x + conv(x)``, the most common tie."""
    x = b.tensor(4, 4, 3, 5)
    y = b.emit(f"{b.module(conv_text(b, x, x.shape[1], same=True))}({x})")
    b.emit(b.pick((f"{x} + {y}", f"F.relu({y} + {x})", f"{y}.add({x})", f"torch.add({x}, {y}, alpha=0.5)")))


def siblings(b: Builder) -> None:
    """Several convolutions of one tensor, as in Inception, joined or added."""
    x = b.tensor(4, 4, 3, 5)
    number, width = b.integer(2, 4), b.pick(CHANNELS)
    ys = [b.emit(f"{b.module(conv_text(b, x, width, same=True))}({x})") for _ in range(number)]
    b.emit(f"torch.cat([{', '.join(ys)}], 1)" if b.chance(0.5) else " + ".join(ys))


def grouped_convolution(b: Builder) -> None:
    """Groups between 1 and the number of channels."""
    x = b.tensor(4, 4, 3, 5, where=lambda shape: any(shape[1] % g == 0 for g in (2, 3, 4)))
    groups = b.pick([g for g in (2, 3, 4) if x.shape[1] % g == 0])
    b.emit(f"{b.module(conv_text(b, x, groups * b.integer(1, 3), groups=groups))}({x})")


def depthwise_convolution(b: Builder) -> None:
    """One group per channel, sometimes with a multiplier."""
    x = b.tensor(4, 4, 3, 5)
    channels = x.shape[1]
    b.emit(f"{b.module(conv_text(b, x, channels * b.pick((1, 1, 1, 2, 3)), groups=channels))}({x})")


def transposed_convolution(b: Builder) -> None:
    """A transposed convolution, sometimes with groups."""
    x = b.tensor(4, 3, 5)
    channels, dims = x.shape[1], x.ndim - 2
    groups = b.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * b.integer(1, 4)
    extra = b.pick(("2, stride=2", "3, padding=1", "3, stride=2, padding=1, output_padding=1", "1, bias=False"))
    b.emit(f"{b.module(f'nn.ConvTranspose{dims}d({channels}, {out}, {extra}, groups={groups})')}({x})")


def functional_convolution(b: Builder) -> None:
    """``F.conv2d`` with parameters of the network."""
    x = b.tensor(4, 4, 3)
    channels, dims = x.shape[1], x.ndim - 2
    groups = b.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * b.integer(1, 4)
    weight = b.parameter(out, channels // groups, *[3] * dims)
    bias = b.pick(("", f", {b.parameter(out)}"))
    b.emit(f"F.conv{dims}d({x}, {weight}{bias}, padding=1, groups={groups})")


def functional_linear(b: Builder) -> None:
    """``F.linear``, ``@`` and einsum with a parameter of the network."""
    x = b.tensor(2, 3, 4)
    features, out = x.shape[-1], b.pick(CHANNELS)
    forms = (
        f"F.linear({x}, {b.parameter(out, features)})",
        f"F.linear({x}, {b.parameter(out, features)}, {b.parameter(out)})",
        f"{x} @ {b.parameter(features, out)}",
        f"torch.matmul({x}, {b.parameter(out, features)}.t())",
        f"torch.einsum('...i,oi->...o', {x}, {b.parameter(out, features)})",
    )
    b.emit(b.pick(forms))


def same_module_again(b: Builder) -> None:
    """A module that was called before, on another tensor."""
    name, x = _called_before(b)
    b.emit(f"{name}({x})")


def tied_weights(b: Builder) -> None:
    """A second module that shares the weight of a first one."""
    name, x = _called_before(b)
    kind = type(b.evaluate(name)).__name__
    if kind not in ("Conv1d", "Conv2d", "Conv3d", "Linear") or not b.evaluate(
        f"isinstance({name}.weight, nn.Parameter)"
    ):
        raise Inapplicable
    text = next(line.partition(" = ")[2] for line in b.init if line.startswith(f"{name} = "))
    twin = b.module(text)
    b.declare(f"{twin}.weight = {name}.weight")
    b.emit(f"{twin}({x})")


def borrowed_parameter(b: Builder) -> None:
    """A module's parameter used outside of the module."""
    names = [name for name in _modules(b) if b.evaluate(f"isinstance(getattr({name}, 'weight', None), torch.Tensor)")]
    if not names:
        raise Inapplicable
    name = b.pick(names)
    weight = b.evaluate(f"{name}.weight")
    x = b.tensor()
    forms = [f"{x} * {name}.weight.mean()", f"{x} + {name}.weight.abs().max()"]
    if weight.ndim == 4 and x.ndim == 4 and x.shape[1] == weight.shape[1]:
        forms += [f"F.conv2d({x}, {name}.weight)"] * 4
    if weight.ndim == 2 and x.shape[-1] == weight.shape[1]:
        forms += [f"F.linear({x}, {name}.weight)"] * 4
    if weight.ndim == 1 and x.ndim == 4 and x.shape[1] == len(weight):
        forms += [f"{x} * {name}.weight.view(1, -1, 1, 1)"] * 4
    b.emit(b.pick(forms))


def hooked_module(b: Builder) -> None:
    """A convolution or batch norm with a forward hook, a pre-hook, or weights that a hook computes."""
    x = b.tensor(4)
    norm = f"nn.BatchNorm2d({x.shape[1]})"
    name = b.module(norm if b.chance(0.3) else conv_text(b, x, b.pick(CHANNELS)))
    hooks = (
        f"{name}.register_forward_hook(custom.reverse_output)",
        f"{name}.register_forward_pre_hook(custom.reverse_input)",
        f"nn.utils.prune.l1_unstructured({name}, 'weight', 0.3)",
        f"nn.utils.parametrizations.weight_norm({name})",
    )
    b.declare(b.pick(hooks if "conv" in name else hooks[:2]))
    b.emit(f"{name}({x})")


def unknown_module(b: Builder) -> None:
    """Modules without a rule: a subclass, a module of a user, bilinear layers, attention."""
    x = b.tensor(4, 3)
    channels, last = x.shape[1], x.shape[-1]
    if x.ndim == 4:
        forms = (f"custom.Scaled({channels}, {b.pick(CHANNELS)}, 1)", "custom.Reverse()", "nn.Softmax2d()")
        b.emit(f"{b.module(b.pick(forms))}({x})")
        return
    kind = b.integer(0, 2)
    if kind == 0:
        b.emit(f"{b.module(f'nn.Bilinear({last}, {last}, {b.pick(CHANNELS)})')}({x}, {x})")
    elif kind == 1:
        layer = b.module(f"nn.MultiheadAttention({last}, {2 if last % 2 == 0 else 1}, batch_first=True)")
        b.emit(f"{layer}({x}, {x}, {x}{b.pick(('', ', need_weights=False'))})[0]")
    else:
        b.emit(f"{b.module(f'nn.TransformerEncoderLayer({last}, 1, 8, batch_first=True, dropout=0.0)')}({x})")


def nested_module(b: Builder) -> None:
    """A Sequential, called as a whole or item by item."""
    x = b.tensor(4, 3)
    dims, width = x.ndim - 2, b.pick(CHANNELS)
    parts = [conv_text(b, x, width), f"nn.BatchNorm{dims}d({width})", "nn.ReLU(inplace=True)"]
    if b.chance(0.3):
        parts.append(f"nn.Sequential(nn.Conv{dims}d({width}, {b.pick(CHANNELS)}, 1), nn.SiLU())")
    name = b.module(f"nn.Sequential({', '.join(parts)})")
    zero_columns(b, f"{name}[0]", x.shape[1])
    if b.chance(0.2):
        b.declare(f"{name}.register_forward_hook(custom.reverse_output)")
    b.emit(f"{name}({x})")


def conv_text(b: Builder, x: Value, out: int, *, groups: int = 1, same: bool = False) -> str:
    """The constructor of a convolution of `x` with random settings; `same` keeps the spatial size."""
    dims, smallest = x.ndim - 2, min(x.shape[2:])
    options = ["1", "3, padding=1", "3, padding='same'"]
    if smallest >= 3:
        options += ["3, padding=1, padding_mode='reflect'", "3, padding=2, dilation=2"]
        options += [] if same else ["3", "3, stride=2, padding=1", "2, stride=2"]
    grouped = f", groups={groups}" if groups > 1 else ""
    bias = b.pick(("", "", ", bias=False"))
    return f"nn.Conv{dims}d({x.shape[1]}, {out}, {b.pick(options)}{grouped}{bias})"


def zero_columns(b: Builder, name: str, columns: int) -> None:
    """Sometimes set the weights of some input channels to zero, as if they were pruned."""
    if b.chance(0.15):
        zeros = sorted(b.source.sample(range(columns), b.integer(1, max(1, columns - 1))))
        b.declare(f"{name}.weight.data[:, {zeros}] = 0")


def _modules(b: Builder) -> list[str]:
    """Names of the submodules so far that are not containers."""
    names = [line.partition(" = ")[0] for line in b.init if line.startswith("self.") and " = nn." in line]
    containers = ("sequential", "weight")
    return [name for name in names if "." not in name[5:] and not name[5:].startswith(containers)]


def _called_before(b: Builder) -> tuple[str, Value]:
    """A module of one input, and a tensor for it (chosen by the number of dimensions; the call may still fail)."""
    names = _modules(b)
    if not names:
        raise Inapplicable
    name = b.pick(names[::-1])
    weight = b.evaluate(f"getattr({name}, 'weight', None)")
    if weight is None or weight.ndim < 2:
        return name, b.tensor()
    if b.evaluate(f"isinstance({name}, nn.Linear)"):
        return name, b.tensor(where=lambda shape: shape[-1] == weight.shape[1])
    channels = b.evaluate(f"getattr({name}, 'in_channels', None)")
    return name, b.tensor(weight.ndim, where=lambda shape: shape[1] == channels)


OPERATORS = {
    convolution: 14,
    linear: 5,
    residual_convolution: 5,
    siblings: 3,
    grouped_convolution: 3,
    depthwise_convolution: 3,
    transposed_convolution: 2,
    functional_convolution: 2,
    functional_linear: 2,
    same_module_again: 3,
    tied_weights: 1,
    borrowed_parameter: 1,
    hooked_module: 1,
    unknown_module: 2,
    nested_module: 3,
}
"""Operators with their relative frequencies."""
