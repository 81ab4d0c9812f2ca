"""Specimens: what they compute is what the export computes there, and signatures tell what takes the same time."""

import networks
import numpy as np
import pytest
import torch
import width_networks
from torch import nn
from width_networks import ALL, make, outputs_of, values_of

from upscale_opt import trace
from upscale_opt.exporting.exporter import carry_out
from upscale_opt.models.attributes import named_tensors
from upscale_opt.widths.candidates import candidate_widths, masked_graph_of
from upscale_opt.widths.closed_loop import plan_of
from upscale_opt.widths.group_calibration import totals
from upscale_opt.widths.group_specimens import GroupSpecimens, shares
from upscale_opt.widths.operator_groups import partition


def first_channels(graph):
    """Scores by which masks keep the first channels of every block."""
    return {block.name: np.arange(block.size, 0, -1.0) for block in graph.blocks}


def specimens_of(kind):
    model, inputs = make(kind)
    model, inputs = model.double(), tuple(x.double() for x in inputs)
    graph = trace(model, inputs)
    parts = partition(graph)
    return model, inputs, graph, parts, GroupSpecimens(graph, parts.free)


@pytest.mark.parametrize("kind", ALL)
def test_specimens_compute_what_the_export_computes(kind):
    """At random candidate widths. Groups without any free width are as in the network, which another test checks."""
    model, inputs, graph, parts, specimens = specimens_of(kind)
    candidates = candidate_widths(graph, parts, step=2)
    rng = np.random.default_rng(0)
    checked = 0
    for group in parts.groups:
        sides = [totals(graph, side, candidates) for side in (group.inputs, group.outputs)]
        drawn = tuple(int(rng.choice(own)) for own in sides)
        widths = {b: w for b, w in specimens.widths(group, drawn).items() if b in parts.free}
        widths |= {b: int(rng.choice(candidates[b])) for b in candidates.keys() - widths.keys()}
        exported = carry_out(model, inputs, plan_of(masked_graph_of(graph, first_channels(graph), widths)), graph=graph)
        known = values_of(exported.module, inputs)
        if not parts.free & group.blocks or not known.keys() >= set(group.sources):
            continue  # the export has selections instead of some slices
        given = [known[name] for name in group.sources]
        shapes = [
            x.shape
            for x in specimens.inputs_of(
                group, drawn, dtype=torch.double, device=torch.device("cpu"), memory_format=torch.contiguous_format
            )
        ]
        assert shapes == [x.shape for x in given], (group, drawn)
        with torch.no_grad():
            found = specimens.make(group, drawn)(*given)
        found = found if isinstance(found, tuple) else (found,)
        names = outputs_of(graph, group)
        assert len(names) == len(found)
        for name, own in zip(names, found, strict=True):
            if name in known:  # selections have no node in the export
                torch.testing.assert_close(own, known[name], rtol=1e-9, atol=1e-11, msg=str((group, drawn, name)))
                checked += 1
    assert checked or not parts.free


@pytest.mark.parametrize("kind", ALL)
def test_specimens_leave_the_network_as_it_was_and_share_nothing_with_it(kind):
    model, inputs = make(kind)
    graph = trace(model, inputs)
    before = {name: tensor.clone() for name, tensor in named_tensors(graph.module)}
    modules = {name: own.extra_repr() for name, own in graph.module.named_modules()}
    code, parts = graph.module.code, partition(graph)
    specimens = GroupSpecimens(graph, parts.free)
    candidates = candidate_widths(graph, parts, step=1)
    theirs = {own.data_ptr() for _, own in named_tensors(graph.module) if own.numel()}
    for group in parts.groups:
        narrow = tuple(totals(graph, side, candidates)[0] for side in (group.inputs, group.outputs))
        for point in (narrow, specimens.sizes(group)):
            made = specimens.make(group, point)
            assert not theirs & {own.data_ptr() for _, own in named_tensors(made) if own.numel()}
            made(*specimens.inputs_of(group, point, dtype=torch.float32, device=torch.device("cpu"),
                                      memory_format=torch.channels_last))  # fmt: skip
        specimens.signature(group)
    assert graph.module.code == code
    assert {name: own.extra_repr() for name, own in graph.module.named_modules()} == modules
    for name, tensor in named_tensors(graph.module):
        assert (
            torch.equal(
                tensor,
                before[name],
            )
            or tensor.isnan().any()
        ), name


def test_specimens_hold_their_own_layers_only():
    """Nothing of the network but the layers of the group is copied, so that large networks need no more memory."""
    _, _, _, parts, specimens = specimens_of(networks.Residual)
    for group in parts.groups:
        made = specimens.make(group, specimens.sizes(group))
        called = {
            str(specimens.nodes[name].target) for name in group.nodes if specimens.nodes[name].op == "call_module"
        }
        own = [specimens.graph.module.get_submodule(path) for path in called]
        assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for m in own for p in m.parameters())


