"""Random groups of statements that networks often have: gates, groups, inverted residuals, perceptrons."""

from __future__ import annotations

from benchmarks.random_networks.builder import CHANNELS, Builder


def squeeze_and_excitation(b: Builder) -> None:
    """A gate per channel, through linear layers with reshapes or through convolutions."""
    x = b.tensor(4)
    channels, hidden = x.shape[1], b.pick((2, 3, 4))
    if b.chance(0.4):
        y = b.emit(b.pick((f"F.adaptive_avg_pool2d({x}, 1)", f"{x}.mean((2, 3), keepdim=True)")))
        z = b.emit(f"F.relu({b.module(f'nn.Conv2d({channels}, {hidden}, 1)')}({y}))")
        gate = b.emit(f"torch.sigmoid({b.module(f'nn.Conv2d({hidden}, {channels}, 1)')}({z}))")
        b.emit(b.pick((f"{x} * {gate}", f"{gate} * {x}")))
        return
    n, c = b.size(x, 0), b.size(x, 1)
    if b.chance(0.3):
        sizes = b.bind(b.pick((f"{x}.size()", f"{x}.shape")))
        n, c = f"{sizes}[0]", f"{sizes}[1]"
    pooled = (
        *(f"F.adaptive_avg_pool2d({x}, 1).view({n}, {c})", f"{x}.mean((2, 3))", f"{x}.mean([2, 3])"),
        *(f"{b.module('nn.AdaptiveAvgPool2d(1)')}({x}).view({n}, {c})", f"{x}.mean(-1).mean(-1)"),
        *(f"F.adaptive_avg_pool2d({x}, 1).flatten(1)", f"F.adaptive_avg_pool2d({x}, 1).squeeze(-1).squeeze(-1)"),
    )
    y = b.emit(b.pick(pooled))
    z = b.emit(f"F.relu({b.module(f'nn.Linear({channels}, {hidden})')}({y}))")
    gate = b.emit(f"torch.sigmoid({b.module(f'nn.Linear({hidden}, {channels})')}({z}))")
    wide = b.pick((f"{gate}.view({n}, {c}, 1, 1)", f"{gate}[:, :, None, None]", f"{gate}.reshape({n}, -1, 1, 1)"))
    b.emit(b.pick((f"{x} * {wide}", f"{x} * {wide}.expand_as({x})", f"{x}.mul({wide})")))


def inverted_residual(b: Builder) -> None:
    """Expand, depthwise, project, add."""
    x = b.tensor(4)
    channels, wide = x.shape[1], b.pick(CHANNELS)
    expand, depthwise = f"nn.Conv2d({channels}, {wide}, 1)", f"nn.Conv2d({wide}, {wide}, 3, padding=1, groups={wide})"
    y = b.emit(f"{b.module(expand)}({x})")
    y = b.emit(f"F.hardswish({b.module(f'nn.BatchNorm2d({wide})')}({y}))")
    y = b.emit(f"{b.module(depthwise)}({y})")
    b.emit(f"{x} + {b.module(f'nn.Conv2d({wide}, {channels}, 1)')}({y})")


def groups(b: Builder) -> None:
    """Convolutions with several groups between others. Two convolutions read their output."""
    x = b.tensor(4)
    number = b.pick((2, 3, 4))
    inner, outer = number * b.integer(1, 3), number * b.integer(1, 3)
    y = b.emit(f"{b.module(f'nn.Conv2d({x.shape[1]}, {inner}, 1)')}({x})")
    if b.chance(0.3):
        y = b.emit(f"F.relu({b.module(f'nn.BatchNorm2d({inner})')}({y}))")
    z = b.emit(f"{b.module(f'nn.Conv2d({inner}, {outer}, 3, padding=1, groups={number})')}({y})")
    if b.chance(0.3):
        other = b.pick([g for g in (1, 2, number) if outer % g == 0])
        z = b.emit(f"{b.module(f'nn.Conv2d({outer}, {outer}, 1, groups={other})')}({z})")
    if inner == outer and b.chance(0.5):
        z = b.emit(f"{y} + {z}")
    elif b.chance(0.5):
        z = b.emit(b.pick((f"torch.cat([{z}, {x}], 1)", f"torch.cat([{y}, {z}], 1)", f"torch.cat([{z}, {z}], 1)")))
    if b.chance(0.2):
        z = b.emit(f"{z}[:, {b.integer(0, number)}:]")
    for _ in range(2):
        b.emit(f"{b.module(f'nn.Conv2d({z.shape[1]}, {b.pick(CHANNELS)}, 1)')}({z})")


