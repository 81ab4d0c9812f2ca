"""Networks that draw random numbers in their forward: repeat the same draws, and find out which operators draw."""

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
"""The seed of every run. Any number would do."""


@contextmanager
def same_draws(seed: int = SEED) -> Iterator[None]:
    """Seed the generators of torch (all devices), Python and NumPy. Restore their states at the end of the context."""
    # `torch.manual_seed` and `fork_rng` look for every kind of accelerator. That is too slow for every run.
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
    """Return which operators draw random numbers in which module, such as ``randn_like in layer1.0``.

    Each pair is listed once, in order of execution.

    Parameters
    ----------
    module
        The module. It is run once, with temporary hooks.
    inputs
        Positional inputs. The network may change them.
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
    """Return torch's default generators of the CPU and of the GPUs in use."""
    return [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]


def _states() -> tuple[Any, ...]:
    """Return the states of all generators, in a form that can be compared."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    states = [own.get_state().numpy().tobytes() for own in _generators()]
    return (*states, random.getstate(), numpy[1].tobytes(), numpy[2:])
