"""The glossary's drawings, computed from its own example: ``python docs/building/drawings.py`` writes docs/drawings/.

A cell is a channel; a filled one is kept. What is between brackets is read. Colours are those of read modes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from problems import Access, Block, Order, Problem, evaluate
from problems.files import write_text_atomically

DIRECTORY = Path(__file__).resolve().parents[1] / "drawings"
CHANNELS = "abcdef"
KEPT = {"x": "ac", "y": "cdf", "z": "bf", "w": "ad"}
BETTER = "acdfb"
CELL, LABEL, HEAD = 30, 70, 26
STYLE = """<style>
text { font: 14px system-ui, sans-serif; fill: #24292f; } .word { font-size: 13px; } .name { text-anchor: end; }
.in { text-anchor: middle; fill: #ffffff; font-weight: 600; } .out { text-anchor: middle; fill: #8a94a0; }
.head { text-anchor: middle; } .line { stroke: #57606a; stroke-width: 2; fill: none; }
.kept { fill: #3b76c4; } .view { fill: #2a9d8f; } .over-read { fill: #c98a1b; } .copy { fill: #d1495b; }
.dropped { fill: none; stroke: #b8c0c8; } .zero { fill: none; stroke: #c98a1b; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) { text { fill: #d7dde3; } .in { fill: #ffffff; } .line { stroke: #aab4be; } }
</style>"""


def example() -> Problem:
    """The example of the glossary: four consumers of six channels."""
    accesses = [Access(name, (0,), np.array([c in own for c in CHANNELS])) for name, own in KEPT.items()]
    return Problem((Block("conv", len(CHANNELS)),), tuple(accesses), name="conv")


def svg(parts: Sequence[str], width: int, height: int, title: str) -> str:
    """Parts as one picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    return "\n".join([head, f"<title>{title}</title>", STYLE, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "word") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def cells(x: float, y: float, names: str, kinds: Sequence[str]) -> list[str]:
    """A row of channels, each with its name; an empty kind leaves a gap."""
    parts = []
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if kind:
            place = x + k * CELL
            parts.append(f'<rect x="{place + 2:g}" y="{y + 2:g}" width="26" height="26" rx="4" class="{kind}"/>')
            parts.append(text(place + CELL / 2, y + 20, name, "out" if kind in ("dropped", "zero") else "in"))
    return parts


def brackets(x: float, y: float, start: int, span: int) -> str:
    """The brackets around what is read."""
    left, right = x + start * CELL, x + (start + span) * CELL
    return (
        f'<path class="line" d="M{left + 5:g} {y - 1:g}H{left - 1:g}V{y + 31:g}H{left + 5:g}'
        f'M{right - 5:g} {y - 1:g}H{right + 1:g}V{y + 31:g}H{right - 5:g}"/>'
    )


def masks() -> str:
    """Which channels every consumer keeps."""
    parts = []
    for row, (name, own) in enumerate(KEPT.items()):
        y = 8 + row * 38
        kinds = ["kept" if c in own else "dropped" for c in CHANNELS]
        parts += [text(LABEL - 12, y + 20, f"{name} keeps", "word name"), *cells(LABEL + 10, y, CHANNELS, kinds)]
    return svg(parts, LABEL + 10 + 6 * CELL + 10, 8 + 4 * 38, "The masks of four consumers")


def orders() -> str:
    """The example in its original order and in a better one, with what every access reads."""
    problem, parts, y = example(), [], 6
    stored = "".join(c for c in CHANNELS if c in "".join(KEPT.values()))
    named = {f"original order {' '.join(stored)}": stored, f"order {' '.join(BETTER)}": BETTER}
    for title, names in named.items():
        order = Order([[CHANNELS.index(c) for c in names]])
        evaluation = evaluate(problem, order, "traffic")
        parts.append(text(4, y + 14, f"{title}: traffic {evaluation.value}"))
        y += HEAD
        for access in evaluation.accesses:
            own = KEPT[access.name]
            parts += [
                text(LABEL - 40, y + 20, access.name, "word name"),
                *cells(LABEL - 24, y, names, [access.mode if c in own else "dropped" for c in names]),
                brackets(LABEL - 24, y, access.start, access.span),
                text(LABEL + 5 * CELL - 6, y + 20, _said(access.mode, access.span, access.runs, access.cost)),
            ]
            y += 38
        y += 10
    return svg(parts, 520, y, "Spans, runs and views in two orders")


def _said(mode: str, span: int, runs: int, cost: int) -> str:
    return f"span {span}, {runs} run{'s' * (runs > 1)}: {mode}, costs {cost}"


def modes() -> str:
    """Four ways to read the same channels."""
    own, parts = KEPT["w"], []
    start, end = (BETTER.index(c) for c in (own[0], own[-1]))
    ways = {
        "stored": ["kept" if c in own else "dropped" for c in BETTER],
        "over-read": ["over-read" if c in own else "zero" if start <= k <= end else "" for k, c in enumerate(BETTER)],
        "copy": ["copy" if c in own else "" for c in BETTER],
    }
    said = {
        "stored": f"w keeps {own[0]} and {own[1]}",
        "over-read": "reads them in place; the weights of the channel between are zero",
        "copy": "gathers them side by side first: one gather",
    }
    for row, (name, kinds) in enumerate(ways.items()):
        y, names = 8 + row * 38, BETTER
        if name == "copy":
            names, kinds = own, ["copy"] * len(own)
        parts += [text(LABEL, y + 20, name, "word name"), *cells(LABEL + 16, y, names, kinds)]
        parts.append(text(LABEL + 30 + 5 * CELL, y + 20, said[name]))
    y = 8 + 3 * 38
    parts += [text(LABEL, y + 20, "pieces", "word name"), *cells(LABEL + 16, y, own, ["copy"] * 2)]
    parts.append(f'<path class="line" d="M{LABEL + 16 + CELL} {y}v30"/>')
    parts.append(text(LABEL + 30 + 5 * CELL, y + 20, "joins its two runs first: one concatenation"))
    return svg(parts, 700, y + 40, "Over-read, copy and pieces")


def anchors() -> str:
    """An access that reads two blocks side by side."""
    names, kept = "abcdefg", "cef"
    kinds = ["kept" if c in kept else "dropped" for c in names]
    x, y = LABEL + 10, 30
    parts = [text(x + 2 * CELL, 18, "block A", "head"), text(x + 6 + 5.5 * CELL, 18, "block B", "head")]
    parts += [text(x - 12, y + 20, "keeps", "word name"), *cells(x, y, names[:4], kinds[:4])]
    parts += cells(x + 4 * CELL + 6, y, names[4:], kinds[4:])
    left, right = x + 2 * CELL, x + 6 * CELL + 6
    parts.append(f'<path class="line" d="M{left + 2} {y + 36}v6H{right - 2}v-6"/>')
    parts.append(text((left + right) / 2, y + 60, "span: 4 channels, 1 of them unwanted", "head"))
    parts.append(text(x + 8.2 * CELL, y + 12, "in A: anchored at the right end"))
    parts.append(text(x + 8.2 * CELL, y + 30, "in B: anchored at the left end"))
    return svg(parts, 560, 100, "A row in each of two blocks")


DRAWINGS = {"masks": masks, "orders": orders, "modes": modes, "anchors": anchors}


def main() -> int:
    """Write all drawings."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        write_text_atomically(draw(), DIRECTORY / f"{name}.svg")
    print(f"{len(DRAWINGS)} drawings in {DIRECTORY}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
