"""Runs one operator as it runs inside a network in ONNX Runtime: its input is in the layout that a convolution leaves.

Alone, every operator would first reorder its input and last its output. Then a slice would look cheap, because its
reorders are there in any case; in a network they are not. So the operator is put between two convolutions, ONNX Runtime
optimises all three, and the operator is cut out of the optimised graph, with the reorders that it causes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from upscale_opt.onnx_runtime.optimised import BLOCKED, CONVOLUTIONS, block_size, optimised, sizes_of
from upscale_opt.onnx_runtime.requirements import INPUT, OnnxError, RemovedOperatorError, require_inputs
from upscale_opt.onnx_runtime.writing import written

_OUTPUT, _PRODUCED = "y", "h"
_TAIL = 16  # outputs of the convolution behind the operator: whole blocks of 8 or 16
_KEPT_DOMAINS = ("", "com.microsoft", BLOCKED)


@dataclass(frozen=True, eq=False)
class Inside:
    """An operator, cut out of an optimised graph.

    Attributes
    ----------
    content
        The ONNX model, already optimised.
    inputs
        Input name to tensor, in the layout of the graph.
    """

    content: bytes
    inputs: Mapping[str, torch.Tensor]


def inside(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Inside:
    """Cut a module out of a network in ONNX Runtime.

    Parameters
    ----------
    module
        A module in eval mode with one output, on the CPU.
    inputs
        Its positional inputs. Images, of shape (batch, channels, height, width), come from a convolution; others are
        taken as they are. The same holds for the output and the convolution that reads it.

    Raises
    ------
    ModelError
        If the inputs do not suit ONNX Runtime, or the module cannot be written as ONNX.
    RemovedOperatorError
        If nothing of the module is left in the optimised network.
    """
    require_inputs(inputs, module)
    with torch.no_grad():
        network = _Between(module, inputs).eval()
    given = [x[:, :1].contiguous() if i in network.places else x for i, x in enumerate(inputs)]
    names = [_OUTPUT, *(f"{_PRODUCED}{i}" for i in network.places)]
    model = optimised(written(network, given, names))
    content, channels = _cut(model, network.places, network.has_tail)
    placed = {f"{INPUT}{i}": x for i, x in enumerate(inputs)}
    for name, (source, stored) in channels.items():
        x = placed.pop(name)
        placed[source] = x if stored is None else to_blocks(x, stored)
    return Inside(content, placed)


def to_blocks(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Images in the blocked layout of this machine, as a tensor of the same shape but for added channels of zeros.

    Parameters
    ----------
    x
        Shape (batch, channels, height, width).
    channels
        Channels of the result: whole blocks.
    """
    size = block_size() or 1
    batch, own, height, width = x.shape
    wider = functional.pad(x, (0, 0, 0, 0, 0, channels - own))
    blocks = wider.reshape(batch, channels // size, size, height, width).permute(0, 1, 3, 4, 2)
    return blocks.reshape(batch, channels, height, width).contiguous()


def from_blocks(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Undo `to_blocks`, and leave out all but the first channels."""
    size = block_size() or 1
    batch, own, height, width = x.shape
    pixels = x.reshape(batch, own // size, height, width, size).permute(0, 1, 4, 2, 3)
    return pixels.reshape(batch, own, height, width)[:, :channels]


class _Between(nn.Module):
    """A module between convolutions that make its images and one that reads its image.

    The images that go in are outputs as well. Otherwise the module might be fused into the convolutions before it.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.module = module
        self.places = [i for i, x in enumerate(inputs) if x.ndim == 4]
        dtype = inputs[0].dtype
        self.heads = nn.ModuleDict({str(i): nn.Conv2d(1, inputs[i].shape[1], 1, dtype=dtype) for i in self.places})
        output = module(*inputs)
        self.has_tail = output.ndim == 4
        self.tail = nn.Conv2d(output.shape[1], _TAIL, 1, dtype=dtype) if self.has_tail else nn.Identity()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = [self.heads[str(i)](x) if i in self.places else x for i, x in enumerate(inputs)]
        return (self.tail(self.module(*made)), *(made[i] for i in self.places))


def _cut(model: Any, places: Sequence[int], has_tail: bool) -> tuple[bytes, dict[str, tuple[str, int | None]]]:
    """The part of a graph between heads and tail, as a model.

    Returns
    -------
    bytes, dict
        The model; and input name of the whole graph to the new input's name, with its channels if it is blocked.
    """
    from onnx import TensorProto, helper

    graph, sizes = model.graph, sizes_of(model)
    makers = {name: node for node in graph.node for name in node.output}
    sources: dict[str, tuple[str, int | None]] = {}
    starts = []
    for i in places:
        head = next((node for node in graph.node if f"{INPUT}{i}" in node.input), None)
        if head is None or head.op_type not in CONVOLUTIONS:
            raise OnnxError("ONNX Runtime has rearranged the operator's input, so the operator cannot be cut out")
        stored = sizes[head.input[1]][0] if head.domain == BLOCKED else None
        sources[f"{INPUT}{i}"] = head.output[0], stored
        starts.append(head)
    end = _OUTPUT
    if has_tail:
        node = makers[end]
        while node.op_type not in CONVOLUTIONS:
            node = makers[node.input[0]]
        end = node.input[0]
    needed, nodes = {end}, []
    for node in reversed(graph.node):
        if node not in starts and needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    if not nodes:
        raise RemovedOperatorError("ONNX Runtime has removed the operator, so it takes no time by itself")
    entering = [own for own in graph.input if own.name in needed]
    for source, _ in sources.values():
        entering.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, None))
    constants = [own for own in graph.initializer if own.name in needed]
    leaving = [helper.make_tensor_value_info(end, TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes[::-1], "inside", entering, leaving, constants)
    domains = [own for own in model.opset_import if own.domain in _KEPT_DOMAINS]
    whole = helper.make_model(made, opset_imports=domains, ir_version=model.ir_version)
    return whole.SerializeToString(), sources
