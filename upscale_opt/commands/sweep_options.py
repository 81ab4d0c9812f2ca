"""The options of the command `sweep`: what replaces keys of the sweep file, and how the sweep runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale_opt.commands.options import MOST_PROCESSES
from upscale_opt.commands.values import nameable, real, whole
from upscale_opt.errors import SweepError

if TYPE_CHECKING:
    from upscale_opt.sweeps.documents import Value

COMMAND_LINE = "the command line"
_Several = list[str]


def _list(name: str, what: str) -> Any:
    return typer.Option(name, metavar="A,B,...", help=f"{what}; commas between, or the option again.")


Models = Annotated[_Several, _list("--models", "Networks")]
Amounts = Annotated[_Several, _list("--amounts", "Shares of channels to remove, or FROM:TO:STEP")]
Importances = Annotated[_Several, _list("--importances", "How channels are ranked")]
Modes = Annotated[_Several, _list("--modes", "Who is masked: input, constrained, output, both")]
Scopes = Annotated[_Several, _list("--scopes", "local, global")]
Objectives = Annotated[_Several, _list("--objectives", "What is minimised")]
Methods = Annotated[_Several, _list("--methods", "Solvers")]
Devices = Annotated[_Several, _list("--devices", "cpu, cuda, cuda:N")]
DTypes = Annotated[_Several, _list("--dtypes", "Precisions of latencies")]
Batches = Annotated[_Several, _list("--batches", "Batch sizes of latencies")]
Backends = Annotated[_Several, _list("--backends", "How models run when measured")]
Seeds = Annotated[_Several, _list("--seeds", "Seeds of weights, masks and solvers")]
Measure = Annotated[_Several, _list("--measure", "orders, accuracy, latency")]
Store = Annotated[
    Path | None,
    typer.Option(help="SQLite file of the rows, or .jsonl. [default: FILE.sqlite]", callback=nameable),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine", help="serial, processes, joblib, ray, dask, slurm; ray:ADDRESS, slurm:local, ... (docs/sweeps.md)."
    ),
]
NumWorkers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes. [default: one per core]", callback=whole(1, MOST_PROCESSES)),
]
Memory = Annotated[
    float | None,
    typer.Option(
        help="Gigabytes of a worker process, above which it is replaced after its cell.", callback=real(above=0)
    ),
]
Job = Annotated[
    list[str], typer.Option(metavar="KEY=VALUE", help="A parameter of SLURM's jobs (slurm_partition=cpu); may repeat.")
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with a store; else refuse one that exists already.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Compute cells that failed again, too.")]
Part = Annotated[
    str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts, for machines without a common disk.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many cells there are; compute nothing.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="Also write the page over the store, as `sweep report` does.", callback=nameable),
]
File = Annotated[
    str | None, typer.Argument(help="A .yaml, .toml or .json file, or upscale-2023 (the paper's protocol).")
]


@dataclass(frozen=True)
class Axes:
    """The options that replace keys of the sweep file. Each field is the option with its name."""

    models: Models = ()  # type: ignore[assignment]
    amounts: Amounts = ()  # type: ignore[assignment]
    importances: Importances = ()  # type: ignore[assignment]
    modes: Modes = ()  # type: ignore[assignment]
    scopes: Scopes = ()  # type: ignore[assignment]
    objectives: Objectives = ()  # type: ignore[assignment]
    methods: Methods = ()  # type: ignore[assignment]
    devices: Devices = ()  # type: ignore[assignment]
    dtypes: DTypes = ()  # type: ignore[assignment]
    batches: Batches = ()  # type: ignore[assignment]
    backends: Backends = ()  # type: ignore[assignment]
    seeds: Seeds = ()  # type: ignore[assignment]
    measure: Measure = ()  # type: ignore[assignment]

    def document(self, **others: Any) -> Value:
        """The keys of a sweep file that these options replace, and others that are not None."""
        from upscale_opt.sweeps.documents import located

        keys: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
        for name in ("models", "objectives", "methods", "measure"):
            if getattr(self, name):
                keys[name] = _split(getattr(self, name))
        if self.seeds:
            keys["seeds"] = _numbers(self.seeds)
        if self.amounts:
            keys["amounts"] = _amounts(_split(self.amounts))
        masks = {"importance": self.importances, "mode": self.modes, "scope": self.scopes}
        if any(masks.values()):
            keys["masks"] = [{name: _split(own) for name, own in masks.items() if own}]
        conditions = {"device": self.devices, "dtype": self.dtypes, "backend": self.backends}
        if any(conditions.values()) or self.batches:
            found: dict[str, Any] = {name: _split(own) for name, own in conditions.items() if own}
            keys["conditions"] = [found | ({"batch": _numbers(self.batches)} if self.batches else {})]
        return located(keys, COMMAND_LINE)


def _split(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]


def _numbers(texts: list[str]) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in _split(texts)]


def _amounts(parts: list[str]) -> Any:
    """A list of amounts, or the range FROM:TO:STEP."""
    if len(parts) == 1 and ":" in parts[0]:
        ends = parts[0].split(":")
        if len(ends) != 3:
            raise SweepError(f"--amounts {parts[0]} is not understood; write FROM:TO:STEP, such as 0.1:0.9:0.1")
        return dict(zip(("from", "to", "step"), ends, strict=True))
    return parts


def part_of(text: str) -> tuple[int, int]:
    """The numbers of ``--part I/N``.

    Raises
    ------
    SweepError
        If the text has another form.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None:
        raise SweepError(f"--part {text} is not understood; write it like 1/2")
    return int(found[1]), int(found[2])


def job_parameters(texts: list[str]) -> dict[str, Any]:
    """The parameters of ``--job KEY=VALUE``.

    Raises
    ------
    SweepError
        If a text has another form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise SweepError(f"--job {text} is not understood; write it like slurm_partition=cpu")
        found[key] = int(value) if value.isdecimal() else value
    return found
