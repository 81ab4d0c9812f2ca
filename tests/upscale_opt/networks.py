"""Small networks for the tests: each has one thing that pruning tools get wrong."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))) + x)


class Residual(nn.Module):
    """A residual stream with several consumers, batch norms, a mean and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(16) for _ in range(3)))
        self.down = nn.Conv2d(16, 24, 1, stride=2)
        self.bn = nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 10)
        self.rate = 0.5

    def forward(self, x):
        x = functional.relu(self.bn(self.down(self.blocks(self.stem(x)))))
        return self.head(functional.dropout(x.mean([2, 3]), self.rate, training=self.training))


class Dense(nn.Module):
    """Concatenations of concatenations, each read by a normalised consumer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8 + 6 * i) for i in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(8 + 6 * i, 6, 3, padding=1) for i in range(3)])
        self.last = nn.Conv2d(26, 5, 1)

    def forward(self, x):
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(torch.relu(norm(torch.cat(features, 1)))))
        return self.last(torch.cat(features, 1)).flatten(1)


class Inverted(nn.Module):
    """Depthwise convolutions and squeeze-and-excitation inside an inverted residual."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 20, 1, bias=False)
        self.bn = nn.BatchNorm2d(20)
        self.depthwise = nn.Conv2d(20, 20, 3, padding=1, groups=20)
        self.squeeze = nn.Conv2d(20, 5, 1)
        self.excite = nn.Conv2d(5, 20, 1)
        self.project = nn.Conv2d(20, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        y = functional.hardswish(self.depthwise(functional.silu(self.bn(self.expand(x)))))
        scale = torch.sigmoid(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))))
        return self.head(x + self.project(y * scale))


class Flattened(nn.Module):
    """A flatten behind pooling: every channel is nine features of the linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.fc1 = nn.Linear(12 * 9, 14)
        self.bn = nn.BatchNorm1d(14)
        self.fc2 = nn.Linear(14, 6)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv(x)) + self.conv2(self.conv(x)))
        return self.fc2(self.bn(self.fc1(torch.flatten(x, 1))))


class Sliced(nn.Module):
    """Channel slices, an add of a slice, a concat with itself, and a narrow."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.left = nn.Conv2d(5, 7, 1)
        self.right = nn.Conv2d(7, 7, 1)
        self.twice = nn.Conv2d(14, 6, 1)
        self.whole = nn.Conv2d(12, 6, 1)
        self.tail = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        left, right = x[:, :5], x[..., 5:, :, :]
        y = self.left(left) + right
        z = self.twice(torch.cat([y, y], dim=1)) + self.whole(x)
        return self.tail(z.narrow(1, 2, 4)) + self.right(right)[:, 1:4]


class Shared(nn.Module):
    """One convolution and one batch norm called twice, on different tensors."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 1)
        self.conv = nn.Conv2d(10, 10, 3, padding=1)
        self.bn = nn.BatchNorm2d(10)
        self.side = nn.Conv2d(10, 4, 1)
        self.head = nn.Conv2d(10, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        y = self.bn(self.conv(x))
        z = self.bn(self.conv(torch.relu(y)))
        return self.head(z) + self.side(x)


class Odd(nn.Module):
    """Operators without a rule, a self-tie, a grouped convolution and a broadcast channel."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.norm = nn.GroupNorm(2, 12)
        self.gate = nn.Conv2d(12, 1, 1)
        self.mix = nn.Conv2d(12, 8, 1)
        self.fold = nn.Conv2d(8, 8, 1)
        self.free = nn.Conv2d(8, 9, 1)
        self.head = nn.Conv2d(9, 4, 1)

    def forward(self, x):
        x = self.norm(self.grouped(self.stem(x)))
        x = self.mix(x * torch.sigmoid(self.gate(x)))
        x = self.fold(torch.flip(x, [1]))
        x = x[:, :4] + x[:, 4:]
        x = torch.cat([x, x * x.shape[1]], 1)
        return self.head(self.free(x).cumsum(1))


class Two(nn.Module):
    """Two inputs, a tuple of outputs, and tied producers of different depth."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(2, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 8, 1)
        self.d = nn.Conv2d(16, 5, 1)
        self.e = nn.Linear(8, 3)

    def forward(self, x, y):
        a, b = self.a(x), self.b(y)
        c = self.c(a) * b
        return self.d(torch.cat([a, c], 1)), (self.e(c.amax((2, 3))),)


class InPlace(nn.Module):
    """In-place arithmetic that other holders of the tensor see, a view among them, and a constant in the code."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(11, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        early, part = self.a(x), x[:, 2:5]
        x *= early
        x += torch.tensor(0.5)
        functional.relu(part, inplace=True)
        return self.head(torch.cat([part, self.b(x) + x], 1))


def make(kind, seed=0):
    """A network in eval mode, and its example inputs."""
    torch.manual_seed(seed)
    inputs = (torch.randn(1, 3, 8, 8),)
    if kind is Two:
        inputs += (torch.randn(1, 2, 8, 8),)
    return kind().eval(), inputs


ALL = (Residual, Dense, Inverted, Flattened, Sliced, Shared, Odd, Two, InPlace)


class Between(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))
