"""Random operators that keep the shape of their input: arithmetic, activations, normalisations, constants."""

from __future__ import annotations

from benchmarks.random_networks.builder import Builder, Inapplicable, Value

_ACTIVATIONS = (
    *("ReLU", "ReLU6", "LeakyReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid", "LogSigmoid"),
    *("Hardsigmoid", "Hardswish", "Hardtanh", "Softshrink", "Tanh", "Tanhshrink", "Softplus", "Softsign"),
    *("Identity", "Dropout", "Dropout2d", "AlphaDropout"),
)
_INPLACE = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish", "Hardtanh")
_FUNCTIONS = (
    *("F.relu({x})", "torch.relu({x})", "{x}.relu()", "torch.sigmoid({x})", "{x}.sigmoid()", "F.silu({x})"),
    *("torch.tanh({x})", "F.gelu({x}, approximate='tanh')", "F.leaky_relu({x}, negative_slope=0.2)", "{x}.abs()"),
    *("torch.clamp({x}, -1, 1)", "{x}.clamp(min=0)", "{x}.clamp_min(-0.5)", "F.relu(input={x})", "torch.erf({x})"),
    *("torch.exp(-{x} * {x})", "torch.log({x}.abs() + 1)", "torch.sqrt({x}.abs() + 0.1)", "{x} ** 2", "-{x}"),
    *("torch.square({x})", "torch.sin({x})", "{x}.cos()", "torch.special.expit({x})", "F.hardtanh({x}, -0.5, 0.7)"),
    *("{x}.clone()", "{x}.contiguous()", "{x}.detach()", "{x}.to({x}.dtype)", "{x}.type_as({x})", "1 - {x}"),
    *("F.dropout({x}, 0.5, self.training)", "torch.nn.functional.softplus({x})", "{x}.masked_fill({x} > 1, 0.5)"),
    *("torch.where({x} > 0, {x}, 0.3 * {x})", "torch.nan_to_num({x})", "{x}.reciprocal().clamp(-2, 2)"),
    *(
        "torch.clip({x}, -1, 1)",
        "{x}.multiply(2)",
        "torch.divide({x}, 3)",
        "torch.log1p({x}.abs())",
        "{x}.view_as({x})",
    ),
    *("{x}.to(dtype={x}.dtype)", "{x}.type({x}.dtype)", "torch.lerp({x}, {x} * 2, 0.3)", "{x}.data + {x}"),
    *("{x} * torch.ones_like({x})", "F.leaky_relu_({x} * 1, 0.1)", "{x}.true_divide(2)", "torch.movedim({x}, 0, 0)"),
    *("F.threshold({x}, 0.1, -0.3)", "F.rrelu({x})", "torch.rsqrt({x}.abs() + 0.5)", "torch.atan({x})"),
)


def activation(b: Builder) -> None:
    """A module or function that works on every element."""
    x = b.tensor()
    if b.chance(0.5):
        b.emit(b.pick(_FUNCTIONS).format(x=x))
        return
    kind = b.pick(_ACTIVATIONS)
    inplace = "inplace=True" if kind in _INPLACE and b.chance(0.3) else ""
    b.emit(f"{b.module(f'nn.{kind}({inplace})')}({x})")


def parametric_relu(b: Builder) -> None:
    """PReLU with one parameter, or with one per channel."""
    x = b.tensor(2, 3, 4, 5)
    if b.chance(0.2):
        b.emit(f"F.prelu({x}, {b.parameter(x.shape[1])})")
    else:
        b.emit(f"{b.module(f'nn.PReLU({b.pick((1, x.shape[1]))})')}({x})")


def scalar(b: Builder) -> None:
    """Arithmetic with a number, written in several ways."""
    x = b.tensor()
    forms = (
        *("{x} + 1", "{x} * 0.5", "2 * {x} - 1", "{x} / 3", "{x}.mul(0.7)", "torch.sub({x}, 0.2)", "3.0 - {x}"),
        *("{x} * {x}.shape[1]", "{x} / math.sqrt(2)", "{x} + torch.tensor(0.5)", "{x} / {x}.size(-1)"),
        *("{x} * {x}.size(1) ** -0.5", "{x} + {x}.ndim", "torch.rsub({x}, 1)", "{x}.pow(2)", "{x} * ({x} > 0)"),
    )
    b.emit(b.pick(forms).format(x=x))


