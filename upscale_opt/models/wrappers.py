"""What other tools wrap networks in: the network inside, and the names of its tensors without the prefixes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from torch import nn

from upscale_opt.arguments.checks import refused
from upscale_opt.errors import ModelError

PREFIXES = ("module", "_orig_mod")
"""What wrappers call the network they hold: `DataParallel` and its kind, and `torch.compile`."""
_COUNTER = "n_averaged"  # `AveragedModel` counts there; it is the only one with a tensor of its own
Value = TypeVar("Value")


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what `torch.nn.DataParallel`, `torch.compile` and the like made of it.

    Understood are ``DataParallel``, ``DistributedDataParallel``, ``AveragedModel`` (their ``.module``) and compiled
    modules (``._orig_mod``), around the whole network, around each other, and around parts of it. They compute what the
    network inside computes, whose tensors are theirs.

    Parameters
    ----------
    model
        Any module; it is not changed.

    Returns
    -------
    nn.Module
        The network itself where the whole is wrapped. Where parts are, a new module of the same class for every part
        that holds one: all other modules, and all parameters and buffers, are the model's own. A network without
        wrappers is returned as it is.

    Raises
    ------
    ModelError
        If it is no module, or a wrapper has taken the parameters apart (``FullyShardedDataParallel``).

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 2))
    >>> unwrapped(nn.DataParallel(network)) is network
    True
    >>> unwrapped(nn.Sequential(nn.DataParallel(network)))
    Sequential(
      (0): Sequential(
        (0): Linear(in_features=2, out_features=2, bias=True)
      )
    )
    """
    if not isinstance(model, nn.Module):
        raise refused(model, "model", "a torch.nn.Module", ModelError)
    return _unwrapped(model, {})


def plain_name(name: str) -> str:
    """A qualified name without the parts that wrappers put into it.

    Examples
    --------
    >>> plain_name("module.features._orig_mod.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in PREFIXES)


def _unwrapped(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    inside = module
    while (name := _held_under(inside)) is not None:
        inside = getattr(inside, name)
    known[id(module)] = known[id(inside)] = inside  # a module may hold itself
    children = {name: _unwrapped(child, known) for name, child in inside._modules.items() if child is not None}
    if any(child is not inside._modules[name] for name, child in children.items()):
        result = copy.copy(inside)
        result._modules = {**inside._modules, **children}
        known[id(module)] = known[id(inside)] = result
    return known[id(module)]


def _held_under(module: nn.Module) -> str | None:
    """Under which name a wrapper holds its network; None if the module is none."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return "module"
    if _is(module, "torch.optim.swa_utils", "AveragedModel"):
        return "module"
    if _is(module, "torch._dynamo.eval_frame", "OptimizedModule"):
        return "_orig_mod"
    if _is(module, "torch.distributed.fsdp", "FullyShardedDataParallel"):
        raise ModelError(
            "the model is wrapped in FullyShardedDataParallel, which has taken its parameters apart; give the original "
            "network with the full state_dict loaded into it"
        )
    return None


def _is(module: nn.Module, home: str, name: str) -> bool:
    """Whether a module is of a class whose home nobody may have imported: then it is none."""
    kind: Any = getattr(sys.modules.get(home), name, None)
    return isinstance(kind, type) and isinstance(module, kind)


def without_prefixes(state: Mapping[str, Value], names: Collection[str]) -> dict[str, Value]:
    """A state_dict, or anything else by the names of tensors, without what wrappers put into the names.

    ``module.`` and ``_orig_mod.`` are taken from the beginning while every name has one and none of them is known.
    Inside of a name they are left out if that makes a known one of an unknown one (``features.module.0.weight``).

    Parameters
    ----------
    state
        By name.
    names
        The names that are known: those of the network without wrappers. What it calls so itself stays.

    Examples
    --------
    >>> without_prefixes({"module._orig_mod.a.weight": 1, "module._orig_mod.b.weight": 2}, ["a.weight", "b.weight"])
    {'a.weight': 1, 'b.weight': 2}
    >>> without_prefixes({"module.a": 1}, ["module.a"]), without_prefixes({"module.a": 1, "b": 2}, ["c"])
    ({'module.a': 1}, {'module.a': 1, 'b': 2})
    """
    known, result = set(names), dict(state)
    while result and not known.intersection(result):
        parts = {name.partition(".")[0] for name in result if name != _COUNTER}
        if len(parts) != 1 or not parts <= set(PREFIXES):
            break
        result = {name.partition(".")[2]: value for name, value in result.items() if name != _COUNTER}
    owners = {name.rpartition(".")[0] for name in known}
    plain = {name: f"{first}{dot}{plain_name(rest)}" for name in result for first, dot, rest in [name.partition(".")]}
    moved = {
        name: short
        for name, short in plain.items()
        if name not in known and short != name and short not in result and short.rpartition(".")[0] in owners
    }
    return {moved.get(name, name): value for name, value in result.items()}
