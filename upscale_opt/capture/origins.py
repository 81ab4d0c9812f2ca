"""Where values come from that are computed while a network is traced: which of its tensors became part of the code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from upscale_opt.capture.known_values import KINDS


class Origins(TorchFunctionMode):
    """Where the values of tensors come from that are computed while a network is traced.

    Parameters
    ----------
    names
        Identities of the network's own tensors to their names.
    use
        Called with the names whose values Python was given.
    """

    def __init__(self, names: Mapping[int, str], use: Callable[[Iterable[str]], None]) -> None:
        super().__init__()
        self.names = names
        self.use = use
        self.found: dict[int, tuple[torch.Tensor, frozenset[str]]] = {}

    def of(self, tensor: torch.Tensor) -> frozenset[str]:
        """Names of the network's tensors that a tensor was computed from."""
        if id(tensor) in self.names:
            return frozenset([self.names[id(tensor)]])
        return self.found[id(tensor)][1] if id(tensor) in self.found else frozenset()

    def remember(self, value: Any, names: frozenset[str]) -> None:
        """A value comes from these."""
        if isinstance(value, torch.Tensor):
            self.found[id(value)] = (value, names)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        if tensors and not any(isinstance(x, fx.Proxy) for x in leaves):
            names = frozenset().union(*map(self.of, tensors))
            results = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor) and id(x) not in self.names]
            for own in results:
                self.remember(own, names)
            if names and not results and not _asks_for_kind(func):
                self.use(names)
        return result


def _asks_for_kind(func: Any) -> bool:
    """Whether a function of torch whose result is no tensor asks for the shape or the type of one, not for values."""
    return getattr(func, "__name__", "") in {*KINDS, "__get__"}


def names_of_tensors(root: nn.Module) -> dict[int, str]:
    """Identity to the first name of the tensors of a network that are no parameters."""
    names: dict[int, str] = {}
    for name, tensor in all_tensors(root):
        names.setdefault(id(tensor), name)
    return names


def all_tensors(root: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers, and tensors that are plain attributes or entries of one, with their names."""
    for path, module in root.named_modules():
        for key, own in {**vars(module), **module._buffers}.items():
            prefix = f"{path}.{key}".removeprefix(".")
            entries: Iterable[tuple[str, Any]] = [(prefix, own)]
            if isinstance(own, list | tuple | dict) and not key.startswith("_"):
                numbered = own.items() if isinstance(own, dict) else enumerate(own)
                entries = [(f"{prefix}[{place!r}]", entry) for place, entry in numbered]
            tensors = [(name, own) for name, own in entries if isinstance(own, torch.Tensor)]
            yield from ((name, own) for name, own in tensors if not isinstance(own, nn.Parameter))
