"""The options on when a solve stops beside its time limit, on its threads, and on its log."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

import typer

from solvers import GapLimit, NoImprovement, StopRule, TargetValue, WorkLimit
from upscale_opt.commands.values import real, whole

MOST_WORKERS = 1024

_Gap = Annotated[
    float | None, typer.Option("--gap", help="Stop at this gap, a share (0.05).", callback=real(least=0, below=1.0001))
]
_Target = Annotated[
    int | None, typer.Option("--target", help="Stop at an order of at most this value.", callback=whole(0))
]
_Patience = Annotated[
    float | None, typer.Option("--no-improvement", help="Stop after so many seconds in vain.", callback=real(above=0))
]
_Work = Annotated[
    float | None,
    typer.Option("--work-limit", help="Stop after so much work: the same on every machine.", callback=real(above=0)),
]
_Workers = Annotated[int | None, typer.Option("--workers", help="Threads for CP-SAT.", callback=whole(1, MOST_WORKERS))]
_Log = Annotated[bool, typer.Option("--log", help="Print a line for every improvement, and a summary.")]


@dataclass(frozen=True)
class Stopping:
    """The options of a command. Each field is the option with its name."""

    gap: _Gap = None
    target: _Target = None
    no_improvement: _Patience = None
    work_limit: _Work = None
    workers: _Workers = None
    log: _Log = False

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of `solvers.solve` that were asked for."""
        rules: list[StopRule] = []
        if self.gap is not None:
            rules.append(GapLimit(self.gap))
        if self.target is not None:
            rules.append(TargetValue(self.target))
        if self.no_improvement is not None:
            rules.append(NoImprovement(seconds=self.no_improvement))
        if self.work_limit is not None:
            rules.append(WorkLimit(self.work_limit))
        asked: dict[str, Any] = {"stop": reduce(or_, rules)} if rules else {}
        if self.workers is not None:
            asked["workers"] = self.workers
        return {**asked, "log": True} if self.log else asked
