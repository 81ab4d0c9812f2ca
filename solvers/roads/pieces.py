"""The road for tables whose costs are not concave functions of the span: with pieces, or with curves that have steps.

Under such tables an optimal order may have to split a class, and the number of runs counts. If there are few orders,
all are tried. Otherwise the search over spans comes first. Then a constraint program that places single channels and
counts runs gets a share of the remaining time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from problems import Problem
from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.methods.brute_force import ARRANGEMENTS_PER_SECOND, BruteForce, num_arrangements
from solvers.roads.spans import spans_road
from solvers.roads.steps import Stage, Step, asking

_MOST_ARRANGEMENTS = 2_000_000  # arrangements: up to which all are tried: 100 s at 20,000 a second, in half of the time
_TRY_ALL_SHARE = 0.5  # share: of the time, for trying all arrangements; by hand
_SPAN_SHARE = 0.5  # share: of the time, for the search over spans; by hand
_LEAST_SECONDS = 0.3  # seconds: to load OR-Tools and build a model; loading took 0.24 on 2026-11-28
_MOST_CHANNELS = 64  # channels: up to which they are placed one by one; their pairs are literals; by hand


def spans_say_all(problem: Problem) -> bool:
    """Whether every access has a table whose cost is a concave function of its span.

    Examples
    --------
    >>> from problems.generators import random_masks, with_tables
    >>> problem = random_masks(16, 3)
    >>> [spans_say_all(with_tables(problem, concave=concave)) for concave in (True, False)]
    [True, False]
    """
    tables = (access.table for access in problem.accesses)
    return all(table is not None and table.pieces is None and table.read.is_concave for table in tables)


def pieces_road(task: Task, settings: SearchSettings) -> Iterator[Step | Stage]:
    """The steps for costs that are not concave functions of spans.

    Parameters
    ----------
    task
        Problem, objective and deadline.
    settings
        Settings of the constraint program.
    """
    total = num_arrangements(task.problem)
    most = min(_MOST_ARRANGEMENTS, ARRANGEMENTS_PER_SECOND * task.remaining * _TRY_ALL_SHARE)
    why = f"{_said(total)} arrangements of channels; all are tried up to {_said(int(most))}"
    yield Step(BruteForce.name, why, asking(BruteForce()), taken=total <= most)
    free = (own for own, block in zip(task.problem.stored, task.problem.blocks, strict=True) if not block.pinned)
    movable = sum(map(len, free))
    few = movable <= _MOST_CHANNELS
    why = "bounds from concave costs below the true ones, orders from searches over spans"
    yield Stage("spans", why, spans_road, share=_SPAN_SHARE if few else 1.0)

    def place(task: Task, incumbent: Incumbent) -> dict[str, Any]:
        from solvers.programs.direct_model import search_places

        return search_places(task, settings, incumbent, counts_pieces=True)

    why = f"{movable} channels in blocks that may be reordered; placed one by one up to {_MOST_CHANNELS}"
    yield Step("places of channels", why, place, least_seconds=_LEAST_SECONDS, taken=few)


def _said(number: int) -> str:
    """A number for messages: the number itself, or its power of ten."""
    return str(number) if number < 10**9 else f"about 10^{math.log10(number):.0f}"
