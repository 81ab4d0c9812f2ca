"""Weights that are computed whenever their layer is called, made plain: parametrisations, weight_norm and its kind.

Such a layer has no weight whose channels could be removed: `upscale_opt.trace` knows nothing of it. A copy with plain
weights computes the same, and can be pruned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm

from upscale_opt.arguments.entrance import entrance
from upscale_opt.models.torch_prune import is_pruned, permanently_pruned

Model = TypeVar("Model", bound=nn.Module)
PRUNE = "torch.nn.utils.prune"


@entrance()
def plain_weights(model: Model) -> Model:
    """A copy of a model in eval mode whose weights are plain parameters, and which computes the same.

    Undone are parametrisations (``torch.nn.utils.parametrize``, such as ``parametrizations.weight_norm``), the hooks of
    ``torch.nn.utils.weight_norm`` and ``spectral_norm``, and masks of ``torch.nn.utils.prune``
    (`upscale_opt.permanently_pruned`). A fine-tuning of the copy, or of its export, trains the plain weights.

    Parameters
    ----------
    model
        Any module; it is not changed.

    Examples
    --------
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 1))
    >>> [name for name, _ in plain_weights(layer).named_parameters()]
    ['bias', 'weight']
    """
    result = permanently_pruned(model)
    for module in list(result.modules()):
        for hook, remove in list(_hooks(module)):
            remove(module, hook.name)
        if parametrize.is_parametrized(module):
            _give_class_of_its_own(module)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return result


def computed_weights(model: nn.Module) -> tuple[str, ...]:
    """What computes weights of a model whenever a layer is called, each kind once; empty if all are plain."""
    found = [PRUNE] if is_pruned(model) else []
    for module in model.modules():
        found += [type(hook).__name__ for hook, _ in _hooks(module)]
        if parametrize.is_parametrized(module):
            parts = module.parametrizations.values()  # type: ignore[operator]
            found += [type(own).__name__.strip("_") for part in parts for own in part]
    return tuple(dict.fromkeys(found))


def _give_class_of_its_own(module: nn.Module) -> None:
    """A copy shares the class of the parametrised module, from which torch would take the weight away."""
    kind = type(module)
    members = {name: own for name, own in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, members)


def _hooks(module: nn.Module) -> Iterator[tuple[Any, Callable[[nn.Module, str], Any]]]:
    """The hooks of a module that compute a weight, and what removes each."""
    kinds = {"weight_norm": ("WeightNorm", remove_weight_norm), "spectral_norm": ("SpectralNorm", remove_spectral_norm)}
    for hook in module._forward_pre_hooks.values():
        for home, (kind, remove) in kinds.items():
            # The functions have the names of their modules and hide them.
            if isinstance(hook, getattr(sys.modules[f"torch.nn.utils.{home}"], kind)):
                yield hook, remove
