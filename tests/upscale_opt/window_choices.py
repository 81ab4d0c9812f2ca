"""Networks with residual streams, and random windows for them."""

import torch
from torch import nn
from torch.nn import functional

from upscale_opt import prepare, trace
from upscale_opt.masking.windows import WindowChoice, window_masks
from upscale_opt.planning.window_plans import window_plan
from upscale_opt.tracing.writes import writes_of


class PostActivation(nn.Module):
    """A small ResNet: ReLU after every addition, and a downsample convolution between two streams."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, 10, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(10)
            self.conv2 = nn.Conv2d(10, outputs, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.relu = nn.ReLU(inplace=True)
            self.down = None
            if inputs != outputs:
                self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            y += x if self.down is None else self.down(x)
            return self.relu(y)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(self.Block(16, 16), self.Block(16, 16))
        self.layer2 = nn.Sequential(self.Block(16, 24, 2), self.Block(24, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(self.pool(self.stem(x))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class PreActivation(nn.Module):
    """A small pre-activation ResNet: the stream is raw, and every reader has its own BatchNorm and ReLU."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16) for _ in range(4)])
        self.first = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=1, bias=False) for _ in range(3)])
        self.inner = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(3)])
        self.second = nn.ModuleList([nn.Conv2d(8, 16, 3, padding=1, bias=False) for _ in range(3)])
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        for norm, first, inner, second in zip(self.norms, self.first, self.inner, self.second, strict=False):
            x = x + second(torch.relu(inner(first(torch.relu(norm(x))))))
        return self.head(torch.relu(self.norms[-1](x)).mean([2, 3]))


class InvertedResiduals(nn.Module):
    """As in MobileNetV2: expansion, depthwise convolution, linear projection; the first projection starts a stream."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            wide = 2 * inputs
            self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
            depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
            self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.ReLU6())
            self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            self.adds = inputs == outputs

        def forward(self, x):
            y = self.project(self.depthwise(self.expand(x)))
            return x + y if self.adds else y

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(self.Block(8, 12), self.Block(12, 12), self.Block(12, 12), self.Block(12, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(functional.relu6(self.blocks(self.stem(x))).mean([2, 3]))


def random_choices(graph, rng, smallest=1, share=1.0):
    """Random windows of all accesses of all streams: blocks that somebody adds to."""
    writes = writes_of(graph)
    streams = {b for own in writes.values() if own.addition for b in own.layout.blocks}
    choices = {}
    for b in sorted(streams):
        block = graph.blocks[b]
        if block.pinned or not block.removable:
            continue
        order = rng.permutation(block.size)
        if rng.random() < 0.5:
            order = order[: max(smallest, int(0.8 * block.size))]
        names = [read.name for read in graph.reads if b in read.input.blocks]
        names += [own.name for own in writes.values() if b in own.layout.blocks]
        windows = {}
        for name in names:
            if rng.random() < share:
                start, stop = sorted(rng.choice(len(order) + 1, 2, replace=False).tolist())
                windows[name] = (start, max(stop, min(len(order), start + smallest)))
        choices[block.name] = WindowChoice(order, windows)
    return choices


def windowed(model, inputs, choices, graph=None, **masks):
    """A masked model with windows, and its plan."""
    graph = trace(model, inputs) if graph is None else graph
    masked = prepare(model, inputs, window_masks(graph, choices, **masks), graph=graph)
    return masked, window_plan(masked, masked.problems, choices)
