"""Snapshots of all objects that are reachable from a network. They detect changes and undo them.

No tensor is copied. Each kind of object has its own subclass of `_Entry`, which detects and undoes changes.
"""

from __future__ import annotations

import argparse
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx, nn

_FOREIGN = frozenset({*sys.stdlib_module_names, "torch", "numpy", "scipy"})
"""Packages whose objects and classes are not inspected, except modules of torch.nn."""
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_ATOMS = (
    *(int, float, complex, str, bytes, type(None), type(Ellipsis), types.ModuleType, torch.dtype, torch.device),
    *(fx.Proxy, fx.Node, fx.Graph),
)
_PLAIN = frozenset({int, float, bool, str, type(None), fx.Proxy})


class Snapshot:
    """The current state of all objects that are reachable from some root objects.

    A snapshot remembers containers, attributes of modules, of helper objects and of their classes, closures and
    default arguments. Of a tensor it remembers which memory it uses, its gradient and its hooks, but not the values in
    that memory.

    Parameters
    ----------
    roots
        The root objects.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.tensors: list[torch.Tensor] = []
        self._entries: list[_Entry] = []
        waiting, seen = list(roots), dict[int, Any]()
        with torch._C.DisableTorchFunction():
            while waiting:
                own = waiting.pop()
                if type(own) in _PLAIN or id(own) in seen or isinstance(own, _ATOMS):
                    continue
                seen[id(own)] = own  # keeps the object alive, so that no other object can get its identity
                waiting += self._remember(own)

    def changed(self) -> bool:
        """Whether anything has changed. The states of random generators do not count."""
        with torch._C.DisableTorchFunction():
            return any(entry.changed() for entry in self._entries)

    def restore(self) -> None:
        """Restore everything that has changed."""
        with torch._C.DisableTorchFunction():
            for entry in self._entries:
                if entry.changed() or isinstance(entry, _Generator):
                    entry.restore()

    def _remember(self, own: Any) -> Iterable[Any]:
        """Remember one object, and yield the objects that it refers to."""
        entry = next((made(own) for kind, made in _ENTRIES.items() if isinstance(own, kind)), None)
        if isinstance(own, torch.Tensor):
            self.tensors.append(own)
        if entry is not None:
            self._entries.append(entry)
            yield from entry.children()
        if isinstance(own, tuple | frozenset):
            yield from own
        elif isinstance(own, types.FunctionType):
            yield from (own.__defaults__, own.__kwdefaults__, own.__dict__, *(own.__closure__ or ()))
        elif isinstance(own, types.MethodType):
            yield from (own.__self__, own.__func__)
        elif isinstance(own, partial):
            yield from (own.func, own.args, own.keywords)
        elif isinstance(own, staticmethod | classmethod):
            yield own.__func__
        elif isinstance(own, property):
            yield from (own.fget, own.fset)
        elif isinstance(own, torch.Tensor):
            yield from (own.__dict__, own.grad if own.is_leaf else None)
        elif not isinstance(own, type) and _is_looked_into(own):
            yield from (vars(own) if hasattr(own, "__dict__") else None, type(own))
            slots = _Slots(own)
            self._entries.append(slots)
            yield from slots.children()


def _is_looked_into(own: Any) -> bool:
    """Whether a forward may change attributes of an object, so that they must be remembered."""
    if isinstance(own, torch.jit.ScriptModule):
        return False
    return isinstance(own, (nn.Module, *_NAMESPACES)) or not _is_foreign(type(own))


def _is_foreign(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _FOREIGN and kind.__module__ != "__main__"


class _Entry:
    """One remembered object."""

    def changed(self) -> bool:
        """Whether the object has changed."""
        raise NotImplementedError

    def restore(self) -> None:
        """Undo all changes of the object."""
        raise NotImplementedError

    def children(self) -> Iterable[Any]:
        """Return the objects that it refers to."""
        return ()


class _Dict(_Entry):
    """A dictionary, such as an object's ``__dict__``: the same keys in the same order, with the same values."""

    def __init__(self, own: dict[Any, Any]) -> None:
        self.own = own
        self.items = list(own.items())
        self.kind: Any = OrderedDict if isinstance(own, OrderedDict) else dict

    def changed(self) -> bool:
        if len(self.own) != len(self.items):
            return True
        for (key, value), (old_key, old_value) in zip(self.kind.items(self.own), self.items, strict=True):
            if value is not old_value or key is not old_key:
                return True
        return False

    def restore(self) -> None:
        self.kind.clear(self.own)
        for key, value in self.items:
            self.kind.__setitem__(self.own, key, value)

    def children(self) -> Iterable[Any]:
        return (value for _, value in self.items)


class _Sequence(_Entry):
    """A list or a deque: the same entries in the same order."""

    def __init__(self, own: Any) -> None:
        self.own = own
        self.entries = list(own)

    def changed(self) -> bool:
        now = list(self.own)
        return len(now) != len(self.entries) or any(a is not b for a, b in zip(now, self.entries, strict=True))

    def restore(self) -> None:
        self.own.clear()
        self.own.extend(self.entries)

    def children(self) -> Iterable[Any]:
        return self.entries


class _Set(_Entry):
    """A set."""

    def __init__(self, own: set[Any]) -> None:
        self.own = own
        self.entries = set(own)

    def changed(self) -> bool:
        return self.own != self.entries

    def restore(self) -> None:
        self.own.clear()
        self.own.update(self.entries)

    def children(self) -> Iterable[Any]:
        return self.entries


