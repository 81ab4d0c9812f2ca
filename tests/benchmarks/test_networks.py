"""Tests of the instances from networks: masks of the promised sizes, names, and that a build repeats the library."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.digits import NETWORKS, trained
from benchmarks.library import networks
from benchmarks.library.networks import (
    AMOUNTS,
    correlated_masks,
    digits_candidates,
    new_segments,
    torchvision_candidates,
    traced,
)
from problems import evaluate
from problems.collection import LIBRARY
from problems.signatures import masks_differ
from upscale_opt import l2_masks


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return traced(NETWORKS["digits_dense"]().eval(), 8, channels=1)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_correlated_masks_keep_as_many_channels_of_the_same_consumers_as_l2_masks(graph, correlation):
    for amount in AMOUNTS:
        masks, reference = correlated_masks(graph, amount, correlation), l2_masks(graph, amount)
        assert {name: (len(m), m.sum()) for name, m in masks.items()} == {
            name: (len(m), m.sum()) for name, m in reference.items()
        }


def test_smaller_amounts_remove_subsets(graph):
    masks = [correlated_masks(graph, amount, 0.3) for amount in AMOUNTS]
    for more, less in pairwise(masks):
        assert all((more[name] >= less[name]).all() for name in more)


def test_correlation_one_shares_every_score(graph):
    """Consumers of the same blocks keep the same channels."""
    masks = correlated_masks(graph, "0.50", 1.0)
    by_input = {}
    for name, read in graph.consumers.items():
        if name in masks:
            by_input.setdefault(read.input.blocks, []).append(masks[name])
    assert all(np.array_equal(group[0], mask) for group in by_input.values() for mask in group)


def test_segments_of_known_shapes_are_left_out(graph):
    shapes = set()
    assert new_segments(graph, shapes) and not new_segments(graph, shapes)


def test_candidates_have_something_to_order(graph):
    for candidate in torchvision_candidates("squeezenet1_1", set()):
        assert masks_differ(candidate.problem) and candidate.entry.accesses >= 2
        assert candidate.problem.name.startswith(f"squeezenet1_1/{candidate.origin.family.split('-concave')[0][:4]}")


def test_larger_networks_have_a_sample_of_the_others_instances_with_cost_tables(monkeypatch):
    """The same segments with the same masks, in every directory that has cost tables and in no other."""
    full = {c.entry.name: c.entry.hash for c in torchvision_candidates("mobilenet_v2", set())}
    monkeypatch.setattr(networks, "LARGER", ("mobilenet_v2",))
    sample = {c.entry.name: c.entry for c in torchvision_candidates("mobilenet_v2", set())}
    assert {name: entry.hash for name, entry in sample.items()}.items() < full.items()
    assert {entry.name.split("/")[1] for entry in sample.values()} == {"l2-0.50", "corr-0.70-0.50"}
    assert {name for name in full if name.endswith(("-concave", "-steps"))} < set(sample)


def test_no_network_is_listed_twice():
    assert len({*networks.MODELS, *networks.LARGER}) == len(networks.MODELS) + len(networks.LARGER)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_digits_train_and_repeat(name):
    pytest.importorskip("sklearn")
    first, second = (trained(name, epochs=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters()))
    assert first.accuracy == second.accuracy > 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_digits_have_segments_and_leave_torch_as_it_was(name):
    """Before any training."""
    pytest.importorskip("sklearn")
    torch.manual_seed(5)
    expected = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    network = trained(name, epochs=0)
    assert (torch.rand(1), torch.get_num_threads()) == expected and 0 <= network.accuracy <= 1
    assert new_segments(traced(network.model, 8, channels=1), set())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_a_build_repeats_the_committed_instances(name):
    """With the pinned versions of torch and torchvision: hashes of whatever the library has of the network."""
    made = {candidate.problem.name: candidate.entry.hash for candidate in torchvision_candidates(name, set())}
    committed = {n: e.hash for n, e in LIBRARY.entries.items() if e.model == name}
    assert committed and committed.items() <= made.items()


@pytest.mark.slow
def test_trained_instances_repeat():
    pytest.importorskip("sklearn")
    made = {c.problem.name: c.problem for c in digits_candidates("digits_dense", set())}
    for name in [n for n in LIBRARY.names("trained") if n.startswith("digits_dense")]:
        assert made[name] == LIBRARY.load(name)
        order = LIBRARY.solutions(name)["copies"].order
        assert evaluate(made[name], order).value == LIBRARY.solutions(name)["copies"].value
