"""Random masks and plans, made without any solver."""

from problems import Order
from upscale_opt import effective_masks
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
