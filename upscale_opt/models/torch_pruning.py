"""Masks from Torch-Pruning (``torch_pruning``): from groups that are not pruned yet, and from what was pruned.

Torch-Pruning (Fang et al., DepGraph, CVPR 2023) removes the channels of a group everywhere: the rows of producers, the
entries of normalisations, and the columns of consumers. The columns alone say the same: a channel that no consumer
reads is not computed in an export.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from upscale_opt.arguments.checks import anything, described
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.models.attributes import copied
from upscale_opt.models.torch_prune import PruningMasks

_IN, _OUT = "prune_in_channels", "prune_out_channels"
_PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)
"""Modules that treat every channel by itself, so that a removed channel changes no other one."""


@entrance(pruned=anything)
def from_torch_pruning(
    model: nn.Module, pruned: Any, example_inputs: torch.Tensor | Sequence[Any] | None = None
) -> PruningMasks:
    """Return the masks that say what Torch-Pruning removes.

    Parameters
    ----------
    model
        The network before any channel was removed, in eval mode.
    pruned
        What Torch-Pruning made of the network. One group or several: ``DependencyGraph.get_pruning_group`` and
        ``pruner.step(interactive=True)`` return these, and nothing is pruned then. Or a pruner, a ``DependencyGraph``,
        or their ``pruning_history()``, after a copy of the network was pruned. The history is repeated on another copy,
        to know which of the original channels were removed.
    example_inputs
        Inputs for the repetition, which needs ``torch_pruning``. Groups need none.

    Returns
    -------
    PruningMasks
        Masks of input channels. Every function that takes masks takes it.

    Raises
    ------
    MaskError
        If it is nothing of this kind, if it belongs to another network, or if it removes what masks cannot express:
        outputs of the network, or channels under a normalisation over channels, under attention or in an embedding.

    Notes
    -----
    Groups are of the network as it is. Groups of a network that was pruned in between count the channels that are left:
    give the pruner instead.

    Examples
    --------
    Prune with Torch-Pruning, and export with orders and a proof of equality (needs ``torch_pruning``)::

        pruner = torch_pruning.pruner.MetaPruner(model, x, importance, pruning_ratio=0.5, ignored_layers=[model.fc])
        masks = from_torch_pruning(model, list(pruner.step(interactive=True)))
        exported = prepare(model, x, masks).export()
    """
    entries = _history_of(pruned)
    if entries is not None:
        found = _replayed(model, entries, example_inputs)
    else:
        found = _Removed(model)
        for group in _groups_of(pruned):
            found.add(group)
    return PruningMasks(found.columns(), {})


class _Removed:
    """What groups remove from a network, in the numbers of its original channels."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self._masks: dict[tuple[str, str], np.ndarray] = {}
        self._left: dict[tuple[str, str], np.ndarray] = {}

    def add(self, group: Any, *, is_pruned: bool = False) -> None:
        """Add a group. If it is pruned right after, later groups count the channels that are left then."""
        read, computed = False, ""
        for item in group:
            module, side = item.dep.target.module, getattr(item.dep.handler, "__name__", "")
            numbers = np.unique([int(getattr(own, "idx", own)) for own in item.idxs])
            if isinstance(module, nn.Parameter):
                raise MaskError("Torch-Pruning removes a part of a parameter of its own; exclude it from pruning")
            if not _has_parameters(module):
                continue  # an operator
            name = self._name(module)
            if not isinstance(module, (_ConvNd, nn.Linear)):
                if not isinstance(module, _PER_CHANNEL):
                    raise MaskError(
                        f"Torch-Pruning removes channels of {name} ({type(module).__name__}), which changes what it "
                        "makes of the others, and masks of consumers cannot express that; list it in ignored_layers"
                    )
                continue
            if _is_depthwise(module):
                continue
            self._remove(name, module, side, numbers, is_pruned)
            read, computed = read or side == _IN, name if side == _OUT else computed
        if computed and not read:
            raise MaskError(
                f"Torch-Pruning removes outputs of {computed} that no layer reads, so they are outputs of the network; "
                "list it in ignored_layers"
            )

    def columns(self) -> dict[str, np.ndarray]:
        """Weight name to mask of its input channels, for all that lose some."""
        found = {}
        for (name, side), mask in self._masks.items():
            if side == _IN:
                found[f"{name}.weight".removeprefix(".")] = mask
        return found

    def _name(self, module: Any) -> str:
        if id(module) not in self._names:
            raise MaskError(
                f"Torch-Pruning removes channels of {described(module)} that is not in this network; give the network "
                "that the groups are of, or the pruner and the network as it was before"
            )
        return self._names[id(module)]

    def _remove(self, name: str, module: Any, side: str, numbers: np.ndarray, is_pruned: bool) -> None:
        key = (name, side)
        if key not in self._masks:
            size = _size(module, side)
            self._masks[key], self._left[key] = np.ones(size, dtype=bool), np.arange(size)
        if side == _IN and getattr(module, "groups", 1) > 1:
            numbers = numbers[numbers < len(self._left[key])]  # the same channels of every group
        if numbers.size and not 0 <= numbers[0] <= numbers[-1] < len(self._left[key]):
            raise MaskError(
                f"Torch-Pruning removes channel {numbers[-1]} of {name}, which has {len(self._left[key])}; give the "
                "network that it was made for"
            )
        self._masks[key][self._left[key][numbers]] = False
        if is_pruned:
            self._left[key] = np.delete(self._left[key], numbers)


