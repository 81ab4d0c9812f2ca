"""GANs, super-resolution and diffusion networks, written here after their papers, and those of diffusers."""

from __future__ import annotations

import importlib
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.coverage.wild.network import Network
from upscale_opt.models.loading import import_torchvision


class DcganGenerator(nn.Sequential):
    """Noise to a picture by transposed convolutions (DCGAN, arXiv:1511.06434)."""

    def __init__(self, c: int = 32, noise: int = 64) -> None:
        layers: list[nn.Module] = []
        for i, o, s, p in ((noise, 4 * c, 1, 0), (4 * c, 2 * c, 2, 1), (2 * c, c, 2, 1)):
            layers += [nn.ConvTranspose2d(i, o, 4, s, p, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)]
        super().__init__(*layers, nn.ConvTranspose2d(c, 3, 4, 2, 1), nn.Tanh())


class DcganDiscriminator(nn.Sequential):
    """A picture to a score; spectral norm (arXiv:1802.05957) is optional."""

    def __init__(self, c: int = 32, normed: bool = False) -> None:
        wrap = spectral_norm if normed else (lambda layer: layer)
        layers: list[nn.Module] = []
        for i, o in ((3, c), (c, 2 * c), (2 * c, 4 * c)):
            layers += [wrap(nn.Conv2d(i, o, 4, 2, 1)), nn.LeakyReLU(0.2, True)]
        super().__init__(*layers, wrap(nn.Conv2d(4 * c, 1, 4)), nn.Flatten())


