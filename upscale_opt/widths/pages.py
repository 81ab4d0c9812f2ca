"""The report of a speedup as one page (`upscale_opt.pages`)."""

from __future__ import annotations

from upscale_opt.pages.bars import BEFORE, CHOSEN, Bar, Bars, of_seconds
from upscale_opt.pages.facts import facts, repeat, where
from upscale_opt.pages.page import Figure, Page, Section
from upscale_opt.pages.tables import Cell, Column, Table
from upscale_opt.widths.results import TIME, Speedup


def page(found: Speedup, *, title: str, command: str = "") -> Page:
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
    said = "reached" if found.reached else "not reached; this is the fastest network that was found"
    what = "times as fast" if found.budget == TIME else "times fewer multiply-accumulates"
    answer = f"{found.measured:.2f} {what}. Asked for {found.target:g}x: {said}. Measured: {found.how}."
    changed = Table.of(["", "before", Column("after")], found.table())
    repaired = [f"Before the repair of weights: {found.masked}."]
    if found.tuned is not None:
        repaired.append(f"Before {found.epochs} epochs of fine-tuning: {found.repaired}.")
    chosen = f"Method: {found.method}. Estimated loss {found.chosen.loss:.4g}; {found.chosen.bound_text}."
    if found.correction is not None:
        chosen += f" {str(found.correction).capitalize()}."
    remarks = (
        *found.notes,
        *(f"Compared with {own.method}: {own.measured:.3f}x, {own.repaired}." for own in found.others),
    )
    sections = [
        Section("Before and after", (changed, *repaired)),
        Section("How widths were chosen", (chosen, _rounds(found))),
        Section("Widths", (_widths(found),)),
        *([Section("Blocks that keep all their channels", (facts(found.fixed),))] if found.fixed else []),
        *([Section("Remarks", remarks)] if remarks else []),
        where(),
        *repeat(command),
    ]
    return Page(title, answer, _figures(found), (_latency(found), _sizes(found)), tuple(sections))


def _figures(found: Speedup) -> tuple[Figure, ...]:
    figures = [
        Figure(f"{found.measured:.2f}x", f"of {found.target:g}x asked for, measured", found.reached),
        Figure(f"{100 * found.final.agreement:.1f} %", "of held-out images get the same class as before"),
    ]
    if found.final.accuracy is not None and found.final.dense_accuracy is not None:
        before, after = (100 * own.top1 for own in (found.final.dense_accuracy, found.final.accuracy))
        figures.insert(
            1, Figure(f"{after - before:+.1f} pt", f"top-1: {before:.1f} % to {after:.1f} %, held-out images")
        )
    share = 1 - found.size.parameters / found.dense_size.parameters
    return (*figures, Figure(f"{-100 * share:+.0f} %", "parameters"))


def _latency(found: Speedup) -> Bars:
    bars = (Bar("before", found.dense_seconds, BEFORE), Bar("after", found.seconds, CHOSEN))
    return of_seconds("Latency per pass", bars, how=f"measured, medians; {found.how}")


def _sizes(found: Speedup) -> Bars:
    """What the network needs afterwards, as shares of before."""
    shares = {
        "time": found.seconds / found.dense_seconds,
        "multiply-accumulates": found.size.macs / found.dense_size.macs,
        "parameters": found.size.parameters / found.dense_size.parameters,
        "bytes": found.size.file_bytes / found.dense_size.file_bytes,
    }
    bars = (Bar("before", 100.0, BEFORE), *(Bar(name, 100 * own, CHOSEN) for name, own in shares.items()))
    return Bars("What is left", bars, "%", 1, "share of the network before")


def _rounds(found: Speedup) -> Table:
    columns: list[str | Column] = ["turn", *(Column(own, "x", digits=3) for own in ("asked", "predicted", "measured"))]
    rows: list[tuple[Cell, ...]] = [
        (
            str(i),
            own.asked,
            own.predicted,
            own.measured,
            f"{own.loss:.4g}",
            None if own.gap is None else 100 * own.gap,
        )
        for i, own in enumerate(found.rounds, start=1)
    ]
    return Table.of([*columns, "loss", Column("gap", "%", digits=2)], rows)


def _widths(found: Speedup) -> Bars | str:
    """A bar per block: the share of its channels that stays."""
    sizes = {block.name: block.size for block in found.exported.graph.blocks}
    sizes |= {weight: len(mask) for weight, mask in found.plan.masks.items()}
    bars = tuple(
        Bar(name, 100 * width / sizes[name], CHOSEN, note=f"{width:,} of {sizes[name]:,}")
        for name, width in found.chosen.widths.items()
        if name in sizes
    )
    if not bars:
        return "All blocks keep all their channels."
    return Bars("Channels that stay", bars, "%", 0, "what is not shown keeps all its channels", full=100.0)
