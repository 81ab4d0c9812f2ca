"""Random operators that change shapes: pooling, joining, cutting, reshaping, permuting."""

from __future__ import annotations

from benchmarks.random_networks.builder import Builder, Value


def pooling(b: Builder) -> None:
    """Pooling over space, by module or function."""
    x = b.tensor(4, 4, 3, 5, where=lambda shape: min(shape[2:]) >= 2)
    d = x.ndim - 2
    modules = (
        *(f"nn.MaxPool{d}d(2)", f"nn.AvgPool{d}d(2)", f"nn.AdaptiveAvgPool{d}d(1)", f"nn.AdaptiveMaxPool{d}d(2)"),
        *(f"nn.MaxPool{d}d(2, stride=1)", f"nn.AvgPool{d}d(2, ceil_mode=True)", f"nn.LPPool{d}d(2, 2)"),
        f"nn.AdaptiveAvgPool{d}d(2)",
    )
    functions = (
        *(f"F.max_pool{d}d({x}, 2)", f"F.avg_pool{d}d({x}, kernel_size=2)", f"F.adaptive_avg_pool{d}d({x}, 1)"),
        *(f"F.adaptive_max_pool{d}d({x}, 1)", f"torch.max_pool{d}d({x}, 2)", f"F.adaptive_avg_pool{d}d({x}, 2)"),
    )
    b.emit(b.pick(functions) if b.chance(0.4) else f"{b.module(b.pick(modules))}({x})")


def resampling(b: Builder) -> None:
    """Interpolation, padding, pixel shuffles, unfolding."""
    x = b.tensor(4)
    channels, height, width = x.shape[1:]
    forms = [
        f"F.interpolate({x}, scale_factor=2)",
        f"F.interpolate({x}, size=({height + 1}, {width}), mode='bilinear', align_corners=False)",
        f"F.interpolate({x}, {x}.shape[2:], mode='nearest')",
        f"{b.module('nn.Upsample(scale_factor=2)')}({x})",
        f"F.pad({x}, (1, 0, 0, 1))",
        f"F.pad({x}, (0, 0, 0, 0, 1, 2))",
        f"F.pad({x}, (1, 1), mode='circular')",
        f"{b.module('nn.ZeroPad2d(1)')}({x})",
        f"{b.module('nn.ReplicationPad2d((1, 0, 0, 1))')}({x})",
        f"F.unfold({x}, 1).view({b.size(x, 0)}, {channels}, {height}, {width})",
        f"F.unfold({x}, {min(2, height, width)})",
    ]
    if channels % 4 == 0:
        forms += [f"F.pixel_shuffle({x}, 2)", f"{b.module('nn.PixelShuffle(2)')}({x})"]
    if height % 2 == width % 2 == 0:
        forms += [f"F.pixel_unshuffle({x}, 2)", f"{b.module('nn.PixelUnshuffle(2)')}({x})"]
    b.emit(b.pick(forms))