class _Array(_Entry):
    """A NumPy array, compared by its values."""

    def __init__(self, own: np.ndarray) -> None:
        self.own = own
        self.values = own.copy()

    def changed(self) -> bool:
        return self.own.tobytes() != self.values.tobytes()

    def restore(self) -> None:
        self.own[...] = self.values


class _Cell(_Entry):
    """A variable of a closure."""

    def __init__(self, own: types.CellType) -> None:
        self.own = own
        self.content = _content_of(own)

    def changed(self) -> bool:
        now = _content_of(self.own)
        return len(now) != len(self.content) or any(a is not b for a, b in zip(now, self.content, strict=True))

    def restore(self) -> None:
        if self.content:
            self.own.cell_contents = self.content[0]
        else:
            del self.own.cell_contents

    def children(self) -> Iterable[Any]:
        return self.content


def _content_of(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not assigned yet
        return []


class _Slots(_Entry):
    """Attributes of an object that are stored in ``__slots__``."""

    def __init__(self, own: Any) -> None:
        self.own = own
        listed = [vars(kind).get("__slots__", ()) for kind in type(own).__mro__ if not _is_foreign(kind)]
        names = [name for slots in listed for name in ([slots] if isinstance(slots, str) else slots)]
        self.names = [name for name in names if name not in ("__dict__", "__weakref__")]
        self.values = self._now()

    def _now(self) -> dict[str, Any]:
        return {name: getattr(self.own, name) for name in self.names if hasattr(self.own, name)}

    def changed(self) -> bool:
        now = self._now()
        return now.keys() != self.values.keys() or any(now[name] is not self.values[name] for name in now)

    def restore(self) -> None:
        for name in self.names:
            if name in self.values:
                object.__setattr__(self.own, name, self.values[name])
            elif hasattr(self.own, name):
                object.__delattr__(self.own, name)

    def children(self) -> Iterable[Any]:
        return self.values.values()


class _Class(_Entry):
    """Attributes of a class. Its base classes are children."""

    def __init__(self, own: type) -> None:
        self.own = own
        self.foreign = _is_foreign(own)
        self.attributes = {} if self.foreign else dict(vars(own))

    def changed(self) -> bool:
        if self.foreign:
            return False
        now, before = vars(self.own), self.attributes
        return now.keys() != before.keys() or any(now[name] is not own for name, own in before.items())

    def restore(self) -> None:
        for name in [name for name in vars(self.own) if name not in self.attributes]:
            type.__delattr__(self.own, name)
        for name, value in self.attributes.items():
            if vars(self.own).get(name, self) is not value:
                type.__setattr__(self.own, name, value)

    def children(self) -> Iterable[Any]:
        return () if self.foreign else (*self.own.__bases__, *self.attributes.values())


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """Return the storage of a tensor, or None if it has no accessible one (meta, sparse and similar tensors)."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # a subclass that wraps other tensors has no storage
        return None


class _Tensor(_Entry):
    """The memory that a tensor uses, its gradient and ``requires_grad``, and its hooks, but not its values."""

    def __init__(self, own: torch.Tensor) -> None:
        self.own = own
        self.alias = own.detach()
        self.pointer = None if storage_of(own) is None else own.data_ptr()
        self.training = self._training()
        self.hooks = None if own._backward_hooks is None else dict(own._backward_hooks)

    def _training(self) -> tuple[Any, ...]:
        return (self.own.requires_grad, self.own.grad) if self.own.is_leaf else (True, None)

    def _moved(self) -> bool:
        now, before = self.own, self.alias
        if self.pointer is None:
            return now.is_meta != before.is_meta
        return now.data_ptr() != self.pointer or now.dtype != before.dtype or now.shape != before.shape

    def changed(self) -> bool:
        requires_grad, grad = self._training()
        if self._moved() or requires_grad != self.training[0] or grad is not self.training[1]:
            return True
        return self.own._backward_hooks != self.hooks

    def restore(self) -> None:
        if self._moved():
            self.own.data = self.alias
        if self.own.is_leaf:
            self.own.requires_grad_(self.training[0])
            self.own.grad = self.training[1]
        if self.hooks is None:
            self.own._backward_hooks = None
        elif self.own._backward_hooks is not None:
            self.own._backward_hooks.clear()
            self.own._backward_hooks.update(self.hooks)


class _Generator(_Entry):
    """A random generator of torch, NumPy or Python. It never counts as changed, and its state is always restored."""

    def __init__(self, own: Any) -> None:
        self.own = own
        self.state = self._now()

    def _now(self) -> Any:
        if isinstance(self.own, np.random.Generator):
            return self.own.bit_generator.state
        return self.own.getstate() if isinstance(self.own, random.Random) else self.own.get_state()

    def changed(self) -> bool:
        return False

    def restore(self) -> None:
        if isinstance(self.own, np.random.Generator):
            self.own.bit_generator.state = self.state
        elif isinstance(self.own, random.Random):
            self.own.setstate(self.state)
        else:
            self.own.set_state(self.state)


_ENTRIES: dict[Any, Any] = {
    dict: _Dict,
    (list, deque): _Sequence,
    set: _Set,
    np.ndarray: _Array,
    types.CellType: _Cell,
    type: _Class,
    torch.Tensor: _Tensor,
    (torch.Generator, random.Random, np.random.RandomState, np.random.Generator): _Generator,
}
"""Types of objects to the entry class that remembers them."""
