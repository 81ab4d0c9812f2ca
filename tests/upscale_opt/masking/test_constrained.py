"""Tests of constrained masks: consumers agree, counts and ranks are right, every read is a view, exports are exact."""

from dataclasses import replace

import networks
import numpy as np
import pytest
import torch
from random_plans import random_plan
from torch import nn

from solvers import solve
from upscale_opt import (
    MaskError,
    ModelReference,
    constrained_masks,
    effective_masks,
    export,
    extract,
    load_model,
    trace,
)
from upscale_opt.arguments.amounts import num_removed
from upscale_opt.comparing.pruning import prepare


class Grouped(nn.Module):
    """Two grouped convolutions of three groups, whose input others read, too."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.first = nn.Conv2d(12, 18, 3, padding=1, groups=3)
        self.second = nn.Conv2d(18, 6, 1, groups=3)
        self.side = nn.Conv2d(12, 6, 1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(self.second(torch.relu(self.first(x))) + self.side(x)))


class Shuffled(nn.Module):
    """A channel shuffle whose source and halves have consumers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.side = nn.Conv2d(12, 5, 1)
        self.left, self.right = nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 1)
        self.head = nn.Conv2d(5, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        left, right = nn.functional.channel_shuffle(torch.relu(x), 3).chunk(2, 1)
        return self.head(self.side(x) + self.left(left) + self.right(right))


ALL = (*networks.ALL, Grouped, Shuffled)


def kept_by_block(graph, masks):
    """Channels that each consumer keeps of each block it reads: lists of Boolean arrays."""
    found = {}
    for read in (*graph.reads, *graph.grouped):
        kept = np.tile(masks[read.weight], read.groups).reshape(-1, read.input.size)
        assert (kept.all(1) == kept.any(1)).all()
        sizes = [graph.blocks[b].size for b in read.input.blocks]
        for b, own in zip(read.input.blocks, np.split(kept.any(1), np.cumsum(sizes)[:-1]), strict=True):
            found.setdefault(b, []).append(own)
    return found


def norms(model, name, axis=1):
    weight = dict(model.named_parameters())[f"{name}.weight"].detach().double()
    return weight.transpose(0, axis).flatten(1).pow(2).sum(1).numpy()


def weakest(scores, amount="0.5"):
    mask = np.ones(len(scores), dtype=bool)
    mask[np.argsort(scores, kind="stable")[: num_removed(amount, len(scores))]] = False
    return mask


@pytest.mark.parametrize("amount", ["0.3", "0.5", "0.9"])
@pytest.mark.parametrize("network", ALL)
def test_consumers_agree_every_order_is_all_views_and_exports_are_exact(network, amount):
    """One set a block, exactly as large as the amount says where nothing forbids it, and no access that is no view."""
    model, inputs = networks.make(network)
    graph = trace(model, inputs)
    masks = constrained_masks(graph, amount)
    assert list(masks) == list(graph.consumers)
    shuffled = {b for selection in graph.selections for b in selection.input.blocks}
    grouped = {b for read in graph.grouped for b in (*read.input.blocks, *read.output.blocks)}
    for b, sets in kept_by_block(graph, masks).items():
        block = graph.blocks[b]
        assert all(np.array_equal(own, sets[0]) for own in sets)
        removed = int((~sets[0]).sum())
        if block.pinned or not block.removable:
            assert removed == 0
        elif b in shuffled | grouped:
            assert removed <= num_removed(amount, block.size)
        else:
            assert removed == num_removed(amount, block.size)
    problems = extract(graph, masks)
    made = random_plan(problems, masks, np.random.default_rng(0), "copies")
    assert {own.mode for own in made.readings.values()} <= {"view"}
    assert export(model, inputs, made, graph=graph).verification.relative_error <= 1e-9


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_nothing_is_copied_in_torchvision_networks(name):
    """Half of every channel set is gone, every access is a view in the original order, and the export is exact."""
    model, x = load_model(ModelReference(name)), torch.zeros(1, 3, 64, 64)
    graph = trace(model, x)
    masks = constrained_masks(graph, 0.5)
    for weight, mask in masks.items():
        if not graph.consumers[weight].reads_network_input:
            assert 2 * mask.sum() == len(mask)
    problems = extract(graph, masks)
    results = [solve(problem, solver="identity", objective="copies") for problem in problems.values()]
    assert sum(result.value for result in results) == 0
    assert {access.mode for result in results for access in result.evaluation.accesses} == {"view"}
    made = random_plan(problems, masks, np.random.default_rng(0), "copies")
    assert export(model, x, made, graph=graph).verification.relative_error <= 1e-9


def test_scores_are_squared_norms_summed_over_all_consumers():
    model, inputs = networks.make(networks.Residual)
    masks = constrained_masks(trace(model, inputs), 0.5)
    stream = weakest(sum(norms(model, name) for name in ("blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "down")))
    assert all(np.array_equal(masks[f"{name}.weight"], stream) for name in ("blocks.1.conv1", "down"))
    assert np.array_equal(masks["blocks.0.conv2.weight"], weakest(norms(model, "blocks.0.conv2")))
    assert np.array_equal(masks["head.weight"], weakest(norms(model, "head")))
    assert masks["stem.weight"].all()


def test_a_channel_behind_a_flatten_goes_with_all_its_features():
    model, inputs = networks.make(networks.Flattened)
    masks = constrained_masks(trace(model, inputs), 0.25)
    features = masks["fc1.weight"].reshape(12, 9)
    assert features.all(1).sum() == 9 and (features.any(1) == features.all(1)).all()


def test_groups_drop_the_same_channels_and_are_ranked_together():
    model, inputs = networks.make(Grouped)
    masks = constrained_masks(trace(model, inputs), 0.5)
    shared = weakest(norms(model, "first") + norms(model, "side").reshape(3, 4).sum(0))
    assert np.array_equal(masks["first.weight"], shared)
    assert np.array_equal(masks["side.weight"], np.tile(shared, 3))
    assert np.array_equal(masks["second.weight"], weakest(norms(model, "second")))


def test_a_shuffled_channel_stays_in_the_source_as_long_as_somebody_reads_it():
    model, inputs = networks.make(Shuffled)
    graph = trace(model, inputs)
    masks = constrained_masks(graph, 0.5)
    assert masks["left.weight"].sum() == masks["right.weight"].sum() == 3
    source = graph.selections[0].index[np.concatenate([masks["left.weight"], masks["right.weight"]])]
    assert np.array_equal(np.flatnonzero(masks["side.weight"]), np.sort(source))


def test_ignored_consumers_keep_what_they_read_and_so_do_others_beside_them():
    graph = trace(*networks.make(networks.Residual))
    masks = constrained_masks(graph, 0.5, ignore=["blocks.1.conv1", "he*"])
    assert all(masks[name].all() for name in ("blocks.1.conv1.weight", "down.weight", "head.weight"))
    assert masks["blocks.1.conv2.weight"].sum() == 8


def test_shared_sets_are_rounded_per_block():
    graph = trace(*networks.make(networks.Dense))
    masks = constrained_masks(graph, 0.5, round_to=4)
    sizes = {len(own[0]): int(own[0].sum()) for own in kept_by_block(graph, masks).values()}
    assert sizes == {3: 3, 8: 4, 6: 4}
    fewer, more = constrained_masks(graph, 0.9), constrained_masks(graph, 0.9, min_channels=2)
    assert fewer["last.weight"].sum() == 4 and more["last.weight"].sum() == 8
    assert (more["last.weight"] >= fewer["last.weight"]).all()


def test_a_channel_goes_early_only_if_no_consumer_uses_it():
    """Zero columns of one consumer are kept beside the others', so that reads stay views; `prepare` leaves them."""
    model, inputs = networks.make(networks.Residual)
    with torch.no_grad():
        for name in ("blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "down"):
            model.get_submodule(name).weight[:, [2, 7]] = 0
        model.down.weight[:, 9] = 0
    graph = trace(model, inputs)
    masks = constrained_masks(graph, 0)
    assert np.flatnonzero(~masks["down.weight"]).tolist() == [2, 7]
    settled = effective_masks(graph, masks)
    assert np.flatnonzero(~settled.masks["down.weight"]).tolist() == [2, 7, 9]
    taken = prepare(model, inputs, replace(settled, masks=masks), graph=graph)
    assert np.array_equal(taken.masks["down.weight"], masks["down.weight"])


@pytest.mark.parametrize("options", [{"amount": 1}, {"round_to": 0}, {"min_channels": 0}, {"ignore": ["nowhere"]}])
def test_senseless_requests_are_refused(options):
    graph = trace(*networks.make(networks.Residual))
    with pytest.raises(MaskError):
        constrained_masks(graph, **{"amount": 0.5, **options})
