"""Random groups of statements whose channels belong together: gates, pixel shuffles, padded shortcuts, neighbours."""

from __future__ import annotations

from benchmarks.random_networks.builder import CHANNELS, Builder, Value


def gate(b: Builder) -> None:
    """One layer computes two halves, and a product combines them: GLU, SwiGLU, SimpleGate, WaveNet, Ghost."""
    x = b.tensor(4, 3, 2)
    half = b.pick(CHANNELS)
    axis = 1 if x.ndim > 2 and b.chance(0.7) else x.ndim - 1
    y = _layer(b, x, axis, 2 * half)
    if b.chance(0.3) and axis == 1:
        y = b.emit(f"{b.module(f'nn.BatchNorm{max(1, x.ndim - 2)}d({2 * half})')}({y})")
    if b.chance(0.3):
        b.emit(
            b.pick((f"F.glu({y}, {axis})", f"{b.module(f'nn.GLU({axis})')}({y})", f"F.glu({y}, dim={axis - x.ndim})"))
        )
    else:
        parts = (f"{y}.chunk(2, {axis})", f"torch.split({y}, {half}, {axis})", f"{y}.tensor_split(2, {axis})")
        b.emit(b.pick(parts), outputs=2)
        first, second = b.values[-2:]
        forms = (
            *(f"{first} * {second}", f"F.silu({first}) * {second}", f"torch.tanh({first}) * torch.sigmoid({second})"),
            *(
                f"{first} * F.softmax({second}, {axis})",
                f"{first} + {second}",
                f"torch.cat([{second}, {first}], {axis}) + {y}",
            ),
            *(f"{first} * (1 + {second})", f"torch.addcmul({first}, {first}, {second})"),
        )
        b.emit(b.pick(forms))
    _layer(b, b.values[-1], axis, b.pick(CHANNELS))


def ghost(b: Builder) -> None:
    """Half of the channels are computed from the other half, one by one; a residual may be added."""
    x = b.tensor(4)
    half = b.pick(CHANNELS)
    y = _layer(b, x, 1, half)
    cheap = b.emit(f"{b.module(f'nn.Conv2d({half}, {half}, 3, padding=1, groups={half})')}({y})")
    z = b.emit(f"torch.cat([{y}, {cheap}], 1)")
    if b.chance(0.5):
        z = b.emit(f"{z} + {_layer(b, x, 1, 2 * half)}")
    if b.chance(0.3):
        z = b.emit(f"{z}[:, :{b.integer(1, 2 * half)}]")
    _layer(b, z, 1, b.pick(CHANNELS))


def modulation(b: Builder) -> None:
    """FiLM: a linear layer computes a factor and a summand for every channel."""
    x = b.tensor(4)
    vectors = [own for own in b.values if own.ndim == 2]
    condition = b.pick(vectors) if vectors else b.emit(f"{x}.mean((2, 3))")
    channels = x.shape[1]
    y = _layer(b, condition, 1, 2 * channels)
    wide = b.pick((f"{y}[:, :, None, None].chunk(2, 1)", f"{y}.view({b.size(y, 0)}, -1, 1, 1).chunk(2, dim=1)"))
    b.emit(wide, outputs=2)
    factor, summand = b.values[-2:]
    b.emit(f"{x} * (1 + {factor}) + {summand}")


def pixel_upsampling(b: Builder) -> None:
    """A convolution computes r x r neighbours, which a pixel shuffle puts beside each other; or the other way round."""
    x = b.tensor(4, where=lambda shape: max(shape[2:]) <= 8)
    if b.chance(0.3):
        x = b.emit(b.pick((f"F.pixel_unshuffle({x}, 2)", f"{b.module('nn.PixelUnshuffle(2)')}({x})")))
        if b.chance(0.5):
            x = b.emit(f"{b.module(f'nn.BatchNorm2d({x.shape[1]})')}({x})")
        _layer(b, x, 1, b.pick(CHANNELS))
        return
    channels = b.pick((3, 4, 2, 1))
    y = _layer(b, x, 1, 4 * channels)
    if b.chance(0.3):
        y = b.emit(f"{b.module(f'nn.BatchNorm2d({4 * channels})')}({y})")
    z = b.emit(b.pick((f"F.pixel_shuffle({y}, 2)", f"{b.module('nn.PixelShuffle(2)')}({y})")))
    if b.chance(0.3):
        b.emit(f"torch.cat([{z}, F.interpolate({x}, scale_factor=2)], 1)")
    _layer(b, b.values[-1], 1, b.pick(CHANNELS))


