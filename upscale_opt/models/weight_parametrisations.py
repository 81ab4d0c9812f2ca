"""Replaces weights that are computed at every call of their layer by plain parameters.

Examples are parametrisations, weight_norm and spectral_norm. `upscale_opt.trace` finds no weight in such a layer, so
its channels cannot be removed. A copy with plain weights computes the same and can be pruned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm

from upscale_opt.arguments.entrance import entrance
from upscale_opt.models.standardised_weights import layers_with_computed_weights
from upscale_opt.models.torch_prune import is_pruned, permanently_pruned

Model = TypeVar("Model", bound=nn.Module)
PRUNE = "torch.nn.utils.prune"


@entrance()
def plain_weights(model: Model) -> Model:
    """Return a copy of a model in eval mode whose weights are plain parameters. The copy computes the same.

    Removed are parametrisations (``torch.nn.utils.parametrize``, such as ``parametrizations.weight_norm``), the hooks
    of ``torch.nn.utils.weight_norm`` and ``spectral_norm``, and masks of ``torch.nn.utils.prune``
    (`upscale_opt.permanently_pruned`). Layers that standardise their weight in forward become plain layers, if their
    forward is one convolution or linear layer whose weight is computed from their own parameters only. Fine-tuning the
    copy, or its export, trains the plain weights.

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
    for path, plain in list(layers_with_computed_weights(result)):
        if not path:
            return plain  # type: ignore[return-value]
        layer = result.get_submodule(path)
        for outer in result.modules():
            for name in [own for own, child in outer._modules.items() if child is layer]:
                outer._modules[name] = plain
    return result


def computed_weights(model: nn.Module) -> tuple[str, ...]:
    """Name the mechanisms that compute weights at every call of a layer, each once. Empty if all weights are plain."""
    found = [PRUNE] if is_pruned(model) else []
    for module in model.modules():
        found += [type(hook).__name__ for hook, _ in _hooks(module)]
        if parametrize.is_parametrized(module):
            parts = module.parametrizations.values()  # type: ignore[operator]
            found += [type(own).__name__.strip("_") for part in parts for own in part]
    found += [type(model.get_submodule(path)).__name__ for path, _ in layers_with_computed_weights(model)]
    return tuple(dict.fromkeys(found))


def _give_class_of_its_own(module: nn.Module) -> None:
    """Give a copied module its own class.

    A copy shares the class of the original parametrised module. When torch removes a parametrisation, it deletes the
    weight's property from that class, and this would break the original.
    """
    kind = type(module)
    members = {name: own for name, own in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, members)


def _hooks(module: nn.Module) -> Iterator[tuple[Any, Callable[[nn.Module, str], Any]]]:
    """Yield the hooks of a module that compute a weight, each with the function that removes it."""
    kinds = {"weight_norm": ("WeightNorm", remove_weight_norm), "spectral_norm": ("SpectralNorm", remove_spectral_norm)}
    for hook in module._forward_pre_hooks.values():
        for home, (kind, remove) in kinds.items():
            # In torch.nn.utils the functions hide the modules of the same names, so look in sys.modules.
            if isinstance(hook, getattr(sys.modules[f"torch.nn.utils.{home}"], kind)):
                yield hook, remove
