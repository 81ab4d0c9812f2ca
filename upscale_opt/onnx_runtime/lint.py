"""Lint of an ONNX model: what ONNX Runtime reorders in the graph that it makes of it, and which consumers cause it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.checks import described
from upscale_opt.errors import ModelError
from upscale_opt.onnx_runtime.optimised import BLOCKED, CONVOLUTIONS, REORDERS, block_size, optimised, sizes_of
from upscale_opt.onnx_runtime.requirements import require_packages, version
from upscale_opt.onnx_runtime.writing import written

SELECTIONS = ("Slice", "Gather", "Split", "Concat")
PRODUCTS = ("Gemm", "MatMul", "FusedMatMul", "FusedGemm")
ALIGNED = 4
"""ONNX Runtime reads a number of channels in the blocked layout only if it is a multiple of this."""
_SUFFIX, _NORMALISATION_SUFFIX = "_nchwc", "_bn_nchwc"


@dataclass(frozen=True)
class Consumer:
    """A convolution or a matrix product in the optimised graph.

    Attributes
    ----------
    name
        Its weight in the model, or its node, if the weight has no name of its own.
    kind
        Its operator: ``Conv``, ``Gemm``, ...
    reads, outputs
        Channels that it reads and computes. 0 if its weight is not constant.
    groups
        Its groups; 1 for matrix products.
    is_blocked
        Whether it runs in the blocked layout.
    before
        Operators between the consumers that compute its input and this one, such as ``ReorderOutput``, ``Slice``,
        ``ReorderInput``. Several consumers may share an operator.
    reason
        Why its input is reordered, or why it is not in the blocked layout. Empty if neither is so.
    """

    name: str
    kind: str
    reads: int
    outputs: int
    groups: int
    is_blocked: bool
    before: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason or 'nothing is reordered'}"


@dataclass(frozen=True)
class OnnxLint:
    """What ONNX Runtime makes of a model on this machine.

    Attributes
    ----------
    runtime
        Name and version of the runtime.
    block
        Channels of a block. None if ONNX Runtime has no blocked layout on this machine; then nothing is reordered.
    counts
        How many ``ReorderInput``, ``ReorderOutput``, ``Slice``, ``Gather``, ``Split`` and ``Concat`` there are.
    consumers
        All convolutions and matrix products, in execution order.
    """

    runtime: str
    block: int | None
    counts: Mapping[str, int]
    consumers: tuple[Consumer, ...]

    @property
    def convolutions(self) -> tuple[Consumer, ...]:
        """The convolutions among the consumers."""
        return tuple(own for own in self.consumers if own.kind in CONVOLUTIONS)

    @property
    def blocked(self) -> int:
        """Convolutions in the blocked layout."""
        return sum(own.is_blocked for own in self.convolutions)

    @property
    def reorders(self) -> int:
        """Passes that move a tensor into the blocked layout or out of it."""
        return sum(self.counts[kind] for kind in REORDERS)

    @property
    def findings(self) -> tuple[Consumer, ...]:
        """Consumers whose input is reordered, or convolutions that are not in the blocked layout."""
        return tuple(own for own in self.consumers if own.reason)

    def summary(self) -> str:
        """One line."""
        selections = ", ".join(f"{self.counts[kind]} {kind}" for kind in SELECTIONS)
        if self.block is None:
            return f"{self.runtime} has no blocked layout on this machine, so nothing is reordered; {selections}"
        return (
            f"{self.runtime}: {self.blocked} of {len(self.convolutions)} convolutions in the blocked layout, "
            f"{self.reorders} reorder{'s' * (self.reorders != 1)}, {selections}"
        )

    def __str__(self) -> str:
        return "\n".join([self.summary(), *(f"  {own}" for own in self.findings)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runtime": self.runtime,
            "block": self.block,
            "convolutions": len(self.convolutions),
            "blocked": self.blocked,
            "reorders": self.reorders,
            "counts": dict(self.counts),
            "consumers": [asdict(own) for own in self.consumers],
        }


def onnx_lint(source: Any, example_inputs: torch.Tensor | Sequence[Any] | None = None) -> OnnxLint:
    """Say what ONNX Runtime reorders in a model on this machine, and why.

    ONNX Runtime keeps tensors between convolutions in a blocked layout (NCHWc). A slice, a gather, and a convolution
    that reads a number of channels that is no multiple of 4 are outside it, and a tensor is reordered on the way.

    Parameters
    ----------
    source
        The path of an ONNX file, the bytes of one, a module, or an export (with ``module`` and ``example_inputs``).
    example_inputs
        The positional inputs of a module.

    Raises
    ------
    ModelError
        If a package is missing, a module has no inputs, or the module or the file cannot be used.
    """
    require_packages()
    import onnx

    content = _content(source, example_inputs)
    made = optimised(content)
    original = onnx.load(content) if isinstance(content, str) else onnx.load_from_string(content)
    counts = Counter(node.op_type for node in made.graph.node)
    size = block_size()
    consumers = tuple(_consumers(made, _Names(original), size))
    return OnnxLint(version(), size, {kind: counts[kind] for kind in (*REORDERS, *SELECTIONS)}, consumers)


def _content(source: Any, example_inputs: torch.Tensor | Sequence[Any] | None) -> bytes | str:
    """The bytes of the model, or its path."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise ModelError(f"there is no file {source}; give the path of an ONNX model")
        return str(source)
    module = source if isinstance(source, nn.Module) else getattr(source, "module", None)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{described(source)} is no ONNX model; give a path, bytes, a module or an export")
    inputs = example_inputs if example_inputs is not None else getattr(source, "example_inputs", None)
    if inputs is None:
        raise ModelError("the lint of a module needs its inputs; give example_inputs")
    given = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    return written(module, [_valued(x) if isinstance(x, torch.Tensor) else x for x in given])


