"""Tests of `torch.export` as a front end: the graph is that of torch.fx, and exports are right, in training, too."""

import copy
import io
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from benchmarks.random_networks.networks import random_network
from upscale_opt import ModelError, constrained_masks, export, prune, trace, unwrapped, verify
from upscale_opt.models.outputs import tensors
from upscale_opt.tracing.trace import operators_of
from upscale_opt.tracing.training_modes import training_mode_of

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Everything(nn.Module):
    """A residual block, attention, both kinds of dropout, buffers, and questions about shapes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.hidden = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, mask=None, scale=1.0):
        y = self.stem(x)
        y = y + self.twice(self.twice(y))
        if y.shape[2] % 2 == 0:
            y = y[:, :, 1:]
        with torch.no_grad():
            level = y.mean()
        y = y.flatten(2).transpose(1, 2)
        z = self.norm(y)
        y = y + self.attention(z, z, z, need_weights=False)[0]
        y = y + self.hidden(self.norm(y))
        self.calls += 1
        y = functional.dropout(y.mean(1), 0.2, self.training)
        return {"scores": self.head(y) * scale, "level": [level]}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Everything().eval()


@pytest.fixture(scope="module")
def graphs(network):
    return {name: trace(network, X, front_end=name) for name in ("fx", "export")}


def movable(graph):
    return sum(block.size for block in graph.blocks if not block.pinned)


def test_both_front_ends_find_the_same(graphs):
    """But for `torch.nn.MultiheadAttention`: torch.fx opens it, and in a program of `torch.export` it stays closed."""
    fx, lifted = graphs["fx"], graphs["export"]
    assert (fx.front_end, lifted.front_end) == ("fx", "export")
    assert list(lifted.consumers) == [own for own in fx.consumers if not own.startswith("attention.")]
    assert movable(fx) >= movable(lifted) > 0
    assert lifted.module.state_dict().keys() == fx.module.state_dict().keys()
    assert lifted.module.get_submodule("twice") is fx.module.get_submodule("twice")
    assert {path: number for path, number in lifted.calls.items() if path != "attention"} == fx.calls


def test_the_batch_and_the_width_stay_free_and_the_question_is_told(graphs):
    validity = graphs["export"].validity
    assert {"batch", "width"} <= set(validity.free) and "height" not in validity.free
    assert [axis for axes in validity.conditions.values() for axis in axes] == ["height"]
    assert "if y.shape[2] % 2 == 0" in str(validity)


def test_exports_are_right_forward_and_backward(network, graphs):
    graph = graphs["export"]
    exported = export(network, X, masks=constrained_masks(graph, "0.5"), baseline=True, graph=graph)
    assert exported.verification.relative_error < 1e-9 and exported.verification.gradients < 1e-9
    assert set(exported.module.state_dict()) == set(network.state_dict())
    assert exported.module(torch.randn(3, 3, 8, 6))["scores"].shape == (3, 5)
    with pytest.raises(ValueError, match="another size"):
        exported.module(torch.randn(2, 3, 7, 8))
    with pytest.raises(ValueError, match=r"scale=1\.0"):
        exported.module(X, None, 2.0)


def test_training_is_that_of_the_network(network, graphs):
    mode = training_mode_of(network, graphs["export"])
    assert mode.reason is None and not mode.parts
    module = export(network, X, masks={}, baseline=True, graph=graphs["export"], verify=False).module
    model = copy.deepcopy(network).train()
    module.train()
    for _ in range(2):
        torch.manual_seed(1)
        expected = tensors(model(X))
        torch.manual_seed(1)
        for a, b in zip(tensors(module(X)), expected, strict=True):
            torch.testing.assert_close(a, b)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor)


def test_dropout_keeps_its_input_apart(network):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.layer = nn.Dropout(0.5), nn.Linear(8, 8)

        def forward(self, x):
            x = self.layer(x)
            y = self.drop(x)
            return x + 2 * functional.dropout(x, 0.5, self.training) + 3 * y

    model = Twice().eval()
    made = operators_of(model, (torch.zeros(2, 8),), "export")
    (layer,) = (node for node in made.nodes if node.target == "layer")
    assert len(layer.users) == 3


def test_tracing_does_not_change_the_network(network):
    before = copy.deepcopy(network.state_dict())
    keys = {path: set(vars(own)) for path, own in network.named_modules()}
    trace(network, X, front_end="export")
    assert all(torch.equal(before[name], own) for name, own in network.state_dict().items())
    assert keys == {path: set(vars(own)) for path, own in network.named_modules()}


class Asks(nn.Module):
    """torch.fx refuses it: it asks for the strides of a tensor."""

    def __init__(self, by_value=False):
        super().__init__()
        self.first, self.second, self.by_value = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), by_value

    def forward(self, x):
        x = self.first(x)
        if self.by_value and x.max() > 0:
            x = x * 2
        return self.second(x if x.stride(1) > 1 else -x)


def test_export_is_tried_if_fx_refuses_and_the_graph_says_so():
    graph = trace(Asks().eval(), X)
    assert graph.front_end == "export" and "stride" in graph.refusal
    assert "captured by torch.export, because" in str(graph)
    assert prune(Asks().eval(), X, mode="constrained").export().verification.relative_error < 1e-9
    with pytest.raises(ModelError, match="stride"):
        trace(Asks().eval(), X, front_end="fx")


def test_both_refusals_are_told():
    class Both(Asks):
        def forward(self, x):
            return torch.ops.aten.nonzero_numpy(x)[0] if x.stride(0) == x.data_ptr() else super().forward(x)

    with pytest.raises(ModelError, match=r"torch\.export"):
        trace(Asks(by_value=True).eval(), X, front_end="export")
    with pytest.raises(ModelError, match=r"data_ptr|stride.*with front_end='export': "):
        trace(Both().eval(), X)
    with pytest.raises(ModelError, match=r"auto, fx \(torch\.fx\) or export"):
        trace(Asks().eval(), X, front_end="dynamo")


def test_custom_backward_passes_are_not_lost():
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return Straight.apply(self.layer(x))

    with pytest.raises(ModelError, match=r"backward pass of the autograd function Straight.*front_end='fx'"):
        trace(Rounded().eval(), torch.zeros(2, 8), front_end="export")
    assert trace(Rounded().eval(), torch.zeros(2, 8)).front_end == "fx"
    assert Straight.apply(torch.ones(1, requires_grad=True)).requires_grad


def test_one_sample_that_is_treated_otherwise_fixes_the_batch():
    class Lonely(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            y = self.layer(x)
            return y if len(x) == 1 else y - y.mean(0)

    graph = trace(Lonely().eval(), torch.zeros(1, 8), front_end="export")
    assert "batch" not in graph.validity.free
    x = torch.randn(1, 8)
    assert torch.equal(graph.module(x), graph.module.layer(x))


@dataclass
class Nested:
    image: torch.Tensor
    more: dict


torch.export.register_dataclass(Nested, serialized_type_name="tests.Nested")


def test_nested_inputs_and_results_keep_their_form():
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 1)

        def forward(self, given, *rest, flag=True):
            y = self.layer(given.image) + given.more["left"][0]
            return Nested(y if flag else -y, {"rest": (rest[0] * 2,)})

    given = Nested(X, {"left": [torch.ones(2, 1, 8, 8)], "none": None})
    model = Sums().eval()
    graph = trace(model, (given, X), front_end="export")
    result, expected = graph.module(given, X), model(given, X)
    assert isinstance(result, Nested) and torch.equal(result.more["rest"][0], expected.more["rest"][0])
    assert torch.equal(result.image, expected.image)


# Programs of users


@pytest.mark.slow
def test_a_program_is_a_network(network):
    auto = torch.export.Dim.AUTO
    program = torch.export.export(network, (X,), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    (buffer := io.BytesIO()).seek(0)
    torch.export.save(program, buffer)
    buffer.seek(0)
    expected = tree_leaves(network(X))
    for own in (program, torch.export.load(buffer)):
        lifted = unwrapped(own)
        assert unwrapped(own) is lifted and type(lifted.get_submodule("stem.0")) is nn.Conv2d
        assert type(lifted.get_submodule("hidden.2")) is nn.Dropout
        assert lifted.state_dict().keys() == network.state_dict().keys()
        for a, b in zip(tree_leaves(lifted(X)), expected, strict=True):
            torch.testing.assert_close(a, b)
        graph = trace(own, X)
        assert len(graph.consumers) >= 5 and "batch" in graph.validity.free
        masked = prune(own, X, mode="constrained", graph=graph)
        assert masked.export().verification.relative_error < 1e-9


def test_a_program_holds_for_its_sizes_only():
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval(), (X,))
    graph = trace(program, X)
    assert "number 2" in str(graph.validity) and not graph.validity.free
    with pytest.raises(ValueError, match="another size"):
        graph.module(torch.zeros(5, 3, 8, 8))
    with pytest.raises(ModelError, match="give the ExportedProgram itself"):
        trace(program.module(), X)


@pytest.mark.slow
def test_a_program_in_core_operators_is_a_network_too(network):
    program = torch.export.export(network, (X,)).run_decompositions()
    lifted = unwrapped(program)
    names = {path for path, own in lifted.named_modules() if isinstance(own, (nn.Conv2d, nn.Linear))}
    assert {"stem.0", "twice", "hidden.0", "hidden.3", "head"} <= names
    before, results = lifted.calls.clone(), lifted(X)
    assert lifted.calls == before + 1
    for a, b in zip(tree_leaves(results), tree_leaves(network(X)), strict=True):
        torch.testing.assert_close(a, b)
    assert movable(trace(program, X)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_through_both_front_ends(seed):
    program = random_network(seed)
    model, inputs = program.build().eval(), program.call_with(program.example_inputs())
    by_fx = trace(model, inputs, front_end="fx")
    try:
        graph = trace(model, inputs, front_end="export")
    except ModelError as error:
        assert "torch.export refuses" in str(error) or "autograd function" in str(error)
        return
    assert movable(graph) == movable(by_fx)
    exported = export(model, inputs, masks=constrained_masks(graph, "0.5"), baseline=True, graph=graph, verify=False)
    # A dtype that the code asks a tensor for is a constant of the program: float32, in float64 as well.
    assert verify(model, exported, inputs).relative_error < (1e-6 if ".dtype" in program.code else 1e-9)


class Catching(nn.Module):
    """An attempt that fails leads to another way; a network that catches nothing rejects the same inputs."""

    def __init__(self, catches):
        super().__init__()
        self.trunk, self.wide, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 8, 1)
        self.catches = catches

    def forward(self, x):
        y = self.trunk(x)
        try:
            y = y + self.wide(y)
        except RuntimeError:
            if not self.catches:
                raise
            y = y + self.right(y)
        return y


def test_what_a_forward_catches_is_no_fault_of_the_input():
    with pytest.raises(ModelError, match=r"its forward catches an error .*, and a trace cannot"):
        trace(Catching(True).eval(), X, front_end="fx")
    model = Catching(True).eval()
    graph = trace(model, X)
    assert graph.front_end == "export" and any(own.startswith("right") for own in graph.consumers)
    export(model, X, masks=constrained_masks(graph, "0.5"), baseline=True, graph=graph)
    with pytest.raises(ModelError, match="the network rejects inputs of shape"):
        trace(Catching(False).eval(), X)


class ByName(nn.Module):
    """A layer is chosen by a text with a size in it."""

    def __init__(self):
        super().__init__()
        self.first, self.at_8, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 3), nn.Conv2d(8, 6, 1)

    def forward(self, x):
        y = self.first(x)
        return (getattr(self, f"at_{y.shape[-1]}", None) or self.other)(y)


def test_a_text_with_a_size_in_it_leads_where_it_leads_in_the_network():
    model = ByName().eval()
    graph = trace(model, X[..., :8, :8], front_end="export")
    assert {"first.weight", "at_8.weight"} == set(graph.consumers) and not graph.validity.free
    export(model, X[..., :8, :8], masks=constrained_masks(graph, "0.5"), baseline=True, graph=graph)
