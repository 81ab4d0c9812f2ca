"""Restores a network after its forward was run or traced.

A forward can do more than compute: it can fill caches, count its calls, create submodules, or draw random numbers.
A `Snapshot` remembers the state before. The values of a tensor are copied just before an operator writes into it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.models.dispatching import TransparentMode
from upscale_opt.models.snapshots import Snapshot, storage_of

_WRITES_UNSAID = ("batch_norm", "instance_norm")
"""Operators of torch that write into arguments (running statistics), while their schemas do not declare it."""


class Preservation(TransparentMode):
    """A context manager that restores a network bit for bit at its end, also after an error.

    Inside of it the network may be run or traced. Restored are:

    - attributes of all modules, of the helper objects that modules hold, and of their classes;
    - buffers and parameters: values, gradients and ``requires_grad``;
    - hooks, training flags, and the states of random generators.

    Two things are not restored: variables of Python modules, and what numpy writes into the memory of a tensor.

    Parameters
    ----------
    model
        The network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._snapshot = Snapshot([model])
        self._memory = {
            pointer: storage
            for tensor in self._snapshot.tensors
            if (storage := storage_of(tensor)) is not None and (pointer := storage.data_ptr())
        }
        self._overwritten: dict[int, torch.UntypedStorage] = {}
        self._randomness = _Randomness()

    def changed(self) -> bool:
        """Whether anything has changed. The states of random generators do not count."""
        return bool(self._overwritten) or self._snapshot.changed()

    @property
    def num_overwritten(self) -> int:
        """Number of memory regions of tensors that an operator has written into."""
        return len(self._overwritten)

    def restore(self) -> None:
        """Restore everything now."""
        overwritten, self._overwritten = self._overwritten, {}
        for pointer, values in overwritten.items():
            self._memory[pointer].copy_(values)
        self._overwritten.clear()  # the copies above were recorded as writes, too
        self._snapshot.restore()
        self._randomness.restore()

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        self.restore()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _writing:
            schema = func._schema
            _writing[func] = schema.is_mutable or any(name in schema.name for name in _WRITES_UNSAID)
        for tensor in _written(func, args, kwargs) if _writing[func] else ():
            storage = storage_of(tensor)
            pointer = 0 if storage is None else storage.data_ptr()
            if pointer in self._memory and pointer not in self._overwritten:
                self._overwritten[pointer] = self._memory[pointer].clone()
        return self.run(func, args, kwargs)


_writing: dict[Any, bool] = {}
"""For each operator: whether it writes into an argument."""


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore a network after timed runs. Like `Preservation`, but without any cost per operator.

    Buffers and other tensors are copied before the runs. The values of parameters are not copied: the forward is
    assumed to leave them unchanged.

    Parameters
    ----------
    model
        The network.
    """
    snapshot, randomness = Snapshot([model]), _Randomness()
    values = [(own, own.detach().clone()) for own in snapshot.tensors if not isinstance(own, nn.Parameter)]
    try:
        yield
    finally:
        snapshot.restore()
        with torch.no_grad():
            for own, before in values:
                if not own.is_meta and not torch.equal(own, before):
                    own.detach().copy_(before)
        randomness.restore()


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors that an operator writes into."""
    schema = func._schema
    unsaid = not schema.is_mutable
    for i, argument in enumerate(schema.arguments):
        if not unsaid and (argument.alias_info is None or not argument.alias_info.is_write):
            continue
        given = args[i] if i < len(args) else kwargs.get(argument.name)
        for own in given if isinstance(given, list | tuple) else [given]:
            if isinstance(own, torch.Tensor):
                yield own


class _Randomness:
    """The states of the global random generators, and whether gradients are recorded."""

    def __init__(self) -> None:
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self.numpy = np.random.get_state()  # noqa: NPY002
        self.python = random.getstate()
        self.gradients = torch.is_grad_enabled()

    def restore(self) -> None:
        """Restore these states."""
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)
        torch.set_grad_enabled(self.gradients)
