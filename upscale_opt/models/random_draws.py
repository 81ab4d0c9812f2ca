"""Networks that draw random numbers when they are run: the same draws for every run, and who draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

SEED = 20230
"""What every run starts from; any number does."""


@contextmanager
def same_draws(seed: int = SEED) -> Iterator[None]:
    """Start the generators of torch (all devices), Python and NumPy from a seed; afterwards they are as they were."""
    # Not `torch.manual_seed` and `fork_rng`, which look for every kind of accelerator: this is done for every run.
    generators = _generators()
    states = [own.get_state() for own in generators]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    for own in generators:
        own.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        for own, state in zip(generators, states, strict=True):
            own.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def draws_of(module: nn.Module, inputs: tuple[Any, ...]) -> list[str]:
    """Who draws random numbers when a module is run, each once, in order: ``randn_like in layer1.0``.

    Parameters
    ----------
    module
        Run once, with hooks that are removed again.
    inputs
        Positional inputs; a network may change them.
    """
    found: dict[str, None] = {}
    stack: list[str] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = _states()
            result = func(*args, **(kwargs or {}))
            if _states() != before:
                name = getattr(func, "__name__", str(func))
                found[f"{name} in {stack[-1]}" if stack and stack[-1] else name] = None
            return result

    hooks = []
    for path, own in module.named_modules():
        hooks.append(own.register_forward_pre_hook(lambda _m, _x, path=path: stack.append(path)))
        hooks.append(own.register_forward_hook(lambda _m, _x, _y: stack.pop() and None, always_call=True))
    try:
        with torch.no_grad(), same_draws():
            at_first = _states()
            with Recorder():
                module(*inputs)
            if not found and _states() != at_first:
                found["random or numpy.random"] = None
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def _generators() -> list[torch.Generator]:
    """torch's own, of the CPU and of the GPUs in use."""
    return [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]


def _states() -> tuple[Any, ...]:
    """The states of all generators, to be compared."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    states = [own.get_state().numpy().tobytes() for own in _generators()]
    return (*states, random.getstate(), numpy[1].tobytes(), numpy[2:])