def _valued(x: torch.Tensor) -> torch.Tensor:
    """The inputs that an export remembers have shapes but no values."""
    return torch.zeros_like(x, device="cpu") if x.is_meta else x


class _Names:
    """Finds the consumer of the original model that a node of the optimised graph was made of."""

    def __init__(self, original: Any) -> None:
        self.nodes = {node.name: node for node in original.graph.node}
        self.makers = {name: node for node in original.graph.node for name in node.output}
        self.sizes = sizes_of(original)

    def consumer_of(self, node: Any) -> str:
        """The name of the weight, or else of the node."""
        own = self._original(node)
        weight = self._weight(own)
        return str(
            weight if weight is not None and weight.endswith("weight") else node.name if own is None else own.name
        )

    def weight_shape(self, node: Any) -> tuple[int, ...]:
        """The shape of the constant weight. Empty if there is none. A product's weight reads along its first axis."""
        own = self._original(node)
        weight = self._weight(own)
        if own is None or weight is None:
            return ()
        shape = self.sizes[weight]
        turned = any(named.name == "transB" and named.i for named in own.attribute)
        return shape[::-1] if turned else shape

    def _original(self, node: Any) -> Any:
        """The consumer in the original model. None if it is not found."""
        own = self.nodes.get(node.name) or self.makers.get(node.name.removesuffix(_SUFFIX))
        while own is not None and own.op_type not in (*CONVOLUTIONS, *PRODUCTS):
            own = self.makers.get(own.input[0]) if own.input else None
        return own

    def _weight(self, own: Any) -> str | None:
        return None if own is None else next((name for name in own.input[:2] if name in self.sizes), None)

    def is_normalisation(self, node: Any) -> bool:
        """Whether a node in the blocked layout was a BatchNorm: it is written as a depthwise convolution there."""
        own = self.makers.get(node.name.removesuffix(_NORMALISATION_SUFFIX))
        return node.name.endswith(_NORMALISATION_SUFFIX) and own is not None and own.op_type == "BatchNormalization"


def _consumers(made: Any, names: _Names, size: int | None) -> Iterator[Consumer]:
    """The convolutions and matrix products of an optimised graph."""
    makers = {name: node for node in made.graph.node for name in node.output}
    sizes = sizes_of(made)

    def is_consumer(node: Any) -> bool:
        return node.op_type in (*CONVOLUTIONS, *PRODUCTS) and not names.is_normalisation(node)

    for node in filter(is_consumer, made.graph.node):
        before: list[str] = []
        waiting = [name for name in (*node.input[:1], *node.input[3:4]) if name]
        seen: set[str] = set()
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is None or maker.output[0] in seen or is_consumer(maker):
                continue
            seen.add(maker.output[0])
            before.insert(0, maker.op_type)
            waiting += [name for name in maker.input if name]
        groups = next((own.i for own in node.attribute if own.name == "group"), 1)
        reads, outputs = _channels(node, names, sizes, groups)
        is_blocked = node.domain == BLOCKED
        reason = "" if size is None else _reason(node.op_type, reads, outputs, groups, is_blocked, size, before)
        yield Consumer(names.consumer_of(node), node.op_type, reads, outputs, groups, is_blocked, tuple(before), reason)


def _channels(node: Any, names: _Names, sizes: Mapping[str, tuple[int, ...]], groups: int) -> tuple[int, int]:
    """Channels that a consumer reads and computes, by its weight in the original model, which has no padding."""
    shape = names.weight_shape(node) or next((sizes[own] for own in node.input[1:2] if own in sizes), ())
    if node.op_type in CONVOLUTIONS:
        return (shape[1] * groups, shape[0]) if len(shape) > 2 else (0, 0)
    return (shape[-2], shape[-1]) if len(shape) > 1 else (0, 0)


def _reason(kind: str, reads: int, outputs: int, groups: int, is_blocked: bool, size: int, before: list[str]) -> str:
    """Why the input of a consumer is reordered, or why it is not in the blocked layout. Empty if neither is so."""
    reorders = sum(own in REORDERS for own in before)
    found = []
    if kind in PRODUCTS:
        found += ["a matrix product, which is outside the blocked layout"] if reorders else []
    elif not is_blocked:
        found.append(f"{_obstacle(reads, outputs, groups, size)}, so it is outside the blocked layout")
    elif groups == 1 and reads < size and reorders:
        found.append(f"reads {reads} channels, fewer than a block of {size}, so it takes them unblocked")
    if reorders:
        others = dict.fromkeys(own for own in before if own not in REORDERS)
        behind = f" behind {' and '.join(others)}" if others else ""
        found.append(f"reordered {'once' if reorders == 1 else f'{reorders} times'}{behind}")
    return "; ".join(found)


def _obstacle(reads: int, outputs: int, groups: int, size: int) -> str:
    """What keeps a convolution out of the blocked layout."""
    if not reads:
        return "its weight is not constant or has no two spatial axes"
    if groups == 1 and reads % ALIGNED and reads > size:
        return f"reads {reads} channels, no multiple of {ALIGNED}"
    if groups > 1 and outputs % ALIGNED:
        return f"computes {outputs} channels in {groups} groups, no multiple of {ALIGNED}"
    if groups > 1 and (reads // groups % size or outputs // groups % size):
        return (
            f"each of its {groups} groups has {reads // groups} and {outputs // groups} channels, no blocks of {size}"
        )
    return "of no width, but of another reason"
