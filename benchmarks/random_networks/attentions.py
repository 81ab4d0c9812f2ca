"""Random attention: of sequences and of pixels, with one head or several, written in the ways that people write it."""

from __future__ import annotations

from benchmarks.random_networks.builder import Builder


def attention(b: Builder) -> None:
    """Queries, keys and values of a sequence, joined or apart, with one head or more."""
    x = b.tensor(3)
    width = x.shape[-1]
    heads = b.pick([h for h in (1, 2) if width % h == 0])
    n, length = b.size(x, 0), b.size(x, 1)
    if b.chance(0.4):
        joined = b.emit(f"{b.module(f'nn.Linear({width}, {3 * width})')}({x})")
        q = b.emit(b.pick((f"{joined}.chunk(3, -1)", f"{joined}.split({width}, dim=-1)")), outputs=3)
        q, k, v = b.values[-3:]
    else:
        q, k, v = (b.emit(f"{b.module(f'nn.Linear({width}, {width})')}({x})") for _ in range(3))
    if heads > 1:
        shape = f"({n}, {length}, {heads}, {b.pick(('-1', str(width // heads)))})"
        q, k, v = (b.emit(f"{t}.reshape{shape}.transpose(1, 2)") for t in (q, k, v))
    forms = (
        f"F.scaled_dot_product_attention({q}, {k}, {v})",
        f"torch.softmax({q} @ {k}.transpose(-1, -2) * 0.5, dim=-1) @ {v}",
        f"torch.matmul(F.softmax(torch.matmul({q}, {k}.mT), -1), {v})",
    )
    y = b.emit(b.pick(forms))
    if heads > 1:
        y = b.emit(b.pick((f"{y}.transpose(1, 2).reshape({n}, {length}, -1)", f"{y}.transpose(1, 2).flatten(2)")))
    y = b.emit(f"{b.module(f'nn.Linear({width}, {width})')}({y})")
    b.emit(f"{x} + {y}")


def heads(b: Builder) -> None:
    """Attention with several heads: queries, keys and values by one layer or three, the heads normalised or biased."""
    x = b.tensor(3)
    width, (length, inner) = x.shape[-1], x.shape[1:]
    number, size = b.pick((2, 3, 4)), b.pick((2, 3, 1))
    n = b.size(x, 0)
    groups = b.pick([g for g in (1, 1, 2) if number % g == 0])
    kept = number // groups
    if groups == 1 and b.chance(0.5):
        y = b.emit(f"{b.module(f'nn.Linear({width}, {3 * number * size})')}({x})")
        forms = (
            f"{y}.reshape({n}, {length}, 3, {number}, {size}).permute(2, 0, 3, 1, 4).unbind(0)",
            f"{y}.view({n}, -1, 3, {number}, {y}.shape[-1] // {3 * number}).permute(2, 0, 3, 1, 4)",
            f"{y}.unflatten(-1, (3, {number}, -1)).unbind(2)",
            f"{y}.reshape({n}, -1, {number}, {3 * size}).transpose(1, 2).chunk(3, -1)",
            f"{y}.chunk(3, dim=2)",
        )
        form = b.integer(0, len(forms) - 1)
        if form == 1:
            parts = b.bind(forms[form])
            q, k, v = (b.emit(f"{parts}[{i}]") for i in range(3))
        else:
            b.emit(forms[form], outputs=3)
            q, k, v = b.values[-3:]
        if form == 2:
            q, k, v = (b.emit(f"{t}.transpose(1, 2)") for t in (q, k, v))
        if form == 4:
            q, k, v = (b.emit(f"{t}.view({n}, {length}, {number}, -1).transpose(1, 2)") for t in (q, k, v))
    else:
        layers = [b.module(f"nn.Linear({width}, {h * size})") for h in (number, kept, kept)]
        q, k, v = (
            b.emit(f"{layer}({x}).view({n}, {length}, {h}, {size}).transpose(1, 2)")
            for layer, h in zip(layers, (number, kept, kept), strict=True)
        )
    how = b.integer(0, 4)
    if how == 1:
        q, k = (b.emit(f"{b.module(f'nn.LayerNorm({size})')}({t})") for t in (q, k))
    elif how == 2:
        q = b.emit(f"F.normalize({q}, dim=-1) * {b.parameter(number, 1, 1)}")
    elif how == 3:
        q = b.emit(f"{q} * {q}.shape[-1] ** -0.5")
    if groups > 1 and b.chance(0.5):
        y = b.emit(f"F.scaled_dot_product_attention({q}, {k}, {v}, enable_gqa=True)")
    else:
        if groups > 1:
            spread = b.pick(
                ("{0}.repeat_interleave({1}, 1)", "{0}[:, :, None].expand(-1, -1, {1}, -1, -1).flatten(1, 2)")
            )
            k, v = (b.emit(spread.format(t, groups)) for t in (k, v))
        bias = b.parameter(number, length, length) if b.chance(0.4) else ""
        mixed = b.module(f"nn.Conv2d({number}, {number}, 1)") if b.chance(0.15) else ""
        scores = f"{q} @ {k}.transpose(-2, -1)"
        scores = b.pick((scores, f"torch.einsum('bhqd,bhkd->bhqk', {q}, {k})")) + (f" + {bias}" if bias else "")
        forms = (
            f"torch.softmax({scores}, -1) @ {v}",
            f"torch.einsum('bhqk,bhkd->bhqd', ({scores}).softmax(dim=-1), {v})",
            f"F.scaled_dot_product_attention({q}, {k}, {v}{f', attn_mask={bias}[None]' if bias else ''})",
            f"F.scaled_dot_product_attention({q}, {k}, {v}, is_causal=True)",
            _by_bmm(b, q, k, v),
        )
        y = b.emit(f"{mixed}(({scores}).softmax(-1)) @ {v}" if mixed else b.pick(forms))
    if b.chance(0.2):
        y = b.emit(f"{y} * {b.parameter(number, 1, 1)}")
    y = b.emit(b.pick((f"{y}.transpose(1, 2).reshape({n}, {length}, -1)", f"{y}.transpose(1, 2).flatten(2)")))
    y = b.emit(f"{b.module(f'nn.Linear({number * size}, {inner})')}({y})")
    b.emit(f"{x} + {y}")


