"""A solve shows value, bound and gap where nobody else does, once, and only if nobody listens."""

import io
import sys
import time
import types

import numpy as np
import pytest

from problems import LayerTimes, TimingTable, allocation_problem
from problems.generators import random_masks
from problems.showing import progress as showing
from problems.showing.progress import ProgressBar
from problems.widths.generators import residual_network
from problems.windows.generators import random_windows
from solvers import SolverError, solve
from solvers.allocation.coefficient_search import search_allocation
from solvers.widths.dispatch import choose_widths
from solvers.windows.dispatch import choose_windows

PROBLEM = random_masks(60, 13, seed=1)


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """The lines of a terminal, shown at once and at every report."""
    terminal = Terminal()
    monkeypatch.setattr(showing, "sys", types.SimpleNamespace(stderr=terminal, stdout=terminal, modules=sys.modules))
    monkeypatch.setattr(showing, "time", types.SimpleNamespace(perf_counter=lambda: 0.0, sleep=time.sleep))
    monkeypatch.setattr(showing, "SECONDS_BEFORE", 0.0)
    monkeypatch.setattr(showing, "SECONDS_BETWEEN_LOOKS", 0.005)
    return lambda: {part.strip() for part in terminal.getvalue().split("\r") if part.strip()}


def solved(**settings):
    return solve(PROBLEM, solver="local-search", objective="span", time_limit=0.15, **settings)


@pytest.mark.parametrize("progress", [None, True])
def test_value_bound_and_gap_are_shown(shown, progress):
    solved(progress=progress)
    assert any(f"solve {PROBLEM.name}: 0 s (best " in line and ", gap " in line for line in shown())


@pytest.mark.parametrize("settings", [{"progress": False}, {"progress": lambda now: None}, {"log": lambda line: None}])
def test_nothing_is_shown_if_somebody_listens(shown, settings):
    solved(**settings)
    assert not shown()


def test_a_solve_in_another_call_shares_its_line(shown):
    with ProgressBar("check", total=3):
        solved()
    inner = [line for line in shown() if "solve" in line]
    assert inner and all(line.startswith(f"check 1 of 3 > solve {PROBLEM.name}: ") for line in inner)


def test_a_solve_in_a_silent_call_is_silent(shown):
    with ProgressBar("check", progress=False):
        solved()
    assert not shown()


def test_widths_windows_and_coefficients_are_shown_too(shown):
    choose_widths(residual_network(streams=(64, 128), depths=(2, 2), speedup=2.0))
    choose_windows(random_windows(40, 5, seed=0))
    layers = [LayerTimes(name, (0, 0.5), (0.5, 0.1)) for name in "ab"]
    problem = allocation_problem(TimingTable(layers, base=1.0), 1.6)
    search_allocation(problem, lambda choice: time.sleep(0.02) or choice[0], np.random.default_rng(0), num_random=3)
    for what, told in (("choose widths", "(loss "), ("choose windows", "(best "), ("search", "(score ")):
        assert any(line.startswith(f"{what}: 0 s {told}") for line in shown()), what


def test_progress_of_another_kind_is_refused():
    with pytest.raises(SolverError, match="progress is 'bar'; give None, True, False or a function"):
        solved(progress="bar")