def _size(module: Any, side: str) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features if side == _IN else module.out_features
    return int(module.in_channels // module.groups if side == _IN else module.out_channels)


def _is_depthwise(module: nn.Module) -> bool:
    return 1 < getattr(module, "groups", 1) == getattr(module, "in_channels", 0)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None or isinstance(module, _PER_CHANNEL)


def _history_of(pruned: Any) -> list[Any] | None:
    """The entries of a pruning history; None if it is none."""
    told = getattr(pruned, "pruning_history", None)
    if callable(told):
        return list(told())
    if isinstance(pruned, list) and pruned and all(isinstance(own, (list, tuple)) and len(own) == 3 for own in pruned):
        return pruned if all(isinstance(name, str) and isinstance(out, bool) for name, out, _ in pruned) else None
    return None


def _groups_of(pruned: Any) -> Iterator[Any]:
    """One group, or several."""
    remedy = "groups, a pruner, a DependencyGraph or a pruning history of Torch-Pruning"
    if not isinstance(pruned, Iterable) and not hasattr(pruned, "__getitem__"):
        raise MaskError(f"pruned is {described(pruned)}; give {remedy}")
    try:
        listed = [pruned] if _is_group(pruned) else list(pruned)
    except (TypeError, NotImplementedError) as error:  # iterable by name only
        raise MaskError(f"pruned is {described(pruned)}; give {remedy}") from error
    for own in listed:
        if not _is_group(own):
            raise MaskError(f"pruned holds {described(own)}; give {remedy}")
    yield from listed


def _is_group(own: Any) -> bool:
    """Whether this is a group: pairs of a dependency and channels."""
    try:
        return bool(len(own)) and all(hasattr(item, "dep") and hasattr(item, "idxs") for item in own)
    except (TypeError, KeyError, RuntimeError, NotImplementedError):
        return False


def _replayed(model: nn.Module, entries: list[Any], example_inputs: Any) -> _Removed:
    """Prune a copy of the network again, and note the original channels of every step."""
    if example_inputs is None:
        raise MaskError("a pruning history is repeated on a copy of the network; give example_inputs")
    try:
        package: Any = importlib.import_module("torch_pruning")
    except ImportError as error:
        remedy = "run pip install torch-pruning, or give groups"
        raise MaskError(f"a pruning history is repeated with Torch-Pruning, which is missing; {remedy}") from error
    copy = copied(model)
    modules = dict(copy.named_modules())
    graph = package.DependencyGraph().build_dependency(copy, example_inputs=example_inputs)
    found = _Removed(copy)
    for name, is_out, numbers in entries:
        if name not in modules:
            raise MaskError(f"the pruning history names {name!r}, which this network lacks; give the one it is of")
        functions = graph.get_pruner_of_module(modules[name])
        function = functions.prune_out_channels if is_out else functions.prune_in_channels
        group = graph.get_pruning_group(modules[name], function, list(numbers))
        found.add(group, is_pruned=True)
        group.prune(record_history=False)
    return found
