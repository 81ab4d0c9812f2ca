"""Detectors of the YOLO kind, written here after their papers.

The blocks are the published ones: cross-stage partial blocks (CSPNet, arXiv:1911.11929), spatial pyramid pooling
(YOLOv5), efficient layer aggregation (YOLOv7, arXiv:2207.02696), the decoupled head (YOLOX, arXiv:2107.08430), boxes as
distributions (GFL, arXiv:2006.04388).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from benchmarks.coverage.wild.network import Network


class _Conv(nn.Sequential):
    """Convolution, BatchNorm, activation."""

    def __init__(self, i: int, o: int, k: int = 1, s: int = 1, groups: int = 1, act: nn.Module | None = None) -> None:
        super().__init__(
            nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False),
            nn.BatchNorm2d(o, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True) if act is None else act,
        )


class _Bottleneck(nn.Module):
    def __init__(self, c: int, shortcut: bool = True, hidden: int | None = None) -> None:
        super().__init__()
        self.one = _Conv(c, hidden or c, 3 if hidden is None else 1)
        self.two = _Conv(hidden or c, c, 3)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.one(x))
        return x + y if self.shortcut else y


class _CrossStageSplit(nn.Module):
    """YOLOv8's block: one entry, split in halves; every bottleneck's result is joined (C2f)."""

    def __init__(self, i: int, o: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.width = o // 2
        self.enter = _Conv(i, o)
        self.leave = _Conv((2 + n) * self.width, o)
        self.blocks = nn.ModuleList(_Bottleneck(self.width, shortcut) for _ in range(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.blocks)
        return self.leave(torch.cat(parts, 1))


class _CrossStageTwo(nn.Module):
    """YOLOv5's block: two entries, one through bottlenecks (C3)."""

    def __init__(self, i: int, o: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.left, self.right = _Conv(i, o // 2), _Conv(i, o // 2)
        self.blocks = nn.Sequential(*(_Bottleneck(o // 2, shortcut, o // 2) for _ in range(n)))
        self.leave = _Conv(2 * (o // 2), o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leave(torch.cat((self.blocks(self.left(x)), self.right(x)), dim=1))


class _Aggregation(nn.Module):
    """YOLOv7's block: every second convolution of a chain is joined (ELAN)."""

    def __init__(self, i: int, o: int, n: int = 4, shortcut: bool = True) -> None:
        super().__init__()
        hidden = o // 2
        self.left, self.right = _Conv(i, hidden), _Conv(i, hidden)
        self.chain = nn.ModuleList(_Conv(hidden, hidden, 3) for _ in range(4))
        self.leave = _Conv(4 * hidden, o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.left(x), self.right(x)]
        for i, own in enumerate(self.chain):
            x = own(found[-1] if i == 0 else x)
            if i % 2:
                found.append(x)
        return self.leave(torch.cat(found, 1))


class _Pyramid(nn.Module):
    """The same pooling three times, all results joined (SPPF)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.enter, self.leave = _Conv(c, c // 2), _Conv(2 * c, c)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.enter(x)]
        found.extend(self.pool(found[-1]) for _ in range(3))
        return self.leave(torch.cat(found, 1))


class _PositionAttention(nn.Module):
    """One half of the channels attends over positions (C2PSA of YOLO11)."""

    def __init__(self, c: int, num_heads: int = 2) -> None:
        super().__init__()
        self.width, self.num_heads = c // 2, num_heads
        self.head, self.key = self.width // num_heads, self.width // num_heads // 2
        self.enter, self.leave = _Conv(c, c), _Conv(c, c)
        identity = nn.Identity()
        self.qkv = _Conv(self.width, self.width + 2 * self.key * num_heads, act=identity)
        self.project = _Conv(self.width, self.width, act=identity)
        self.position = _Conv(self.width, self.width, 3, groups=self.width, act=identity)
        self.mlp = nn.Sequential(_Conv(self.width, 2 * self.width), _Conv(2 * self.width, self.width, act=identity))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x).view(b, self.num_heads, 2 * self.key + self.head, h * w)
        q, k, v = qkv.split([self.key, self.key, self.head], dim=2)
        weights = (q.transpose(-2, -1) @ k * self.key**-0.5).softmax(dim=-1)
        y = (v @ weights.transpose(-2, -1)).view(b, c, h, w) + self.position(v.reshape(b, c, h, w))
        return self.project(y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.enter(x).split((self.width, self.width), dim=1)
        b = b + self.attend(b)
        b = b + self.mlp(b)
        return self.leave(torch.cat((a, b), 1))


class _AnchorHead(nn.Module):
    """YOLOv5's: per level (anchors x (classes + 5)), reshaped, with boxes decoded on a grid."""

    def __init__(self, widths: Sequence[int], num_classes: int = 80, anchors: int = 3) -> None:
        super().__init__()
        self.num_outputs, self.anchors = num_classes + 5, anchors
        self.levels = nn.ModuleList(nn.Conv2d(c, self.num_outputs * anchors, 1) for c in widths)
        self.register_buffer("sizes", torch.rand(len(widths), 1, anchors, 1, 1, 2) * 4 + 1)

    def forward(self, xs: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        decoded = []
        for i in range(len(xs)):
            xs[i] = self.levels[i](xs[i])
            n, _, h, w = xs[i].shape
            xs[i] = xs[i].view(n, self.anchors, self.num_outputs, h, w).permute(0, 1, 3, 4, 2).contiguous()
            ys, xs_ = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((xs_, ys), 2).expand(1, self.anchors, h, w, 2).to(xs[i].dtype) - 0.5
            xy, wh, conf = xs[i].sigmoid().split((2, 2, self.num_outputs - 4), 4)
            y = torch.cat(((xy * 2 + grid) * 8 * 2**i, (wh * 2) ** 2 * self.sizes[i], conf), 4)
            decoded.append(y.view(n, self.anchors * h * w, self.num_outputs))
        return torch.cat(decoded, 1), xs


class _DistributionHead(nn.Module):
    """YOLOv8's: boxes as distributions over bins, decoded by a softmax and a fixed convolution."""

    def __init__(self, widths: Sequence[int], num_classes: int = 80, bins: int = 16, light: bool = False) -> None:
        super().__init__()
        self.num_classes, self.bins = num_classes, bins
        c2, c3 = max(16, widths[0] // 4, bins * 4), max(widths[0], min(num_classes, 100))
        self.boxes = nn.ModuleList(
            nn.Sequential(_Conv(c, c2, 3), _Conv(c2, c2, 3), nn.Conv2d(c2, 4 * bins, 1)) for c in widths
        )
        self.classes = nn.ModuleList(
            nn.Sequential(
                *((_Conv(c, c, 3, groups=c), _Conv(c, c3)) if light else (_Conv(c, c3, 3),)),
                *((_Conv(c3, c3, 3, groups=c3), _Conv(c3, c3)) if light else (_Conv(c3, c3, 3),)),
                nn.Conv2d(c3, num_classes, 1),
            )
            for c in widths
        )
        self.project = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.project.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)

    def forward(self, xs: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        for i in range(len(xs)):
            xs[i] = torch.cat((self.boxes[i](xs[i]), self.classes[i](xs[i])), 1)
        joined = torch.cat([x.view(x.shape[0], self.num_classes + 4 * self.bins, -1) for x in xs], 2)
        boxes, classes = joined.split((4 * self.bins, self.num_classes), 1)
        n, _, positions = boxes.shape
        y = boxes.view(n, 4, self.bins, positions).transpose(2, 1).softmax(1)
        left, right = self.project(y).view(n, 4, positions).chunk(2, 1)
        return torch.cat((torch.cat((right - left, left + right), 1), classes.sigmoid()), 1), xs


class _DecoupledHead(nn.Module):
    """YOLOX's: classes and boxes from branches of their own, flattened over positions."""

    def __init__(self, widths: Sequence[int], num_classes: int = 80, hidden: int = 64) -> None:
        super().__init__()
        self.stems = nn.ModuleList(_Conv(c, hidden) for c in widths)
        self.classes = nn.ModuleList(nn.Sequential(_Conv(hidden, hidden, 3), _Conv(hidden, hidden, 3)) for _ in widths)
        self.boxes = nn.ModuleList(nn.Sequential(_Conv(hidden, hidden, 3), _Conv(hidden, hidden, 3)) for _ in widths)
        self.score, self.box, self.object = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in widths:
            self.score.append(nn.Conv2d(hidden, num_classes, 1))
            self.box.append(nn.Conv2d(hidden, 4, 1))
            self.object.append(nn.Conv2d(hidden, 1, 1))

    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        found = []
        for k, (classes, boxes, x) in enumerate(zip(self.classes, self.boxes, xs)):
            x = self.stems[k](x)
            score, box = self.score[k](classes(x)), boxes(x)
            found.append(torch.cat([self.box[k](box), self.object[k](box).sigmoid(), score.sigmoid()], 1))
        return torch.cat([x.flatten(start_dim=2) for x in found], dim=2).permute(0, 2, 1)


class _Focus(nn.Module):
    """Every second pixel in four ways, joined (the first layer of early YOLOv5 and of YOLOX)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = _Conv(4 * i, o, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(parts, 1))


class Yolo(nn.Module):
    """A pyramid network: down, up and down again, and a head on three levels.

    Parameters
    ----------
    block
        The block of every stage.
    head
        The head; it gets the widths of three levels.
    width
        Channels of the stem.
    depths
        Blocks per stage.
    focus
        Whether the first layer rearranges pixels.
    attention
        Whether the smallest level attends over positions.
    """

    def __init__(
        self,
        block: type[nn.Module],
        head: type[nn.Module],
        width: int = 16,
        depths: Sequence[int] = (1, 2, 2, 1),
        focus: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        c = [width * 2**i for i in range(5)]
        self.stem = _Focus(3, c[0]) if focus else _Conv(3, c[0], 3, 2)
        self.downs = nn.ModuleList(_Conv(c[i], c[i + 1], 3, 2) for i in range(4))
        self.stages = nn.ModuleList(block(c[i + 1], c[i + 1], depths[i]) for i in range(4))
        self.pyramid = nn.Sequential(_Pyramid(c[4]), *([_PositionAttention(c[4])] if attention else []))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.middle = block(c[4] + c[3], c[3], 1, False)
        self.large = block(c[3] + c[2], c[2], 1, False)
        self.back = nn.ModuleList([_Conv(c[2], c[2], 3, 2), _Conv(c[3], c[3], 3, 2)])
        self.middle_again = block(c[2] + c[3], c[3], 1, False)
        self.small = block(c[3] + c[4], c[4], 1, False)
        self.head = head(c[2:])

    def forward(self, x: torch.Tensor) -> object:
        """What the head returns for three levels."""
        x, found = self.stem(x), []
        for down, stage in zip(self.downs, self.stages):
            x = stage(down(x))
            found.append(x)
        _, a, b, c = found
        c = self.pyramid(c)
        middle = self.middle(torch.cat([self.up(c), b], 1))
        large = self.large(torch.cat([self.up(middle), a], 1))
        again = self.middle_again(torch.cat([self.back[0](large), middle], 1))
        return self.head([large, again, self.small(torch.cat([self.back[1](again), c], 1))])


_V11 = partial(_DistributionHead, light=True)
YOLOS = {
    "yolov5n": Network(partial(Yolo, _CrossStageTwo, _AnchorHead, depths=(1, 2, 3, 1)), (1, 3, 128, 128)),
    "yolov7-elan": Network(partial(Yolo, _Aggregation, _AnchorHead), (1, 3, 128, 128)),
    "yolov8n": Network(partial(Yolo, _CrossStageSplit, _DistributionHead), (1, 3, 128, 128)),
    "yolo11-attention": Network(
        partial(Yolo, _CrossStageSplit, _V11, attention=True), (1, 3, 128, 128), attention=True
    ),
    "yolox": Network(partial(Yolo, _CrossStageTwo, _DecoupledHead, focus=True), (1, 3, 64, 64)),
}
"""Detectors by name."""
