"""Every table and text that commands print, with long names and large figures, at 80 and at 120 columns."""

import dataclasses

import numpy as np
import pytest

from problems import CostTable, Curve
from problems.generators import random_masks
from solvers import solve
from upscale_opt.commands.next_steps import Step, next_text
from upscale_opt.comparing.gains import latency_text, orders_text
from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.comparing.reports import access_table, latency_table, table
from upscale_opt.latency.access_profiles import AccessProfile, CopyFound
from upscale_opt.latency.profiling import Profile
from upscale_opt.screens.lines import wrapped

NAME = "features.denseblock{i}.denselayer{i}{i}.conv1"
SOLVERS = ("greedy", "auto", "local-search", "identity")
VARIANTS = ("unpruned", "baseline", "upscale", *SOLVERS, "a-solver-with-a-long-name", "floor")


@pytest.fixture(params=[80, 120])
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def _profile(seconds):
    return Profile(tuple(seconds * own for own in (0.9, 1.0, 1.2)), "cpu", "eager", None, {}, stolen=0.2)


@pytest.fixture(scope="module")
def problems():
    """Segments with cost tables of seconds, so that nanoseconds have many digits."""
    found = {}
    for i in range(3):
        problem = random_masks(48, 4, seed=i)
        cost = CostTable(Curve((0, 48), (10**9, 3 * 10**9)), copy=10**8)
        accesses = tuple(dataclasses.replace(own, table=cost) for own in problem.accesses)
        found[NAME.format(i=i)] = dataclasses.replace(problem, accesses=accesses, name=NAME.format(i=i))
    return found


@pytest.fixture(scope="module", params=["traffic", "copies", "span", "runs", "latency"])
def solved(request, problems):
    how = {"objective": request.param, "time_limit": 0.2}
    solutions = {
        segment: {name: solve(problem, solver=name, **how) for name in SOLVERS} for segment, problem in problems.items()
    }
    return request.param, problems, solutions


def _require(text, width, *parts):
    assert max(map(len, text.splitlines())) <= width, max(text.splitlines(), key=len)
    assert all(part in text for part in parts), text


def test_segments_and_orders(solved, width):
    objective, problems, solutions = solved
    costs = "measured" if objective == "latency" else None
    headings = ("channels", "accesses", "classes", "copies", "bound", "gap", "status", "seconds")
    text = table(problems, solutions, SOLVERS, title=f"resnet50, objective {objective}", costs=costs)
    _require(text, width, *headings, *SOLVERS, *(("over-reads", "pieces") if costs else ()))
    text = orders_text(problems, solutions, SOLVERS, objective=objective, costs=costs)
    _require(text, width, *SOLVERS, objective, "bound", "gap", "status", "traffic", "copies", "OPTIMAL")


@pytest.mark.parametrize("seconds", [1e-6, 0.05, 1234.5])
def test_latencies(width, seconds):
    latencies = {name: _profile(seconds * (1 + i)) for i, name in enumerate(VARIANTS)}
    _require(
        latency_table(latencies), width, "median ms", "IQR ms", "mean ms", "std ms", "to first", "to floor", "host"
    )
    text = latency_text(latencies, "auto", how="measured in few rounds")
    _require(text, width, "unpruned", "baseline", "floor", "#" if "#" in text else "█", "auto is ")


def test_accesses(width):
    copies = (CopyFound("aten::contiguous", 2, 10**8, 1e-3), CopyFound("aten::index_select", 1, 10**8, 1e-3))
    profiles = [
        AccessProfile(NAME.format(i=i), "over-read", 1024, 2048, 10**6, 1.0, 0.5, 0.25, copies) for i in range(20)
    ]
    text = access_table(profiles)
    _require(text, width, "mode", "kept", "read us", "select us", "prologue us", "copy us", "copies", "5 not shown")


def test_checked_orders(width):
    names = ("identity", "greedy", "exact latency", "an-order-with-a-long-name-indeed")
    seconds = tuple(np.linspace(0.1, 12, len(names)))
    profiles = {name: _profile(own) for name, own in zip((*names, "unpruned"), (*seconds, 20.0))}
    expected = {name: {} for name in names}
    check = OrderCheck(
        names,
        seconds,
        seconds[::-1],
        0.01,
        0.1,
        expected,
        profiles,
        {},
        same_as={"greedy": names[-1]},
        beside={"unpruned": 20.0},
    )
    _require(
        wrapped(str(check)),
        width,
        "predicted ms",
        "measured ms",
        "IQR ms",
        "error",
        "x floor",
        "same plan as",
        "unpruned",
    )


def test_next_steps(width, monkeypatch):
    """Long commands go on over lines, each option with its value on one; what a shell reads is the whole command."""
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/upscale-opt"])
    words = ["solve", "--model", "my nets/own.py:make", *(f"--option{i} value{i}" for i in range(9))]
    command = [word for part in words for word in (part.split() if part.startswith("--") else [part])]
    text = next_text([Step("a purpose that is explained in many words, so many that they need two lines", [command])])
    _require(text, width, "upscale-opt solve --model 'my nets/own.py:make'")
    typed = text.rpartition(":\n")[2].replace("\\\n", " ").split()
    assert typed == ["upscale-opt", "solve", "--model", "'my", "nets/own.py:make'", *command[3:]]
