"""Recurrent layers lose input channels and units. The oracle is the masked model in float64, computed here."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from solvers import solve
from upscale_opt import (
    MaskError,
    constrained_masks,
    effective_masks,
    export,
    extract,
    l2_masks,
    plan,
    trace,
)
from upscale_opt.importance import num_inputs
from upscale_opt.importance.criteria import Criterion
from upscale_opt.importance.fisher import block_losses
from upscale_opt.masking.constrained import shared_masks


class Recurrent(nn.Module):
    """A linear layer, a recurrent layer, and two linear layers behind some use of what it returns."""

    def __init__(self, layer, use, features):
        super().__init__()
        self.embed, self.layer = nn.Linear(5, layer.input_size), layer
        self.up, self.down = nn.Linear(features, 7), nn.Linear(7, 3)
        self.use = use

    def forward(self, x):
        return self.down(torch.relu(self.up(self.use(self.layer, torch.relu(self.embed(x))))))


def random_masks(graph, seed=0):
    """Every weight keeps its own random columns."""
    rng = np.random.default_rng(seed)
    return {weight: rng.random(num_inputs(graph, weight)) < 0.5 for weight in graph.consumers}


def half(graph):
    return constrained_masks(graph, 0.5)


def pruned(model, inputs, choose=half):
    """The graph of a network and its verified export, which computes what the masked model computes."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.uniform_(parameter, -0.5, 0.5)
    graph = trace(model.eval(), inputs)
    masks = effective_masks(graph, choose(graph)).masks
    problems = extract(graph, masks)
    results = {name: solve(problem, objective="traffic", time_limit=1) for name, problem in problems.items()}
    exported = export(model, inputs, plan(problems, masks, results), graph=graph)
    assert exported.verification.relative_error <= 1e-9 and exported.verification.gradients <= 1e-9
    masked = copy.deepcopy(model).double()
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        for name, mask in masks.items():
            masked.get_parameter(name)[:, torch.from_numpy(~mask)] = 0
        others = [torch.randn_like(x, dtype=torch.float64) if x.is_floating_point() else x for x in given]
        expected, found = masked(*others), copy.deepcopy(exported.module).double()(*others)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max() and expected.std() > 0
    return graph, exported


def output(layer, x):
    return layer(x)[0]


def last(layer, x):
    state = layer(x)[1]
    return (state[0] if isinstance(state, tuple) else state)[-1]


def last_two(layer, x):
    _, (h, _) = layer(x)
    return torch.cat((h[-2, :, :], h.select(0, -1)), dim=1)


def cells(layer, x):
    _, (h, c) = layer(x)
    return torch.cat([*h.unbind(0)[-1:], c[-1]], 1)


def all_states(layer, x):
    return layer(x)[1].transpose(0, 1).flatten(1)


def both_directions(layer, x):
    forwards, backwards = layer(x)[0].chunk(2, -1)
    return forwards + backwards


FORMS = {
    "lstm": (nn.LSTM, {}, output, 12),
    "gru": (nn.GRU, {"bias": False}, last, 12),
    "rnn": (nn.RNN, {"nonlinearity": "relu"}, output, 12),
    "two layers": (nn.GRU, {"num_layers": 2, "dropout": 0.1}, last, 12),
    "directions": (nn.LSTM, {"bidirectional": True}, output, 24),
    "last states of directions": (nn.LSTM, {"bidirectional": True, "num_layers": 2}, last_two, 24),
    "cells": (nn.LSTM, {"num_layers": 2}, cells, 24),
    "all states": (nn.GRU, {"num_layers": 2}, all_states, 24),
    "sum of directions": (nn.RNN, {"bidirectional": True}, both_directions, 12),
    "projection": (nn.LSTM, {"proj_size": 6, "num_layers": 2}, output, 6),
}


@pytest.mark.parametrize("name", FORMS)
def test_recurrent_layers_lose_units_and_input_channels(name):
    kind, settings, use, features = FORMS[name]
    model = Recurrent(kind(10, 12, batch_first=True, **settings), use, features)
    graph, exported = pruned(model, torch.zeros(2, 4, 5))
    assert not graph.unsupported and not graph.skipped
    layer = exported.module.layer
    assert type(layer) is kind and (layer.input_size, layer.hidden_size) == (5, 12 if layer.proj_size else 6)
    assert layer.proj_size == settings.get("proj_size", 0) // 2
    smaller = settings | ({"proj_size": layer.proj_size} if layer.proj_size else {})
    twin = kind(layer.input_size, layer.hidden_size, batch_first=True, **smaller)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(3, 4, 5)
    assert torch.equal(twin.eval()(x)[0], layer(x)[0])
    pruned(model, torch.zeros(2, 4, 5), random_masks)


