"""The report of a speedup as one page of HTML that needs nothing else: no network, no scripts; light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from upscale_opt.latency.environment import environment
from upscale_opt.widths.results import Speedup

_STYLE = """
:root { color-scheme: light dark; --bar: #3b76c4; --old: #9aa5b1; --line: #cfd6dd; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .8rem; text-align: left; }
th { border-bottom: 2px solid var(--line); } td { border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; } code { overflow-wrap: anywhere; }
text { fill: currentColor; font: 13px system-ui, sans-serif; } .good { color: #2a8a4a; } .bad { color: #c43b3b; }
"""
_WIDTH, _LABEL, _ROW = 860, 230, 22


def page(found: Speedup, *, title: str, command: str = "") -> str:
    """One page on a result.

    Parameters
    ----------
    found
        What `upscale_opt.speedup` returned.
    title
        The network's name.
    command
        The command that made it.
    """
    state = "good" if found.reached else "bad"
    said = "reached" if found.reached else "not reached; this is the fastest network that was found"
    changed = [(name, old, new) for name, old, new in found.table()]
    rounds = [
        (str(i), f"{own.asked:.3f}x", f"{own.predicted:.3f}x", f"{own.measured:.3f}x", f"{own.loss:.4g}",
         "" if own.gap is None else f"{100 * own.gap:.2f} %")
        for i, own in enumerate(found.rounds, start=1)
    ]  # fmt: skip
    where = [(name, str(value)) for name, value in environment().items() if not isinstance(value, dict)]
    parts = [
        f"<h1>{escape(title)}, {found.measured:.2f} times as fast</h1>",
        f'<p class="{state}">Asked for {found.target:g}x: {said}. Measured: {escape(found.how)}.</p>',
        _bars([("before", 1e3 * found.dense_seconds), ("after", 1e3 * found.seconds)], "ms"),
        _table(("", "before", "after"), changed),
        f"<p>Before the repair of weights: {escape(str(found.masked))}.</p>",
        "<h2>How widths were chosen</h2>",
        f"<p>Method: {escape(found.method)}. Estimated loss {found.chosen.loss:.4g}; "
        f"{escape(found.chosen.bound_text)}."
        f"{'' if found.correction is None else f' {escape(str(found.correction)).capitalize()}.'}</p>",
        _table(("turn", "asked", "predicted", "measured", "loss", "gap"), rounds),
        "<h2>Widths</h2>",
        _widths(found),
        "<h2>Where</h2>",
        _table(("", ""), where),
    ]
    parts += [f"<p>{escape(note)}</p>" for note in found.notes]
    if command:
        parts.append(f"<h2>To repeat it</h2><p><code>{escape(command)}</code></p>")
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    names = "".join(f"<th>{escape(own)}</th>" for own in head)
    body = "".join("<tr>" + "".join(f'<td class="number">{escape(own)}</td>' for own in row) + "</tr>" for row in rows)
    return f"<table><tr>{names}</tr>{body}</table>"


def _bars(rows: list[tuple[str, float]], unit: str) -> str:
    """Horizontal bars from zero on one scale."""
    most, room = max(value for _, value in rows) or 1.0, _WIDTH - _LABEL - 90
    drawn = [
        f'<text x="0" y="{_ROW * i + 16}">{escape(name)}</text>'
        f'<rect x="{_LABEL}" y="{_ROW * i + 3}" width="{room * value / most:.1f}" height="{_ROW - 6}" '
        f'fill="var({"--old" if i == 0 else "--bar"})"/>'
        f'<text x="{_LABEL + room * value / most + 6:.1f}" y="{_ROW * i + 16}">{value:.3f} {unit}</text>'
        for i, (name, value) in enumerate(rows)
    ]
    return _svg(drawn, len(rows))


def _widths(found: Speedup) -> str:
    """A bar per block: all its channels, and those that stay."""
    sizes = {block.name: block.size for block in found.exported.graph.blocks}
    sizes |= {weight: len(mask) for weight, mask in found.plan.masks.items()}
    rows = [(name, width, sizes[name]) for name, width in found.chosen.widths.items() if name in sizes]
    if not rows:
        return "<p>All blocks keep all their channels.</p>"
    most, room = max(size for _, _, size in rows), _WIDTH - _LABEL - 120
    drawn = [
        f'<text x="0" y="{_ROW * i + 16}">{escape(name[-32:])}</text>'
        f'<rect x="{_LABEL}" y="{_ROW * i + 3}" width="{room * size / most:.1f}" height="{_ROW - 6}" '
        'fill="none" stroke="var(--old)"/>'
        f'<rect x="{_LABEL}" y="{_ROW * i + 3}" width="{room * width / most:.1f}" height="{_ROW - 6}" '
        'fill="var(--bar)"/>'
        f'<text x="{_LABEL + room * size / most + 6:.1f}" y="{_ROW * i + 16}">{width} of {size}</text>'
        for i, (name, width, size) in enumerate(rows)
    ]
    return _svg(drawn, len(rows))


def _svg(drawn: list[str], rows: int) -> str:
    height = _ROW * rows + 4
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img">{"".join(drawn)}</svg>'
