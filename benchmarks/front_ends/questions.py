"""Networks that ask about shapes, types and memory, or transform functions."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.front_ends.written import Network, listed, of


@listed
def stride_is_asked() -> Network:
    """Code that looks at the memory of a tensor."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y if y.is_contiguous() else y.contiguous()
        return own.head(y.mean((2, 3)) * (1 if y.stride(1) > 1 else 2))

    return of(forward)


@listed
def smallest_number_of_a_type() -> Network:
    """``torch.finfo(x.dtype).min`` in a mask."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2)
        keep = torch.ones(y.shape[-1], y.shape[-1], dtype=torch.bool, device=y.device).tril()
        scores = (y.transpose(1, 2) @ y).masked_fill(~keep, torch.finfo(y.dtype).min)
        return own.head((scores.softmax(-1) @ y.transpose(1, 2)).mean(1))

    return of(forward)


@listed
def pools_while_it_is_large() -> Network:
    """A loop that depends on the size."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        while y.shape[-1] > 4:
            y = own.down(y) if y.shape[-1] % 2 == 0 else functional.pad(y, (0, 1))
        return own.head(y.amax((2, 3)))

    return of(forward, down=nn.Sequential(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()))


@listed
def padding_by_the_size() -> Network:
    """Padding as in TensorFlow, computed with `math`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        for layer in (own.first, own.second):
            need = [max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in x.shape[-2:]]
            x = layer(functional.pad(x, [need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2]))
        return own.head(x.relu().mean((2, 3)))

    return of(forward, first=nn.Conv2d(3, 32, 3, stride=2), second=nn.Conv2d(32, 32, 3, stride=2))


@functools.lru_cache
def _window(size: int) -> float:
    return 1.0 / math.sqrt(size)


@listed
def cached_by_the_size() -> Network:
    """A function with a cache gets a size."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        return own.head(y.sum((2, 3)) * _window(y.shape[2] * y.shape[3]))

    return of(forward)


@listed
def table_by_the_shape() -> Network:
    """A dictionary on the module is filled under the shape."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        key = tuple(y.shape[-2:])
        if key not in own.grids:
            own.grids[key] = torch.linspace(0, 1, key[1], device=y.device).expand(key)
        return own.head((y * own.grids[key]).mean((2, 3)))

    model, inputs = of(forward)
    model.grids = {}  # type: ignore[assignment]
    return model, inputs


@listed
def shape_as_a_tuple() -> Network:
    """Sums and slices of shapes."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y.reshape((*y.shape[:2], y.shape[2] * y.shape[3])).transpose(-1, -2)
        y = own.mixing(y).view(*y.shape[:-1], -1)
        return own.head(y.mean(dim=tuple(range(1, y.ndim - 1))))

    return of(forward, mixing=nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)))


@listed
def batch_is_walked() -> Network:
    """A loop over the samples."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return torch.stack([own.head(own.trunk(sample[None]).mean((2, 3)))[0] for sample in x])

    return of(forward)


# Functions that take functions


@listed
def vmapped_layers() -> Network:
    """A layer under `torch.vmap`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2).transpose(1, 2)
        y = y + torch.vmap(own.mixing, in_dims=1, out_dims=1)(y)
        return own.head(y.mean(1))

    return of(forward, mixing=nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)))


@listed
def functional_call() -> Network:
    """A module is called with its own parameters as arguments."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = torch.func.functional_call(own.more, dict(own.more.named_parameters()), (own.trunk(x),))
        return own.head(y.mean((2, 3)))

    return of(forward, more=nn.Sequential(nn.Conv2d(32, 48, 3), nn.ReLU(), nn.Conv2d(48, 32, 1)))


@listed
def vmapped_function() -> Network:
    """A function per sample, which uses modules outside."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).mean((2, 3))
        gates = torch.vmap(lambda row: torch.sigmoid(row - row.mean()))(y)
        return own.head(own.more(y) * gates)

    return of(forward, more=nn.Linear(32, 32))


@listed
def checkpointed() -> Network:
    """A part under `torch.utils.checkpoint`."""
    from torch.utils.checkpoint import checkpoint

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y + checkpoint(own.more, y, use_reentrant=False)
        return own.head(y.mean((2, 3)))

    return of(forward, more=nn.Sequential(nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 32, 1)))


@torch.jit.script
def _scripted(x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.where(x > 0, x, x * slope)


@listed
def scripted_function() -> Network:
    """A helper that was compiled by TorchScript."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(_scripted(own.more(_scripted(own.trunk(x), 0.1)), 0.2).mean((2, 3)))

    return of(forward, more=nn.Conv2d(32, 32, 3))


@listed
def called_by_name() -> Network:
    """Layers are chosen by a text with a size in it."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        layer = getattr(own, f"at_{y.shape[-1]}", None) or own.otherwise
        return own.head(layer(y).relu().mean((2, 3)))

    return of(forward, at_16=nn.Conv2d(32, 32, 3), otherwise=nn.Conv2d(32, 32, 1))
