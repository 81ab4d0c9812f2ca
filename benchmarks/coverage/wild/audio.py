"""Networks of one-dimensional signals: speech, sound, sensors, points; written here after their papers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.coverage.wild.network import Network


def _conv(i: int, o: int, k: int = 3, s: int = 1, **more: int) -> nn.Sequential:
    padding = more.pop("padding", k // 2)
    return nn.Sequential(nn.Conv1d(i, o, k, s, padding, bias=False, **more), nn.BatchNorm1d(o), nn.ReLU())


class SoundNet(nn.Sequential):
    """Raw waves to classes, all convolutions (M5, arXiv:1610.00087)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for i, o, k, s in ((1, 32, 80, 4), (32, 64, 3, 1), (64, 128, 3, 1), (128, 128, 3, 1)):
            layers += [nn.Conv1d(i, o, k, s), nn.BatchNorm1d(o), nn.ReLU(), nn.MaxPool1d(4)]
        super().__init__(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 35), nn.LogSoftmax(-1))


class _Basic1d(nn.Module):
    def __init__(self, i: int, o: int, s: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(i, o, 7, s), nn.Dropout(0.2), nn.Conv1d(o, o, 7, 1, 3), nn.BatchNorm1d(o))
        self.short = nn.Sequential(nn.MaxPool1d(s, ceil_mode=True), nn.Conv1d(i, o, 1)) if s > 1 or i != o else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + (x if self.short is None else self.short(x)))


class HeartNet(nn.Module):
    """A residual network over twelve leads of an ECG, with age and sex as a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(12, 32, 15)
        self.blocks = nn.Sequential(*(_Basic1d(i, o, s) for i, o, s in ((32, 32, 1), (32, 64, 4), (64, 96, 4))))
        self.facts = nn.Sequential(nn.Linear(2, 16), nn.ReLU())
        self.head = nn.Linear(2 * 96 + 16, 6)

    def forward(self, x: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Scores of findings."""
        x = self.blocks(self.stem(x))
        return self.head(torch.cat([x.mean(-1), x.amax(-1), self.facts(facts)], 1))


class _Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, : -self.size].contiguous()


