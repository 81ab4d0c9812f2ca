"""Tests that only what cannot be traced is left whole, and that attempts leave nothing behind."""

import copy

import pytest
import torch
from torch import nn

from upscale_opt import effective_masks, export, l2_masks, trace

SHAPE = (2, 3, 8, 8)


class ByMemory(nn.Module):
    """It looks at what an export may change. Meta tensors can run it."""

    def forward(self, x):
        return x if x.stride(0) > 2 else x * 2


class ByValue(nn.Module):
    """Meta tensors cannot run it either."""

    def forward(self, x):
        return x if x.mean() < 1e9 else x * 2


class Storing(ByMemory):
    """It has changed itself, and its parent's list, before it fails."""

    def forward(self, x):
        self.last = x
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x)


def block(odd, channels=8):
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1), odd)


def deep(*odd):
    """Convolutions around modules several levels down."""
    torch.manual_seed(0)
    inner = nn.Sequential(*(block(own) for own in odd), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.Sequential(inner)), nn.Conv2d(8, 4, 1)).eval()


def leaves(graph):
    return [type(graph.module.get_submodule(str(n.target))) for n in graph.module.graph.nodes if n.op == "call_module"]


def verified(model, x):
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    assert export(model, x, masks=masks, baseline=True, graph=graph).verification.passed
    return graph


@pytest.mark.parametrize("odd", [ByMemory, ByValue, Storing])
def test_only_the_innermost_module_is_left_whole(odd):
    model, x = deep(odd(), nn.Identity(), odd()), torch.randn(SHAPE)
    graph = verified(model, x)
    assert len(graph.consumers) == 10
    assert leaves(graph).count(odd) == 2 and set(leaves(graph)) <= {odd, nn.Conv2d, nn.ReLU, nn.Identity}
    assert {pin.reason.partition(",")[0] for pin in graph.unsupported} == {odd.__name__}
    assert not hasattr(model[1][0][0][0][3], "calls")


def test_names_of_nodes_do_not_depend_on_where_attempts_fail_in_time():
    """Blocks are named after nodes, and a plan names blocks: two traces of one architecture agree."""
    first, second = (trace(deep(Storing(), Storing()), torch.randn(SHAPE)) for _ in range(2))
    assert [n.name for n in first.module.graph.nodes] == [n.name for n in second.module.graph.nodes]
    assert [b.name for b in first.blocks] == [b.name for b in second.blocks]


def test_a_parameter_that_a_failed_attempt_has_read_is_read_anew():
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))
            self.register_buffer("shift", torch.rand(1, 8, 1, 1))

    class Reading(nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.weights = weights

        def forward(self, x):
            x = x * self.weights.scale + self.weights.shift
            return x if x.stride(0) > 2 else x * 2

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = Weights()
            self.first, self.odd, self.last = nn.Conv2d(3, 8, 1), Reading(self.weights), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.last(self.odd(self.first(x)) * self.weights.scale - self.weights.shift)

    torch.manual_seed(0)
    graph = verified(Net().eval(), torch.randn(SHAPE))
    graph.module.graph.lint()
    assert len(graph.consumers) == 2


def test_attempts_do_not_multiply_with_depth():
    """Every level fails by itself, and reads a buffer, so that it is tried twice."""
    calls = []

    class Level(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.register_buffer("scale", torch.rand(()))
            self.inner = Level(depth - 1) if depth else nn.Identity()
            self.depth = depth

        def forward(self, x):
            if isinstance(x, torch.fx.Proxy):
                calls.append(self.depth)
            x = self.inner(x * self.scale)
            return x if x.stride(0) > 2 else x * 2

    torch.manual_seed(0)
    depth = 20
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Level(depth), nn.Conv2d(8, 4, 1)).eval()
    graph = trace(model, torch.randn(SHAPE))
    assert leaves(graph) == [nn.Conv2d, Level, nn.Conv2d]
    assert len(calls) <= 2 * (depth + 1)


def test_many_modules_that_change_themselves_and_fail_do_not_begin_the_trace_again_each():
    begun = []

    class Beginning(nn.Conv2d):
        def forward(self, x):
            begun.append(isinstance(x, torch.fx.Proxy))
            return super().forward(x)

    model = deep(*(Storing() for _ in range(12)))
    model[0].__class__ = Beginning
    trace(model, torch.randn(SHAPE))
    assert sum(begun) <= 3


def test_a_module_that_adds_to_a_list_it_is_given_is_not_an_operator_by_itself():
    """As one, it would be given a list of its own, and what it adds be lost."""

    class Adding(nn.Module):
        def forward(self, x, features):
            features.append(x * 2)
            return x if x.stride(0) > 2 else x * 3

    class Collecting(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Adding()

        def forward(self, x):
            features = [x]
            x = self.part(x, features)
            return x + features[-1]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Collecting(), nn.Conv2d(8, 4, 1)).eval()
    graph = verified(model, torch.randn(SHAPE))
    assert leaves(graph) == [nn.Conv2d, Collecting, nn.Conv2d]


def test_what_a_part_that_is_left_whole_stores_is_not_read_from_an_earlier_run():
    class Keeping(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return x if x.stride(0) > 2 else x * 3

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Keeping()

        def forward(self, x):
            return self.part(x) + self.part.last

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), Reading(), nn.Conv2d(8, 4, 1)).eval(), torch.randn(SHAPE)
    with torch.no_grad():
        model(x)
    graph = verified(model, x)
    assert leaves(graph) == [nn.Conv2d, Reading, nn.Conv2d]


def test_buffers_of_a_module_that_is_left_whole_are_read_behind_it():
    """It may replace them; a value read before is another one."""

    class Replacing(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", torch.ones(()))

        def forward(self, x):
            self.n = self.n + 1
            return x if x.stride(0) > 2 else x * 3

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Replacing()

        def forward(self, x):
            return (x * self.part.n, self.part(x) * self.part.n)[1]

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), Reading(), nn.Conv2d(8, 4, 1)).eval(), torch.randn(SHAPE)
    graph = verified(model, x)
    reads = [node for node in graph.module.graph.nodes if node.op == "get_attr"]
    assert len(reads) == 2
    with torch.no_grad():
        assert torch.allclose(copy.deepcopy(graph.module)(x), model(x), atol=1e-6)


def test_a_cache_that_a_failed_attempt_has_made_is_not_used_by_the_next_call():
    """It would hold what stands for a tensor of a node that is no longer there."""

    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = None

        def forward(self, x):
            if self.cache is None:
                self.cache = torch.ones_like(x)
                if x.stride(0) > 10**6:
                    self.cache = self.cache * 2
            return x + self.cache

    torch.manual_seed(0)
    part = Caching()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), part, nn.Conv2d(8, 8, 1), part, nn.Conv2d(8, 4, 1)).eval()
    graph = trace(model, torch.randn(SHAPE))
    graph.module.graph.lint()
    assert leaves(graph).count(Caching) == 2 and part.cache is None