def to_sequence(b: Builder) -> None:
    """Patches as a sequence, and back."""
    x = b.tensor(4)
    height, width = x.shape[2:]
    forms = (f"{x}.flatten(2).transpose(1, 2)", f"{x}.permute(0, 2, 3, 1).reshape({b.size(x, 0)}, -1, {x.shape[1]})")
    y = b.emit(b.pick(forms))
    y = b.emit(f"{b.module(f'nn.Linear({x.shape[1]}, {b.pick(CHANNELS)})')}({y})")
    if b.chance(0.5):
        b.emit(f"{y}.transpose(1, 2).reshape({b.size(x, 0)}, -1, {height}, {width})")


def perceptron(b: Builder) -> None:
    """Two linear layers with an activation or a normalisation between them, and a residual."""
    x = b.tensor(2, 3, 4)
    width, hidden = x.shape[-1], b.pick(CHANNELS)
    y = b.emit(f"{b.module(f'nn.Linear({width}, {hidden})')}({x})")
    y = b.emit(b.pick((f"F.gelu({y})", f"{b.module(f'nn.LayerNorm({hidden})')}({y})", f"torch.tanh({y})")))
    y = b.emit(f"{b.module(f'nn.Linear({hidden}, {width})')}({y})")
    if b.chance(0.7):
        b.emit(f"{x} + {y}")


def global_feature(b: Builder) -> None:
    """One number per channel, expanded over space again and concatenated, as in segmentation heads."""
    x = b.tensor(4)
    y = b.emit(f"F.adaptive_avg_pool2d({x}, 1)")
    y = b.emit(f"{b.module(f'nn.Conv2d({x.shape[1]}, {b.pick(CHANNELS)}, 1)')}({y})")
    spread = (
        f"F.interpolate({y}, size={x}.shape[2:], mode='bilinear', align_corners=False)",
        f"{y}.expand(-1, -1, {b.size(x, 2)}, {b.size(x, 3)})",
        f"{y}.repeat(1, 1, {x.shape[2]}, {x.shape[3]})",
        f"F.interpolate({y}, {x}.shape[-2:])",
    )
    y = b.emit(b.pick(spread))
    b.emit(f"torch.cat([{x}, {y}], dim=1)")


def region(b: Builder) -> None:
    """Convolutions, and operators between them, without gradients, with gradients, or with autocast switched off."""
    x = b.tensor(4, 3, 2)
    contexts = (
        *("torch.no_grad()", "torch.no_grad()", "torch.enable_grad()", "torch.set_grad_enabled(False)"),
        *("torch.autocast('cpu', enabled=False)", "torch.no_grad(), torch.enable_grad()"),
    )
    for _ in range(b.integer(1, 3)):
        context = b.pick(contexts)
        layer = f"nn.Conv{x.ndim - 2}d({x.shape[1]}, {b.pick(CHANNELS)}, 1)" if x.ndim > 2 else ""
        layer = layer or f"nn.Linear({x.shape[1]}, {b.pick(CHANNELS)})"
        forms = (
            *(f"F.relu({x})", f"{x}.contiguous()", f"{b.module('nn.Identity()')}({x})", f"torch.cat([{x}, {x}], 1)"),
            *(f"{x} * 0.5", f"{x}.chunk(2, 1)[0]"),
        )
        expression = f"{b.module(layer)}({x})" if b.chance(0.6) else b.pick(forms)
        x = b.emit(expression, region="" if b.chance(0.2) else context)


def custom_gradient(b: Builder) -> None:
    """Autograd functions with their own backward, between layers or not, and checkpointed layers."""
    x = b.tensor(4, 3, 2)
    forms = (
        *(f"custom.Turned.apply({x})", f"custom.straight_through({x})", f"custom.Straight.apply({x}, 2)"),
        *(f"{x}.detach()", f"{x} + ({x}.sigmoid() - {x}).detach()"),
    )
    if b.chance(0.7):
        b.emit(b.pick(forms))
        return
    kind = f"nn.Conv{x.ndim - 2}d({x.shape[1]}, {b.pick(CHANNELS)}, 1)" if x.ndim > 2 else f"nn.Linear({x.shape[1]}, 4)"
    b.emit(f"torch.utils.checkpoint.checkpoint({b.module(kind)}, {x}, use_reentrant={b.pick((False, True))})")


OPERATORS = {
    squeeze_and_excitation: 4,
    inverted_residual: 2,
    groups: 3,
    to_sequence: 2,
    perceptron: 2,
    global_feature: 1,
    region: 3,
    custom_gradient: 2,
}
"""Operators with their relative frequencies."""
