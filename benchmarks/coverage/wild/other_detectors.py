"""Detectors of the SSD, CenterNet, EfficientDet and DETR kinds, written here after their papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.coverage.wild.network import Network


def _conv(i: int, o: int, k: int = 3, s: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class _Trunk(nn.Module):
    """Maps of three sizes."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width, 3, 2), _conv(width, 2 * width, 3, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(2**i * width, 2 ** (i + 1) * width, 3, 2), _conv(*[2 ** (i + 1) * width] * 2))
            for i in (1, 2, 3)
        )
        self.widths = [4 * width, 8 * width, 16 * width]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        return [x := stage(x) for stage in self.stages]


class TinyYolo(nn.Module):
    """YOLOv3-tiny: LeakyReLU, max pooling with stride one after a zero pad, two levels."""

    def __init__(self, num_classes: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in zip((3, 16, 32, 64, 128), (16, 32, 64, 128, 256)):
            layers += [*self._conv(i, o), nn.MaxPool2d(2, 2)]
        self.head = nn.Sequential(*layers[:-1])
        self.tail = nn.Sequential(
            nn.MaxPool2d(2, 2),
            *self._conv(256, 512),
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.MaxPool2d(2, 1),
            *self._conv(512, 512),
        )
        self.bridge = nn.Sequential(*self._conv(512, 128, 1))
        out = 3 * (num_classes + 5)
        self.small = nn.Sequential(*self._conv(512, 256), nn.Conv2d(256, out, 1))
        self.large = nn.Sequential(*self._conv(128 + 256, 256), nn.Conv2d(256, out, 1))

    @staticmethod
    def _conv(i: int, o: int, k: int = 3) -> list[nn.Module]:
        return [nn.Conv2d(i, o, k, 1, k // 2, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True)]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both levels."""
        early = self.head(x)
        late = self.tail(early)
        up = F.interpolate(self.bridge(late), size=early.shape[-2:], mode="nearest")
        return self.small(late), self.large(torch.cat((up, early), 1))


class Ssd(nn.Module):
    """SSD (arXiv:1512.02325): an L2-normalised map with learned scales, heads on every level, all boxes in a row."""

    def __init__(self, num_classes: int = 21, boxes: int = 4) -> None:
        super().__init__()
        self.trunk, self.num_classes = _Trunk(), num_classes
        self.scale = nn.Parameter(torch.full((self.trunk.widths[0],), 20.0))
        self.places = nn.ModuleList(nn.Conv2d(c, 4 * boxes, 3, padding=1) for c in self.trunk.widths)
        self.classes = nn.ModuleList(nn.Conv2d(c, num_classes * boxes, 3, padding=1) for c in self.trunk.widths)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores."""
        maps = self.trunk(x)
        maps[0] = self.scale.view(1, -1, 1, 1) * F.normalize(maps[0], dim=1)
        places = [own(y).permute(0, 2, 3, 1).flatten(1) for own, y in zip(self.places, maps)]
        classes = [own(y).permute(0, 2, 3, 1).flatten(1) for own, y in zip(self.classes, maps)]
        return torch.cat(places, 1).view(x.size(0), -1, 4), torch.cat(classes, 1).view(x.size(0), -1, self.num_classes)


class CenterNet(nn.Module):
    """CenterNet (arXiv:1904.07850): transposed convolutions up, a head per quantity, results by name."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _Trunk()
        ups: list[nn.Module] = []
        for i, o in ((256, 128), (128, 64), (64, 64)):
            ups += [nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.up = nn.Sequential(*ups)
        heads = {"heat": 20, "size": 2, "offset": 2}
        self.heads = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, o, 1))
                for n, o in heads.items()
            }
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """A map per quantity."""
        x = self.up(self.trunk(x)[-1])
        return {name: head(x) for name, head in self.heads.items()}


class _Fusion(nn.Module):
    """Maps added with learned weights that sum to one."""

    def __init__(self, number: int, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(number))
        self.conv = nn.Sequential(nn.SiLU(), nn.Conv2d(c, c, 3, 1, 1, groups=c), nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        weight = F.relu(self.weight)
        weight = weight / (weight.sum() + 1e-4)
        return self.conv(sum(weight[i] * x for i, x in enumerate(maps)))


class EfficientDet(nn.Module):
    """EfficientDet: weighted fusion up and down, separable heads that all levels share."""

    def __init__(self, c: int = 48, num_classes: int = 20, anchors: int = 9) -> None:
        super().__init__()
        self.trunk = _Trunk()
        self.lateral = nn.ModuleList(nn.Sequential(nn.Conv2d(w, c, 1), nn.BatchNorm2d(c)) for w in self.trunk.widths)
        self.fusions = nn.ModuleList(_Fusion(n, c) for n in (2, 2, 3, 2))
        self.classes, self.boxes = (
            nn.Sequential(
                *(nn.Conv2d(c, c, 3, 1, 1, groups=c), nn.Conv2d(c, c, 1), nn.SiLU()),
                *(nn.Conv2d(c, c, 3, 1, 1, groups=c), nn.Conv2d(c, out * anchors, 1)),
            )
            for out in (num_classes, 4)
        )
        self.num_classes = num_classes

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and boxes of all levels in a row."""
        a, b, c = (own(y) for own, y in zip(self.lateral, self.trunk(x)))
        up = self.fusions[0](b, F.interpolate(c, scale_factor=2))
        a = self.fusions[1](a, F.interpolate(up, scale_factor=2))
        b = self.fusions[2](b, up, F.max_pool2d(a, 3, 2, 1))
        maps = (a, b, self.fusions[3](c, F.max_pool2d(b, 3, 2, 1)))
        rows = [
            torch.cat([head(y).permute(0, 2, 3, 1).reshape(x.shape[0], -1, n) for y in maps], 1)
            for head, n in ((self.classes, self.num_classes), (self.boxes, 4))
        ]
        return rows[0], rows[1]


class Detr(nn.Module):
    """DETR: a map as a sequence, a transformer with learned queries, classes and boxes per query."""

    def __init__(self, c: int = 64, num_queries: int = 10) -> None:
        super().__init__()
        self.trunk = _Trunk()
        self.project = nn.Conv2d(self.trunk.widths[-1], c, 1)
        self.transformer = nn.Transformer(c, 4, 2, 2, 128, dropout=0.0, batch_first=True)
        self.queries = nn.Parameter(torch.rand(num_queries, c))
        self.rows, self.columns = nn.Parameter(torch.rand(50, c // 2)), nn.Parameter(torch.rand(50, c // 2))
        self.classes, self.boxes = nn.Linear(c, 21), nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, 4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores and boxes."""
        x = self.project(self.trunk(x)[-1])
        n, _, h, w = x.shape
        columns, rows = self.columns[:w].unsqueeze(0).repeat(h, 1, 1), self.rows[:h].unsqueeze(1).repeat(1, w, 1)
        positions = torch.cat([columns, rows], -1).flatten(0, 1).unsqueeze(0)
        y = self.transformer(positions + 0.1 * x.flatten(2).permute(0, 2, 1), self.queries.unsqueeze(0).repeat(n, 1, 1))
        return {"scores": self.classes(y), "boxes": self.boxes(y).sigmoid()}


OTHERS = {
    "ssd": Network(Ssd, (1, 3, 128, 128)),
    "yolov3-tiny": Network(TinyYolo, (1, 3, 128, 128)),
    "centernet": Network(CenterNet, (1, 3, 64, 64)),
    "efficientdet": Network(EfficientDet, (1, 3, 128, 128)),
    "detr": Network(Detr, (1, 3, 64, 64), attention=True),
}
"""Detectors by name."""
