"""What `solvers.solve` shows while it works: one line with value, bound and gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from problems import Problem, in_units
from problems.showing.progress import ProgressBar
from problems.showing.reprs import clipped


def solve_bar(problem: Problem, *, progress: bool | None = None) -> ProgressBar[None]:
    """The line of one solve.

    Parameters
    ----------
    problem
        What is solved.
    progress
        None, True or False, as in `problems.showing.progress`.
    """
    return ProgressBar(f"solve {clipped(problem.name, 40)}", progress=progress)


def noted(bar: ProgressBar[Any], ticks: int, what: str = "") -> Callable[[Any], None]:
    """What a solve calls with a `solvers.Progress` when it knows more: it writes value, bound and gap behind a bar.

    Parameters
    ----------
    bar
        The bar.
    ticks
        Ticks in a unit of the objective.
    what
        What is solved, if the bar does not say so.
    """
    before = f"{what}: " if what else ""

    def note(now: Any) -> None:
        bound = "" if now.bound is None else f", bound {in_units(now.bound, ticks)}, gap {now.gap:.1%}"
        bar.note(f"{before}best {in_units(now.value, ticks)}{bound}")

    return note


@contextmanager
def shown_progress(
    what: str, progress: Callable[[Any], object] | bool | None, told: Callable[[Any], str]
) -> Iterator[Callable[[Any], object]]:
    """What a method calls when it knows more: the caller's own function, or one that writes behind a bar.

    Parameters
    ----------
    what
        What is done, in a word or two.
    progress
        A function, or None, True or False as in `problems.showing.progress`.
    told
        Puts into words what the method knows.

    Examples
    --------
    >>> with shown_progress("choose", print, str) as tell:
    ...     tell("better")
    better
    """
    if callable(progress):
        yield progress
        return
    with ProgressBar[None](what, progress=progress) as bar:
        yield lambda now: bar.note(told(now))
