"""Tests that each cause of a refusal has its own sentence, and that following the sentence leads to success."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import ModelError, export, plain_weights, trace
from upscale_opt.tracing.graphs import Graph

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Tail(nn.Module):
    """Convolutions, and then something that depends on values."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.o = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 6, 1)
        self.end = end

    def forward(self, x):
        return self.end(self.o(functional.relu(self.b(functional.relu(self.a(x))))))


def decides(x):
    return x * 2 if x.mean() < 1e9 else x


class Decides(nn.Module):
    def forward(self, x):
        return decides(x)


def selected(y):
    pixels = y.permute(0, 2, 3, 1)
    return pixels[pixels[..., 0] > 0]


def best(y):
    scores, places = y[:, 0].flatten(1).topk(5)
    return torch.gather(y.flatten(2), 2, places.unsqueeze(1).expand(-1, 6, -1)), scores


ENDS = {
    "item": lambda y: y / y.abs().max().item(),
    "a mask": selected,
    "nonzero": lambda y: (y, (y[:, 0] > 0).nonzero()),
    "topk": best,
    "a decision in a module": Decides(),
}


def halved(model, x=X) -> tuple[Graph, int]:
    graph = trace(model, x)
    masks = {
        name: np.arange(graph.module.get_parameter(name).shape[1]) % 2 == 0
        for name, read in graph.consumers.items()
        if not read.reads_network_input
    }
    exported = export(model, x, masks=masks, baseline=True, graph=graph)
    assert exported.verification.passed
    return graph, sum(p.numel() for p in exported.module.parameters())


@pytest.mark.parametrize("name", ["item", *(pytest.param(own, marks=pytest.mark.slow) for own in [*ENDS][1:])])
def test_what_depends_on_values_pins_only_what_it_touches(name):
    model = Tail(ENDS[name]).eval()
    graph, after = halved(model)
    assert len(graph.consumers) == 3 and after < 0.8 * sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_a_decision_on_values_is_named_and_may_go_into_a_module():
    with pytest.raises(ModelError) as caught:
        trace(Tail(decides).eval(), X)
    message = str(caught.value)
    assert "needs the value of lt in line" in message and "`return x * 2 if x.mean() < 1e9 else x`" in message
    assert "move these lines into a module of their own" in message
    assert len(halved(Tail(Decides()).eval())[0].consumers) == 3
    assert len(halved(Tail(lambda y: torch.where(y.mean() < 1e9, y * 2, y)).eval())[0].consumers) == 3


def test_a_length_that_depends_on_values_is_named():
    with pytest.raises(ModelError, match=r"the length of nonzero in line \d+ of test_refusals.py"):
        trace(Tail(lambda y: y if len(y.nonzero()) > 0 else -y).eval(), X)


def test_inputs_that_the_network_rejects_are_told_from_lines_that_cannot_be_traced():
    class Strict(Tail):
        def forward(self, x):
            if x.shape[-1] % 16:
                raise ValueError("the width must be a multiple of 16")
            return super().forward(x)

    model = Strict(nn.Identity()).eval()
    with pytest.raises(ModelError, match=r"rejects inputs of shape \(2, 3, 8, 8\) \(the width must .* give inputs"):
        trace(model, X)
    assert len(trace(model, torch.zeros(1, 3, 16, 16)).consumers) == 3
    with pytest.raises(ModelError, match=r"rejects inputs of shape \(1, 5, 8, 8\) .* in line \d+ of test_refusals"):
        trace(Tail(nn.Identity()).eval(), torch.zeros(1, 5, 8, 8))


def test_other_lines_are_named():
    class Numbered(Tail):
        def forward(self, x):
            return super().forward(x) + torch.tensor(np.asarray(memoryview(x)))

    with pytest.raises(ModelError, match=r"Numbered cannot be traced \(TypeError: .* in line \d+ of test_refusals"):
        trace(Numbered(nn.Identity()).eval(), X)


class Standardised(nn.Conv2d):
    def forward(self, x):
        mean, deviation = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias, self.stride, self.padding)


@pytest.mark.slow
def test_standardised_weights_are_offered_and_made_plain():
    torch.manual_seed(0)
    shared = Standardised(8, 8, 3, padding=1)
    model = nn.Sequential(Standardised(3, 8, 3, padding=1), nn.ReLU(), shared, shared, nn.Conv2d(8, 4, 1)).eval()
    assert "plain_weights" in str(trace(model, X))
    plain = plain_weights(model)
    assert all(type(own) in (nn.Conv2d, nn.ReLU, nn.Sequential) for own in plain.modules()) and plain[2] is plain[3]
    torch.testing.assert_close(plain(X), model(X))
    assert type(model[0]) is Standardised and len(halved(plain)[0].consumers) == 3


def test_layers_of_another_form_are_left_alone():
    class Padding(nn.Conv2d):
        def forward(self, x):
            return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight - self.weight.mean())

    class Scaled(nn.Linear):
        def forward(self, x):
            return functional.linear(x, self.weight * x.mean())

    for layer, x in ((Padding(3, 4, 3), X), (Scaled(3, 4), torch.randn(2, 3))):
        plain = plain_weights(layer)
        assert type(plain) is type(layer)
        torch.testing.assert_close(plain(x), layer(x))
