"""Operator groups: every operator is in one, in turn they compute the network, and fixed blocks have their reasons."""

from graphlib import TopologicalSorter

import networks
import pytest
import torch
import width_networks
from torch import nn
from width_networks import ALL, make, outputs_of, values_of

from upscale_opt import trace
from upscale_opt.widths.group_specimens import GroupSpecimens
from upscale_opt.widths.operator_groups import is_shape, makes_several, partition


def parts_of(kind, seed=0):
    model, inputs = make(kind, seed)
    graph = trace(model, inputs)
    return model, inputs, graph, partition(graph)


def in_turn(parts):
    """The groups such that each comes after those whose tensors it takes."""
    home = {name: i for i, group in enumerate(parts.groups) for name in group.nodes}
    needs = {i: {home[x] for x in group.sources if x in home} - {i} for i, group in enumerate(parts.groups)}
    return [parts.groups[i] for i in TopologicalSorter(needs).static_order()]


@pytest.mark.parametrize("kind", ALL)
def test_every_operator_is_in_exactly_one_group(kind):
    _, _, graph, parts = parts_of(kind)
    placed = [name for group in parts.groups for name in group.nodes]
    wanted = [
        node.name
        for node in graph.module.graph.nodes
        if node.op.startswith("call_") and (is_shape(graph.shapes.get(node.name)) or makes_several(graph, node))
    ]
    assert sorted(placed) == sorted(wanted)
    assert len(set(placed)) == len(placed)


@pytest.mark.parametrize("kind", ALL)
def test_groups_at_full_width_in_turn_compute_the_network(kind):
    model, inputs = make(kind)
    model, inputs = model.double(), tuple(x.double() for x in inputs)
    graph = trace(model, inputs)
    parts = partition(graph)
    specimens = GroupSpecimens(graph, parts.free)
    places = [node.name for node in graph.module.graph.nodes if node.op == "placeholder"]
    known = dict(zip(places, (x.clone() for x in inputs), strict=True))
    wanted = values_of(graph.module, [x.clone() for x in inputs])
    with torch.no_grad():
        for group in in_turn(parts):
            found = specimens.make(group, specimens.sizes(group))(*(known[name] for name in group.sources))
            names = outputs_of(graph, group)
            known |= dict(zip(names, found if isinstance(found, tuple) else [found], strict=True))
    ends = [x.name for x in next(n for n in graph.module.graph.nodes if n.op == "output").all_input_nodes]
    for name in ends:
        torch.testing.assert_close(known[name], wanted[name], rtol=1e-10, atol=1e-12)


def test_work_that_serves_a_layer_joins_it_and_additions_join_the_operand_computed_last():
    _, _, graph, parts = parts_of(networks.Residual)
    nodes = {group.name: group.nodes for group in parts.groups}
    assert nodes["blocks.1.conv1"] == ("blocks_1_conv1", "blocks_1_bn1", "blocks_1_relu")
    assert nodes["blocks.1.conv2"] == ("blocks_1_conv2", "add_1", "blocks_1_relu_1")
    assert nodes["down"] == ("down", "bn", "relu", "mean", "dropout")
    own = next(group for group in parts.groups if group.name == "blocks.1.conv2")
    named = [[graph.blocks[b].name for b in side] for side in (own.inputs, own.outputs)]
    assert named == [["blocks.1.conv1"], ["stem"]] and own.sources == ("blocks_1_relu", "blocks_0_relu_1")


def test_an_addition_whose_last_operand_has_other_users_begins_a_group():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            first, last = self.a(x), self.b(x)
            return self.c(first + last) + self.c(last)

    graph = trace(Net().eval(), torch.zeros(2, 3, 4, 4))
    assert [group.nodes for group in partition(graph).groups] == [("a",), ("b",), ("add",), ("c",), ("c_1", "add_1")]


def test_a_depthwise_convolution_is_a_group_with_one_side():
    _, _, graph, parts = parts_of(networks.Inverted)
    own = next(group for group in parts.groups if group.name == "depthwise")
    assert [graph.blocks[b].name for b in own.inputs] == ["expand"] and own.outputs == ()


def test_sides_of_concats_add_up():
    _, _, graph, parts = parts_of(width_networks.Mixed)
    sides = {group.name: [[graph.blocks[b].name for b in own] for own in (group.inputs, group.outputs)] for group in
             parts.groups}  # fmt: skip
    assert sides["norm"] == [["a", "b", "c"], []]
    assert sides["right"] == [["a", "b", "c"], ["left"]]
    assert sides["alone"] == [["b"], ["left"]]