def binary(b: Builder) -> None:
    """Arithmetic between two tensors of the same or of broadcastable shapes."""
    x, y = _broadcastable(b)
    forms = (
        *("{x} + {y}", "{x} * {y}", "{x} - {y}", "torch.maximum({x}, {y})", "torch.add({x}, {y}, alpha=2)"),
        *("{x} / ({y}.abs() + 1)", "{x}.add({y})", "torch.mul({x}, {y})", "torch.lerp({x}, {y}, 0.3)"),
        *("torch.addcmul({x}, {x}, {y}, value=0.5)", "torch.where({x} > {y}, {x}, {y})", "torch.hypot({x}, {y})"),
        *("torch.stack([{x}, {y}]).sum(0)", "torch.minimum({x}, other={y})", "torch.sub(input={x}, other={y})"),
        *("sum([{x}, {y}])", "{x} * torch.sigmoid({y})", "torch.atan2({x}, {y}.abs() + 1)"),
    )
    b.emit(b.pick(forms).format(x=x, y=y))


def in_place(b: Builder) -> None:
    """Arithmetic that changes a tensor in place, and all tensors that share its memory."""
    x, y = _broadcastable(b)
    forms = (
        *("{x} += {y}", "{x} *= 0.5", "{x}.add_({y})", "{x}.mul_(torch.sigmoid({y}))", "{x} -= 1", "{x}.relu_()"),
        *("F.relu({x}, inplace=True)", "{x}.clamp_(min=-0.5)", "{x}.add_({y}, alpha=0.5)", "{x}.sub_({y})"),
        *("{x}.narrow(1, 0, 1).add_(1)", "{x}[:, :1].mul_(2)", "{x}[:, -1:].copy_({y}[:, :1])", "{x}.copy_({y})"),
        *("{x}.sigmoid_()", "{x}.div_(2)", "torch.relu_({x})", "{x}.zero_()"),
        *(
            "{x} **= 2",
            "{x} /= 2",
            "{x} %= 3",
            "{x} //= 0.5",
            "torch.add({x}, {y}, out={x})",
            "{x}[:, -1:] = {y}[:, :1]",
        ),
        *("torch.mul({x}, 0.5, out={x})", "torch._foreach_add_([{x}], 0.5)", "{x}[..., 0] = 0.5", "{x}.data.mul_(0.5)"),
    )
    b.change(b.pick(forms).format(x=x, y=y), x)


def constant(b: Builder) -> None:
    """A tensor that does not depend on the input, added, multiplied or compared."""
    x = b.tensor(3, 4, 5)
    channels, ones = x.shape[1], ", 1" * (x.ndim - 2)
    shape = f"({channels}{ones})"
    forms = (
        f"{x} + torch.zeros{shape}",
        f"{x} * torch.arange({channels}.0).view({channels}{ones})",
        f"{x} + torch.full(({channels}{ones}), 0.3)",
        f"{x} + torch.zeros_like({x})",
        f"{x} * torch.linspace(0.5, 1.5, {x.shape[-1]})",
        f"{x} + {x}.new_ones({channels}{ones})",
        f"torch.ones{shape} - {x}",
        f"{x} + torch.arange({x}.size(-1))",
    )
    b.emit(b.pick(forms))


def layer_scale(b: Builder) -> None:
    """A parameter or buffer of the network with one entry per channel, position, or element."""
    x = b.tensor(2, 3, 4, 5)
    c, ones = x.shape[1], [1] * (x.ndim - 2)
    shapes = [(c, *ones), (1, c, *ones), (1, 1, *x.shape[2:]), x.shape[1:], (1, *x.shape[1:]), (x.shape[-1],), (1,)]
    weight = b.parameter(*b.pick(shapes), buffer=b.chance(0.3))
    b.emit(b.pick((f"{x} * {weight}", f"{weight} * {x}", f"{x} + {weight}", f"{weight}.mul({x})", f"{x} - {weight}")))