class TemporalNet(nn.Module):
    """Dilated causal convolutions with the end cut off (TCN, arXiv:1803.01271); weight norm is optional."""

    def __init__(self, normed: bool = False) -> None:
        super().__init__()
        wrap = weight_norm if normed else (lambda layer: layer)
        self.blocks, self.shorts, i = nn.ModuleList(), nn.ModuleList(), 8
        for level, o in enumerate((32, 32, 48)):
            d = 2**level
            layers: list[nn.Module] = []
            for a, b in ((i, o), (o, o)):
                conv = wrap(nn.Conv1d(a, b, 3, padding=2 * d, dilation=d))
                layers += [conv, _Chomp(2 * d), nn.ReLU(), nn.Dropout(0.1)]
            self.blocks.append(nn.Sequential(*layers))
            self.shorts.append(nn.Conv1d(i, o, 1) if i != o else nn.Identity())
            i = o
        self.head = nn.Linear(i, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores after the last step."""
        for block, short in zip(self.blocks, self.shorts):
            x = torch.relu(block(x) + short(x))
        return self.head(x[:, :, -1])


class WaveNet(nn.Module):
    """Gated dilated convolutions with skip connections (arXiv:1609.03499); the gate splits one convolution."""

    def __init__(self, c: int = 32, levels: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, c, 1)
        self.gates = nn.ModuleList(nn.Conv1d(c, 2 * c, 3, padding=2**i, dilation=2**i) for i in range(levels))
        self.leave = nn.ModuleList(nn.Conv1d(c, 2 * c, 1) for _ in range(levels))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(c, c, 1), nn.ReLU(), nn.Conv1d(c, 64, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores per step."""
        x, total = self.enter(x), 0
        for gate, leave in zip(self.gates, self.leave):
            a, b = gate(x).chunk(2, dim=1)
            own, skip = leave(torch.tanh(a) * torch.sigmoid(b)).chunk(2, dim=1)
            x, total = (x + own) * 0.5**0.5, total + skip
        return self.head(total)


class TasNet(nn.Module):
    """Two speakers from one: encoder, masks of separable convolutions, decoder (Conv-TasNet, arXiv:1809.07454)."""

    def __init__(self, n: int = 64, c: int = 48, hidden: int = 96, speakers: int = 2) -> None:
        super().__init__()
        self.speakers = speakers
        self.encode = nn.Conv1d(1, n, 16, stride=8, bias=False)
        self.norm, self.narrow = nn.GroupNorm(1, n), nn.Conv1d(n, c, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv1d(c, hidden, 1), nn.PReLU(), nn.GroupNorm(1, hidden)),
                *(nn.Conv1d(hidden, hidden, 3, padding=2**i, dilation=2**i, groups=hidden), nn.PReLU()),
                *(nn.GroupNorm(1, hidden), nn.Conv1d(hidden, c, 1)),
            )
            for i in range(4)
        )
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(c, n * speakers, 1), nn.Sigmoid())
        self.decode = nn.ConvTranspose1d(n, 1, 16, stride=8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A wave per speaker."""
        encoded = self.encode(x)
        y = self.narrow(self.norm(encoded))
        for block in self.blocks:
            y = y + block(y)
        masks = self.mask(y).view(x.shape[0], self.speakers, encoded.shape[1], -1)
        parts = (encoded.unsqueeze(1) * masks).view(x.shape[0] * self.speakers, encoded.shape[1], -1)
        return self.decode(parts).view(x.shape[0], self.speakers, -1)


class Demucs(nn.Module):
    """A U-Net over waves with gated convolutions and a recurrent middle (arXiv:1909.01174)."""

    def __init__(self, c: int = 16, depth: int = 3, recurrent: bool = True) -> None:
        super().__init__()
        self.down, self.up, i, o = nn.ModuleList(), nn.ModuleList(), 1, c
        for level in range(depth):
            gate = [nn.Conv1d(o, 2 * o, 1), nn.GLU(1)]
            self.down.append(nn.Sequential(nn.Conv1d(i, o, 8, 4, 2), nn.ReLU(), *gate))
            last = [nn.ReLU()] if level else []
            again = [nn.Conv1d(o, 2 * o, 1), nn.GLU(1), nn.ConvTranspose1d(o, i, 8, 4, 2), *last]
            self.up.insert(0, nn.Sequential(*again))
            i, o = o, 2 * o
        self.lstm = nn.LSTM(i, i, bidirectional=True) if recurrent else None
        self.linear = nn.Linear(2 * i, i) if recurrent else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A wave."""
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
        if self.lstm is not None:
            x = self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)
        for up in self.up:
            x = up(x + kept.pop())
        return x


