"""Tests that the census counts every channel once and names what pins it."""

import json
import sys
from pathlib import Path

import networks
import pytest
import torch
from command_line import words
from torch import nn

from upscale_opt import trace
from upscale_opt.__main__ import main
from upscale_opt.tracing.census import census
from upscale_opt.tracing.graphs import NETWORK_INPUT, NETWORK_OUTPUT


def test_every_channel_is_counted_once():
    """In every kind and, if pinned, under one operator only."""
    for network in (networks.Residual, networks.Dense, networks.Inverted, networks.Shared, networks.Odd):
        graph = trace(*networks.make(network))
        counted = census(graph)
        assert counted.total == sum(block.size for block in graph.blocks)
        assert counted.pinned == sum(block.size for block in graph.blocks if block.pinned)
        assert counted.pinned == sum(counted.by_operator.values())
        assert list(counted.by_operator.values()) == sorted(counted.by_operator.values(), reverse=True)
        assert counted.to_dict()["free"] == counted.free


def test_operators_that_pin_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)
            self.norm = nn.LayerNorm(6)

        def forward(self, x):
            x = self.b(torch.flip(self.a(x), [1]))
            return self.c(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    counted = census(trace(Net().eval(), torch.zeros(1, 3, 4, 4)))
    assert counted.not_removable == 6 and counted.free == 0
    # The flip pins what it reads; of its output nothing is known, and it hands the reason on.
    assert counted.by_operator == {"no rule for flip": 16, NETWORK_OUTPUT: 4, NETWORK_INPUT: 3}
    assert str(counted).startswith("29 channels: 0.0% free, 20.7% not removable, 79.3% pinned (no rule for flip 16, ")


def test_reports_have_the_census(monkeypatch, capsys, tmp_path):
    """On standard output with --segments, and the same figures in the JSON document."""
    nets, path = Path(networks.__file__), tmp_path / "out.json"
    arguments = ["solve", "--model", f"{nets}:Odd", "--input-shape", "1,3,8,8", "--solver", "greedy", "--segments"]
    monkeypatch.setattr(sys, "argv", ["upscale-opt", *arguments, "--json", str(path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    counted = census(trace(*networks.make(networks.Odd)))
    assert str(counted) in words(capsys.readouterr().out)
    assert json.loads(path.read_text())["channels"] == counted.to_dict()
