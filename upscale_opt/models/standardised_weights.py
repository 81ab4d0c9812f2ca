"""Layers that compute their weight in forward, such as convolutions with weight standardisation, as plain layers.

The known form is one convolution, or one linear layer, whose input is the layer's input, and whose weight is computed
from the layer's own parameters and buffers only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

_CONVOLUTIONS = {functional.conv1d: nn.Conv1d, functional.conv2d: nn.Conv2d, functional.conv3d: nn.Conv3d}
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TOLERANCE = 1e-5


def layers_with_computed_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the paths of the layers that may be replaced by plain ones, each with the plain layer."""
    for path, module in model.named_modules():
        own = isinstance(module, (_ConvNd, nn.Linear)) and not type(module).__module__.startswith("torch.")
        if own and not module._forward_hooks and not module._forward_pre_hooks:
            plain = plain_layer(module)
            if plain is not None:
                yield path, plain


@torch.no_grad()
def plain_layer(layer: nn.Module) -> nn.Module | None:
    """Return a plain layer that computes the same as a layer of the known form, or None.

    The result is compared with the layer on a random input.
    """
    try:
        graph = fx.Tracer().trace(layer)
    except Exception:  # the forward may do anything
        return None
    plain = _plain(layer, graph)
    if plain is None:
        return None
    weight = next(layer.parameters())
    generator = torch.Generator().manual_seed(0)
    shape = (2, weight.shape[1] * int(getattr(plain, "groups", 1)), *(9 for _ in weight.shape[2:]))
    x = torch.randn(shape, generator=generator).to(weight.device, weight.dtype)
    try:
        expected, found = layer(x), plain(x)
    except Exception:  # another input size may be needed; then nothing is known
        return None
    fits = expected.shape == found.shape and bool(expected.isfinite().all())
    return plain if fits and float((expected - found).abs().max()) <= _TOLERANCE * float(expected.abs().max()) else None


def _plain(layer: nn.Module, graph: fx.Graph) -> nn.Module | None:
    output: Any = next(iter(reversed(graph.nodes))).args[0]
    inputs: list[Any] = [node for node in graph.nodes if node.op == "placeholder"]
    if not isinstance(output, fx.Node) or output.op != "call_function" or len(inputs) != 1:
        return None
    linear = output.target is functional.linear
    if not linear and output.target not in _CONVOLUTIONS:
        return None
    x: Any = inputs[0]
    given: dict[str, Any] = {**dict(zip(_NAMES, output.args, strict=False)), **output.kwargs}
    weight, bias = given.get("weight"), given.get("bias")
    if given.get("input") is not inputs[0] or not isinstance(weight, fx.Node) or list(x.users) != [output]:
        return None
    if any(isinstance(value, fx.Node) for name, value in given.items() if name not in ("input", "weight", "bias")):
        return None
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node in (inputs[0], output) or node.op in ("output", "call_module"):
            continue
        values[node] = _computed(layer, node, values)
    if weight not in values or (isinstance(bias, fx.Node) and bias not in values) or weight.op == "get_attr":
        return None
    computed = values[weight].detach().clone()
    added = values[bias].detach().clone() if isinstance(bias, fx.Node) else None
    groups = int(given.get("groups", 1))
    if linear:
        plain: nn.Module = nn.Linear(computed.shape[1], computed.shape[0], bias=added is not None)
    else:
        options = {name: given[name] for name in ("stride", "padding", "dilation", "groups") if name in given}
        kind: Any = _CONVOLUTIONS[output.target]  # type: ignore[index]
        channels = computed.shape[1] * groups, computed.shape[0]
        plain = kind(*channels, computed.shape[2:], bias=added is not None, **options)
    plain.weight = nn.Parameter(computed)
    if added is not None:
        plain.bias = nn.Parameter(added)
    return plain.train(layer.training)


def _computed(layer: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        return getattr(layer.get_submodule(path), name)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)
