"""Shortening a failing program: statements are left out, and their results replaced, as long as it fails the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.random_networks.checks import Verdict, check
from benchmarks.random_networks.program import Program

CHECK_SEEDS = 6


def shrink(program: Program, seed: int, kind: str) -> tuple[Program, int]:
    """A shorter program that still fails in the same way, and the seed of the masks with which it does.

    Parameters
    ----------
    program
        A network for which `check` finds something wrong.
    seed
        Seed of the masks, orders and modes with which it does.
    kind
        `Outcome.kind` of the failure.
    """
    seeds = (seed, *range(CHECK_SEEDS))
    best = seed
    progress = True
    while progress:
        progress = False
        for candidate in _shorter(program):
            found = _failing_seed(candidate, (best, *seeds), kind)
            if found is not None:
                program, best, progress = candidate, found, True
                break
    return program, best


def _failing_seed(program: Program, seeds: tuple[int, ...], kind: str) -> int | None:
    try:
        with torch.no_grad():
            batch = program.batch if program.fixed_batch else 3
            program.build()(*program.example_inputs(batch))
    except Exception:
        return None
    for seed in seeds:
        outcome = check(program, seed)
        if outcome.verdict is Verdict.WRONG and outcome.kind == kind:
            return seed
    return None


def _shorter(program: Program) -> Iterator[Program]:
    """Programs with one statement, input or line less, the most promising first."""
    for step in reversed(program.steps):
        for target in step.targets:
            if program.output != target:
                yield _without_dead_code(replace(program, output=target))
    shapes = _shapes(program)
    for i in reversed(range(len(program.steps))):
        step = program.steps[i]
        before, after = program.steps[:i], program.steps[i + 1 :]
        known = [x.name for x in program.inputs] + [t for other in before for t in other.targets]
        choices: list[tuple[str, str]] = [("", "")]
        if step.targets:
            target = step.targets[0]
            same = [name for name in known if shapes.get(name) == shapes.get(target)]
            choices = [(target, name) for name in reversed(same)]
        for target, name in choices:
            renamed = tuple(other.renamed(target, name) if target else other for other in after)
            output = replace(step, line=program.output, targets=()).renamed(target, name).line if target else None
            shorter = replace(program, steps=before + renamed, output=output or program.output)
            if not any(other.uses(t) for t in step.targets for other in renamed):
                yield _without_dead_code(shorter)
    for i, line in enumerate(program.init):
        if ".data[" in line or "register" in line:
            yield replace(program, init=program.init[:i] + program.init[i + 1 :])


def _without_dead_code(program: Program) -> Program:
    """Without statements whose results nothing uses; in-place statements on what is used stay."""
    steps = list(program.steps)
    for i in reversed(range(len(steps))):
        step = steps[i]
        later = [other.line for other in steps[i + 1 :]] + [program.output]
        text = replace(step, line=" ".join(later), targets=())
        if step.targets and not any(text.uses(target) for target in step.targets):
            del steps[i]
    shorter = replace(program, steps=tuple(steps))
    used = replace(steps[0], line=" ".join([*(s.line for s in steps), program.output]), targets=()) if steps else None
    inputs = tuple(x for x in program.inputs if used is None or used.uses(x.name))
    return replace(shorter, inputs=inputs or program.inputs)


def _shapes(program: Program) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by name, found by returning them."""
    names = [x.name for x in program.inputs] + [target for step in program.steps for target in step.targets]
    everything = replace(program, output=f"[{', '.join(names)}]")
    with torch.no_grad():
        values = everything.build()(*program.example_inputs())
    return {name: tuple(v.shape) for name, v in zip(names, values) if isinstance(v, torch.Tensor)}
