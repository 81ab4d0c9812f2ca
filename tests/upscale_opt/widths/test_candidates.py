"""Candidate widths, what they lose, and masks on which all readers agree."""

import numpy as np
import pytest
import width_networks
from width_networks import ALL, make

from upscale_opt import export, trace
from upscale_opt.widths.candidates import candidate_widths, losses_at, masked_graph_of, masks_of, step_of
from upscale_opt.widths.closed_loop import plan_of
from upscale_opt.widths.operator_groups import partition


@pytest.mark.parametrize(("step", "least"), [(None, 0.125), (1, 0), (2, 0.5), (3, 0.125), (1000, 0.1), (4, 1.0)])
def test_candidates_are_multiples_from_a_least_width_on_and_the_whole(step, least):
    for kind in (width_networks.PreActivation, width_networks.Mixed, width_networks.FlattenedLinear):
        graph = trace(*make(kind))
        parts = partition(graph)
        found = candidate_widths(graph, parts, step=step, least=least)
        assert found.keys() == parts.free
        for b, widths in found.items():
            size, own = graph.blocks[b].size, step or step_of(graph.blocks[b].size)
            assert widths[-1] == size and list(widths) == sorted(set(widths))
            assert all(w % own == 0 and w >= least * size and w >= 1 for w in widths[:-1])
            multiples = [w for w in range(own, size, own) if w >= least * size]
            assert list(widths[:-1]) == multiples


def test_losses_rise_as_widths_fall_and_the_whole_loses_nothing():
    rng = np.random.default_rng(0)
    for size in (1, 5, 64):
        scores = rng.lognormal(size=size)
        widths = tuple(range(1, size + 1))
        found = losses_at(scores, widths)
        assert found[-1] == 0 and (np.diff(found) <= 0).all()
        assert (np.diff(found, 2) >= -1e-12).all(), "the strongest stay, so losses are convex"
        wanted = [np.sort(scores)[: size - w].sum() for w in widths]
        assert np.allclose(found, wanted)
    assert losses_at(np.zeros(4), (1, 4)).tolist() == [0, 0]


def drawn(graph, parts, seed, step=1):
    rng = np.random.default_rng(seed)
    candidates = candidate_widths(graph, parts, step=step)
    widths = {b: int(rng.choice(own)) for b, own in candidates.items()}
    return {block.name: rng.lognormal(size=block.size) for block in graph.blocks}, widths


@pytest.mark.parametrize("kind", ALL)
def test_all_readers_of_a_block_keep_its_strongest_channels(kind):
    graph = trace(*make(kind))
    parts = partition(graph)
    scores, widths = drawn(graph, parts, 0)
    masks = masks_of(graph, scores, widths)
    assert masks.keys() == graph.consumers.keys()
    seen = set()
    for weight, read in graph.consumers.items():
        if read.groups > 1:
            assert masks[weight].all()
            continue
        start = 0
        for b in read.input.blocks:
            block, size = graph.blocks[b], graph.blocks[b].size * read.input.size
            own = masks[weight][start : start + size].reshape(graph.blocks[b].size, -1)
            start += size
            assert (own.all(axis=1) == own.any(axis=1)).all(), "features of a channel stay together"
            kept = np.flatnonzero(own[:, 0])
            strongest = np.argsort(-scores[block.name], kind="stable")[: widths.get(b, block.size)]
            assert kept.tolist() == sorted(strongest)
            seen.add(b)
        assert start == len(masks[weight])
    assert seen >= parts.free


@pytest.mark.parametrize("kind", ALL)
def test_exports_of_chosen_widths_hold_those_widths_and_are_right(kind):
    model, inputs = make(kind)
    graph = trace(model, inputs)
    parts = partition(graph)
    for seed in range(2):
        scores, widths = drawn(graph, parts, seed)
        masked = masked_graph_of(graph, scores, widths)
        exported = export(model, inputs, plan_of(masked), graph=graph)
        assert exported.verification is not None and exported.verification.passed
        state = exported.module.state_dict()
        for weight, read in graph.consumers.items():
            if read.groups == 1 and set(read.input.blocks) <= parts.free:
                wanted = sum(widths[b] for b in read.input.blocks) * read.input.size
                assert state[weight].shape[read.input_axis] == wanted
        for name, layouts in graph.parameters.items():
            for dim, layout in layouts.items():
                if set(layout.blocks) <= parts.free and name in state:
                    assert state[name].shape[dim] == sum(widths[b] for b in layout.blocks) * layout.size


def test_equal_scores_keep_the_first_channels():
    graph = trace(*make(width_networks.FlattenedLinear))
    parts = partition(graph)
    scores = {block.name: np.ones(block.size) for block in graph.blocks}
    masks = masks_of(graph, scores, dict.fromkeys(parts.free, 3))
    assert masks["features.3.weight"].tolist() == [True] * 3 + [False] * 5
    assert masks["head.0.weight"].tolist() == [True] * 12 + [False] * 36