def _by_bmm(b: Builder, q: str, k: str, v: str) -> str:
    """The batch and the heads on one axis."""
    n, number = b.pick((f"{q}.size(0)", f"{q}.shape[0]")), b.pick((f"{q}.shape[1]", f"{q}.size(1)"))
    fold = b.pick((f".reshape({n} * {number}, {q}.shape[2], -1)", ".flatten(0, 1)", f".reshape(-1, *{q}.shape[2:])"))
    scores = f"torch.bmm({q}{fold}, {k}{fold}.transpose(1, 2)).softmax(-1)"
    return f"torch.bmm({scores}, {v}{fold}).view({n}, {b.pick((number, '-1'))}, *{q}.shape[2:])"


def local_attention(b: Builder) -> None:
    """Attention between the pixels of an image, by convolutions: one head (a non-local block), or several."""
    x = b.tensor(4)
    channels, hidden, number = x.shape[1], b.pick((4, 6, 2)), b.pick((1, 2))
    n = b.size(x, 0)
    q, k, v = (b.emit(f"{b.module(f'nn.Conv2d({channels}, {hidden}, 1)')}({x})") for _ in range(3))
    if number == 1:
        q, k, v = (b.emit(f"{t}.flatten(2)") for t in (q, k, v))
    else:
        q, k, v = (b.emit(f"{t}.reshape({n}, {number}, {hidden // number}, -1)") for t in (q, k, v))
    forms = (
        f"{v} @ ({q}.transpose(-2, -1) @ {k}).softmax(-1).transpose(-2, -1)",
        f"({q}.mT @ {k} / {x.shape[-1]}) @ {v}.transpose(-2, -1)",
        f"({q} @ {k}.transpose(-2, -1)).softmax(-1) @ {v}",
    )
    form = b.integer(0, 2)
    y = b.emit(f"({forms[form]}){'.mT' if form == 1 else ''}.reshape({n}, {hidden}, {x.shape[2]}, {x.shape[3]})")
    b.emit(f"{x} + {b.module(f'nn.Conv2d({hidden}, {channels}, 1)')}({y})")


OPERATORS = {attention: 2, heads: 4, local_attention: 2}
"""Operators with their relative frequencies."""
