"""The command `sweep`: many cells with one command, and what to do with their rows."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from upscale_opt.commands import data_options, options, spreading, sweep_options
from upscale_opt.commands.sessions import remark, say
from upscale_opt.commands.sweep_options import Axes
from upscale_opt.commands.values import nameable
from upscale_opt.errors import SweepError

if TYPE_CHECKING:
    from upscale_opt.pages.page import Page
    from upscale_opt.sweeps.rows import Row

RUN = "run"


class _WithDefault(TyperGroup):
    """A group whose command `run` need not be named: ``sweep sweep.yaml``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WithDefault,
    help="Compute many cells (models x amounts x masks x objectives x methods x conditions); docs/sweeps.md. "
    "`sweep FILE` and `sweep --models ...` are short for `sweep run`, whose help has the options.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
DEFAULT_AXES = Axes()
NOTHING: list[str] = []
_STORE = typer.Argument(help="A store that a sweep wrote: a SQLite or .jsonl file.", callback=nameable)
StorePath = Annotated[Path, _STORE]


@app.command(RUN)
@spreading.spread
def run(
    file: sweep_options.File = None,
    axes: Axes = DEFAULT_AXES,
    data: data_options.Data = None,
    weights: options.Weights = None,
    input_shape: Annotated[str | None, typer.Option(help="Shape of the example input.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds per segment. [default: 10]")] = None,
    repeats: options.Repeats = None,
    store: sweep_options.Store = None,
    engine: sweep_options.EngineName = "processes",
    workers: sweep_options.NumWorkers = None,
    memory: sweep_options.Memory = None,
    job: sweep_options.Job = NOTHING,
    resume: sweep_options.Resume = True,
    retry_failed: sweep_options.RetryFailed = False,
    part: sweep_options.Part = None,
    dry_run: sweep_options.DryRun = False,
    page: sweep_options.Report = None,
) -> None:
    """Compute the cells of a sweep file that the store lacks. It may be killed at any time and run again."""
    if file is None and not axes.models:
        raise SweepError("give a sweep file, or --models; upscale-opt sweep run --help shows both")
    from upscale_opt.models.loading import require_known
    from upscale_opt.sweeps.cells import cells_of
    from upscale_opt.sweeps.declarations import axes_of, number_of_kinds, sweep_file
    from upscale_opt.sweeps.documents import read_document
    from upscale_opt.sweeps.engines.choice import engine_named
    from upscale_opt.sweeps.engines.interface import cores
    from upscale_opt.sweeps.running import part_of
    from upscale_opt.sweeps.running import run as run_cells
    from upscale_opt.sweeps.stores import open_store

    path = None if file is None else sweep_file(file)
    replaced = {"data": data, "weights": weights, "input_shape": input_shape}
    replaced_numbers = {"time_limit": time_limit, "repeats": repeats}
    document = None if path is None else read_document(path)
    cells = cells_of(axes_of(document, axes.document(**replaced, **replaced_numbers)))
    if part is not None:
        cells = part_of(cells, *sweep_options.part_of(part))
    target = store or Path(f"{'sweep' if path is None else path.stem}.sqlite")
    if dry_run or not target.exists():
        for name in dict.fromkeys(cell.model.name for cell in cells):
            require_known(name)
    say(number_of_kinds(cells))
    if dry_run:
        return
    options.require_writable(target)
    options.require_writable(page)
    if not resume and target.exists():
        raise SweepError(f"there is a store {target} already; leave out --no-resume to go on, or name another --store")
    limit = None if memory is None else max(1, int(memory * 1e9))
    chosen = engine_named(
        engine,
        workers or cores(),
        Path(f"{target}.jobs"),
        memory_limit=limit,
        parameters=sweep_options.job_parameters(job),
    )
    with open_store(target) as opened:
        opened.note(shlex.join(sys.argv[1:]), "" if path is None else path.read_text(), len(cells))
        try:
            summary = run_cells(cells, opened, chosen, retry_failed=retry_failed)
        except KeyboardInterrupt:
            print(f"interrupted; what is done is in {target}, the same command goes on", file=sys.stderr)
            raise
        if page is not None:
            _page_of({target: list(opened.rows())}).save(page)
    say(str(summary))
    next_one = f"next: upscale-opt sweep report {shlex.quote(str(target))} --out sweep.html"
    say(f"rows: {target}; {next_one if page is None else f'page: {page}'}")


def _page_of(stores: dict[Path, list[Row]]) -> Page:
    from upscale_opt.sweeps.pages.page import page

    return page({str(path): rows for path, rows in stores.items()})


@app.command()
def report(
    store: StorePath,
    out: Annotated[Path, typer.Option(help="The HTML file to write.", callback=nameable)] = Path("sweep.html"),
    other: Annotated[
        Path | None, typer.Option("--compare", help="A second store, to compare with.", callback=nameable)
    ] = None,
) -> None:
    """Write one self-contained HTML page over a store: pictures per network, and tables that sort and filter."""
    from upscale_opt.sweeps.stores import open_store

    options.require_writable(out)
    found = {}
    for path in [store, *([] if other is None else [other])]:
        with open_store(path, create=False) as opened:
            found[path] = list(opened.rows())
    _page_of(found).save(out)
    say(f"written to {out}: {', '.join(f'{len(rows)} rows of {name}' for name, rows in found.items())}")


@app.command()
def collect(
    store: StorePath,
    others: Annotated[list[Path], typer.Argument(help="Stores whose rows are added: SQLite or .jsonl files.")],
) -> None:
    """Add the rows of other stores, such as those of other machines."""
    from upscale_opt.sweeps.running import collect as collect_rows
    from upscale_opt.sweeps.stores import open_store

    options.require_writable(store)
    with open_store(store) as opened:
        for path in others:
            with open_store(path, create=False) as other:
                say(f"{path}: {collect_rows(opened, other.rows())} new rows")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="CSV files of benchmarks/results.")],
    store: Annotated[Path, typer.Option(help="The store.", callback=nameable)] = Path("sweep.sqlite"),
) -> None:
    """Read rows of the benchmarks' CSV files into a store, for reports."""
    from upscale_opt.sweeps.benchmark_files import rows_of
    from upscale_opt.sweeps.running import collect as collect_rows
    from upscale_opt.sweeps.stores import open_store

    options.require_writable(store)
    read = {path: rows_of(path) for path in files}
    with open_store(store) as opened:
        for path, rows in read.items():
            say(f"{path}: {len(rows)} rows, {collect_rows(opened, iter(rows))} of them new in {store}")


@app.command()
def rows(
    store: StorePath,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a CSV file.", callback=nameable)] = None,
) -> None:
    """Count the rows of a store by kind and status, and say why cells failed; or write all of them as CSV."""
    from problems.files import write_text_atomically
    from upscale_opt.sweeps.pages.columns import csv_text, failures, summary
    from upscale_opt.sweeps.stores import open_store

    options.require_writable(csv)
    with open_store(store, create=False) as opened:
        found = list(opened.rows())
    say(summary(found))
    remark(failures(found))
    if csv is not None:
        write_text_atomically(csv_text(found), csv)
        say(f"written to {csv}")