class SpeechNet(nn.Module):
    """Convolutions over a spectrogram, GRUs, letters (DeepSpeech 2, arXiv:1512.02595)."""

    def __init__(self, c: int = 16, hidden: int = 48) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(1, c, (11, 5), (2, 2), (5, 2)), nn.BatchNorm2d(c), nn.Hardtanh(0, 20)),
            *(nn.Conv2d(c, c, (11, 5), (2, 1), (5, 2)), nn.BatchNorm2d(c), nn.Hardtanh(0, 20)),
        )
        self.gru = nn.GRU(c * 8, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, 29))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of letters per step."""
        x = self.conv(x)
        n, c, f, t = x.size()
        y, _ = self.gru(x.view(n, c * f, t).transpose(1, 2))
        return F.log_softmax(self.head(y), dim=-1)


class QuartzNet(nn.Sequential):
    """Separable convolutions in residual blocks (arXiv:1910.10261)."""

    def __init__(self, c: int = 48) -> None:
        super().__init__(_conv(32, c, 33, 2), *(_SeparableBlock(c, k) for k in (11, 13, 15)), nn.Conv1d(c, 29, 1))


class _SeparableBlock(nn.Module):
    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv1d(c, c, k, 1, k // 2, groups=c), nn.Conv1d(c, c, 1), nn.BatchNorm1d(c)]
            layers += [nn.ReLU()] if i < 2 else []
        self.body = nn.Sequential(*layers)
        self.short = nn.Sequential(nn.Conv1d(c, c, 1), nn.BatchNorm1d(c))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.short(x))


class SpeakerNet(nn.Module):
    """Res2Net blocks, gates, pooling by attentive statistics (ECAPA-TDNN, arXiv:2005.07143)."""

    def __init__(self, c: int = 64, scale: int = 4) -> None:
        super().__init__()
        self.stem = _conv(24, c, 5)
        self.blocks = nn.ModuleList(_SpeakerBlock(c, scale, d) for d in (2, 3, 4))
        self.join = nn.Sequential(nn.Conv1d(3 * c, 128, 1), nn.ReLU())
        self.attention = nn.Sequential(nn.Conv1d(3 * 128, 32, 1), nn.Tanh(), nn.Conv1d(32, 128, 1), nn.Softmax(dim=2))
        self.head = nn.Sequential(nn.BatchNorm1d(256), nn.Linear(256, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """An embedding of the speaker."""
        x, found = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        x = self.join(torch.cat(found, 1))
        mean, spread = x.mean(2, keepdim=True), x.var(2, keepdim=True, unbiased=False).clamp(min=1e-4).sqrt()
        weight = self.attention(torch.cat((x, mean.expand_as(x), spread.expand_as(x)), 1))
        mu = torch.sum(x * weight, dim=2)
        sigma = (torch.sum(x.pow(2) * weight, dim=2) - mu.pow(2)).clamp(min=1e-4).sqrt()
        return self.head(torch.cat((mu, sigma), 1))


class _SpeakerBlock(nn.Module):
    def __init__(self, c: int, scale: int, d: int) -> None:
        super().__init__()
        self.width, self.scale = c // scale, scale
        self.one, self.two = _conv(c, c, 1), _conv(c, c, 1)
        self.convs = nn.ModuleList(_conv(*[self.width] * 2, 3, padding=d, dilation=d) for _ in range(scale - 1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Conv1d(c, 16, 1), nn.ReLU(), nn.Conv1d(16, c, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.split(self.one(x), self.width, 1)
        found, y = [parts[0]], parts[1]
        for i, conv in enumerate(self.convs):
            y = conv(parts[i + 1] if i == 0 else y + parts[i + 1])
            found.append(y)
        y = self.two(torch.cat(found, 1))
        return x + y * torch.sigmoid(self.gate(y))


class InceptionTime(nn.Module):
    """Wide convolutions side by side over a time series (arXiv:1909.04939)."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_InceptionBlock(i, c) for i in (3, 4 * c, 4 * c))
        self.short = nn.Sequential(nn.Conv1d(3, 4 * c, 1), nn.BatchNorm1d(4 * c))
        self.head = nn.Linear(4 * c, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        y = x
        for block in self.blocks:
            y = block(y)
        return self.head(F.relu(y + self.short(x)).mean(2))


class _InceptionBlock(nn.Module):
    def __init__(self, i: int, c: int) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(i, 24, 1, bias=False) if i > 4 else nn.Identity()
        inner = 24 if i > 4 else i
        self.convs = nn.ModuleList(nn.Conv1d(inner, c, k, padding=k // 2, bias=False) for k in (39, 19, 9))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(i, c, 1, bias=False))
        self.norm = nn.Sequential(nn.BatchNorm1d(4 * c), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.narrow(x)
        return self.norm(torch.cat([*(conv(y) for conv in self.convs), self.pooled(x)], dim=1))


class Conformer(nn.Module):
    """Speech blocks of feed-forward, attention and gated convolution (arXiv:2005.08100)."""

    def __init__(self, c: int = 48, blocks: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(32, c)
        self.blocks = nn.ModuleList(_ConformerBlock(c) for _ in range(blocks))
        self.head = nn.Linear(c, 29)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores per step."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class _ConformerBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.feed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, c)) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(3))
        self.attention = nn.MultiheadAttention(c, 4, batch_first=True)
        self.enter, self.leave = nn.Conv1d(c, 2 * c, 1), nn.Conv1d(c, c, 1)
        self.depthwise = nn.Sequential(nn.Conv1d(c, c, 15, 1, 7, groups=c), nn.BatchNorm1d(c), nn.SiLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.feed[0](x)
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = F.glu(self.enter(self.norms[1](x).transpose(1, 2)), dim=1)
        x = x + self.leave(self.depthwise(y)).transpose(1, 2)
        return self.norms[2](x + 0.5 * self.feed[1](x))


class PointNet(nn.Module):
    """A shared network per point, a learned turn of the points, the largest of each feature (arXiv:1612.00593)."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(
            _conv(3, 32, 1), _conv(32, 64, 1), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(64, 9)
        )
        self.early, self.late = _conv(3, 64, 1), nn.Sequential(_conv(64, 64, 1), _conv(64, 128, 1))
        self.head = nn.Sequential(_conv(128 + 64, 64, 1), nn.Conv1d(64, 13, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores per point."""
        turn = self.turn(x).view(-1, 3, 3) + torch.eye(3)
        early = self.early(torch.bmm(turn, x))
        whole = self.late(early).max(2, keepdim=True)[0].repeat(1, 1, x.shape[-1])
        return self.head(torch.cat([early, whole], 1))


class HifiGan(nn.Module):
    """Waves from a spectrogram: transposed convolutions and residual blocks (arXiv:2010.05646)."""

    def __init__(self, c: int = 64, normed: bool = False) -> None:
        super().__init__()
        wrap = weight_norm if normed else (lambda layer: layer)
        self.enter = wrap(nn.Conv1d(20, c, 7, 1, 3))
        self.ups = nn.ModuleList(wrap(nn.ConvTranspose1d(c >> i, c >> i + 1, 8, 4, 2)) for i in range(2))
        self.blocks = nn.ModuleList(nn.ModuleList(_VoiceBlock(c >> i + 1, k, wrap) for k in (3, 7)) for i in range(2))
        self.leave = wrap(nn.Conv1d(c >> 2, 1, 7, 1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A wave."""
        x = self.enter(x)
        for up, blocks in zip(self.ups, self.blocks):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.tanh(self.leave(F.leaky_relu(x)))


class _VoiceBlock(nn.Module):
    def __init__(self, c: int, k: int, wrap: object) -> None:
        super().__init__()
        self.convs = nn.ModuleList(wrap(nn.Conv1d(c, c, k, padding=d * (k // 2), dilation=d)) for d in (1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, 0.1))
        return x


def _shapes(*shapes: Sequence[int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(*shape) for shape in shapes)


AUDIO = {
    "m5": Network(SoundNet, (1, 1, 4000)),
    "ecg-resnet": Network(HeartNet, partial(_shapes, (1, 12, 256), (1, 2))),
    "tcn": Network(TemporalNet, (1, 8, 64)),
    "tcn-weight-norm": Network(partial(TemporalNet, normed=True), (1, 8, 64)),
    "wavenet": Network(WaveNet, (1, 1, 256)),
    "conv-tasnet": Network(TasNet, (1, 1, 800)),
    "demucs": Network(Demucs, (1, 1, 1024)),
    "demucs-without-lstm": Network(partial(Demucs, recurrent=False), (1, 1, 1024)),
    "deepspeech": Network(SpeechNet, (1, 1, 32, 64)),
    "quartznet": Network(QuartzNet, (1, 32, 64)),
    "ecapa-tdnn": Network(SpeakerNet, (1, 24, 100)),
    "inception-time": Network(InceptionTime, (1, 3, 128)),
    "conformer": Network(Conformer, (1, 48, 32), attention=True),
    "pointnet": Network(PointNet, (1, 3, 100)),
    "hifi-gan": Network(HifiGan, (1, 20, 32)),
    "hifi-gan-weight-norm": Network(partial(HifiGan, normed=True), (1, 20, 32)),
}
"""Networks by name."""
