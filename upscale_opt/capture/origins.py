"""Origins of values that are computed during tracing: which tensors of the network became part of the code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from upscale_opt.capture.known_values import KINDS
from upscale_opt.capture.pausing import Pausable


class Origins(Pausable, TorchFunctionMode):
    """A mode that tracks from which tensors of the network other tensors are computed during tracing.

    Parameters
    ----------
    names
        Identities of the network's own tensors to their names.
    use
        Called with the names of the tensors whose values Python has received.
    """

    def __init__(self, names: Mapping[int, str], use: Callable[[Iterable[str]], None]) -> None:
        super().__init__()
        self.names = names
        self.use = use
        self.found: dict[int, tuple[torch.Tensor, frozenset[str]]] = {}

    def of(self, tensor: torch.Tensor) -> frozenset[str]:
        """Return the names of the network's tensors from which a tensor was computed."""
        if id(tensor) in self.names:
            return frozenset([self.names[id(tensor)]])
        return self.found[id(tensor)][1] if id(tensor) in self.found else frozenset()

    def remember(self, value: Any, names: frozenset[str]) -> None:
        """Remember that a value was computed from the tensors with these names."""
        if isinstance(value, torch.Tensor):
            self.found[id(value)] = (value, names)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._is_paused:
            return result
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
    """Whether a function of torch asks for the shape or the type of a tensor, and not for its values."""
    return getattr(func, "__name__", "") in {*KINDS, "__get__"}


def names_of_tensors(root: nn.Module) -> dict[int, str]:
    """Map the identity of every tensor of a network that is not a parameter to its first name."""
    names: dict[int, str] = {}
    for name, tensor in all_tensors(root):
        names.setdefault(id(tensor), name)
    return names


def all_tensors(root: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield buffers with their names, and tensors that are plain attributes or entries of a plain attribute."""
    for path, module in root.named_modules():
        for key, own in {**vars(module), **module._buffers}.items():
            prefix = f"{path}.{key}".removeprefix(".")
            entries: Iterable[tuple[str, Any]] = [(prefix, own)]
            if isinstance(own, list | tuple | dict) and not key.startswith("_"):
                numbered = own.items() if isinstance(own, dict) else enumerate(own)
                entries = [(f"{prefix}[{place!r}]", entry) for place, entry in numbered]
            tensors = [(name, own) for name, own in entries if isinstance(own, torch.Tensor)]
            yield from ((name, own) for name, own in tensors if not isinstance(own, nn.Parameter))
