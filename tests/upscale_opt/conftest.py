"""What several test files need: commands run in this process, and a plan of random orders, made without any solver."""

import numpy as np
import pytest
from command_line import upscale_opt
from random_plans import random_masks, random_plan

from upscale_opt import extract, trace


@pytest.fixture
def run():
    """A function: runs a command in this process; exit code, standard output, standard error."""

    def command(*arguments):
        done = upscale_opt(*arguments)
        return done.returncode, done.stdout, done.stderr

    return command


@pytest.fixture
def planned():
    """A function: model and inputs to (graph, masks, problems, plan), all random from a seed."""

    def build(model, inputs, *, seed=0, keep=0.5, objective="copies", costs=None):
        rng = np.random.default_rng(seed)
        graph = trace(model, inputs)
        masks = random_masks(graph, rng, keep)
        problems = extract(graph, masks, costs=costs)
        return graph, masks, problems, random_plan(problems, masks, rng, objective)

    return build