def padded_shortcut(b: Builder) -> None:
    """A shortcut with more channels than before: zeros are put around them (option A)."""
    x = b.tensor(4)
    before, behind = b.integer(0, 4), b.integer(0, 4)
    channels = x.shape[1] + before + behind
    size = b.pick((1, 3))
    y = b.emit(f"{b.module(f'nn.Conv2d({x.shape[1]}, {channels}, {size}, padding={size // 2})')}({x})")
    value = b.pick(("", "", ", 'constant', 0", ", value=0.5", ", mode='constant', value=0.0"))
    z = b.emit(f"F.pad({x}, (0, 0, 0, 0, {before}, {behind}){value})")
    z = b.emit(
        b.pick((f"{y} + {z}", f"F.relu({z} + {y})", f"torch.cat([{z}, {y}], 1)", f"{z}.roll({b.integer(1, 3)}, 1)"))
    )
    _layer(b, z, 1, b.pick(CHANNELS))


def neighbours_of_channels(b: Builder) -> None:
    """Efficient channel attention: a convolution along the channels."""
    x = b.tensor(4)
    size = b.pick((3, 1, 5))
    layer = b.module(f"nn.Conv1d(1, 1, {size}, padding={size // 2}, bias={b.pick(('False', 'True'))})")
    n = b.size(x, 0)
    forms = (
        f"{layer}({x}.mean((2, 3)).view({n}, 1, -1)).transpose(1, 2)[..., None]",
        f"{layer}(F.adaptive_avg_pool2d({x}, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)",
    )
    y = b.emit(b.pick(forms))
    b.emit(b.pick((f"{x} * torch.sigmoid({y})", f"{x} * {y}.sigmoid().expand_as({x})")))
    _layer(b, b.values[-1], 1, b.pick(CHANNELS))


def image_of_features(b: Builder) -> None:
    """A linear layer computes an image: features are channels and positions, in one order or another."""
    x = b.tensor(2)
    channels, height, width = b.pick(CHANNELS[:6]), b.integer(1, 2), b.integer(2, 3)
    y = _layer(b, x, 1, channels * height * width)
    if b.chance(0.4):
        y = b.emit(b.pick((f"F.relu({y})", f"{b.module(f'nn.BatchNorm1d({channels * height * width})')}({y})")))
    forms = (
        *(f"{y}.view(-1, {channels}, {height}, {width})", f"{y}.reshape({b.size(y, 0)}, -1, {height}, {width})"),
        *(f"{y}.unflatten(1, ({channels}, {height}, {width}))", f"{y}.view({b.size(y, 0)}, {channels}, {height}, -1)"),
        f"{y}.view(-1, {height}, {width}, {channels}).permute(0, 3, 1, 2)",
    )
    z = b.emit(b.pick(forms))
    if b.chance(0.4):
        z = b.emit(b.pick((f"F.relu({z})", f"{b.module(f'nn.BatchNorm2d({channels})')}({z})")))
    _layer(b, z, 1, b.pick(CHANNELS))


def _layer(b: Builder, x: Value, axis: int, outputs: int) -> Value:
    """A layer that reads an axis of a tensor and computes new channels on it."""
    if axis == x.ndim - 1:
        return b.emit(f"{b.module(f'nn.Linear({x.shape[-1]}, {outputs})')}({x})")
    return b.emit(f"{b.module(f'nn.Conv{x.ndim - 2}d({x.shape[1]}, {outputs}, 1)')}({x})")


OPERATORS = {
    gate: 4,
    ghost: 2,
    modulation: 2,
    pixel_upsampling: 2,
    padded_shortcut: 2,
    neighbours_of_channels: 2,
    image_of_features: 2,
}
"""Operators with their relative frequencies."""
