"""What an incumbent takes on trust: nothing. A bound above a value is an error, unless it never spoke of that order."""

import math

import numpy as np
import pytest

from problems import OBJECTIVES, Access, Block, Order, Problem
from solvers import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task

PROBLEM = Problem((Block("x", 3),), (Access("a", (0,), np.array([1, 0, 1])), Access("b", (0,), np.array([0, 1, 0]))))
APART, TOGETHER = Order([[0, 1, 2]]), Order([[0, 2, 1]])


def incumbent():
    """One whose order over-reads one channel."""
    return Incumbent(Task(PROBLEM, OBJECTIVES["span"], start=APART, started=0.0, deadline=math.inf))


def test_a_bound_above_the_value_is_an_error_of_who_proved_it():
    own = incumbent()
    own.raise_bound(1, method="guessing")
    assert own.closed and own.finding().bound == 1
    with pytest.raises(SolverError, match=r"guessing says that no order is below 2, but one has 1; please report"):
        incumbent().raise_bound(2, method="guessing")


def test_a_bound_on_better_orders_counts_up_to_the_value():
    own = incumbent()
    own.raise_bound(7, of_better=True)
    assert own.bound == own.value == 1


def test_an_order_below_the_bound_refutes_it():
    own = incumbent()
    own.raise_bound(1)
    with pytest.raises(SolverError, match=r"no order is below 1, but one has 0"):
        own.offer(TOGETHER)


def test_a_trivial_bound_above_the_start_is_an_error(monkeypatch):
    task = Task(PROBLEM, OBJECTIVES["span"], start=APART, started=0.0, deadline=math.inf)
    monkeypatch.setitem(task.__dict__, "trivial_bound", 2)
    with pytest.raises(SolverError, match="the trivial bound says"):
        Incumbent(task)
