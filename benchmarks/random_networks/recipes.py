"""Networks as small JSON files. A seed makes another network as soon as a statement is added; a file stays the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.random_networks.program import Input, Program, Step

_TARGETS = re.compile(r"(?:with .*?: )?((?:[vs]\d+, )*[vs]\d+) = ")
"""The names that a statement defines."""
_INPUT = re.compile(r"(\w+) (\d+(?:x\d+)*)(?: < (\d+))?")


def to_recipe(program: Program) -> dict[str, Any]:
    """Plain values for JSON, from which `from_recipe` makes the same network.

    Examples
    --------
    >>> from benchmarks.random_networks import random_network
    >>> program = random_network(0)
    >>> from_recipe(to_recipe(program)).code == program.code
    True
    """
    return {
        "inputs": [
            f"{x.name} {'x'.join(map(str, x.shape))}{'' if x.high is None else f' < {x.high}'}" for x in program.inputs
        ],
        "init": list(program.init),
        "steps": [step.line for step in program.steps],
        "output": program.output,
        "batch": program.batch,
        "fixed_batch": program.fixed_batch,
        "seed": program.seed,
        "options": list(program.options),
        "form": program.form,
    }


def from_recipe(recipe: dict[str, Any]) -> Program:
    """The network of a recipe. Names of operators are not in it."""
    return Program(
        tuple(map(_input, recipe["inputs"])),
        tuple(recipe["init"]),
        tuple(map(_step, recipe["steps"])),
        recipe["output"],
        recipe["batch"],
        recipe["fixed_batch"],
        recipe["seed"],
        options=tuple(recipe["options"]),
        form=recipe["form"],
    )


def load(path: Path) -> tuple[Program, int]:
    """The network of a file, and the seed of its check."""
    recipe = json.loads(path.read_text())
    return from_recipe(recipe), recipe["check"]


def save(program: Program, check: int, fault: str, path: Path) -> None:
    """Write a network to a file.

    Parameters
    ----------
    program
        The network.
    check
        Seed of the check that found the fault.
    fault
        What was wrong, in one sentence.
    path
        The file.
    """
    recipe = {"fault": fault, "check": check, **to_recipe(program)}
    path.write_text(json.dumps(recipe, indent=1) + "\n")


def _input(text: str) -> Input:
    found = _INPUT.fullmatch(text)
    assert found is not None, text
    name, shape, high = found.groups()
    return Input(name, tuple(map(int, shape.split("x"))), None if high is None else int(high))


def _step(line: str) -> Step:
    found = _TARGETS.match(line)
    return Step(line, tuple(found[1].split(", ")) if found else ())
