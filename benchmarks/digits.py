"""Three small networks trained on scikit-learn's digits. The library's masks of trained weights come from them.

A residual, a dense and an inverted-residual network for 8 x 8 images. Training has a seed and one thread. So it gives
the same weights with the same versions of torch and scikit-learn on the same kind of processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

NUM_CLASSES = 10
EPOCHS = 15
BATCH_SIZE = 64


@dataclass(frozen=True)
class Trained:
    """A trained network, in eval mode, and its accuracy on the test images."""

    model: nn.Module
    accuracy: float


class Residual(nn.Module):
    """Three stages of residual blocks with two 3 x 3 convolutions each, as in ResNet for CIFAR."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), num_blocks: tuple[int, ...] = (3, 4, 5)) -> None:
        super().__init__()
        self.stem = _conv(1, widths[0], 3)
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, (width, number) in enumerate(zip(widths, num_blocks, strict=True)):
            for i in range(number):
                blocks.append(_ResidualBlock(inputs, width, stride=2 if stage and not i else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, 10)."""
        return self.head(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride=stride)
        self.conv2 = _conv(outputs, outputs, 3)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else _conv(inputs, outputs, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


class Dense(nn.Module):
    """Two dense blocks with bottlenecks and a transition between them, as in DenseNet-BC."""

    def __init__(self, growth: int = 12, num_layers: tuple[int, ...] = (6, 8)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2 * growth, 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        width = 2 * growth
        for stage, number in enumerate(num_layers):
            if stage:
                layers.append(_Transition(width, width // 2))
                width //= 2
            for _ in range(number):
                layers.append(_DenseLayer(width, growth))
                width += growth
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, 10)."""
        return self.head(functional.relu(self.norm(self.layers(self.stem(x)))).mean((2, 3)))


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.bottleneck = _conv(inputs, 4 * growth, 1)
        self.conv = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = self.conv(functional.relu(self.bottleneck(functional.relu(self.norm(x)))))
        return torch.cat([x, new], 1)


class _Transition(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)


class Inverted(nn.Module):
    """Three stages of inverted residuals with depthwise convolutions, as in MobileNetV2."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48), num_blocks: tuple[int, ...] = (3, 4, 5)) -> None:
        super().__init__()
        self.stem = _conv(1, widths[0], 3)
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, (width, number) in enumerate(zip(widths, num_blocks, strict=True)):
            for i in range(number):
                blocks.append(_InvertedBlock(inputs, width, stride=2 if stage and not i else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv(inputs, 4 * inputs, 1)
        self.head = nn.Linear(4 * inputs, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, 10)."""
        return self.head(functional.relu(self.last(self.blocks(functional.relu(self.stem(x))))).mean((2, 3)))


class _InvertedBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.expand = _conv(inputs, hidden, 1)
        self.depthwise = _conv(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = _conv(hidden, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(functional.relu(self.depthwise(functional.relu(self.expand(x)))))
        return x + y if self.skips else y


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "digits_residual": Residual,
    "digits_dense": Dense,
    "digits_inverted": Inverted,
}
"""Per name, the function that builds the network."""


def trained(name: str, *, seed: int = 0, epochs: int = EPOCHS) -> Trained:
    """Train one of `NETWORKS` on 1437 of the 1797 digits and test it on the others.

    Stochastic gradient descent with Nesterov momentum, weight decay and a cosine schedule; images shifted at random by
    up to one pixel. Uses one thread, and leaves torch's settings as they were.

    Parameters
    ----------
    name
        Name of the network.
    seed
        Seed of weights, batches, shifts and of the split.
    epochs
        Passes over the images.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = NETWORKS[name]()
            images, labels = _digits()
            shuffled = torch.randperm(len(images))
            training, test = shuffled[: len(images) * 4 // 5], shuffled[len(images) * 4 // 5 :]
            _train(model, images[training], labels[training], epochs)
            model.eval()
            with torch.no_grad():
                correct = (model(images[test]).argmax(1) == labels[test]).float().mean()
            return Trained(model, float(correct))
    finally:
        torch.set_num_threads(threads)


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            dx, dy = (int(shift) for shift in torch.randint(0, 3, (2,)))
            shifted = functional.pad(images[batch], (1, 1, 1, 1))[:, :, dy : dy + 8, dx : dx + 8]
            loss = functional.cross_entropy(model(shifted), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images, float32 in [0, 1], shape (1797, 1, 8, 8), and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    return images.unsqueeze(1), torch.tensor(digits.target, dtype=torch.int64)


def _conv(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and its BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