class LinearGenerator(nn.Module):
    """Noise through a linear layer, seen as a map, then convolutions and nearest upsampling."""

    def __init__(self, c: int = 64) -> None:
        super().__init__()
        self.c, self.start = c, nn.Linear(32, c * 4 * 4)
        layers: list[nn.Module] = [nn.BatchNorm2d(c)]
        for i, o in ((c, c // 2), (c // 2, c // 4)):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o, 0.8), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(c // 4, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """A picture."""
        return self.body(self.start(z).view(z.shape[0], self.c, 4, 4))


class Pix2pix(nn.Module):
    """A U-Net with instance norm and skips by concatenation (arXiv:1611.07004)."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        widths = [3, c, 2 * c, 4 * c, 4 * c]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k, (i, o) in enumerate(pairwise(widths)):
            norm = [nn.InstanceNorm2d(o)] if k else []
            self.down.append(nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), *norm, nn.LeakyReLU(0.2)))
        for i, o in ((4 * c, 4 * c), (8 * c, 2 * c), (4 * c, c)):
            self.up.append(nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.InstanceNorm2d(o), nn.ReLU(True)))
        self.last = nn.Sequential(nn.ConvTranspose2d(2 * c, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A picture."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1]):
            x = torch.cat((up(x), skip), 1)
        return self.last(x)


class _Mirrored(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c, affine=True), nn.ReLU(True)]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class CycleGan(nn.Sequential):
    """Residual blocks with reflected borders between a way down and a way up (arXiv:1703.10593)."""

    def __init__(self, c: int = 16) -> None:
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), nn.InstanceNorm2d(c), nn.ReLU(True)]
        for i, o in ((c, 2 * c), (2 * c, 4 * c)):
            layers += [nn.Conv2d(i, o, 3, 2, 1), nn.InstanceNorm2d(o), nn.ReLU(True)]
        layers += [_Mirrored(4 * c) for _ in range(3)]
        for i, o in ((4 * c, 2 * c), (2 * c, c)):
            layers += [nn.ConvTranspose2d(i, o, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(o), nn.ReLU(True)]
        super().__init__(*layers, nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh())


class _Modulated(nn.Module):
    """A convolution whose weight every sample scales by its style (StyleGAN2, arXiv:1912.04958)."""

    def __init__(self, i: int, o: int, style: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, 3, 3) * (9 * i) ** -0.5)
        self.style, self.bias = nn.Linear(style, i), nn.Parameter(torch.zeros(o))

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        n, c, h, width = x.shape
        weight = self.weight[None] * (self.style(w) + 1)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        y = F.conv2d(x.reshape(1, n * c, h, width), weight.flatten(0, 1), padding=1, groups=n)
        return F.leaky_relu(y.reshape(n, -1, h, width) + self.bias.view(1, -1, 1, 1), 0.2)


class StyleGan(nn.Module):
    """A mapping network, a learned constant, convolutions modulated by style."""

    def __init__(self, c: int = 32, style: int = 32) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(style, style), nn.LeakyReLU(0.2))]
        self.mapping = nn.Sequential(*layers)
        self.start = nn.Parameter(torch.randn(1, c, 4, 4))
        self.convs = nn.ModuleList([_Modulated(c, c, style), _Modulated(c, c, style)])
        self.colour = nn.Conv2d(c, 3, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """A picture."""
        w = self.mapping(z * torch.rsqrt(z.pow(2).mean(1, keepdim=True) + 1e-8))
        x = self.start.repeat(z.shape[0], 1, 1, 1)
        for conv in self.convs:
            x = conv(F.interpolate(x, scale_factor=2, mode="bilinear"), w)
        return self.colour(x)


class _AdaptiveNorm(nn.Module):
    """Instance norm whose scale and shift come from a style (arXiv:1703.06868)."""

    def __init__(self, c: int, style: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.InstanceNorm2d(c), nn.Linear(style, 2 * c)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        h = self.fc(s)
        gamma, beta = torch.chunk(h.view(h.size(0), h.size(1), 1, 1), chunks=2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class AdaptiveGenerator(nn.Module):
    """Pictures in another style: adaptive instance norms in residual blocks (StarGAN v2, arXiv:1912.01865)."""

    def __init__(self, c: int = 32, style: int = 16) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, c, 3, 1, 1), nn.Conv2d(c, 3, 1)
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for _ in range(4))
        self.norms = nn.ModuleList(_AdaptiveNorm(c, style) for _ in range(4))

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """A picture."""
        x = self.enter(x)
        for i in (0, 2):
            y = self.convs[i](F.leaky_relu(self.norms[i](x, s), 0.2))
            y = self.convs[i + 1](F.leaky_relu(self.norms[i + 1](y, s), 0.2))
            x = (x + y) / 2**0.5
        return self.leave(x)


class SuperResolution(nn.Module):
    """Residual blocks, and pixels from channels at the end (EDSR, arXiv:1707.02921); gates as in RCAN are optional."""

    def __init__(self, c: int = 32, blocks: int = 3, gated: bool = False) -> None:
        super().__init__()
        self.enter, self.gated = nn.Conv2d(3, c, 3, 1, 1), gated
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.ReLU(True), nn.Conv2d(c, c, 3, 1, 1)) for _ in range(blocks)
        )
        self.gates = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 8, 1), nn.ReLU(), nn.Conv2d(8, c, 1), nn.Sigmoid())
            for _ in range(blocks if gated else 0)
        )
        self.up = nn.Sequential(nn.Conv2d(c, 4 * c, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(), nn.Conv2d(c, 3, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A picture of twice the size."""
        x = first = self.enter(x)
        for i, block in enumerate(self.blocks):
            y = block(x)
            x = x + (y * self.gates[i](y) if self.gated else 0.1 * y)
        return self.up(x + first)


class DenseSuperResolution(nn.Module):
    """Dense blocks inside residual blocks (ESRGAN, arXiv:1809.00219)."""

    def __init__(self, c: int = 32, growth: int = 16) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, c, 3, 1, 1), nn.Conv2d(c, 3, 3, 1, 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(c + i * growth, growth if i < 4 else c, 3, 1, 1) for i in range(5))
            for _ in range(2)
        )
        self.up = nn.Conv2d(c, c, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A picture of twice the size."""
        x = self.enter(x)
        for convs in self.blocks:
            found = [x]
            for i, conv in enumerate(convs):
                y = conv(torch.cat(found, 1))
                found.append(F.leaky_relu(y, 0.2) if i < 4 else y)
            x = x + 0.2 * found[-1]
        return self.leave(F.leaky_relu(self.up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2))


class SelfAttentionGan(nn.Module):
    """A discriminator with attention over positions and a learned mixing factor (SAGAN, arXiv:1805.08318)."""

    def __init__(self, c: int = 32) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, c, 4, 2, 1), nn.Conv2d(c, 2 * c, 4, 2, 1)
        self.q, self.k, self.v = nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c, 1)
        self.gamma, self.head = nn.Parameter(torch.zeros(1)), nn.Linear(2 * c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A score."""
        x = F.leaky_relu(self.one(x), 0.1)
        n, c, h, w = x.size()
        q, k = self.q(x).view(n, -1, h * w).permute(0, 2, 1), self.k(x).view(n, -1, h * w)
        y = torch.bmm(self.v(x).view(n, -1, h * w), torch.softmax(torch.bmm(q, k), -1).permute(0, 2, 1)).view(
            n, c, h, w
        )
        return self.head(F.leaky_relu(self.two(self.gamma * y + x), 0.1).sum([2, 3]))


class _TimeBlock(nn.Module):
    def __init__(self, i: int, o: int, time: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.GroupNorm(8, i), nn.SiLU(), nn.Conv2d(i, o, 3, 1, 1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, o))
        self.two = nn.Sequential(nn.GroupNorm(8, o), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(o, o, 3, 1, 1))
        self.short = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.one(x) + self.time(time)[:, :, None, None]
        return self.two(y) + self.short(x)


class _MapAttention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.project = nn.GroupNorm(8, c), nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=1)
        q, k, v = (y.reshape(n, 4, c // 4, h * w).transpose(2, 3) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, c, h, w)
        return x + self.project(y)


class DenoisingNet(nn.Module):
    """A U-Net with time embedding and group norm (DDPM, arXiv:2006.11239); attention in the middle is optional."""

    def __init__(self, c: int = 32, attention: bool = True) -> None:
        super().__init__()
        time, self.c = 4 * c, c
        self.time = nn.Sequential(nn.Linear(c, time), nn.SiLU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(3, c, 3, 1, 1)
        self.down = nn.ModuleList([_TimeBlock(c, c, time), _TimeBlock(c, 2 * c, time)])
        self.shrink = nn.ModuleList([nn.Conv2d(c, c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)])
        self.middle = _TimeBlock(2 * c, 2 * c, time)
        self.attention = _MapAttention(2 * c) if attention else nn.Identity()
        self.up = nn.ModuleList([_TimeBlock(4 * c, c, time), _TimeBlock(2 * c, c, time)])
        self.leave = nn.Sequential(nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, 3, 3, 1, 1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise in a picture at a time."""
        frequencies = torch.exp(torch.arange(self.c // 2, dtype=x.dtype, device=x.device) * (-9.21 / (self.c // 2)))
        angles = t[:, None] * frequencies[None]
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        x, kept = self.enter(x), []
        for block, shrink in zip(self.down, self.shrink):
            x = block(x, time)
            kept.append(x)
            x = shrink(x)
        x = self.attention(self.middle(x, time))
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), kept.pop()], 1), time)
        return self.leave(x)


def _of_diffusers(name: str, **arguments: Any) -> nn.Module:
    import_torchvision()  # diffusers imports it
    return getattr(importlib.import_module("diffusers"), name)(**arguments)


def _noisy(channels: int, size: int, *more: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """A picture, a time, and what else the network is conditioned on."""
    return (torch.randn(1, channels, size, size), torch.rand(1) * 100, *(torch.randn(*shape) for shape in more))


def _labelled(size: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(1, 4, size, size), torch.rand(1) * 100, torch.tensor([3])


_LEVELS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
_PICTURES = {"in_channels": 3, "out_channels": 3, **_LEVELS}
_CODES = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}

GANS = {
    "dcgan-generator": Network(DcganGenerator, (1, 64, 1, 1)),
    "dcgan-discriminator": Network(DcganDiscriminator, (1, 3, 32, 32)),
    "sngan-discriminator": Network(partial(DcganDiscriminator, normed=True), (1, 3, 32, 32)),
    "linear-generator": Network(LinearGenerator, (1, 32)),
    "pix2pix": Network(Pix2pix, (1, 3, 64, 64)),
    "cyclegan": Network(CycleGan, (1, 3, 32, 32)),
    "stylegan2": Network(StyleGan, (1, 32)),
    "stargan2": Network(AdaptiveGenerator, lambda: (torch.randn(1, 3, 32, 32), torch.randn(1, 16))),
    "edsr": Network(SuperResolution, (1, 3, 24, 24)),
    "rcan": Network(partial(SuperResolution, gated=True), (1, 3, 24, 24)),
    "esrgan": Network(DenseSuperResolution, (1, 3, 24, 24)),
    "sagan": Network(SelfAttentionGan, (1, 3, 32, 32), attention=True),
}
"""GANs and super-resolution by name."""

DIFFUSION = {
    "ddpm": Network(DenoisingNet, partial(_noisy, 3, 16), attention=True),
    "ddpm-without-attention": Network(partial(DenoisingNet, attention=False), partial(_noisy, 3, 16)),
    "unet2d": Network(
        partial(
            *(_of_diffusers, "UNet2DModel"),
            **{"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "attention_head_dim": 16, **_PICTURES},
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        partial(_noisy, 3, 16),
        attention=True,
        package="diffusers",
    ),
    "unet2d-condition": Network(
        partial(
            *(_of_diffusers, "UNet2DConditionModel"),
            **{"cross_attention_dim": 48, "attention_head_dim": 4, "in_channels": 4, "out_channels": 4, **_LEVELS},
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        partial(_noisy, 4, 16, (1, 7, 48)),
        attention=True,
        package="diffusers",
    ),
    "autoencoder-kl-decoder": Network(
        lambda: _of_diffusers("AutoencoderKL", latent_channels=4, **_PICTURES, **_CODES).decoder,
        (1, 4, 8, 8),
        attention=True,
        package="diffusers",
    ),
    "autoencoder-kl-encoder": Network(
        lambda: _of_diffusers("AutoencoderKL", latent_channels=4, **_PICTURES, **_CODES).encoder,
        (1, 3, 32, 32),
        attention=True,
        package="diffusers",
    ),
    "autoencoder-tiny-decoder": Network(
        lambda: _of_diffusers("AutoencoderTiny", encoder_block_out_channels=(32,) * 4).decoder,
        (1, 4, 8, 8),
        package="diffusers",
    ),
    "dit": Network(
        partial(
            *(_of_diffusers, "DiTTransformer2DModel"),
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=10,
        ),
        partial(_labelled, 8),
        attention=True,
        package="diffusers",
    ),
}
"""Diffusion networks by name."""