def test_counts_follow_the_widths():
    _, _, _, parts, specimens = specimens_of(networks.Inverted)
    group = next(own for own in parts.groups if own.name == "depthwise")
    made = specimens.make(group, (12, 0)).get_submodule("depthwise")
    assert (made.groups, made.in_channels, made.out_channels, tuple(made.weight.shape)) == (12, 12, 12, (12, 1, 3, 3))
    group = next(own for own in parts.groups if own.name == "expand")
    made = specimens.make(group, (4, 12))
    norm = made.get_submodule("bn")
    assert (norm.num_features, len(norm.running_mean)) == (12, 12)
    assert (made.get_submodule("expand").in_channels, made.get_submodule("expand").out_channels) == (4, 12)


def test_shares():
    assert shares((64, 32, 32), 128) == [64, 32, 32]
    assert shares((1, 1, 62), 3) == [1, 1, 1]
    for sizes, total in (((8, 4, 1), 5), ((3, 90), 4), ((5,), 2), ((7, 7, 7), 20)):
        found = shares(sizes, total)
        assert sum(found) == total and all(1 <= w <= size for w, size in zip(found, sizes, strict=True))


def signatures(kind_or_model, shape=(2, 3, 8, 8)):
    model = kind_or_model.eval() if isinstance(kind_or_model, nn.Module) else make(kind_or_model)[0]
    graph = trace(model, torch.zeros(shape))
    parts = partition(graph)
    specimens = GroupSpecimens(graph, parts.free)
    return {group.name: specimens.signature(group) for group in parts.groups}


def test_repeated_layers_have_the_same_signature():
    found = signatures(networks.Residual)
    assert found["blocks.0.conv1"] == found["blocks.1.conv1"] == found["blocks.2.conv1"]
    assert found["blocks.0.conv2"] == found["blocks.1.conv2"]
    assert len(set(found.values())) == 5


def test_widths_are_no_part_of_a_signature():
    class Net(nn.Module):
        def __init__(self, a, b, c):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(3, a, 1), nn.Conv2d(a, b, 3), nn.Conv2d(b, c, 3)
            self.norm, self.head = nn.BatchNorm2d(c), nn.Conv2d(c, 4, 1)

        def forward(self, x):
            return self.head(self.norm(self.three(self.two(self.one(x)))))

    # 3 and 8 are kernel sizes and image sizes, too: numbers that are equal by chance count for nothing.
    assert signatures(Net(8, 16, 24)) == signatures(Net(16, 16, 16)) == signatures(Net(3, 8, 1 + 3))


VARIANTS = {
    "stride": lambda: nn.Conv2d(8, 8, 3, stride=2),
    "kernel": lambda: nn.Conv2d(8, 8, 1),
    "padding": lambda: nn.Conv2d(8, 8, 3, padding=1),
    "padding mode": lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    "dilation": lambda: nn.Conv2d(8, 8, 3, dilation=2),
    "bias": lambda: nn.Conv2d(8, 8, 3, bias=False),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, groups=8),
    "groups": lambda: nn.Conv2d(8, 8, 3, groups=2),
    "activation": lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.SiLU()),
    "other activation": lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()),
    "norm": lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 3),
    "plain": lambda: nn.Conv2d(8, 8, 3),
}


def test_different_layers_have_different_signatures():
    class Net(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.stem, self.layer, self.head = nn.Conv2d(3, 8, 1), layer, nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.head(self.layer(self.stem(x)))

    found = {name: list(signatures(Net(layer())).values())[1] for name, layer in VARIANTS.items()}
    found["batch"] = list(signatures(Net(VARIANTS["plain"]()), (3, 3, 8, 8)).values())[1]
    found["space"] = list(signatures(Net(VARIANTS["plain"]()), (2, 3, 9, 8)).values())[1]
    assert len(set(found.values())) == len(found)


def test_kernels_and_features_that_equal_a_width_by_chance_are_told_apart():
    class Net(nn.Module):
        """Functional convolutions, whose kernel sizes only the weight knows."""

        def __init__(self, width, kernel):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, width, 1), nn.Conv2d(8, 4, 1)
            self.weight = nn.Parameter(torch.randn(8, width, kernel, kernel))

        def forward(self, x):
            return self.head(nn.functional.conv2d(self.stem(x), self.weight))

    assert signatures(Net(3, 3))["conv2d"] != signatures(Net(5, 5))["conv2d"]
    assert signatures(Net(3, 3))["conv2d"] == signatures(Net(5, 3))["conv2d"]


def test_structure_of_concats_and_features_after_a_flatten_are_part_of_a_signature():
    found = signatures(networks.Dense)
    assert len({found[name] for name in ("norms.0", "norms.1", "norms.2", "cat_3")}) == 4
    assert found["convs.1"] == found["convs.2"]
    four, nine = signatures(width_networks.FlattenedLinear)["head.0"], signatures(networks.Flattened)["fc1"]
    assert "in*4" in four and "in*9" in nine


def test_settings_that_modules_do_not_print_are_part_of_a_signature():
    class Net(nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.embed, self.attention = nn.Linear(3, 8), nn.MultiheadAttention(8, heads, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.embed(x)
            return self.head(self.attention(x, x, x, need_weights=False)[0])

    assert signatures(Net(2), (2, 5, 3)) != signatures(Net(4), (2, 5, 3))
