"""Shortens a failing program: statements are left out or replaced while it fails in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.random_networks.checks import Verdict, check
from benchmarks.random_networks.program import Program, Step

CHECK_SEEDS = 3


def shrink(program: Program, seed: int, kind: str) -> tuple[Program, int]:
    """A shorter program that still fails in the same way, and the seed of the masks for which it fails.

    Parameters
    ----------
    program
        A network for which `check` finds an error.
    seed
        Seed of the masks, orders and modes for which it fails.
    kind
        `Outcome.kind` of the failure.
    """
    seeds = (seed, *range(CHECK_SEEDS))
    best = seed
    progress = True
    while progress:
        progress = False
        for candidate in _shorter(program):
            if _size(candidate) >= _size(program):
                continue
            found = _failing_seed(candidate, (best, *seeds), kind)
            if found is not None:
                program, best, progress = candidate, found, True
                break
    return program, best


def _size(program: Program) -> tuple[int, int, int, int]:
    """The size of a program, which must decrease: statements, inputs, lines of ``__init__``, names in the output."""
    return len(program.steps), len(program.inputs), len(program.init), len(program.output.split())


def _failing_seed(program: Program, seeds: tuple[int, ...], kind: str) -> int | None:
    try:
        with torch.no_grad():
            batch = program.batch if program.fixed_batch else 3
            program.build()(*program.call_with(program.example_inputs(batch)))
    except Exception:
        return None
    for seed in seeds:
        outcome = check(program, seed)
        if outcome.verdict is Verdict.WRONG and outcome.kind == kind:
            return seed
    return None


def _shorter(program: Program) -> Iterator[Program]:
    """Programs with one statement, input or line fewer, or a simpler output; the most promising first."""
    targets = [target for step in program.steps for target in step.targets]
    outputs = [replace(program, output=target) for target in reversed(targets)]
    yield from (_without_dead_code(simpler) for simpler in outputs if simpler.output != program.output)
    if program.output not in targets:
        yield from outputs
    shapes = _shapes(program)
    for i in reversed(range(len(program.steps))):
        step, before, after = program.steps[i], program.steps[:i], program.steps[i + 1 :]
        end = Step(program.output)
        used = [target for target in step.targets if any(other.uses(target) for other in (*after, end))]
        if not used:
            yield replace(program, steps=before + after)
        known = [x.name for x in program.inputs] + [target for other in before for target in other.targets]
        for name in reversed(known) if len(used) == 1 else ():
            if shapes.get(name) == shapes.get(used[0]):
                renamed = tuple(other.renamed(used[0], name) for other in after)
                yield replace(program, steps=before + renamed, output=end.renamed(used[0], name).line)
    everything = Step(" ".join([*(step.line for step in program.steps), program.output]))
    inputs = tuple(x for x in program.inputs if everything.uses(x.name))
    if inputs and inputs != program.inputs:
        yield replace(program, inputs=inputs)
    for i, line in enumerate(program.init):
        if ".data[" in line or "register" in line:
            yield replace(program, init=program.init[:i] + program.init[i + 1 :])


def _without_dead_code(program: Program) -> Program:
    """Without statements whose results nothing uses; in-place statements stay."""
    steps = list(program.steps)
    for i in reversed(range(len(steps))):
        later = Step(" ".join([*(other.line for other in steps[i + 1 :]), program.output]))
        if steps[i].targets and not any(later.uses(target) for target in steps[i].targets):
            del steps[i]
    return replace(program, steps=tuple(steps))


def _shapes(program: Program) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by name, found by returning them."""
    names = [x.name for x in program.inputs] + [target for step in program.steps for target in step.targets]
    everything = replace(program, output=f"[{', '.join(names)}]")
    with torch.no_grad():
        values = everything.build()(*program.call_with(program.example_inputs()))
    return {name: tuple(v.shape) for name, v in zip(names, values) if isinstance(v, torch.Tensor)}
