"""The options that write reports, tables and pictures, and what writes them. They are the same in all commands.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from problems.files import write_text_atomically
from upscale_opt.commands import options
from upscale_opt.commands.sessions import Run, say
from upscale_opt.commands.values import nameable
from upscale_opt.errors import UpscaleError
from upscale_opt.pages.facts import command_line

if TYPE_CHECKING:
    from upscale_opt.comparing.comparison_pages import Compared
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.pages.page import Page
    from upscale_opt.pages.tables import Table
    from upscale_opt.rewriting.exports import Exported

ReportPath = Annotated[
    Path | None,
    typer.Option("--report", help="Write a page that shows what was gained, to this HTML file.", callback=nameable),
]
CsvPath = Annotated[Path | None, typer.Option("--csv", help="Write the table of segments as CSV.", callback=nameable)]
LatexPath = Annotated[
    Path | None, typer.Option("--latex", help="Write the table as LaTeX, with booktabs' rules.", callback=nameable)
]
SvgPath = Annotated[Path | None, typer.Option("--svg", help="Draw times and objectives as SVG.", callback=nameable)]
PdfPath = Annotated[Path | None, typer.Option("--pdf", help="Draw times and objectives as PDF.", callback=nameable)]
PictureForms = Annotated[
    list[str], typer.Option("--format", help="png, svg or pdf: the form of pictures; may repeat. [default: png]")
]
RANDOM_WEIGHTS = "The weights are random: the figures show what orders do, not what a trained network needs."


@dataclass(frozen=True)
class Reporting:
    """The options of `solve` and `compare` that write what was found. Each field is the option with its name."""

    report: ReportPath = None
    csv: CsvPath = None
    latex: LatexPath = None
    svg: SvgPath = None
    pdf: PdfPath = None

    @property
    def is_wanted(self) -> bool:
        """Whether anything is to be written."""
        return any(own is not None for own in (self.report, self.csv, self.latex, self.svg, self.pdf))

    def check(self) -> None:
        """Raise `UpscaleError` unless every file can be written, and pictures have the right endings."""
        from upscale_opt.pages.figure_files import form_of

        options.require_writable(self.report, self.csv, self.latex, self.svg, self.pdf)
        for form, path in (("svg", self.svg), ("pdf", self.pdf)):
            if path is not None and form_of(path) != form:
                raise UpscaleError(f"--{form} writes {form.upper()}; end the name {path} with .{form}")

    def write(self, found: Compared) -> None:
        """Write what was asked for, and say so.

        With measured latencies, CSV and LaTeX have a second file with the table of latencies: ``NAME-latency.csv``.
        """
        written = []
        if self.report is not None:
            found.page().save(self.report)
            written.append(self.report)
        for path, form in ((self.csv, "csv"), (self.latex, "latex")):
            if path is not None:
                written += _write_tables(found.tables(form), form, path)
        for path in (self.svg, self.pdf):
            if path is not None:
                from upscale_opt.pages.bar_figures import save_bars

                save_bars(found.bars(), path)
                written.append(path)
        if written:
            say(f"written: {', '.join(map(str, written))}")


def _write_tables(tables: Mapping[str, Table], form: str, path: Path) -> list[Path]:
    paths = []
    for name, table in tables.items():
        own = path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path
        write_text_atomically(table.csv() if form == "csv" else table.latex(), own)
        paths.append(own)
    return paths


def compared_run(
    run: Run, exports: Mapping[str, Exported], latencies: Mapping[str, Profile] | None = None, *, answer: str = ""
) -> Compared:
    """What the page of a run shows."""
    from upscale_opt.comparing.compared import compared

    setting = run.setting
    return compared(
        run.prepared,
        run.solutions,
        run.search.solvers,
        run.search.settled,
        exports,
        latencies,
        title=f"{setting.model}, {setting.masks}",
        answer=answer,
        asked=asked(run),
        notes=random_weights(run),
        command=this_command(),
    )


def asked(run: Run) -> dict[str, Any]:
    """What a run was asked for, in words."""
    setting = run.setting
    return {
        "model": setting.model,
        "weights": setting.weights or "as the model is made",
        "device": setting.device,
        "seed": setting.seed,
        "time limit": f"{run.search.time_limit:g} s per segment and solver",
    }


def random_weights(run: Run) -> tuple[str, ...]:
    """A note if the weights are random."""
    from upscale_opt.models.loading import has_random_weights

    return (RANDOM_WEIGHTS,) if has_random_weights(run.reference) else ()


def this_command() -> str:
    """The command that is running."""
    return command_line(sys.argv[1:])


def save_page(page: Page, path: Path | None) -> None:
    """Write a page, if a path was given, and say so."""
    if path is not None:
        page.save(path)
        say(f"report: {path}")
