"""Runs single nodes of a traced network on meta tensors. Operators that need values run once for real, on random ones.

`NodeRun` also tells which results cannot be known without the input's values: ``x.max().item()``, or the length of
``x.nonzero()``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only

from upscale_opt.capture.known_values import KnownValues, has_shape_by_value
from upscale_opt.capture.packed_sequences import is_last_state, packed
from upscale_opt.capture.regions import enter, leave
from upscale_opt.capture.source_lines import PLACE
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.snapshots import Snapshot

BY_VALUE = "which depends on the values of the input or of parameters"
"""The end of sentences about what cannot be known."""
_SEEDS = (0, 1)
_ARITHMETIC = frozenset(
    [
        "add",
        "sub",
        "mul",
        "truediv",
        "div",
        "pow",
        "floordiv",
        "mod",
        "neg",
        "abs",
        "iadd",
        "isub",
        "imul",
        "itruediv",
        "ipow",
        "clamp",
        "clamp_min",
        "clamp_max",
        "multiply",
        "divide",
        "subtract",
        "true_divide",
        "maximum",
        "minimum",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "add_",
        "sub_",
        "mul_",
        "div_",
        "clamp_",
        "masked_fill",
    ]
)
"""Operators whose result has the shape of their tensors, whatever numbers they are given."""
_OF_DEVICE = {"is_cuda": "cuda", "is_cpu": "cpu", "is_meta": "meta", "is_mps": "mps", "is_xpu": "xpu"}


class NodeRun:
    """The results of nodes on meta tensors, one after the other.

    Parameters
    ----------
    module_of, tensor_of
        Return the submodule, or the parameter or buffer, of a name.
    known
        Values of nodes that are computed only from buffers.
    device
        Device of the network's tensors, which stands for the meta device in ``x.device``. None if there are several.
    keeps_shape
        Says whether a module need not run, because it returns a tensor with the shape of its only input.

    Attributes
    ----------
    values
        The results.
    doubtful
        Nodes whose result, or the shape of it, depends on the values of the network's input, each with the reason.
    substitutes
        Other nodes that were run for real, because their operator has no meta kernel, each with the reason.
    """

    def __init__(
        self,
        module_of: Callable[[str], nn.Module],
        tensor_of: Callable[[str], Any],
        known: KnownValues | None,
        device: torch.device | None,
        keeps_shape: Callable[[nn.Module, Any], bool] | None = None,
    ) -> None:
        self.values: dict[fx.Node, Any] = {}
        self.doubtful: dict[fx.Node, str] = {}
        self.substitutes: dict[fx.Node, str] = {}
        self.module_of, self._tensor_of, self._known = module_of, tensor_of, known
        self._device, self._keeps_shape = device, keeps_shape
        self._attributes: dict[str, Any] = {}

    def run(self, node: fx.Node, inputs: Mapping[str, Any]) -> Any:
        """Compute the result of a node from those of its inputs. `inputs` has the values of placeholders by name."""
        if node.op == "placeholder":
            name = str(node.target).lstrip("*")
            value = inputs[name] if name in inputs else (node.args[0] if node.args else None)
        elif node.op == "get_attr":
            value = self._attribute(str(node.target))
        elif node.op == "output":
            value = None
        else:
            value = self._computed(node)
        self.values[node] = value
        return value

    def forget(self, nodes: Iterable[fx.Node]) -> None:
        """Drop the results of nodes that were erased."""
        for node in nodes:
            for own in (self.values, self.doubtful, self.substitutes):
                own.pop(node, None)

    def is_doubtful(self, node: fx.Node) -> bool:
        """Whether the result of a node, or its shape, depends on the values of the network's input."""
        return node in self.doubtful

    def _attribute(self, name: str) -> Any:
        if name not in self._attributes:
            tensor = self._tensor_of(name)
            is_tensor = isinstance(tensor, torch.Tensor)
            self._attributes[name] = torch.empty_like(tensor, device="meta") if is_tensor else tensor
        return self._attributes[name]

    def _computed(self, node: fx.Node) -> Any:
        args, kwargs = _own_lists(fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__))
        of_device = self._asked_of_device(node, args)
        if of_device is not None:
            return of_device
        sequences = packed(node, args, kwargs)
        if sequences is not None:
            if not sequences[1]:
                self.doubtful[node] = f"the length of {self.name_of(node)}{_place_of(node)}, {BY_VALUE}"
            return sequences[0]
        module = self.module_of(str(node.target)) if node.op == "call_module" else None
        own = module is not None and not type(module).__module__.startswith("torch.nn")
        before = Snapshot([module]) if own else None
        try:
            value = self._call(node, *self._on_meta_device(node, args, kwargs))
        except Exception as error:
            value = self._otherwise(node, error, before)
        self._pass_doubts(node, value)
        return value

    def _call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if node.op == "call_function":
            assert callable(node.target)
            if node.target is functional.batch_norm and _normalises_surely(*args, **kwargs):
                return torch.empty_like(args[0])
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        module = self.module_of(str(node.target))
        if self._keeps_shape is not None and len(args) == 1 and not kwargs and self._keeps_shape(module, args[0]):
            return args[0]
        named = (*module.named_parameters(), *module.named_buffers())
        state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
        return torch.func.functional_call(module, state, args, kwargs)

    def _asked_of_device(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """Return the answer to a question about the device of a tensor, or None for another node."""
        if node.target is not getattr or not isinstance(args[0], torch.Tensor) or self._device is None:
            return None
        if args[1] == "device":
            return self._device
        return self._device.type == _OF_DEVICE[args[1]] if args[1] in _OF_DEVICE else None

    def _on_meta_device(self, node: fx.Node, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return the arguments for an operator on meta tensors: ``x.to(device)`` must not leave the meta device."""
        if node.op == "call_module" or node.target in (getattr, enter, leave):
            return args, kwargs
        if getattr(node.target, "__module__", "") in ("_operator", "builtins"):
            return args, kwargs
        found: tuple[Any, Any] = tree_map_only(torch.device, lambda _: torch.device("meta"), (args, kwargs))
        return found

    def _pass_doubts(self, node: fx.Node, value: Any) -> None:
        """Let a result be doubtful if it was computed from doubtful sizes or numbers."""
        reasons = [self.doubtful[x] for x in node.all_input_nodes if x in self.doubtful]
        if not reasons or node in self.doubtful or _name_of(node) in ("dtype", "device", "ndim", "dim"):
            return
        if is_last_state(node, self.module_of):
            return
        from_numbers = not any(x in self.doubtful for x in node.all_input_nodes if _has_tensor(self.values[x]))
        if from_numbers and _name_of(node) in _ARITHMETIC and isinstance(value, torch.Tensor):
            return
        self.doubtful[node] = reasons[0]

    # Operators that need values

    def _otherwise(self, node: fx.Node, error: Exception, before: Snapshot | None) -> Any:
        """Return the result of a node that cannot run on meta tensors."""
        if self._known is not None and self._known.has(node):
            # The shape of a tensor computed from buffers may depend on their values.
            return map_tensors(_on_meta, self._known.value(node))
        try:
            results = []
            for seed in _SEEDS:
                if before is not None:
                    before.restore()  # what the module has stored on the meta device
                results.append(self._real(node, seed))
        except Exception as other:
            raise (other if "meta" in str(error).lower() else error) from None
        shapes = [[tuple(x.shape) for x in nested_tensors(own)] for own in results]
        by_value = node.op != "call_module" and has_shape_by_value(node)
        if by_value or not shapes[0] or shapes[0] != shapes[1]:
            what = "value" if not shapes[0] else "length"
            self.doubtful[node] = f"the {what} of {self.name_of(node)}{_place_of(node)}, {BY_VALUE}"
        else:
            self.substitutes[node] = f"no rule for {self.name_of(node)}"
        return map_tensors(_on_meta, results[0])

    def _real(self, node: fx.Node, seed: int) -> Any:
        """Run a node on random values, with the network's own parameters and buffers."""
        generator = torch.Generator().manual_seed(seed)
        device = self._device if self._device is not None else torch.device("cpu")

        def drawn(x: torch.Tensor) -> torch.Tensor:
            if x.is_floating_point():
                return torch.zeros(x.shape).normal_(generator=generator).to(device, x.dtype)
            if x.dtype == torch.bool:
                return torch.rand(x.shape, generator=generator).gt(0.5).to(device)
            return torch.zeros(x.shape, dtype=x.dtype, device=device)

        def given(x: fx.Node) -> Any:
            if x.op == "get_attr" and isinstance(own := self._tensor_of(str(x.target)), torch.Tensor):
                return own.detach().clone()
            return tree_map_only(torch.Tensor, drawn, self.values[x])

        with torch.device(device):
            args, kwargs = _own_lists(fx.node.map_arg((node.args, node.kwargs), given))
            if node.op != "call_module":
                return self._call(node, args, kwargs)
            module = self.module_of(str(node.target))
            state = {name: own.detach() for name, own in module.named_parameters()}
            state |= {name: own.detach().clone() for name, own in module.named_buffers()}
            return torch.func.functional_call(module, state, args, kwargs)

    def name_of(self, node: fx.Node) -> str:
        """Return the name of a node's operator, for messages."""
        if node.op == "call_module":
            return type(self.module_of(str(node.target))).__name__
        if node.target is operator.getitem:
            return "an index"
        return _name_of(node)


def _own_lists(x: Any) -> Any:
    """Arguments with lists and dictionaries that a function may change, in place of the node's own ones."""
    if isinstance(x, immutable_list) or type(x) is tuple:
        return (tuple if type(x) is tuple else list)(map(_own_lists, x))
    return {key: _own_lists(own) for key, own in x.items()} if isinstance(x, immutable_dict) else x


def keeps_shape_surely(module: nn.Module, x: Any) -> bool:
    """Whether a module of torch.nn returns a tensor of the shape of `x`. Meta kernels of normalisations are slow."""
    if not isinstance(x, torch.Tensor) or module._forward_hooks or module._forward_pre_hooks:
        return False
    return type(module) in _KEEPING or (
        type(module) is nn.BatchNorm2d and x.ndim == 4 and x.shape[1] == module.num_features
    )


def _normalises_surely(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    *others: Any,
    **named: Any,
) -> bool:
    """Whether `torch.nn.functional.batch_norm` accepts these arguments and keeps the shape. Its meta kernel is slow."""
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or training is not False:
        return False
    statistics = [running_mean, running_var, *(own for own in (weight, bias) if own is not None)]
    return all(
        isinstance(own, torch.Tensor) and own.shape == x.shape[1:2] and own.dtype == x.dtype for own in statistics
    )


_KEEPING = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Sigmoid, nn.Tanh),
    *(nn.Hardsigmoid, nn.Identity, nn.Dropout, nn.Dropout2d),
)


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def _place_of(node: fx.Node) -> str:
    return f" in {node.meta[PLACE]}" if node.meta.get(PLACE) else ""


def _has_tensor(value: Any) -> bool:
    return any(isinstance(x, torch.Tensor) for x in tree_leaves(value))


def _name_of(node: fx.Node) -> str:
    if node.target is getattr:
        return str(node.args[1])
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
