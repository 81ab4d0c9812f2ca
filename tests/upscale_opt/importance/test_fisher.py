"""Tests of Fisher scores: equal to gradients by gates, one image and one gate vector at a time, in float64."""

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import IMPORTANCES, Importance, MaskError, importance_masks, importance_scores, trace
from upscale_opt.importance.calibration import sampled_labels
from upscale_opt.importance.fisher import block_losses, fisher_scores
from upscale_opt.tracing.writes import writes_of


class Shuffled(nn.Module):
    """A channel shuffle behind a convolution with groups."""

    def __init__(self):
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2)
        self.mix, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.grouped(self.stem(x)))
        x = x.view(x.shape[0], 2, 4, x.shape[2], x.shape[3]).transpose(1, 2).reshape(x.shape)
        return self.head(torch.relu(self.mix(x)).mean((2, 3)))


class Windows(nn.Module):
    """A linear layer that reads the two halves of every image as rows of a batch."""

    def __init__(self):
        super().__init__()
        self.stem, self.row, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x)).permute(0, 2, 3, 1)
        rows = torch.relu(self.row(x.reshape(-1, 32, 6)))
        return self.head(rows.reshape(-1, 2, 32, 7).mean((1, 2)))


class Averaged(nn.Module):
    """Another network, with one logit for every channel of its output."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.has_positions = inner(torch.zeros(1, 3, 8, 8)).ndim > 2

    def forward(self, x):
        x = self.inner(x)
        return x.mean((2, 3)) if self.has_positions else x


def made(kind, images=5):
    torch.manual_seed(0)
    model = Averaged(kind().eval()).double().eval()
    for own in model.modules():
        if isinstance(own, nn.BatchNorm2d):
            for tensor in (own.weight, own.bias, own.running_mean):
                nn.init.normal_(tensor)
    x = torch.randn(images, 3, 8, 8, dtype=torch.float64)
    return model, x, trace(model, x[:1])


def slope(model, graph, image, label):
    """The gradient of one image's loss by one gate for every channel of the network, and one for every mask."""
    gates = torch.ones(int(graph.offsets[-1]), dtype=torch.float64, requires_grad=True)
    masks = {
        name: torch.ones(own.input.size * model.get_parameter(name).shape[own.input_axis] // own.input.size)
        .double()
        .requires_grad_()
        for name, own in graph.consumers.items()
    }
    calls = {}
    for read in (*graph.reads, *graph.grouped):
        calls.setdefault(read.weight, []).append(read)
    for own in calls.values():
        own.sort(key=lambda read: [node.name for node in graph.module.graph.nodes].index(read.node))

    def hook(name):
        def multiply(module, inputs):
            read = calls[name][used[name] % len(calls[name])]
            used[name] += 1
            gate = gates[torch.from_numpy(graph.numbers(read.input))] * masks[name].repeat(read.groups)
            shape = [1] * inputs[0].ndim
            shape[read.input.axis] = -1
            return (inputs[0].clone() * gate.reshape(shape),)  # some networks change it in place later

        return multiply

    used = dict.fromkeys(calls, 0)
    handles = [model.get_submodule(name[:-7]).register_forward_pre_hook(hook(name)) for name in calls]
    value = functional.cross_entropy(model(image[None]), label[None])
    found = torch.autograd.grad(value, [gates, *masks.values()])
    for handle in handles:
        handle.remove()
    return found[0].numpy(), {name: own.numpy() for name, own in zip(masks, found[1:], strict=True)}


KINDS = (networks.Residual, networks.Dense, networks.Inverted, networks.Flattened, networks.Sliced, networks.Shared)


@pytest.mark.parametrize("kind", [*KINDS, networks.Odd, networks.InPlace, Shuffled, Windows])
def test_scores_are_gradients_by_gates_of_single_images(kind):
    """Residual and flattened streams, concatenations, depthwise convolutions, slices, groups and shuffles."""
    model, x, graph = made(kind)
    assert bool(graph.selections) == (kind is Shuffled)
    labels = torch.arange(5) % 3
    found = fisher_scores(graph, [(x[:2], labels[:2]), (x[2:], labels[2:])], samples_labels=False)
    slopes = [slope(model, graph, image, label) for image, label in zip(x, labels, strict=True)]
    for name, own in found.consumers.items():
        assert own == pytest.approx(np.stack([masks[name] for _, masks in slopes]), abs=1e-12)
    channels = np.stack([gates for gates, _ in slopes])
    for selection in reversed(graph.selections):
        np.add.at(
            channels.T,
            graph.numbers(selection.input)[selection.index],
            channels[:, graph.numbers(selection.output)].T.copy(),
        )
    assert np.concatenate([*found.blocks.values()], axis=1) == pytest.approx(channels, abs=1e-12)
    losses = block_losses(graph, [(x, labels)], samples_labels=False)
    assert list(losses) == [block.name for block in graph.blocks]
    for name, own in losses.items():
        assert own == pytest.approx(found.losses[name], abs=1e-12) and own.shape == (found.blocks[name].shape[1],)


def test_every_consumer_alone_and_all_together_are_what_the_importance_ranks_by():
    _, x, graph = made(networks.Residual)
    found = fisher_scores(graph, x, seed=3)
    for name, own in importance_scores(graph, "fisher", data=x, seed=3).items():
        assert own == pytest.approx(np.square(found.consumers[name]).mean(0))
    masks = importance_masks(graph, "fisher", 0.5, mode="constrained", data=x, seed=3)
    for read in graph.reads:
        if len(read.input.blocks) == 1 and not graph.blocks[read.input.blocks[0]].pinned:
            losses = found.losses[graph.blocks[read.input.blocks[0]].name]
            assert losses[masks[read.weight]].min() >= losses[~masks[read.weight]].max()


def test_positions_of_groups_are_dropped_together():
    _, x, graph = made(networks.Odd)
    (grouped,) = graph.grouped
    found = fisher_scores(graph, x).blocks
    joint = np.concatenate([found[graph.blocks[b].name] for b in grouped.input.blocks], 1).reshape(5, 3, 4).sum(1)
    mask = importance_masks(graph, "fisher", 0.5, mode="constrained", data=x)["inner.grouped.weight"]
    losses = np.square(joint).mean(0)
    assert mask.sum() == 2 and losses[mask].min() >= losses[~mask].max()


@pytest.mark.parametrize("kind", [networks.Residual, networks.Inverted])
def test_outputs_are_scored_where_their_masks_multiply(kind):
    """Behind normalisation and activation."""
    model, x, graph = made(kind)
    labels = torch.arange(5) % 3
    scores = importance_scores(graph, "empirical-fisher", mode="output", data=[(x, labels)])
    assert len(scores) >= 3
    for name, own in scores.items():
        gate = torch.ones(5, len(own), 1, 1, dtype=torch.float64, requires_grad=True)
        module = model.get_submodule(writes_of(graph)[name].module)
        handle = module.register_forward_hook(lambda module, inputs, output, gate=gate: output * gate)
        (expected,) = torch.autograd.grad(functional.cross_entropy(model(x), labels, reduction="sum"), gate)
        handle.remove()
        assert own == pytest.approx(expected.square().mean(0).flatten().numpy())


def test_order_and_batches_of_images_change_nothing():
    """Although labels are drawn: every image has its own draw."""
    _, x, graph = made(networks.Residual, images=8)
    expected = fisher_scores(graph, x)
    order = torch.tensor([3, 7, 0, 1, 6, 2, 5, 4])
    for data in ([x[order[:3]], x[order[3:]]], [(own[None], torch.tensor([0])) for own in x[order]]):
        found = fisher_scores(graph, data)
        for name, own in found.blocks.items():
            assert own == pytest.approx(expected.blocks[name][order.numpy()], abs=1e-12)
    other = fisher_scores(graph, x, seed=1)
    assert any(not np.allclose(own, expected.blocks[name]) for name, own in other.blocks.items())


def test_labels_are_drawn_from_the_softmax():
    images, share = torch.randn(1500, 2), torch.tensor([0.1, 0.6, 0.3])
    labels = sampled_labels(share.log().expand(1500, 3), (images,), seed=5)
    assert torch.bincount(labels) / 1500 == pytest.approx(share.numpy(), abs=0.04)
    assert torch.equal(labels, sampled_labels(share.log().expand(1500, 3), (images,), seed=5))
    assert not torch.equal(labels, sampled_labels(share.log().expand(1500, 3), (images,), seed=6))


def test_labels_of_the_data_count_only_if_asked_for():
    _, x, graph = made(networks.Residual)
    labels = torch.arange(5)
    drawn = importance_scores(graph, "fisher", data=x)
    given = importance_scores(graph, "empirical-fisher", data=[(x, labels)])
    for name, own in importance_scores(graph, "fisher", data=[(x, labels)]).items():
        assert np.array_equal(own, drawn[name])
    for name, own in importance_scores(graph, "fisher", data=[(x, labels)], loss=functional.cross_entropy).items():
        assert own == pytest.approx(given[name])
        assert not np.allclose(own, drawn[name])


def test_losses_estimate_how_far_outputs_move():
    """The divergence between outputs before and after a single channel is dropped, on a random network."""
    model, x, graph = made(networks.Residual, images=48)
    (stream,) = [block.name for block in graph.blocks if block.name == "inner.stem"]
    estimates = np.mean([block_losses(graph, x, seed=seed)[stream] for seed in range(4)], axis=0)
    readers = [read for read in graph.reads if graph.blocks[read.input.blocks[0]].name == stream]
    with torch.no_grad():
        before = model(x).log_softmax(1)
        measured = []
        for channel in range(16):
            kept = [model.get_parameter(read.weight)[:, channel].clone() for read in readers]
            for read in readers:
                model.get_parameter(read.weight)[:, channel] = 0
            after = model(x).log_softmax(1)
            measured.append(float((before.exp() * (before - after)).sum(1).mean()))
            for read, own in zip(readers, kept, strict=True):
                model.get_parameter(read.weight)[:, channel] = own
    assert np.corrcoef(np.argsort(np.argsort(estimates)), np.argsort(np.argsort(measured)))[0, 1] > 0.5


def test_importances_of_others_measure_products_in_their_own_way():
    _, x, graph = made(networks.Residual)
    size = Importance("size", lambda e, w: e.products[w], "this test", product_statistic=torch.abs, samples_labels=True)
    found, scores = importance_scores(graph, size, data=x), fisher_scores(graph, x)
    for name, own in found.items():
        assert own == pytest.approx(np.abs(scores.consumers[name]).mean(0))
    short = Importance("short", lambda e, w: e.products[w], "this test", product_statistic=lambda products: products[0])
    with pytest.raises(MaskError, match="its product_statistic must return one number per image and channel"):
        importance_scores(graph, short, data=[(x, torch.arange(5))])


def test_what_they_need():
    fisher, empirical = IMPORTANCES["fisher"], IMPORTANCES["empirical-fisher"]
    assert fisher.needs_data and not fisher.needs_labels and not fisher.needs_gradients
    assert empirical.needs_data and empirical.needs_labels
    assert str(fisher) == "fisher (Theis et al., 2018; needs data)"


def test_senseless_requests_are_refused_in_one_sentence():
    _, x, graph = made(networks.Residual)
    model, inputs = networks.make(networks.Inverted)
    for call, message in (
        (lambda: importance_scores(graph, "fisher"), "the importance fisher needs data"),
        (lambda: importance_masks(graph, "fisher", mode="constrained"), "the importance fisher needs data"),
        (lambda: importance_scores(graph, "empirical-fisher", data=x), "the importance empirical-fisher needs labels"),
        (lambda: importance_masks(graph, "empirical-fisher", mode="constrained", data=x), "the data has no labels"),
        (lambda: fisher_scores(graph, x, samples_labels=False), "the data has no labels; give batches"),
        (lambda: fisher_scores(graph, []), "the data has no images"),
        (lambda: fisher_scores(graph, x, max_bytes=1000), "take more than .* MiB; give fewer images"),
        (lambda: fisher_scores(graph, x[:, :2]), "rejects a batch of the data"),
        (lambda: fisher_scores(graph, x[0]), "cannot be told apart; give batches of one image"),
        (lambda: fisher_scores(graph, x * float("nan")), "scores are NaN; look at the data and the loss"),
        (lambda: fisher_scores(trace(model, inputs), inputs), "not one tensor of logits .*; give loss="),
    ):
        with pytest.raises(MaskError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_loss_of_ones_own_serves_networks_without_logits():
    model, inputs = networks.make(networks.Two)
    graph = trace(model, inputs)
    found = block_losses(graph, [inputs], loss=lambda outputs, labels: outputs[0].square().mean())
    assert any(own.any() for own in found.values())


@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_is(training):
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    model.train(training)
    model.stem.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = [own.requires_grad for own in model.parameters()]
    with torch.inference_mode():
        block_losses(graph, torch.randn(2, 3, 8, 8))
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert [own.requires_grad for own in model.parameters()] == wanted
    assert model.training == training and all(own.grad is None for own in model.parameters())
