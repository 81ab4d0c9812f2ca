"""Small networks for the tests of widths: one per way in which channels depend on each other."""

import networks
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import trace
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.widths.candidates import candidate_widths
from upscale_opt.widths.group_calibration import requests_of
from upscale_opt.widths.group_tables import GroupTable, GroupTables
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme


class PreActivation(nn.Module):
    """Pre-activation residual blocks: one stream with several writers, and hidden blocks between them."""

    def __init__(self, width=16, hidden=12, depth=2):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(depth)])
        self.first = nn.ModuleList([nn.Conv2d(width, hidden, 3, padding=1, bias=False) for _ in range(depth)])
        self.inner = nn.ModuleList([nn.BatchNorm2d(hidden) for _ in range(depth)])
        self.second = nn.ModuleList([nn.Conv2d(hidden, width, 3, padding=1) for _ in range(depth)])
        self.last = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        for norm, first, inner, second in zip(self.norms, self.first, self.inner, self.second, strict=True):
            x = x + second(functional.relu(inner(first(functional.relu(norm(x))))))
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class LikeConvNeXt(nn.Module):
    """Depthwise convolutions, LayerNorm over the last dimension, linear layers on channels-last tensors, a scale."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, stride=2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm = nn.LayerNorm(12)
        self.wide, self.narrow = nn.Linear(12, 24), nn.Linear(24, 12)
        self.scale = nn.Parameter(torch.full((12,), 0.5))
        self.last = nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(functional.gelu(self.wide(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class FlattenedLinear(nn.Module):
    """A plain network whose linear layer reads four features of every channel."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.PReLU(12),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Sequential(nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 5))

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class Chunked(nn.Module):
    """A gate whose halves come from one convolution (chunk), and a split."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.gate = nn.Conv2d(8, 12, 1)
        self.middle = nn.Conv2d(6, 8, 1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        a, b = self.gate(self.stem(x)).chunk(2, 1)
        left, right = torch.split(self.middle(a * torch.sigmoid(b)), 4, 1)
        return self.head(self.left(left) + self.right(right)).mean((2, 3))


class Shuffled(nn.Module):
    """A channel shuffle between grouped convolutions, with a plain hidden block behind them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.second = nn.Conv2d(8, 8, 1, groups=2)
        self.hidden = nn.Conv2d(8, 16, 1)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.grouped(self.stem(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(functional.relu(self.hidden(self.second(x)))).mean((2, 3))


class Functional(nn.Module):
    """Functional calls with parameters of the network itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3, 3, 3) / 5)
        self.bias = nn.Parameter(torch.randn(10))
        self.register_buffer("mean", torch.randn(10))
        self.register_buffer("variance", torch.rand(10) + 0.5)
        self.second = nn.Parameter(torch.randn(8, 10, 1, 1) / 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = functional.conv2d(x, self.weight, self.bias, padding=1)
        x = functional.relu(functional.batch_norm(x, self.mean, self.variance))
        return self.head(functional.conv2d(x, self.second).mean((2, 3)))


class Mixed(nn.Module):
    """A concat of three branches that is read twice, and one operand that is read alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a, self.b, self.c = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.norm = nn.BatchNorm2d(24)
        self.alone = nn.Conv2d(4, 6, 1)
        self.left, self.right = nn.Conv2d(24, 6, 1), nn.Conv2d(24, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        b = functional.relu(self.b(x))
        y = functional.relu(self.norm(torch.cat([self.a(x), b, self.c(x)], 1)))
        return self.head((self.left(y) + self.right(y) + self.alone(b)).mean((2, 3)))


OWN = (PreActivation, LikeConvNeXt, FlattenedLinear, Chunked, Shuffled, Functional, Mixed)
ALL = (*networks.ALL, *OWN)


def make(kind, seed=0):
    """A network in eval mode with statistics that are not trivial, and its example inputs: two images."""
    model, inputs = networks.make(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    for own in model.modules():
        if isinstance(own, nn.modules.batchnorm._BatchNorm):
            own.running_mean.copy_(0.2 * torch.randn(own.num_features, generator=generator))
            own.running_var.copy_(0.5 + torch.rand(own.num_features, generator=generator))
    return model, tuple(torch.randn(2, *x.shape[1:], generator=generator) for x in inputs)


def values_of(module, inputs):
    """The values of all nodes of a module by name, each as it was when it was computed."""
    found = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            result = super().run_node(n)
            found[n.name] = result.clone() if isinstance(result, torch.Tensor) else result
            return result

    with torch.no_grad():
        Recorder(module, garbage_collect_values=False).run(*(x.clone() for x in inputs))
    return found


def outputs_of(graph, group):
    """Names of the nodes that a specimen returns, in its order."""
    nodes = {node.name: node for node in graph.module.graph.nodes}
    inside = set(group.nodes)
    return [
        name
        for name in group.nodes
        if graph.shapes.get(name) is not None
        and (not nodes[name].users or any(user.name not in inside for user in nodes[name].users))
    ]


def programme_of(kind, seed=0, *, step=None):
    """A network, its inputs, and its programme, with scores and tables that are made up."""
    model, inputs = make(kind, seed)
    graph = trace(model, inputs)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts, step=step)
    rng = np.random.default_rng(seed)
    scores = {block.name: rng.lognormal(0, 1, block.size) for block in graph.blocks}
    entries = {}
    for own in requests_of(graph, parts, candidates):
        sides = [sorted({side[0], side[len(side) // 2], side[-1]}) for side in (own.first, own.second)]
        first, second = (np.array(side, dtype=float) for side in sides)
        times = 2000 + 100 * first[:, None] + 70 * second + 50 * first[:, None] * second
        times = times.round(1) * rng.choice([1.0, 1.25])
        entries[own.signature] = GroupTable(tuple(sides[0]), tuple(sides[1]), times)
    tables = GroupTables(conditions_of(inputs), entries, dict.fromkeys(entries, 0.003))
    return model, inputs, Programme(graph, parts, candidates, scores, tables)
