"""Tests that channels flow through operators as they do in the network, and that the unknown is pinned."""

import networks
import pytest
import torch
from torch import nn

from upscale_opt import ModelError, trace


def blocks_of(kind):
    model, inputs = networks.make(kind)
    graph = trace(model, inputs)
    return graph, {block.name: block for block in graph.blocks}


def test_residual_stream_is_one_block_read_by_every_block():
    graph, blocks = blocks_of(networks.Residual)
    assert blocks["stem"].size == 16
    stream = [read.name for read in graph.reads if graph.blocks[read.input.blocks[0]].name == "stem"]
    assert stream == ["blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "down"]
    assert graph.unsupported == ()


def test_concats_are_sequences_of_blocks():
    graph, _ = blocks_of(networks.Dense)
    last = graph.consumers["last.weight"]
    assert [graph.blocks[b].name for b in last.input.blocks] == ["stem", "convs.0", "convs.1", "convs.2"]


def test_depthwise_and_squeeze_excitation_pass_channels_through():
    graph, blocks = blocks_of(networks.Inverted)
    assert not blocks["expand"].pinned
    assert [r.name for r in graph.reads if graph.blocks[r.input.blocks[0]].name == "expand"] == ["squeeze", "project"]
    assert {name.partition(".")[0] for name in graph.parameters} >= {"bn", "depthwise"}
    assert set(graph.features) == {"bn"}


def test_flatten_gives_channels_a_size():
    graph, _ = blocks_of(networks.Flattened)
    assert graph.consumers["fc1.weight"].input.size == 9


def test_slices_cut_blocks_and_are_listed():
    graph, blocks = blocks_of(networks.Sliced)
    assert {"stem[0:5]", "stem[5:12]", "twice[0:2]", "twice[2:6]"} <= set(blocks)
    assert len(graph.slices) == 4
    twice = graph.consumers["twice.weight"].input.blocks
    assert len(twice) == 2 and twice[0] == twice[1]


def test_a_module_called_twice_ties_its_inputs_and_outputs():
    graph, blocks = blocks_of(networks.Shared)
    assert [read.name for read in graph.reads] == ["stem", "conv", "conv#2", "head", "side"]
    assert blocks["stem"].size == 10 and "conv" not in blocks


def test_what_has_no_rule_is_pinned_and_reported_with_its_operator():
    graph, blocks = blocks_of(networks.Odd)
    assert all(blocks[name].pinned for name in ("mix", "fold[0:4]", "free"))
    reasons = {pin.node: pin.reason for pin in graph.unsupported}
    assert reasons["flip"] == "no rule for flip"
    assert "number of channels" in reasons["getattr_1"]
    assert "grouped" not in reasons and "norm" not in reasons


def test_a_reduction_over_channels_needs_them_all_but_lets_them_move():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = self.a(x)
            return self.b(x), x.mean(1, keepdim=True)

    graph = trace(Gate().eval(), torch.zeros(1, 3, 4, 4))
    block = next(block for block in graph.blocks if block.name == "a")
    assert not block.pinned and not block.removable


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.reshape(1, 2, 4, 16),
        lambda x: torch.flip(x, [1]),
        lambda x: x[:, 0:8:2],
        lambda x: x[:, 3],
        lambda x: x + torch.arange(8.0).reshape(1, 8, 1, 1),
        lambda x: torch.roll(x, 1, 1),
        lambda x: x.max(1),
    ],
)
def test_operations_on_channels_without_a_rule_pin_their_input(operation):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 8, 1)

        def forward(self, x):
            return operation(self.a(x))

    graph = trace(Net().eval(), torch.zeros(1, 3, 4, 4))
    assert all(block.pinned for block in graph.blocks if block.name.startswith("a"))


def test_a_module_with_hooks_is_pinned():
    model, inputs = networks.make(networks.Residual)
    model.blocks[1].conv1.register_forward_hook(lambda module, args, output: output)
    graph = trace(model, inputs)
    assert any("forward hooks" in pin.reason for pin in graph.unsupported)
    assert next(block for block in graph.blocks if block.name == "stem").pinned


def test_a_subclass_of_a_known_module_is_traced_through():
    """It may do anything: what it does is what counts."""

    class Scaled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
            self.b.__class__ = Scaled

        def forward(self, x):
            return self.b(self.a(x))

    graph = trace(Net().eval(), torch.zeros(1, 3, 4, 4))
    assert [read.name for read in graph.reads] == ["a", "b"]


def test_unpacking_a_size_pins_only_if_the_number_of_channels_is_used():
    class Net(nn.Module):
        def __init__(self, used):
            super().__init__()
            self.a, self.b, self.used = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), used

        def forward(self, x):
            x = self.a(x)
            _, c, h, _ = x.size()
            return self.b(x) * (c if self.used else h)

    for used in (False, True):
        graph = trace(Net(used).eval(), torch.zeros(1, 3, 4, 4))
        assert next(block for block in graph.blocks if block.name == "a").pinned == used


def test_keyword_inputs_are_understood():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.b(input=torch.relu(input=self.a(input=x)))

    graph = trace(Net().eval(), torch.zeros(1, 3, 4, 4))
    assert [read.name for read in graph.reads] == ["a", "b"]
    assert not next(block for block in graph.blocks if block.name == "a").pinned


def test_the_model_is_neither_run_nor_changed():
    model, inputs = networks.make(networks.Residual)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = []
    model.forward = lambda x, _forward=model.forward: (calls.append(type(x)), _forward(x))[1]
    trace(model, inputs)
    code, code_inputs = networks.make(networks.InPlace)
    attributes = set(vars(code))
    assert trace(code, code_inputs).constants
    assert set(vars(code)) == attributes
    assert all("Proxy" in kind.__name__ for kind in calls)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_bad_input_is_one_sentence_that_says_what_to_do():
    model, _ = networks.make(networks.Residual)
    with pytest.raises(ModelError, match="give inputs that it accepts"):
        trace(model, torch.zeros(1, 5, 8, 8))
    with pytest.raises(ModelError, match=r"model\.eval\(\)"):
        trace(model.train(), torch.zeros(1, 3, 8, 8))

    class Dynamic(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"the forward of Dynamic needs the value of gt in line \d+ of test_trace.py"):
        trace(Dynamic().eval(), torch.zeros(1, 3))


def test_a_module_that_cannot_be_traced_is_an_operator_without_a_rule():
    """As the padded convolutions of TensorFlow ports, whose padding depends on computed sizes."""

    class Same(nn.Conv2d):
        def forward(self, x):
            missing = (-x.stride(1)) % self.stride[0]
            return super().forward(x if missing == 0 else nn.functional.pad(x, (0, missing, 0, missing)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), Same(8, 8, 3, stride=2), nn.Conv2d(8, 4, 1)
            self.d = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.d(self.c(self.b(self.a(x))))

    graph = trace(Net().eval(), torch.zeros(1, 3, 7, 7))
    assert {pin.reason.partition(",")[0] for pin in graph.unsupported} == {"Same"}
    assert [(block.name, block.pinned) for block in graph.blocks if block.name in ("a", "c")] == [
        ("a", True),
        ("c", False),
    ]
