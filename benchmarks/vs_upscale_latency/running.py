"""Makes the files of the missing cells, measures them, and writes their rows at once."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import results
from benchmarks.vs_upscale_latency.cells import MASKED, Cell, Subject
from benchmarks.vs_upscale_latency.making import make, make_masked
from benchmarks.vs_upscale_latency.measuring import measure
from benchmarks.vs_upscale_latency.processes import ChildError, in_child
from benchmarks.vs_upscale_latency.rows import CELL_KEY, Outcome, Row, is_done, key_of, read_rows, rows_of, write_rows
from upscale_opt.latency.environment import environment

NAME = "vs_upscale_latency"
PEER = "apple-upscale"


class Run:
    """Settings for all cells of a call.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    num_threads
        Number of torch threads.
    runs
        Rounds per cell, at least 2.
    variants
        Names in `cells.VARIANTS`, the masked network first.
    files
        Directory for the TorchScript files; None to delete them.
    command
        The command line, for the rows.
    """

    def __init__(
        self,
        device: str,
        num_threads: int,
        runs: int,
        variants: Sequence[str],
        files: Path | None,
        *,
        command: str = "",
    ) -> None:
        where = environment()
        self.path = results.DIRECTORY / f"{NAME}.csv"
        self.machine = where["gpu"] if device == "cuda" else f"{where['machine']} {where['cores']} cores"
        self.num_threads, self.runs, self.variants, self.files = num_threads, runs, variants, files
        packages = {"torch": where["torch"], "torchvision": where["torchvision"], PEER: version_of(PEER)}
        self.facts: Row = {
            "commit": results.commit(),
            "versions": ", ".join(f"{package} {version}" for package, version in packages.items() if version),
            "date": str(datetime.date.today()),
            "command": command,
        }

    def over(self, subjects: Sequence[Subject], settings: Sequence[tuple[int, str]], *, fresh: bool) -> bool:
        """Make and measure the missing cells, or all if `fresh`. Returns whether all are done."""
        rows = [] if fresh else read_rows(self.path)
        waiting: dict[Subject, list[Cell]] = {}
        for subject in subjects:
            cells = [Cell(subject, batch, memory_format) for batch, memory_format in settings]
            waiting[subject] = [c for c in cells if not is_done(rows, self._key(c), self.variants, self.runs)]
        try:
            with tqdm(total=sum(map(len, waiting.values())), unit="cell") as bar:
                for subject, cells in waiting.items():
                    if cells:
                        self._subject(subject, cells, bar)
        except KeyboardInterrupt:
            return False
        return True

    def _subject(self, subject: Subject, cells: Sequence[Cell], bar: Any) -> None:
        with self._directory(subject) as directory:
            made = self._make(subject, cells, directory, bar)
            for cell in cells:
                bar.set_postfix_str(f"{cell}: measure")
                outcomes = self._measure(cell, made, directory)
                new = rows_of(self._key(cell), outcomes, self.runs, {**self.facts, "load": results.load()})
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_rows(results.replaced(read_rows(self.path), new, CELL_KEY, self._key(cell)), self.path)
                for variant, outcome in outcomes.items():
                    if self.files is None:
                        cell.file(directory, variant).unlink(missing_ok=True)
                    if outcome.status != "ok":
                        bar.write(f"{cell} {variant}: {outcome.status}: {outcome.reason}", file=sys.stderr)
                bar.update()

    def _make(
        self, subject: Subject, cells: Sequence[Cell], directory: Path, bar: Any
    ) -> dict[tuple[Cell, str], str | None]:
        """The reason why the file of a cell and variant could not be made; None if it was made."""
        made: dict[tuple[Cell, str], str | None] = {}
        try:
            list(in_child(make_masked, subject, directory, num_threads=self.num_threads))
        except ChildError as error:
            return {(cell, v): f"no masked network: {error}" for cell in cells for v in self.variants}
        for variant in self.variants:
            bar.set_postfix_str(f"{subject.model} {subject.amount}: make {variant}")
            reports = in_child(make, variant, subject, cells, directory, num_threads=self.num_threads)
            left = list(cells)
            try:
                for report in reports:
                    made[left.pop(0), variant] = report
            except ChildError as error:
                made |= {(cell, variant): str(error) for cell in left}
        return made

    def _measure(self, cell: Cell, made: dict[tuple[Cell, str], str | None], directory: Path) -> dict[str, Outcome]:
        reasons = {variant: made[cell, variant] for variant in self.variants}
        outcomes = {v: Outcome("failed", reason) for v, reason in reasons.items() if reason is not None}
        files = {v: cell.file(directory, v) for v in self.variants if v not in outcomes}
        if MASKED not in files:
            return outcomes | {v: Outcome("failed", "nothing to compare with") for v in files}
        found = self._together(cell, files)
        if isinstance(found, str):  # some variant has killed the process: measure each alone to find out which
            for variant, file in list(files.items()):
                alone = self._together(cell, {MASKED: files[MASKED], variant: file}, runs=2)
                if isinstance(alone, str):
                    outcomes[variant] = Outcome("failed", alone)
                    del files[variant]
            found = self._together(cell, files)
        if isinstance(found, str):
            found = {variant: Outcome("failed", f"while measured together: {found}") for variant in files}
        outcomes |= found
        return {variant: outcomes[variant] for variant in self.variants}

    def _together(self, cell: Cell, files: Mapping[str, Path], runs: int | None = None) -> dict[str, Outcome] | str:
        """Outcomes of the files, measured in one process. If it ended early: the reason."""
        try:
            (found,) = in_child(measure, cell, files, runs or self.runs, num_threads=self.num_threads)
        except ChildError as error:
            return str(error)
        return found

    def _key(self, cell: Cell) -> tuple[str, ...]:
        return key_of(cell, self.machine, self.num_threads)

    @contextmanager
    def _directory(self, subject: Subject) -> Iterator[Path]:
        if self.files is None:
            with tempfile.TemporaryDirectory(prefix=f"{NAME}-") as name:
                yield Path(name)
        else:
            directory = self.files / subject.directory
            directory.mkdir(parents=True, exist_ok=True)
            yield directory


def version_of(package: str) -> str | None:
    """The installed version; None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
