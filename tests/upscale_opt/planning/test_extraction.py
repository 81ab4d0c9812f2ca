"""Tests that segments are the connected components they are said to be."""

import networks
import numpy as np

from problems import Order, evaluate
from upscale_opt import effective_masks, extract, l2_masks, trace


def test_segments_are_named_after_their_first_producer_and_cover_every_block():
    graph = trace(*networks.make(networks.Residual))
    problems = extract(graph, effective_masks(graph).masks)
    assert list(problems) == ["x", "stem", "blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "down", "head"]
    assert [access.name for access in problems["stem"].accesses] == [
        "blocks.0.conv1",
        "blocks.1.conv1",
        "blocks.2.conv1",
        "down",
    ]
    assert sum(len(problem.blocks) for problem in problems.values()) == len(graph.blocks)


def test_segments_cut_from_one_producer_get_numbers():
    graph = trace(*networks.make(networks.Sliced))
    problems = extract(graph, {})
    assert len(set(problems)) == len(problems)
    assert {"right", "right#2"} <= set(problems)


def test_a_dense_network_is_one_segment_of_many_blocks():
    graph = trace(*networks.make(networks.Dense))
    problem = extract(graph, effective_masks(graph, l2_masks(graph, 0.5)).masks)["stem"]
    assert len(problem.blocks) == 4 and len(problem.accesses) == 4
    assert len(problem.accesses[-1].blocks) == 4


def test_behind_a_flatten_a_channel_is_kept_if_any_feature_is_and_costs_its_size():
    graph = trace(*networks.make(networks.Flattened))
    mask = np.zeros((12, 9), dtype=bool)
    mask[2, 4] = mask[7] = mask[9, 0] = True
    problems = extract(graph, {"fc1.weight": mask.ravel()})
    access = next(access for problem in problems.values() for access in problem.accesses if access.name == "fc1")
    assert np.flatnonzero(access.kept).tolist() == [2, 7, 9]
    assert access.channel_size == 9
    problem = next(problem for problem in problems.values() if access in problem.accesses)
    assert evaluate(problem, Order.identity(problem), "copies").value == 27
