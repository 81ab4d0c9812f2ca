"""The log of a solve, in the manner of CP-SAT's: a line per improvement, then a summary.

Starting the search, seed 0, at most 10 s.
#1       0.01s best:712      bound:0        gap:100.00%  greedy
#Bound   0.04s best:712      bound:655      gap:8.01%    levels
"""

from __future__ import annotations

from collections.abc import Callable

from problems import Objective, Problem, in_units
from solvers.common.result import Progress, Result, gap_between


class Log:
    """Writes the log.

    Parameters
    ----------
    write
        Called with every line.
    problem, objective
        What is solved; values are written in units of the objective.
    """

    def __init__(self, write: Callable[[str], object], problem: Problem, objective: Objective) -> None:
        self._write, self._problem, self._objective = write, problem, objective
        self._ticks = objective.ticks_of(problem)
        self._value: int | None = None
        self._number = 0

    def begin(self, solver: str, limit: str, seed: int) -> None:
        """The head."""
        self._write(f"{self._problem}")
        self._write(f"Objective {self._objective.name}, solver {solver}.")
        self._write(f"Starting the search, seed {seed}, at most {limit}.")

    def improved(self, news: Progress) -> None:
        """A better order, numbered, or a better bound."""
        mark = "#Bound"
        if news.value != self._value:
            self._value = news.value
            self._number += 1
            mark = f"#{self._number}"
        self._write(f"{mark:<7} {news.seconds:6.2f}s {self._figures(news.value, news.bound)} {news.method}")

    def end(self, result: Result) -> None:
        """The summary."""
        self._write(f"#Done   {result.runtime:6.2f}s {self._figures(result.value, result.bound)} {result.stop_reason}")
        known = result.gap_to_best_known()
        rows = {
            "status": result.status,
            "objective": in_units(result.value, self._ticks),
            "best_bound": "none" if result.bound is None else in_units(result.bound, self._ticks),
            "gap": "none" if result.gap is None else f"{result.gap:.2%}",
            **({} if known is None else {"gap_to_best_known": f"{known:.2%}"}),
            "stop_reason": result.stop_reason,
            "walltime": f"{result.runtime:.3f}",
            "improvements": self._number,
            **{name: ", ".join(map(str, own)) if isinstance(own, tuple) else own for name, own in result.stats.items()},
        }
        self._write("")
        self._write("Summary:")
        for name, value in rows.items():
            self._write(f"{name}: {value}")

    def _figures(self, value: int, bound: int | None) -> str:
        gap = gap_between(value, bound)
        shown = "none" if bound is None else in_units(bound, self._ticks)
        share = "none" if gap is None else f"{gap:.2%}"
        return f"best:{in_units(value, self._ticks)!s:<8} bound:{shown!s:<8} gap:{share:<8}"