def normalisation(b: Builder) -> None:
    """Batch, group, instance and local response norms over dimension 1, and functional ones."""
    x = b.tensor(4, 4, 3, 5, 2)
    channels, dims = x.shape[1], max(1, x.ndim - 2)
    kinds = [f"nn.BatchNorm{dims}d({channels}{b.pick(('', '', ', affine=False', ', track_running_stats=False'))})"] * 5
    if x.ndim > 2:
        groups = b.pick([g for g in (1, 2, 3, channels) if channels % g == 0])
        kinds += [f"nn.GroupNorm({groups}, {channels}{b.pick(('', ', affine=False'))})"] * 3
        kinds += [f"nn.InstanceNorm{dims}d({channels}{b.pick(('', ', affine=True', ', track_running_stats=True'))})"]
        kinds += [f"nn.LocalResponseNorm({b.pick((2, 3, 5))}, alpha=0.1)", "nn.CrossMapLRN2d(3)"]
    if b.chance(0.85):
        b.emit(f"{b.module(b.pick(kinds))}({x})")
        return
    forms = (
        f"F.normalize({x}, dim=1)",
        f"F.batch_norm({x}, {b.parameter(channels, buffer=True)}, {b.parameter(channels, buffer=True)}.abs() + 0.5)",
        f"F.group_norm({x}, 1, {b.parameter(channels)})",
        f"F.instance_norm({x})",
        f"F.local_response_norm({x}, 3)",
    )
    b.emit(b.pick(forms))


def layer_norm(b: Builder) -> None:
    """Layer norm over the last dimension, over several, or over channels through permutes."""
    x = b.tensor(2, 3, 4, 5)
    if x.ndim == 4 and b.chance(0.5):
        norm = b.module(f"nn.LayerNorm({x.shape[1]}, eps=1e-6)")
        y = b.emit(f"{norm}({x}.permute(0, 2, 3, 1))")
        b.emit(b.pick((f"{y}.permute(0, 3, 1, 2)", f"torch.permute({y}, (0, 3, 1, 2)).contiguous()")))
        return
    shape = list(b.pick((x.shape[-1:], x.shape[1:], x.shape[-2:])))
    forms = (f"nn.LayerNorm({shape})", f"nn.LayerNorm({shape}, elementwise_affine=False)", f"nn.RMSNorm({shape})")
    if b.chance(0.2):
        b.emit(f"F.layer_norm({x}, {shape}, {b.parameter(*shape)})")
    else:
        b.emit(f"{b.module(b.pick(forms))}({x})")


def over_channels(b: Builder) -> None:
    """Operators that mix the channels: softmax, cumulative sums, sorting, neighbours, unknown functions."""
    x = b.tensor(2, 3, 4, 5)
    dim = b.pick((1, 1, -1, "dim=1"))
    forms = (
        *(f"torch.softmax({x}, axis=1)", "{x}.softmax(axis=-1)"),
        *(f"torch.softmax({x}, {dim})", f"F.softmax({x}, dim=1)", f"torch.cumsum({x}, {dim})", f"{x}.cumsum(1)"),
        *("custom.mix_neighbours({x})", "custom.weigh_channels({x})", "{x}.roll(1, 1)", "torch.flip({x}, [1])"),
        *("torch.sort({x}, 1)[0]", "torch.sort({x}, dim=1).values", "{x}.cummax(1)[0]", "{x} + {x}.flip(1)"),
        *("torch.diff({x}, dim=1, prepend={x}[:, :1])", "F.log_softmax({x}, 1)", "{x} - {x}.logsumexp(1, True)"),
        *("{x} / {x}.norm(dim=1, keepdim=True).clamp_min(0.1)", "{x}.softmax(-1)", "torch.flip({x}, (-1,))"),
        *("{x} + torch.roll({x}, 1, dims=-1)", "{x}.index_select(1, torch.arange({x}.shape[1]).flip(0))"),
    )
    if x.shape[1] % 2 == 0 and b.chance(0.2):
        b.emit(b.pick((f"F.glu({x}, 1)", f"{b.module('nn.GLU(1)')}({x})")))
        return
    b.emit(b.pick(forms).format(x=x))


def _broadcastable(b: Builder) -> tuple[Value, Value]:
    x = b.tensor()
    fitting = [y for y in reversed(b.values) if y != x and _fits(x.shape, y.shape)]
    if not fitting:
        raise Inapplicable
    y = b.pick(fitting)
    return (x, y) if b.chance(0.5) else (y, x)


def _fits(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    pairs = zip(reversed(first), reversed(second))
    return len(first) == len(second) and all(n == m or 1 in (n, m) for n, m in pairs)


OPERATORS = {
    activation: 10,
    parametric_relu: 2,
    scalar: 3,
    binary: 10,
    in_place: 4,
    constant: 2,
    layer_scale: 3,
    normalisation: 8,
    layer_norm: 3,
    over_channels: 3,
}
"""Operators with their relative frequencies."""