def test_the_layers_of_a_module_store_equally_many_units():
    """The first layer needs one unit, the second eight: both store eight."""
    model = Recurrent(nn.GRU(6, 8, num_layers=2, batch_first=True), output, 8)
    few, only = np.ones(8, dtype=bool), np.arange(8) == 5

    def choose(graph):
        return {"layer.weight_hh_l0": only, "layer.weight_ih_l1": only, "layer.weight_hh_l1": few, "up.weight": few}

    graph, exported = pruned(model, torch.zeros(2, 4, 5), choose)
    assert len(graph.alike) == 2 and exported.module.layer.hidden_size == 8
    few[3:] = False
    graph, exported = pruned(model, torch.zeros(2, 4, 5), choose)
    assert exported.module.layer.hidden_size == 3


class Steps(nn.Module):
    """A cell in a loop. It starts with zeros that forward creates, or with nothing."""

    def __init__(self, cell, zeros):
        super().__init__()
        self.embed, self.cell, self.zeros = nn.Linear(5, 6), cell, zeros
        self.up, self.down = nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x):
        y, outputs, state = self.embed(x), [], None
        if self.zeros:
            state = torch.zeros(x.shape[0], 8).to(x.device, x.dtype)
            state = (state, state) if isinstance(self.cell, nn.LSTMCell) else state
        for t in range(x.size(1)):
            state = self.cell(y[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.down(torch.relu(self.up(torch.stack(outputs, 1))))


@pytest.mark.parametrize("kind, zeros", [(nn.LSTMCell, True), (nn.GRUCell, True), (nn.RNNCell, False)])
def test_cells_in_loops_lose_units(kind, zeros):
    model = Steps(kind(6, 8), zeros)
    graph, exported = pruned(model, torch.zeros(2, 3, 5))
    assert not graph.unsupported and (exported.module.cell.input_size, exported.module.cell.hidden_size) == (3, 4)
    pruned(model, torch.zeros(2, 3, 5), random_masks)


class Starting(nn.Module):
    """A recurrent layer that starts with given states."""

    def __init__(self, start, layers=1):
        super().__init__()
        self.embed, self.layer = nn.Linear(5, 6), nn.LSTM(6, 8, layers, batch_first=True)
        self.up, self.down, self.first = nn.Linear(8, 7), nn.Linear(7, 3), nn.Linear(5, 8)
        self.h, self.c = nn.Parameter(torch.randn(layers, 1, 8)), nn.Parameter(torch.randn(layers, 1, 8))
        self.encoder, self.start = nn.LSTM(6, 8, layers, batch_first=True), start

    def forward(self, x):
        y = self.embed(x)
        return self.down(torch.relu(self.up(self.layer(y, self.start(self, x, y))[0])))


def zeros(model, x, y):
    state = torch.zeros(model.layer.num_layers, x.size(0), 8).to(x.device, x.dtype)
    return state, torch.zeros_like(state)


def learned(model, x, y):
    return tuple(own.expand(-1, len(x), -1).contiguous() for own in (model.h, model.c))


def of_features(model, x, y):
    state = torch.tanh(model.first(x.mean(1))).unsqueeze(0)
    return state, state * 0.5


def of_encoder(model, x, y):
    return model.encoder(y)[1]


def of_encoder_one_by_one(model, x, y):
    h, c = model.encoder(y)[1]
    return h, c


@pytest.mark.parametrize(
    "start, layers", [(zeros, 2), (learned, 2), (of_features, 1), (of_encoder, 2), (of_encoder_one_by_one, 2)]
)
def test_initial_states_follow_the_units(start, layers):
    graph, exported = pruned(Starting(start, layers), torch.zeros(2, 4, 5))
    assert not graph.unsupported and exported.module.layer.hidden_size == 4
    pruned(Starting(start, layers), torch.zeros(2, 4, 5), random_masks)
    names = [str(node.target) for node in graph.module.graph.nodes if node.op == "call_function"]
    assert not any("zeros" in name for name in names)


def filled(model, x, y):
    """Zeros into which something is written before the layer gets them."""
    state = torch.zeros(1, x.size(0), 8, dtype=x.dtype)
    state.fill_(0.5)
    return state, state


def test_zeros_that_are_written_into_stay():
    graph, _ = pruned(Starting(filled), torch.zeros(2, 4, 5))
    assert any("zeros" in str(node.target) for node in graph.module.graph.nodes)


class GivenState(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.head = nn.Linear(5, 6), nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, h):
        y, h = self.layer(self.embed(x), h)
        return self.head(y)


def test_the_users_own_initial_states_pin_the_units_only():
    _, exported = pruned(GivenState(), (torch.zeros(2, 4, 5), torch.zeros(1, 2, 8)))
    assert (exported.module.layer.input_size, exported.module.layer.hidden_size) == (3, 8)


class PackedLayer(nn.Module):
    """A packed sequence with lengths that are known, or that are an input."""

    def __init__(self, known, whole):
        super().__init__()
        self.embed, self.layer = nn.Linear(5, 6), nn.GRU(6, 8, batch_first=True)
        self.up, self.down = nn.Linear(8, 7), nn.Linear(7, 3)
        self.known, self.whole = known, whole

    def forward(self, x, lengths):
        lengths = [4, 2, 1] if self.known else lengths
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=self.known)
        y, h = self.layer(packed)
        y = pad_packed_sequence(y, batch_first=True)[0] if self.whole else h[-1]
        return self.down(torch.relu(self.up(y)))


@pytest.mark.parametrize("known, whole", [(True, True), (True, False), (False, False)])
def test_packed_sequences_keep_their_channels(known, whole):
    graph, exported = pruned(PackedLayer(known, whole), (torch.zeros(3, 4, 5), torch.tensor([1, 4, 2])))
    assert not graph.unsupported and exported.module.layer.hidden_size == 4
    again = trace(exported.module, (torch.zeros(3, 4, 5), torch.tensor([1, 4, 2])))  # the exported code is traced, too
    assert not again.unsupported and list(again.consumers) == list(graph.consumers)


def test_an_unpacked_sequence_of_unknown_length_is_pinned_with_its_reason():
    graph, exported = pruned(PackedLayer(False, True), (torch.zeros(3, 4, 5), torch.tensor([1, 4, 2])))
    assert exported.module.layer.hidden_size == 8 and exported.module.layer.input_size == 3
    assert any("the length of pack_padded_sequence" in pin.reason for pin in graph.unsupported)


class Twice(nn.Module):
    """One layer reads a sequence forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.head = nn.Linear(5, 6), nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        y = self.embed(x)
        return self.head(self.layer(y)[0] * self.layer(torch.flip(y, [1]))[0])


def test_a_layer_that_is_called_twice_and_one_whose_states_are_outputs():
    graph, _ = pruned(Twice(), torch.zeros(2, 4, 5), random_masks)
    assert not graph.unsupported and len(graph.consumers) == 4
    graph = trace(nn.Sequential(nn.Linear(5, 6), nn.LSTM(6, 8, 2)).eval(), torch.zeros(2, 4, 5))
    assert [block.name for block in graph.blocks if not block.pinned] == ["0"]
    assert {pin.reason for pin in graph.pins} == {"network input", "network output"}


def test_weights_that_are_used_elsewhere_pin_their_layer():
    class Shared(Recurrent):
        def forward(self, x):
            return super().forward(x) + self.layer.weight_hh_l0.mean()

    graph = trace(Shared(nn.GRU(6, 8, batch_first=True), output, 8).eval(), torch.zeros(2, 4, 5))
    assert [block.name for block in graph.blocks if not block.pinned] == ["up"]


def test_importances_of_data_say_that_they_do_not_see_units():
    model = Recurrent(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True), last, 8)
    graph = trace(model.eval(), torch.zeros(2, 4, 5))
    data = [(torch.randn(6, 4, 5), torch.randint(3, (6,)))]
    for importance in ("fisher", "hrank"):
        with pytest.raises(MaskError, match="inside a recurrent layer"):
            shared_masks(graph, Criterion(importance, 0.5, data=data))
        masks = shared_masks(graph, Criterion(importance, 0.5, data=data), ignore=["layer.*"])
        assert masks["down.weight"].sum() == 4 and masks["layer.weight_hh_l0"].all()
    masks = shared_masks(graph, Criterion("taylor", 0.5, data=data))
    assert masks["layer.weight_hh_l1_reverse"].sum() == 4
    assert set(block_losses(graph, data)) == {block.name for block in graph.blocks}
    assert not any("layer" in name for name in l2_masks(graph, 0.5))  # linear layers are not masked by default, either


def test_exports_train_with_held_columns_and_can_be_exported_again():
    model = Recurrent(nn.LSTM(6, 8, 2, batch_first=True), output, 8)
    _, exported = pruned(model, torch.zeros(2, 4, 5), random_masks)
    module, x = exported.module, torch.randn(2, 4, 5)
    before = {name: own == 0 for name, own in module.named_parameters() if name.startswith("layer.weight")}
    before = {name: zero for name, zero in before.items() if zero.any()}
    assert any("weight_hh" in name for name in before)
    optimiser = torch.optim.AdamW(module.train().parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        module(x).square().sum().backward()
        optimiser.step()
    after = dict(module.named_parameters())
    assert all(torch.equal(after[name] == 0, zero) for name, zero in before.items())
    others = {name: torch.randn_like(own) for name, own in module.named_parameters()}
    other = torch.func.functional_call(module, others, (x,))
    module.load_state_dict(others)
    assert torch.allclose(other, module(x), atol=1e-5)
    assert all(bool((after[name][zero] == 0).all()) for name, zero in before.items())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # maybe nothing more is removed
        again = export(module.eval(), x, masks=constrained_masks(trace(module, x), 0.3), baseline=True)
    assert again.verification.passed
