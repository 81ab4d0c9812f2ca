"""Tests of the entrance of the solvers: whatever is given, the answer is a result or an error of the package."""

import inspect

import numpy as np
import pytest

from problems import LayerTimes, Order, ProblemError, TimingTable, allocation_problem
from problems.generators import random_masks
from solvers import SolverError, allocate, greedy_order, register, search_allocation, solve, trivial_bound

PROBLEM = random_masks(12, 3)
OTHER = random_masks(7, 2)
LAYERS = allocation_problem(TimingTable([LayerTimes(name, (0, 0.5), (0.5, 0.1)) for name in "ab"], base=1.0), 1.6)
RNG = np.random.default_rng(0)
CALLS = {
    solve: {"problem": PROBLEM, "solver": "greedy"},
    greedy_order: {"problem": PROBLEM},
    trivial_bound: {"problem": PROBLEM, "objective": "copies"},
    allocate: {"problem": LAYERS},
    search_allocation: {
        "problem": LAYERS,
        "score": lambda choice: 0.0,
        "rng": np.random.default_rng(0),
        "num_random": 1,
    },
    register: {"name": "greedy", "factory": object},
}
ODD = {
    "None": None,
    "a text": "zzz",
    "an empty text": "",
    "bytes": b"a",
    "a negative number": -1,
    "zero": 0,
    "a fraction": 0.5,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "a flag": True,
    "a list": [1, 2],
    "a mapping": {"a": 1},
    "an array": np.zeros((2, 3)),
    "a class": Order,
    "an object": object(),
    "a function": len,
    "another problem": OTHER,
    "an order of another problem": Order.identity(OTHER),
    "a choice of layers": LAYERS,
}


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_odd_arguments_are_refused_by_errors_of_this_package(function):
    """Every argument in turn is replaced by every odd value: done, or refused in one sentence."""
    foreign = []
    for argument in inspect.signature(function).parameters:
        for what, value in ODD.items():
            if function is register and argument == "name" and what == "a text":
                continue  # which it would know from then on
            if argument in ("score", "progress") and callable(value):
                continue  # what it raises passes through
            try:
                function(**{**CALLS[function], argument: value})
            except (SolverError, ProblemError) as error:
                if "\n" in str(error) or not str(error):
                    foreign.append(f"{argument} = {what}: not one sentence: {str(error)[:80]!r}")
            except Exception as error:
                foreign.append(f"{argument} = {what}: {type(error).__name__}: {str(error)[:100]}")
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"time_limit": 0}, "time_limit is 0; give a time limit in seconds, more than 0"),
        ({"time_limit": "ten"}, "time_limit is 'ten'"),
        ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"hint": [0, 1]}, "hint is of type list; give a problems.Order"),
        ({"proof": "yes"}, "proof is 'yes'; give True or False"),
        ({"progress": 3}, "progress is 3; give None, True, False or a function"),
        ({"solver": object()}, "or a configured solver"),
        ({"problem": "a.json"}, r"problem is 'a.json'; give a problems.Problem \(problems.read_instance\)"),
    ],
)
def test_the_message_names_the_argument_and_says_what_to_give(setting, message):
    with pytest.raises(SolverError, match=message):
        solve(**{"problem": PROBLEM, **setting})
