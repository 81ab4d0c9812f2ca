"""Are exports faster with aligned stored widths? Unaligned, aligned by measurement, and rounded to 8 and 16.

Every cell is one masked network at one batch size and memory format. Its exports have the same masks and differ in the
dropped channels that they store. They are measured in turn. Cells in ``results/alignment.csv`` are not measured again,
so an interrupted command continues where it stopped. Missing width tables are measured. Exit code 0, 2 for bad input,
130 if interrupted.

    python -m benchmarks.alignment --models resnet50 --batches 1 8
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.latency.cells import KEY, OLD, QUICK, Cell, Subject, add_cell_options, cells_of, with_dtype_shown
from benchmarks.results import MEASURED, Row, markdown_table, measured_here, provenance_of, resumed
from upscale_opt import MaskedModel, prepare, profile_interleaved
from upscale_opt.latency.copies import by_model, copied
from upscale_opt.latency.profiling import without_drift

NAME = "alignment"
MODELS = ("resnet50", "densenet121", "mobilenet_v2", "efficientnet_v2_s")
AMOUNTS = ("0.3", "0.5", "0.7")
UNPRUNED, UNALIGNED = "unpruned", "unaligned"
ALIGNED: dict[str, str | int] = {"auto": "auto", "8": 8, "16": 16}
COLUMNS = (
    *(*KEY, "variant", "stored", "padding", "median_ms", "ratio_low", "ratio", "ratio_high", "to_unpruned"),
    *("rounds", "copies", "threads", *MEASURED),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows; write CSV and Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: there is no CUDA device here; leave out --device", file=sys.stderr)
        return 2
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    return resumed(
        {NAME: COLUMNS},
        {cell.key: cell for cell in cells_of(given)},
        lambda cell: {NAME: _measured(cell, given, command)},
        lambda found: page(found[NAME]),
        key=KEY,
        defaults=OLD,
        fresh=given.fresh,
    )


def _measured(cell: Cell, given: argparse.Namespace, command: str) -> list[Row]:
    facts = measured_here(cell.device, command)
    subject = Subject(cell)
    plain = prepare(subject.model, subject.x, subject.masked)
    effort = QUICK if given.quick else None
    how = {"backend": cell.backend, "directory": given.tables, "effort": effort, "progress": True}
    variants = {UNALIGNED: plain} | {name: plain.align(ALIGNED[name], **how) for name in given.aligned}
    models = {UNPRUNED: subject.model}
    for name, masked in variants.items():
        solved = masked.solve("auto", objective="traffic", time_limit=given.time_limit)
        models[name] = masked.export(masked.plan(solved), verify=not given.no_verify).module
    timed = copied(models, given.copies, twice=[UNALIGNED])
    profiles = profile_interleaved(timed, subject.x, repeats=given.rounds, backend=cell.backend, progress=True)
    steady = {name: np.mean(own, axis=0) for name, own in by_model(without_drift(profiles), models).items()}
    return [
        {
            **dict(zip(KEY, cell.key, strict=True)),
            "variant": name,
            **_stored(variants.get(name)),
            **_figures(steady[name], steady),
            "rounds": given.rounds,
            "copies": given.copies,
            "threads": torch.get_num_threads(),
            **facts,
        }
        for name in models
    ]


def _stored(masked: MaskedModel | None) -> Row:
    """Channels stored, and how many of them to align."""
    if masked is None:
        return {"stored": "", "padding": ""}
    return {"stored": int(masked.stored.sum()), "padding": sum(map(len, masked.padding.values()))}


def _figures(own: np.ndarray, steady: dict[str, np.ndarray]) -> Row:
    """Median, and ratios to the unaligned export in the same rounds: quartiles and median."""
    low, middle, high = np.percentile(own / steady[UNALIGNED], (25, 50, 75))
    return {
        "median_ms": f"{1e3 * float(np.median(own)):.5g}",
        "ratio_low": f"{low:.4f}",
        "ratio": f"{middle:.4f}",
        "ratio_high": f"{high:.4f}",
        "to_unpruned": f"{float(np.median(own / steady[UNPRUNED])):.4f}",
    }


def page(rows: Sequence[Row]) -> str:
    """The Markdown page of all cells so far, at least one."""
    rows = with_dtype_shown(rows)
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(tuple(str(row[name]) for name in KEY), {})[row["variant"]] = row
    lines = [
        "How to read this: every line is one masked network (L2, random weights) at one batch size and memory format. "
        "Its exports have the same masks, the best order found for `traffic`, and differ in the stored widths alone: "
        "*unaligned* stores what somebody keeps, *auto* pads the blocks that measured tables find faster "
        "(`upscale_opt.latency.stored_widths`), *8* and *16* round all widths up. Ratios are to the unaligned export "
        "in the same rounds, median [quartiles]; **below 1 is faster**. *padding*: channels added by auto. "
        f"{provenance_of(rows)}",
        "",
        _summary(list(cells.values())),
        "",
        markdown_table([_line(own) for own in cells.values()]),
        "",
    ]
    return "\n".join(lines)


def _summary(cells: Sequence[dict[str, Row]]) -> str:
    """Geometric means, and the cells in which a variant is slower beyond noise."""
    lines = []
    for name in ALIGNED:
        measured = [own for own in cells if name in own]
        if not measured:
            continue
        ratios = [float(own[name]["ratio"]) for own in measured]
        slower = [own for own in measured if float(own[name]["ratio_low"]) > 1]
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        lines.append(
            f"- *{name}*: geometric mean {mean:.3f} over {len(ratios)} cells, least {min(ratios):.3f}, most "
            f"{max(ratios):.3f}; slower in three quarters of the rounds in {len(slower)}."
        )
    return "\n".join(lines)


def _line(own: dict[str, Row]) -> Row:
    first = own[UNALIGNED]
    ratios = dict.fromkeys(ALIGNED, "-")
    for name in [variant for variant in ALIGNED if variant in own]:
        low, middle, high = (float(own[name][column]) for column in ("ratio_low", "ratio", "ratio_high"))
        ratios[name] = f"{middle:.3f} [{low:.3f}, {high:.3f}]"
    return {
        **{name: first[name] for name in ("model", "amount", "batch", "format", "backend")},
        "unaligned ms": first["median_ms"],
        "to unpruned": first["to_unpruned"],
        "padding": own["auto"]["padding"] if "auto" in own else "-",
        **ratios,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_cell_options(parser, models=MODELS, amounts=AMOUNTS)
    parser.add_argument("--aligned", nargs="+", choices=ALIGNED, default=tuple(ALIGNED), help="variants [all]")
    parser.add_argument("--rounds", type=int, default=15, help="in which every export is measured once [15]")
    parser.add_argument("--copies", type=int, default=2, help="of every export that are measured [2]")
    parser.add_argument("--time-limit", type=float, default=0.5, help="seconds per segment [0.5]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