def test_what_depends_on_overlapping_sides_is_cut_or_fixed():
    class Net(nn.Module):
        """A convolution that reads a concat, added to a part of it, so that its sides overlap."""

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 6, 1)
            self.c, self.head = nn.Conv2d(14, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            a = self.a(x)
            return self.head(self.c(torch.cat([a, self.b(x)], 1)) + a)

    graph = trace(Net().eval(), torch.zeros(2, 3, 4, 4))
    parts = partition(graph)
    names = {graph.blocks[b].name: reason for b, reason in parts.fixed.items()}
    assert names == {"a": "c depends on more than two widths", "b": "c depends on more than two widths"}
    assert not parts.free


def test_several_tensors_stay_with_the_operator_that_makes_them():
    _, _, _, parts = parts_of(width_networks.Chunked)
    nodes = {group.name: group for group in parts.groups}
    assert nodes["gate"].nodes == ("gate", "chunk", "getitem", "getitem_1")
    assert nodes["gate"].sources == ("stem",)
    assert nodes["sigmoid"].sources == ("getitem_1",)


class Pooled(nn.Module):
    """An operator that returns values and indices, and a recurrent layer that returns a tuple in a tuple."""

    def __init__(self):
        super().__init__()
        self.stem, self.hidden = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.memory = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        values, _ = torch.max(self.hidden(torch.relu(self.stem(x))), 3)
        sequence, last = self.memory(values.transpose(1, 2))
        return self.head(sequence.mean(1) + last[0])


class Sized(nn.Module):
    """Sizes of the input and of another tensor are used late."""

    def __init__(self):
        super().__init__()
        self.stem, self.hidden, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        n, _, height, width = x.shape
        y = torch.relu(self.stem(x))
        z = torch.relu(self.hidden(y)) * y.shape[2]
        return self.head(z).view(n, 4, height * width).mean(-1)


@pytest.mark.parametrize("kind", [Pooled, Sized])
def test_tuples_and_sizes_do_not_pull_the_network_into_a_group(kind):
    test_groups_at_full_width_in_turn_compute_the_network(kind)
    test_every_operator_is_in_exactly_one_group(kind)
    _, _, graph, parts = parts_of(kind)
    specimens = GroupSpecimens(graph, parts.free)
    for group in parts.groups:
        made = specimens.make(group, specimens.sizes(group))
        own = {str(node.target) for node in made.graph.nodes if node.op == "call_module"}
        named = {node.name: str(node.target) for node in graph.module.graph.nodes if node.op == "call_module"}
        assert own == {named[name] for name in group.nodes if name in named}


def test_reasons_of_fixed_blocks():
    def reasons(kind):
        _, _, graph, parts = parts_of(kind)
        assert not {b for b in parts.fixed if graph.blocks[b].pinned}
        assert parts.free == {b for b, own in enumerate(graph.blocks) if not own.pinned} - parts.fixed.keys()
        return set(parts.fixed.values())

    assert reasons(networks.Residual) == set()
    assert reasons(networks.InPlace) == {"getitem is a slice of channels"}
    assert reasons(width_networks.LikeConvNeXt) == {"its channels cannot be removed"}
    grouped = {"grouped is a convolution with 2 groups", "second is a convolution with 2 groups"}
    assert reasons(width_networks.Shuffled) == grouped
    assert "getitem_2 is a slice of channels" in reasons(width_networks.Chunked)


def test_a_shuffle_fixes_what_it_moves():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.hidden, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 4, 1)

        def forward(self, x):
            x = nn.functional.channel_shuffle(torch.relu(self.stem(x)), 2)
            return self.head(torch.relu(self.hidden(x)))

    graph = trace(Net().eval(), torch.zeros(2, 3, 4, 4))
    parts = partition(graph)
    assert {graph.blocks[b].name for b in parts.free} == {"hidden"}
    assert all("selects channels" in reason for reason in parts.fixed.values()) and parts.fixed


def test_a_module_called_twice_is_two_groups():
    _, _, _, parts = parts_of(networks.Shared)
    assert [group.nodes for group in parts.groups if group.name == "conv"] == [
        ("conv", "bn", "relu"),
        ("conv_1", "bn_1"),
    ]
