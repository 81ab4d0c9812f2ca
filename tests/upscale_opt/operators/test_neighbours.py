"""Channels that are neighbours: pixel shuffles, images made by linear layers, convolutions along the channels."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import constrained_masks, effective_masks, export, extract, l2_masks, plan, trace


def pruned(model, inputs, choose, objective="traffic"):
    """The graph of a network, and its verified export with half of the channels."""
    graph = trace(model, inputs)
    masks = effective_masks(graph, choose(graph, 0.5)).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, objective=objective, time_limit=1) for name, problem in problems.items()}
    exported = export(model, inputs, plan(problems, masks, results), graph=graph)
    assert exported.verification.relative_error <= 1e-9 and exported.verification.gradients <= 1e-9
    return graph, exported


class Scaled(nn.Module):
    """Super-resolution: pixels become channels, and channels become pixels, with a normalisation between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((12, 8), (8, 32), (8, 6), (24, 4)))
        self.norm, self.up = nn.BatchNorm2d(32), nn.PixelShuffle(2)

    def forward(self, x):
        x = self.a(functional.pixel_unshuffle(x, 2))
        x = self.c(torch.relu(self.up(self.norm(self.b(x)))))
        return self.d(nn.functional.pixel_unshuffle(torch.relu(x), 2))


class Image(nn.Module):
    """A generator: a linear layer computes an image, by one of several reshapes."""

    def __init__(self, reshape):
        super().__init__()
        self.a, self.norm, self.b, self.c = (
            nn.Linear(5, 96),
            nn.BatchNorm1d(96),
            nn.ConvTranspose2d(8, 6, 2),
            nn.Conv2d(6, 3, 1),
        )
        self.reshape = reshape

    def forward(self, x):
        return self.c(torch.relu(self.b(self.reshape(torch.relu(self.norm(self.a(x)))))))


class Attentive(nn.Module):
    """Efficient channel attention: a convolution along the channels computes a gate for every channel."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.along = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1), nn.Conv1d(1, 1, 3, padding=1)
        self.other = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = self.along(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        x = x * torch.sigmoid(y).expand_as(x)
        return self.b(x) + self.other(x)


RESHAPES = {
    "view": lambda x: x.view(-1, 8, 4, 3),
    "inferred channels": lambda x: torch.tanh(x.reshape(x.shape[0], -1, 4, 3)),
    "inferred width": lambda x: x.view(x.size(0), 8, 4, -1),
    "unflatten": lambda x: x.unflatten(1, (8, 4, 3)),
    "channels last": lambda x: x.view(-1, 4, 3, 8).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("choose", [l2_masks, constrained_masks])
def test_neighbours_of_a_pixel_shuffle_go_together(choose):
    torch.manual_seed(0)
    graph, exported = pruned(Scaled().eval(), torch.randn(1, 3, 8, 8), choose)
    assert not graph.unsupported
    # Four rows of the convolution become one channel.
    assert exported.module.get_parameter("b.weight").shape[0] == exported.module.norm.num_features == 16
    assert exported.module.get_parameter("c.weight").shape[1] == 4


@pytest.mark.parametrize("name", RESHAPES)
def test_linear_layers_that_compute_images_lose_whole_channels(name):
    torch.manual_seed(0)
    graph, exported = pruned(Image(RESHAPES[name]).eval(), torch.randn(2, 5), constrained_masks)
    assert not graph.unsupported
    assert exported.module.a.out_features == 48 and exported.module.get_parameter("b.weight").shape[0] == 4


def test_convolutions_along_channels_see_the_original_order():
    torch.manual_seed(0)
    graph, exported = pruned(Attentive().eval(), torch.randn(1, 3, 8, 8), l2_masks)
    (block,) = (own for own in graph.blocks if own.name == "a")
    assert not block.pinned and not block.removable
    order = exported.plan.orders["a"]
    assert sorted(order) == list(range(16)) and list(order) != list(range(16))
    assert any("in_order" in name for name, _ in exported.module.named_modules())


def test_embeddings_lose_columns():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.a, self.b = nn.Embedding(20, 16), nn.Linear(16, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(self.table(x))))

    torch.manual_seed(0)
    _, exported = pruned(Words().eval(), torch.randint(20, (2, 5)), constrained_masks)
    assert exported.module.table.embedding_dim == 8 and exported.module.table.weight.shape == (20, 8)


def test_embeddings_as_functions_and_bags_lose_columns():
    class Bags(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.bags = nn.Parameter(torch.randn(20, 16)), nn.EmbeddingBag(20, 16, mode="mean")
            self.a, self.b = nn.Linear(16, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(functional.embedding(x, self.words).mean(1) * self.bags(x))))

    torch.manual_seed(0)
    _, exported = pruned(Bags().eval(), torch.randint(20, (2, 5)), constrained_masks)
    assert exported.module.words.shape == exported.module.bags.weight.shape == (20, 8)
    assert exported.module.bags.embedding_dim == 8


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers_are_traced_into_and_lose_hidden_channels(norm_first):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first, activation="gelu")
            self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.layers(x))

    torch.manual_seed(0)
    graph, exported = pruned(Encoder().eval(), torch.randn(2, 5, 8), constrained_masks)
    assert not graph.unsupported and not graph.skipped
    assert all(layer.linear1.out_features == 8 for layer in exported.module.layers.layers.children())


def test_embeddings_that_are_also_the_last_layer_stay_whole():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.a, self.b = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False)
            self.b.weight = self.table.weight

        def forward(self, x):
            return self.b(torch.relu(self.a(self.table(x))))

    torch.manual_seed(0)
    _, exported = pruned(Tied().eval(), torch.randint(20, (2, 5)), constrained_masks)
    assert exported.module.table.weight.shape == (20, 16)
