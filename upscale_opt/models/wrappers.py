"""Unwraps networks that other tools have wrapped, and removes the wrappers' prefixes from tensor names."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from upscale_opt.arguments.checks import refused
from upscale_opt.errors import ModelError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

PREFIXES = ("module", "_orig_mod")
"""Attribute names under which wrappers hold the network: `DataParallel` and similar ones, and `torch.compile`."""
_COUNTER = "n_averaged"  # counter of `AveragedModel`, the only wrapper that adds a tensor
Value = TypeVar("Value")


def unwrapped(model: nn.Module | ExportedProgram) -> nn.Module:
    """Return the network inside wrappers such as `torch.nn.DataParallel` and `torch.compile`, or of a program.

    Supported are ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel`` (their ``.module``) and compiled
    modules (``._orig_mod``). They may be around the whole network, around parts of it, and nested. These wrappers
    compute the same as the network inside and share its tensors. A program of `torch.export` becomes a network with
    modules, parameters and buffers under the original names.

    Parameters
    ----------
    model
        Any module, or a `torch.export.ExportedProgram`; it is not changed.

    Returns
    -------
    nn.Module
        The network itself if only the whole network is wrapped, or nothing. If parts are wrapped, every module that
        contains such a part is replaced by a shallow copy of the same class. All other modules, and all parameters
        and buffers, are the model's own.

    Raises
    ------
    ModelError
        If `model` is not a module, or if a wrapper has split the parameters (``FullyShardedDataParallel``).

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
    if _is(model, "torch.export", "ExportedProgram"):
        # Not imported above: the room of programs is over this one, and few users have a program.
        network: nn.Module = importlib.import_module("upscale_opt.lifting.capture").lifted(model)
        return network
    if not isinstance(model, nn.Module):
        raise refused(model, "model", "a torch.nn.Module", ModelError)
    return _unwrapped(model, {})


def plain_name(name: str) -> str:
    """Return a qualified name without the parts that wrappers add to it.

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
    known[id(module)] = known[id(inside)] = inside  # set before the recursion, since a module may contain itself
    children = {name: _unwrapped(child, known) for name, child in inside._modules.items() if child is not None}
    if any(child is not inside._modules[name] for name, child in children.items()):
        result = copy.copy(inside)
        result._modules = {**inside._modules, **children}
        known[id(module)] = known[id(inside)] = result
    return known[id(module)]


def _held_under(module: nn.Module) -> str | None:
    """Return the attribute name under which a wrapper holds its network, or None if the module is not a wrapper."""
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


def _is(module: Any, home: str, name: str) -> bool:
    """Whether a module is an instance of a class, without importing the class's module `home`.

    If `home` has not been imported, the result is False.
    """
    kind: Any = getattr(sys.modules.get(home), name, None)
    return isinstance(kind, type) and isinstance(module, kind)


def without_prefixes(state: Mapping[str, Value], names: Collection[str]) -> dict[str, Value]:
    """Return a state_dict, or another mapping by tensor names, with the wrappers' prefixes removed from the names.

    If no name is known and all names have the same prefix, ``module.`` or ``_orig_mod.``, this prefix is removed. The
    step is repeated for nested wrappers. Inside a name (``features.module.0.weight``) these parts are removed if the
    name is unknown and the shorter name belongs to a known module.

    Parameters
    ----------
    state
        Mapping by name.
    names
        The known names: those of the network without wrappers. Names among them are never changed, even if they
        contain ``module`` or ``_orig_mod``.

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