def channel_shuffle(b: Builder) -> None:
    """ShuffleNet's: view, transpose, view, with computed or constant sizes; or torch's own."""
    x = b.tensor(4, 3, where=lambda shape: shape[1] % 2 == 0 or shape[1] % 3 == 0)
    groups = b.pick([g for g in (2, 3) if x.shape[1] % g == 0])
    if x.ndim == 4 and b.chance(0.2):
        b.emit(b.pick((f"{b.module(f'nn.ChannelShuffle({groups})')}({x})", f"F.channel_shuffle({x}, {groups})")))
        return
    spatial = [b.size(x, d) for d in range(2, x.ndim)]
    channels = b.size(x, 1)
    width = b.pick((f"{channels} // {groups}", str(x.shape[1] // groups), "-1"))
    call = b.pick(("view", "reshape"))
    y = b.emit(f"{x}.{call}({', '.join([b.size(x, 0), str(groups), width, *spatial])})")
    z = b.emit(b.pick((f"torch.transpose({y}, 1, 2).contiguous()", f"{y}.transpose(1, 2).contiguous()")))
    back = (
        f"{z}.view({', '.join([b.size(x, 0), channels, *spatial])})",
        f"{z}.view({', '.join([b.size(x, 0), '-1', *spatial])})",
        f"{z}.flatten(1, 2)",
        f"torch.reshape({z}, ({', '.join([b.size(x, 0), channels, *spatial])}))",
    )
    b.emit(b.pick(back))


def cut_in_parts(b: Builder) -> None:
    """Chunk, split, unbind: unpacked, indexed, or joined again in another order."""
    x = b.tensor(2, 3, 4, 5, where=lambda shape: shape[1] > 1)
    channels, first = x.shape[1], b.integer(1, x.shape[1] - 1)
    half = -(-channels // 2)
    forms = [f"{x}.chunk(2, 1)", f"torch.chunk({x}, 2, dim=1)", f"{x}.split({half}, dim=1)"]
    forms += [f"torch.split({x}, [{first}, {channels - first}], 1)", f"{x}.tensor_split(2, 1)"]
    forms += [f"{x}.chunk(2, axis=1)", f"torch.split({x}, dim=1, split_size_or_sections={half})"]
    forms += [f"{x}.split(({first}, {channels - first}), 1)", f"torch.split({x}, {half}, dim=1)"]
    if channels % 2 == 0:
        forms += [f"{x}.split({x}.shape[1] // 2, 1)", f"{x}.split({x}.size(1) // 2, dim=1)"]
    how, form = b.integer(0, 5), b.pick(forms)
    if how <= 2:
        b.emit(form, outputs=2)
    elif how == 3:
        parts = b.bind(form)
        b.emit(f"{parts}[{b.pick((0, 1, -1))}]")
        b.emit(f"torch.cat([{parts}[1], {parts}[0]], dim=1)")
    elif how == 4:
        b.emit(b.pick((f"torch.cat({form}, 1)", f"torch.cat({form}[::-1], 1)")))
    elif channels <= 4:
        unbound = b.pick((f"{x}.unbind(1)", f"torch.unbind({x}, dim=1)"))
        if b.chance(0.5):
            b.emit(unbound, outputs=channels)
        else:
            b.emit(f"torch.stack({unbound}, {b.pick((1, 2))})")


def concatenation(b: Builder) -> None:
    """Concatenation along channels or another axis; of a tensor with itself; with constants; stacked."""
    x = b.tensor(2, 3, 4, 5)
    axis = b.pick([1, 1, 1, *range(2, x.ndim)])
    fits = [y for y in b.values if _same_but(x, y, axis) and y != x]
    others = [b.pick(fits[::-1]) for _ in range(b.integer(1, 3))] if fits else [x]
    tensors = [x, *others]
    if b.chance(0.2):
        tensors.append(x)
    if b.chance(0.15):
        shape = [b.size(x, 0), *map(str, x.shape[1:])]
        same = b.pick((f"torch.zeros({', '.join(map(str, x.shape))})", f"{x}.new_zeros({', '.join(shape)})"))
        tensors.insert(b.integer(0, 1), b.pick((same, f"torch.zeros_like({x})")))
    listed = ", ".join(tensors)
    dim = b.pick((axis, f"dim={axis}", axis - x.ndim, f"dim={axis - x.ndim}"))
    forms = (f"torch.cat([{listed}], {dim})", f"torch.cat(({listed}), {dim})", f"torch.concat([{listed}], {dim})")
    if len({y.shape if isinstance(y, Value) else None for y in tensors}) == 1 and b.chance(0.1):
        b.emit(f"torch.stack([{listed}], {axis}).flatten({axis}, {axis + 1})")
    elif b.chance(0.2):
        names = b.pick(
            (f"tensors=[{listed}], dim={axis}", f"[{listed}], axis={axis}", f"axis={axis}, tensors=[{listed}]")
        )
        b.emit(f"{b.pick(('torch.cat', 'torch.concat', 'torch.concatenate'))}({names})")
    else:
        b.emit(b.pick(forms))


def channel_slice(b: Builder) -> None:
    """Contiguous, strided and reversed selections of channels, by index, narrow and select."""
    x = b.tensor(2, 3, 4, 5, where=lambda shape: shape[1] > 1)
    channels = x.shape[1]
    start = b.integer(0, channels - 1)
    stop = b.integer(start + 1, channels)
    some = [b.integer(0, channels - 1) for _ in range(b.integer(1, 4))]
    behind = ", :" * (x.ndim - 2)
    forms = (
        *(f"{x}[:, {start}:{stop}]", f"{x}[:, {start}:]", f"{x}[:, :{stop}]", f"{x}[:, {-stop}:]"),
        *(f"{x}[..., {start}:{stop}{behind}]", f"{x}.narrow(1, {start}, {stop - start})"),
        *(f"torch.narrow({x}, {1 - x.ndim}, {start}, length={stop - start})", f"{x}[:, {start}:{stop}{behind}]"),
        *(f"{x}[:, : {x}.shape[1] // 2]", f"{x}[:, {x}.size(1) // 2 :]", f"{x}[:, ::2]", f"{x}[:, {start}::2]"),
        *(f"{x}[:, {some}]", f"{x}[:, torch.tensor({some})]", f"{x}.index_select(1, torch.tensor({some}))"),
        *(f"{x}[:, {start}]", f"{x}.select(1, {start})", f"{x}[:, {start}, None]", f"{x}[:, None, {start}:{stop}]"),
        *(f"torch.narrow_copy({x}, 1, {start}, {stop - start})", f"{x}[:, {start}:{stop}, ..., :1]"),
        *(f"{x}[:, slice({start}, {stop})]", f"{x}[(slice(None), slice({start}, {stop}))]"),
    )
    b.emit(b.pick(forms))


def other_slice(b: Builder) -> None:
    """Slices along other axes, and new axes."""
    x = b.tensor(3, 4, 5, where=lambda shape: shape[-1] > 1)
    forms = (
        *(f"{x}[..., 1:]", f"{x}[..., 0]", f"{x}[:, :, :1]", f"{x}[..., ::2]", f"{x}.narrow(-1, 0, 1)"),
        *(f"{x}[..., None]", f"{x}.unsqueeze(-1)", f"{x}.unsqueeze(1)", f"{x}.squeeze()", f"{x}.squeeze(1)"),
        *(f"{x}[:, :, 0]", f"{x}[..., -1:]", f"{x}.select(-1, 0)", f"{x}.mT", f"{x}[:, None]", f"{x}.squeeze(-1)"),
        *(f"{x}[:1]", f"{x}.chunk(2, -1)[0]", f"{x}.expand_as({x})", f"{x}.repeat(1, 2{', 1' * (x.ndim - 2)})"),
        *(f"{x}.repeat_interleave(2, 1)", f"torch.tile({x}, (1, 1, 2))", f"{x}[:, :1].expand_as({x})"),
    )
    b.emit(b.pick(forms))


def self_tie(b: Builder) -> None:
    """Channels of a producer, combined with other channels of the same producer."""
    x = b.tensor(4, 3, 5, where=lambda shape: shape[1] > 1)
    width = b.integer(1, x.shape[1] - 1)
    start = b.integer(0, x.shape[1] - width)
    other = b.integer(0, x.shape[1] - width)
    forms = (
        f"{x}[:, {start}:{start + width}] + {x}[:, {other}:{other + width}]",
        f"{x}[:, {start}:{start + width}] * torch.sigmoid({x}[:, {other}:{other + width}])",
        f"{x} + {x}[:, :1]",
        f"{x} * {x}[:, {start}:{start + 1}]",
        f"torch.maximum({x}[:, 1:], {x}[:, :-1])",
    )
    b.emit(b.pick(forms))


def flattening(b: Builder) -> None:
    """Flatten from the channel axis on, or from another; by view, reshape, module, and back."""
    x = b.tensor(4, 4, 3, 5, where=lambda shape: shape[1] * shape[2] * shape[-1] <= 150)
    rest = x.shape[1:]
    total = 1
    for n in rest:
        total *= n
    forms = (
        *(f"torch.flatten({x}, 1)", f"{x}.flatten(1)", f"{b.module('nn.Flatten()')}({x})", f"{x}.flatten(start_dim=1)"),
        *(f"{x}.view({b.size(x, 0)}, -1)", f"{x}.reshape({b.size(x, 0)}, {total})", f"{x}.view(-1, {total})"),
        *(f"{x}.reshape(({b.size(x, 0)}, -1))", f"{x}.flatten(2)", f"torch.flatten({x}, 1, 2)", f"{x}.flatten(0, 1)"),
        *(f"{x}.view({b.size(x, 0)}, {b.size(x, 1)}, -1)", f"{x}.reshape({b.size(x, 0)}, {x.shape[1]}, -1)"),
        *(f"torch.reshape({x}, ({b.size(x, 0)}, -1))", f"{x}.flatten(-2, -1)", f"{x}.reshape({x}.shape[0], -1)"),
    )
    b.emit(b.pick(forms))


def unflattening(b: Builder) -> None:
    """From (N, F) to channels and space, or to heads."""
    x = b.tensor(2, 3, where=lambda shape: shape[-1] % 2 == 0)
    last = x.shape[-1]
    if x.ndim == 2:
        n = b.size(x, 0)
        forms = [f"{x}.view({n}, {last}, 1, 1)", f"{x}[:, :, None, None]", f"{x}.unsqueeze(-1).unsqueeze(-1)"]
        forms += [f"{x}.view({n}, -1, 1, 2)", f"{x}.unflatten(1, (2, -1))", f"{x}.unsqueeze(1)"]
        forms += [f"{b.module(f'nn.Unflatten(1, (2, {last // 2}))')}({x})", f"{x}.view(-1, {last // 2}, 2, 1)"]
    else:
        forms = [f"{x}.unflatten(-1, (2, -1))", f"{x}.reshape({b.size(x, 0)}, {b.size(x, 1)}, 2, {last // 2})"]
        forms += [f"{x}.view({x}.shape[:2] + (2, -1))", f"{x}.view({x}.size(0), {x}.size(1), -1, 2)"]
    b.emit(b.pick(forms))


def permutation(b: Builder) -> None:
    """Any permutation of the axes but the batch's; channels last and back."""
    x = b.tensor(3, 4, 5, 6)
    axes = list(range(1, x.ndim))
    b.source.shuffle(axes)
    i, j = b.pick(((1, 2), (1, -1), (-1, -2), (2, 1)))
    forms = (
        *(
            f"{x}.transpose({i}, {j})",
            f"torch.transpose({x}, {i}, {j})",
            f"{x}.permute(0, {', '.join(map(str, axes))})",
        ),
        *(f"{x}.permute((0, {', '.join(map(str, axes))}))", f"{x}.movedim(1, -1)", f"torch.movedim({x}, -1, 1)"),
        *(f"torch.swapaxes({x}, {i}, {j})", f"torch.permute({x}, dims=(0, {', '.join(map(str, axes))}))"),
    )
    b.emit(b.pick(forms))


def reduction(b: Builder) -> None:
    """Reductions over space, over channels, or over everything but the batch."""
    x = b.tensor(3, 4, 5)
    space = tuple(range(2, x.ndim))
    dims = b.pick((space, space, 1, -1, (1, 2), space[0], [1]))
    keep, numpys = b.pick((("", ""), ("", ""), (", keepdim=True", ", keepdims=True")))
    forms = (
        *(f"{x}.mean({dims}{keep})", f"torch.mean({x}, dim={dims}{keep})", f"{x}.sum({dims}{keep})"),
        *(f"{x}.amax({dims}{keep})", f"torch.amin({x}, dim={dims}{keep})", f"torch.var({x}, {dims}{keep})"),
        *(f"{x}.std({dims}, unbiased=False{keep})", f"{x}.norm(dim={dims}{keep})", f"{x}.max(1{keep})[0]"),
        *(f"torch.max({x}, dim=1{keep}).values", f"{x}.mean(dim={dims}{keep}) * {x}.size(1)"),
        *(f"{x}.mean(axis={dims}{numpys})", f"torch.sum({x}, axis={dims}{numpys})", f"{x}.amax(axis={dims}{numpys})"),
    )
    b.emit(b.pick(forms))


def _same_but(x: Value, y: Value, axis: int) -> bool:
    return x.ndim == y.ndim and all(n == m for d, (n, m) in enumerate(zip(x.shape, y.shape)) if d != axis)


OPERATORS = {
    pooling: 5,
    resampling: 3,
    channel_shuffle: 2,
    cut_in_parts: 4,
    concatenation: 7,
    channel_slice: 4,
    other_slice: 2,
    self_tie: 2,
    flattening: 3,
    unflattening: 2,
    permutation: 3,
    reduction: 3,
}
"""Operators with their relative frequencies."""
