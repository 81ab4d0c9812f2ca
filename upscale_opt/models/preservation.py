"""A network as it was: whatever running or tracing its forward changes in it is put back.

A forward may do more than compute: it fills caches, counts its calls, makes submodules, draws random numbers. What it
changes is remembered by a `Snapshot`; the values of tensors are copied when somebody is about to write into them.
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
"""Operators of torch that write into arguments (running statistics) although their schemas do not say so."""


class Preservation(TransparentMode):
    """A context in which a network may be run or traced; afterwards, however that ended, it is bit for bit as it was.

    That is: attributes of all modules, of the helper objects they hold and of their classes, buffers and parameters
    (their values, gradients, ``requires_grad``), hooks, training flags, and the states of random generators. Variables
    of Python modules are not looked after, nor is what numpy writes into the memory of a tensor.

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
        """Whether anything is not as it was; random generators do not count."""
        return bool(self._overwritten) or self._snapshot.changed()

    @property
    def num_overwritten(self) -> int:
        """In how many tensors' memory somebody has written."""
        return len(self._overwritten)

    def restore(self) -> None:
        """Put everything back now."""
        overwritten, self._overwritten = self._overwritten, {}
        for pointer, values in overwritten.items():
            self._memory[pointer].copy_(values)
        self._overwritten.clear()  # copying is writing, too
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
"""Operators to whether they write into an argument."""


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """As `Preservation`, for a network that is run while time is measured: no operator is slowed down.

    Buffers and other tensors are copied beforehand; the values of parameters are trusted to stay.

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
    """The tensors that an operator writes into."""
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
    """The states of the random generators that everybody shares, and whether gradients are recorded."""

    def __init__(self) -> None:
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self.numpy = np.random.get_state()  # noqa: NPY002
        self.python = random.getstate()
        self.gradients = torch.is_grad_enabled()

    def restore(self) -> None:
        """Put them back."""
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)
        torch.set_grad_enabled(self.gradients)
