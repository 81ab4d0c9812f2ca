"""Tests of pair scores: equal to gradients by a gate for every pair, in streams written out once per reader."""

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import MaskError, ModelReference, load_model, trace
from upscale_opt.importance.fisher import block_losses, fisher_scores
from upscale_opt.importance.streams import stream_scores


class Streaming(nn.Module):
    """A stem, three branches that add to a stream of six channels, and a head that reads it.

    ``read(gates)`` computes the input of every reader from what the writers wrote, with a gate for every pair.
    """

    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv1 = nn.ModuleList([nn.Conv2d(6, 5, 3, padding=1) for _ in range(3)])
        self.conv2 = nn.ModuleList([nn.Conv2d(5, 6, 1) for _ in range(3)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(6) for _ in range(4)])
        self.head = nn.Linear(6, 4)

    def gated(self, x, gates):
        """The logits; gates[t][j] multiplies what reader j sees of writer t."""
        written = [self.start(x)]
        for j in range(3):
            written.append(self.branch(self.seen(written, [gates[t][j] for t in range(j + 1)]), j))
        return self.head(self.seen(written, [gates[t][3] for t in range(4)]).mean((2, 3)))


class After(Streaming):
    """Activations behind additions, in place, as in ResNets."""

    def forward(self, x):
        x = functional.relu(self.stem_bn(self.stem(x)), inplace=True)
        for j in range(3):
            y = self.branch(x, j)
            y += x
            x = functional.relu(y, inplace=True)
        return self.head(x.mean((2, 3)))

    def start(self, x):
        return torch.relu(self.stem_bn(self.stem(x)))

    def branch(self, x, j):
        return self.bns[j](self.conv2[j](torch.relu(self.conv1[j](x))))

    def seen(self, written, gates):
        x = written[0] * gates[0]
        for y, gate in zip(written[1:], gates[1:], strict=True):
            x = torch.relu(x + y * gate)
        return x


class Before(Streaming):
    """Normalisation and activation between the stream and its readers, as in pre-activation networks."""

    def forward(self, x):
        x = self.stem(x)
        for j in range(3):
            x = x + self.branch(torch.relu(self.bns[j](x)), j)
        return self.head(torch.relu(self.bns[3](x)).mean((2, 3)))

    def start(self, x):
        return self.stem(x)

    def branch(self, x, j):
        return self.conv2[j](torch.relu(self.conv1[j](x)))

    def seen(self, written, gates):
        x = sum(y * gate for y, gate in zip(written, gates, strict=True))
        return torch.relu(self.bns[len(written) - 1](x))


class Joined(Streaming):
    """Linear additions, read through a concatenation with another tensor, and flattened."""

    def __init__(self):
        super().__init__()
        self.side, self.head = nn.Conv2d(3, 5, 1), nn.Linear(44, 4)
        self.conv1 = nn.ModuleList([nn.Conv2d(11, 5, 3, padding=1) for _ in range(3)])

    def forward(self, x):
        side, x = self.side(x), self.stem(x)
        for j in range(3):
            x = x + self.branch(torch.cat([x, side], 1), j)
        return self.head(functional.adaptive_avg_pool2d(torch.cat([x, side], 1), 2).flatten(1))

    def start(self, x):
        self.beside = self.side(x)
        return self.stem(x)

    def branch(self, x, j):
        return self.conv2[j](torch.relu(self.conv1[j](x)))

    def seen(self, written, gates):
        x = sum(y * gate for y, gate in zip(written, gates, strict=True))
        return torch.cat([x, self.beside], 1)

    def gated(self, x, gates):
        written = [self.start(x)]
        for j in range(3):
            written.append(self.branch(self.seen(written, [gates[t][j] for t in range(j + 1)]), j))
        x = self.seen(written, [gates[t][3] for t in range(4)])
        return self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Squeezed(Before):
    """Depthwise convolutions, and squeeze-and-excitation in front of the additions."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.ModuleList([nn.Conv2d(6, 6, 3, padding=1, groups=6) for _ in range(3)])
        self.excite = nn.ModuleList([nn.Conv2d(6, 6, 1) for _ in range(3)])

    def branch(self, x, j):
        y = self.depthwise[j](self.conv2[j](torch.relu(self.conv1[j](x))))
        return y * torch.sigmoid(self.excite[j](y.mean((2, 3), keepdim=True)))


class Crossed(nn.Module):
    """Two producers of one block that are multiplied."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.head(self.a(x) * self.b(x)).mean((2, 3))


def made(kind, images=5):
    torch.manual_seed(0)
    model = kind().double().eval()
    for own in model.modules():
        if isinstance(own, nn.BatchNorm2d):
            for tensor in (own.weight, own.bias, own.running_mean):
                nn.init.normal_(tensor)
    x = torch.randn(images, 3, 8, 8, dtype=torch.float64)
    return model, x, trace(model, x[:1])


def slopes(model, x, labels):
    """Gradients by a gate for every pair, channel and image, shape (writers, readers, images, channels)."""
    gates = torch.ones(4, 4, len(x), 6, 1, 1, dtype=torch.float64, requires_grad=True)
    value = functional.cross_entropy(model.gated(x, gates), labels, reduction="sum")
    return torch.autograd.grad(value, gates)[0].flatten(3).numpy()


