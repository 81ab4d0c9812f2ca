"""Functions of einops are traced as the reshapes that they stand for."""

import pytest
import torch
from networks import Between

from upscale_opt import trace

einops = pytest.importorskip("einops")

FUNCTIONS = {
    "transpose": lambda x: einops.rearrange(x, "b c h w -> b c w h"),
    "patches": lambda x: einops.rearrange(x, "b c (h p) (w q) -> b c (p h) (q w)", p=2, q=2),
    "mean": lambda x: x * einops.reduce(x, "b c h w -> b c 1 1", "mean"),
    "repeat": lambda x: einops.repeat(x[..., 0], "b c h -> b c h w", w=4),
    "sequence": lambda x: einops.rearrange(einops.rearrange(x, "b c h w -> b (h w) c"), "b (h w) c -> b c h w", h=8),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rearrangements_leave_channels_free(name):
    graph = trace(Between(FUNCTIONS[name]).eval(), torch.zeros(2, 3, 8, 8))
    assert not graph.unsupported and all(block.removable for block in graph.blocks if block.name == "a")
