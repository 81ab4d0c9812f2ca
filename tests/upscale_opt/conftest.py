"""What several test files need: commands run in this process, and a plan of random orders, made without any solver."""

import numpy as np
import pytest
from command_line import upscale_opt

from problems import Order
from upscale_opt import effective_masks, extract, trace
from upscale_opt.planning.plans import plan_of_orders


def random_masks(graph, rng, keep=0.5):
    """Every consumer, linear layers and readers of the network input too, keeps random input features."""
    sizes = {name: graph.module.get_parameter(name).shape[read.input_axis] for name, read in graph.consumers.items()}
    given = {name: rng.random(size) < keep for name, size in sizes.items()}
    return effective_masks(graph, given).masks


def random_plan(problems, masks, rng, objective):
    """Random orders, carried out in the read modes that an objective chooses."""
    orders = {name: Order.random(problem, rng) for name, problem in problems.items()}
    return plan_of_orders(problems, masks, orders, objective=objective)


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