@pytest.mark.parametrize("kind", [After, Before, Joined])
def test_scores_are_gradients_by_gates_of_pairs(kind):
    model, x, graph = made(kind)
    labels = torch.arange(5) % 4
    expected = slopes(model, x, labels)
    assert torch.allclose(model.gated(x, torch.ones(4, 4)), model(x))
    (found,) = stream_scores(graph, [(x[:3], labels[:3]), (x[3:], labels[3:])], samples_labels=False).values()
    assert found.block == "stem"
    assert found.writers == ("stem", "conv2.0", "conv2.1", "conv2.2")
    assert found.readers == ("conv1.0", "conv1.1", "conv1.2", "head")
    assert found.pairs == tuple((t, j) for j in range(4) for t in range(j + 1))
    assert found.scores.dtype == found.rest.dtype == np.float64
    for p, (t, j) in enumerate(found.pairs):
        assert found.scores[:, p] == pytest.approx(expected[t, j], abs=1e-12)
        assert np.abs(found.scores[:, p]).max() > 1e-4


@pytest.mark.parametrize("kind", [After, Before, Joined, Squeezed])
def test_pairs_and_rest_add_up_to_the_scores_of_the_block(kind):
    _, x, graph = made(kind)
    found = stream_scores(graph, x, seed=2)["stem"]
    assert len(found.writers) == 4 and (kind is Squeezed) == any("excite" in own for own in found.readers)
    joint = fisher_scores(graph, x, seed=2)
    total = found.scores.sum(1) + found.rest.sum(1)
    assert total == pytest.approx(joint.blocks["stem"], abs=1e-12)
    if kind in (After, Joined):  # nothing constant is added between the stream and its readers
        assert np.abs(found.rest).max() < 1e-12
    for j, name in enumerate(found.readers):
        own = found.scores[:, [p for p, pair in enumerate(found.pairs) if pair[1] == j]].sum(1) + found.rest[:, j]
        alone = joint.consumers[f"{name}.weight"]
        if kind is Joined:  # the stream's channels come first; the head reads four features of each
            alone = alone[:, :24].reshape(5, 6, 4).sum(2) if name == "head" else alone[:, :6]
        assert own == pytest.approx(alone, abs=1e-12)
    whole = found.losses(np.ones(len(found.pairs)), without=np.ones(len(found.readers)))
    assert whole == pytest.approx(block_losses(graph, x, seed=2)["stem"])


def test_moments_give_the_loss_of_any_pairs():
    _, x, graph = made(After)
    found = stream_scores(graph, x)["stem"]
    lost = np.arange(10) % 3 == 0
    expected = np.square(found.scores[:, lost].sum(1)).mean(0)
    assert found.losses(lost) == pytest.approx(expected)
    assert found.moments()[:, lost][:, :, lost].sum((1, 2)) == pytest.approx(expected)


def test_scales_of_squeeze_and_excitation_are_no_writers():
    model, x, graph = made(Squeezed)
    labels = torch.arange(5) % 4
    found = stream_scores(graph, [(x, labels)], samples_labels=False)["stem"]
    expected = slopes(model, x, labels)
    streams = [name for name in found.readers if "excite" not in name]
    for p, (t, j) in enumerate(found.pairs):
        if found.readers[j] in streams:
            assert found.scores[:, p] == pytest.approx(expected[t, streams.index(found.readers[j])], abs=1e-12)


def test_all_streams_come_from_one_pass_in_any_order_of_images():
    model, inputs = networks.make(networks.Residual)
    graph = trace(model, inputs)
    x = torch.randn(6, 3, 8, 8)
    found = stream_scores(graph, x)
    assert list(found) == [found[name].block for name in found] and found["stem"].scores.dtype == np.float32
    order = [5, 2, 3, 0, 1, 4]
    again = stream_scores(graph, [x[order[:4]], x[order[4:]]], blocks="stem")["stem"]
    assert again.scores == pytest.approx(found["stem"].scores[order], abs=1e-5)
    assert again.pairs == found["stem"].pairs


@pytest.mark.parametrize("kind", networks.ALL)
def test_networks_of_all_sorts_add_up(kind):
    """What is not known of pairs is in the rest: the sum is always the block's score."""
    model, inputs = networks.make(kind)
    model, inputs = model.double(), tuple(own.double() for own in inputs)
    graph = trace(model, inputs)

    def loss(outputs, labels):
        return (outputs[0] if isinstance(outputs, tuple) else outputs).square().mean()

    joint = fisher_scores(graph, [inputs], loss=loss).blocks
    for block in graph.blocks:
        try:
            found = stream_scores(graph, [inputs], blocks=[block.name], loss=loss)[block.name]
        except MaskError as error:
            assert "nobody reads what is written" in str(error) or "not add up" in str(error)
            continue
        assert found.scores.sum(1) + found.rest.sum(1) == pytest.approx(joint[block.name], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "regnet_y_400mf"])
def test_streams_of_torchvision_networks_add_up(name):
    model = load_model(ModelReference(name)).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    graph = trace(model, x[:1])
    found, joint = stream_scores(graph, x), fisher_scores(graph, x).blocks
    assert len(found) >= 4
    for block, own in found.items():
        scale = np.abs(joint[block]).max()
        assert (
            own.scores.sum(1) == pytest.approx(joint[block], abs=1e-9 * scale) and np.abs(own.rest).max() < 1e-9 * scale
        )


def test_senseless_requests_are_refused_in_one_sentence():
    _, x, graph = made(After)
    model = Crossed().eval()
    crossed = trace(model, x[:1].float())
    assert stream_scores(crossed, x.float()) == {}
    for call, message in (
        (lambda: stream_scores(graph, x, blocks=["nowhere"]), "there is no block 'nowhere'"),
        (lambda: stream_scores(graph, x, max_bytes=100), "take more than .* MiB; give fewer images or a larger"),
        (lambda: stream_scores(graph, []), "the data has no images"),
        (
            lambda: stream_scores(crossed, x.float(), blocks=["a"]),
            "multiplies what two writers of the block 'a' write, so that it",
        ),
    ):
        with pytest.raises(MaskError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
