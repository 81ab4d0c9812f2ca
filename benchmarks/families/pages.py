"""The pages: one per family with a table and a picture per objective, and one that lists them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import results
from benchmarks.families.pictures import Curves, picture
from benchmarks.families.standings import gaps, moments, standings
from benchmarks.results import Row, markdown_table, save_markdown
from problems.collection import LIBRARY
from problems.files import write_text_atomically

_LEGEND = (
    "Solid lines: how far values lie above the best known one, on average. Dashed lines: how far bounds lie below it. "
    "The scale of gaps is that of their square roots, time has a logarithmic scale."
)


def write_pages(rows: Sequence[Row]) -> str:
    """Write all pages and pictures of some rows; returns the page that lists the others."""
    folder = results.DIRECTORY / "families"
    folder.mkdir(parents=True, exist_ok=True)
    best = _best(rows)
    overview: list[Row] = []
    for family in sorted({row["family"] for row in rows}):
        own = [row for row in rows if row["family"] == family]
        name, lines = family.replace("/", "-"), _head(family, own)
        for objective in dict.fromkeys(row["objective"] for row in own):
            solves = [row for row in own if row["objective"] == objective]
            table, drawing = _objective(f"{family}, {objective}", solves, best)
            write_text_atomically(drawing + "\n", folder / f"{name}-{objective}.svg")
            lines += [f"## {objective}", "", markdown_table(table), ""]
            lines += [f"![{objective}: gaps against time]({name}-{objective}.svg)", ""]
            link = f"[{family}](families/{name}.md)"
            overview += [{"family": link, "objective": objective, **_in_the_end(line)} for line in table]
        write_text_atomically("\n".join([*lines, _LEGEND, ""]), folder / f"{name}.md")
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return save_markdown(
        "families",
        [
            "Cost against time, family by family. Every family has a page with pictures. *Above*, *below*: how far "
            "values lie above, and bounds below, the best known value in the end, on average.",
            "",
            f"Solves of commit {commits}. {_loads(rows)}",
            "",
            markdown_table(overview),
        ],
    )


def _head(family: str, rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(row["instance"] for row in rows))
    sizes = [LIBRARY.entry(name) for name in names]
    limits = ", ".join(sorted({row["time_limit"] for row in rows}, key=float))
    accesses, channels = [own.accesses for own in sizes], [own.channels for own in sizes]
    return [
        f"# {family}",
        "",
        f"{len(names)} of the {sum(own.family == family for own in LIBRARY.entries.values())} instances: "
        f"{min(accesses)} to {max(accesses)} accesses, {min(channels)} to {max(channels)} stored channels. Time limit "
        f"{limits} s, one thread. {_loads(rows)} Written by `python -m benchmarks.families`.",
        "",
        *(f"- `{name}`" for name in names),
        "",
    ]


def _loads(rows: Sequence[Row]) -> str:
    loads = [float(row["load"]) for row in rows if row["load"]]
    return f"Load average of the machine meanwhile: {min(loads):.1f} to {max(loads):.1f}." if loads else ""


def _best(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """(instance, objective) to the best value known, from the library and from the rows."""
    best: dict[tuple[str, str], int] = {}
    for name in dict.fromkeys(row["instance"] for row in rows):
        for objective, solution in LIBRARY.solutions(name).items():
            best[name, objective] = solution.value
    for row in rows:
        if row["value"]:
            key = row["instance"], row["objective"]
            best[key] = min(best.get(key, int(row["value"])), int(row["value"]))
    return best


def _objective(title: str, rows: Sequence[Row], best: dict[tuple[str, str], int]) -> tuple[list[Row], str]:
    """Table and picture of one objective."""
    at = moments(max(float(row["time_limit"]) for row in rows))
    shown = [moment for moment in (0.1, 1.0, at[-1]) if moment <= at[-1]]
    curves, table = {}, []
    for solver in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == solver and row["status"] != "refused"]
        if not own:
            continue
        solves = [standings(row["standings"]) for row in own]
        least = [best[row["instance"], row["objective"]] for row in own]
        curves[solver] = Curves(*gaps(solves, least, at))
        line: Row = {"solver": solver, "solves": len(own)}
        for moment, above, below in zip(shown, *gaps(solves, least, shown)):
            line |= {f"above, {moment:g} s": _share(above), f"below, {moment:g} s": _share(below)}
        line["proven"] = f"{sum(row['status'] == 'OPTIMAL' for row in own) / len(own):.0%}"
        line["median s"] = statistics.median(float(row["seconds"]) for row in own)
        table.append(line)
    return table, picture(title, at, curves)


def _in_the_end(line: Row) -> Row:
    """A line of a table with the gaps of its last moment only."""
    above, below = [name for name in line if name.startswith(("above", "below"))][-2:]
    return {
        "solver": line["solver"],
        "solves": line["solves"],
        "above": line[above],
        "below": line[below],
        "proven": line["proven"],
        "median s": line["median s"],
    }


def _share(gap: float) -> str:
    return f"{gap:.1%}" if gap == gap else ""
