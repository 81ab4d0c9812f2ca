"""Networks with containers, decorators, layers of layers, and other ways to write Python."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from benchmarks.front_ends.written import Network, listed, of


class Levels(NamedTuple):
    """Two levels of features."""

    fine: torch.Tensor
    coarse: torch.Tensor


@dataclasses.dataclass
class Found:
    """What a detector returns."""

    boxes: torch.Tensor
    scores: dict[str, torch.Tensor]


torch.export.register_dataclass(Found, serialized_type_name="benchmarks.front_ends.Found")


def _levels(own: Any, x: torch.Tensor) -> Levels:
    y = own.trunk(x)
    return Levels(y, own.down(y).relu())


@listed
def pyramid_with_names() -> Network:
    """Levels in a named tuple, and a dictionary with entries in the order of their names."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        levels = _levels(own, x)
        lateral = {name: own.lateral(level) for name, level in sorted(levels._asdict().items())}
        top = functional.interpolate(lateral["coarse"], size=lateral["fine"].shape[-2:])
        return {name: own.out(level) for name, level in {**lateral, "fine": lateral["fine"] + top}.items()}

    return of(
        forward,
        down=nn.Conv2d(32, 32, 3, stride=2, padding=1),
        lateral=nn.Conv2d(32, 24, 1),
        out=nn.Conv2d(24, 24, 3, padding=1),
    )


@listed
def detector() -> Network:
    """A head with anchors from the sizes of the levels, and a dataclass as result."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        boxes, scores = [], []
        for i, level in enumerate(_levels(own, x)):
            rows, columns = level.shape[-2:]
            y, z = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            anchors = torch.stack([z, y], -1).reshape(-1, 2).to(level) * 2 ** (i + 1)
            hidden = own.tower(level)
            boxes.append(own.box(hidden).flatten(2).transpose(1, 2) + torch.cat([anchors, anchors], -1))
            scores.append(own.score(hidden).flatten(2).transpose(1, 2))
        return Found(torch.cat(boxes, 1), {"scores": torch.cat(scores, 1).sigmoid()})

    return of(
        forward,
        down=nn.Conv2d(32, 32, 3, stride=2, padding=1),
        tower=nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        box=nn.Conv2d(32, 4, 1),
        score=nn.Conv2d(32, 3, 1),
    )


@listed
def written_in_place() -> Network:
    """Results are written into an empty tensor."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        out = y.new_zeros(y.shape[0], 32, y.shape[2], y.shape[3])
        out[:, :, ::2] = own.even(y)[:, :, ::2]
        out[:, :, 1::2] = own.odd(y)[:, :, 1::2]
        return own.head(out.mean((2, 3)))

    return of(forward, even=nn.Conv2d(32, 32, 1), odd=nn.Conv2d(32, 32, 1))


@listed
def checked_by_except() -> Network:
    """An attempt that fails leads to another way."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        try:
            y = y + own.wide(y)
        except RuntimeError:
            y = y + own.right(y)
        return own.head(y.mean((2, 3)))

    return of(forward, wide=nn.Conv2d(32, 48, 1), right=nn.Conv2d(32, 32, 1))


# Modules that torch.fx does not look into


@listed
def encoder_layers() -> Network:
    """`torch.nn.TransformerEncoder`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(own.encoder(own.trunk(x).flatten(2).transpose(1, 2)).mean(1))

    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return of(forward, encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


@listed
def decoder_layers() -> Network:
    """`torch.nn.TransformerDecoderLayer`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2).transpose(1, 2)
        return own.head(own.decoder(y[:, :16], y[:, 16:]).mean(1))

    return of(forward, decoder=nn.TransformerDecoderLayer(32, 4, 64, batch_first=True))


@listed
def convolutional_recurrent() -> Network:
    """An LSTM behind convolutions, as for reading text."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        steps, _ = own.recurrent(own.trunk(x).mean(2).transpose(1, 2))
        return own.head(steps)

    return of(forward, recurrent=nn.LSTM(32, 16, bidirectional=True, batch_first=True))


class Dispatched(nn.Module):
    """A decorator hides the parameters of forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Conv2d(32, 32, 1), "b": nn.Conv2d(32, 32, 3, padding=1)})

    def forward(self, *inputs: torch.Tensor, **options: Any) -> torch.Tensor:
        """Call the layers by their names."""
        (x,) = inputs
        for name in options.get("order", ()):
            x = self.layers[name](x).relu()
        return x


@listed
def stars_and_options() -> Network:
    """A part with ``*inputs`` and ``**options``."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(own.more(own.trunk(x), order=("b", "a")).mean((2, 3)))

    return of(forward, more=Dispatched())


@listed
def numbers_of_numpy() -> Network:
    """Sizes go through numpy."""
    import numpy as np

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        size = np.array([int(n) for n in y.shape[-2:]]) // 2
        return own.head(functional.adaptive_avg_pool2d(y, tuple(size.tolist())).mean((2, 3)))

    return of(forward)
