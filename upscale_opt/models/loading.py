"""Builds models by name: from torchvision, from timm, or by a factory function in a Python file.

The weights are random, the library's default, or loaded from a checkpoint.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import urllib.error
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import ModelError
from upscale_opt.models.python_files import function_in, in_file, require_there
from upscale_opt.models.references import ModelReference
from upscale_opt.models.torch_prune import permanent_state
from upscale_opt.models.wrappers import unwrapped, without_prefixes

TIMM = "timm:"
"""Prefix of the names of timm's models."""

_libraries: list[torch.library.Library] = []  # keeps the libraries alive: torch removes registrations of deleted ones


@entrance()
def load_model(reference: ModelReference) -> nn.Module:
    """Build a model, in eval mode, on the CPU.

    Parameters
    ----------
    reference
        The model's name (torchvision's, ``timm:NAME``, or ``path/to/file.py:factory``), weights and seed.
        ``torch.manual_seed(seed)`` is called just before the model is built, and so determines random weights.

    Raises
    ------
    ModelError
        If there is no such model (the message has similar names), or its weights cannot be loaded.
    """
    torch.manual_seed(reference.seed)
    default = reference.weights == "DEFAULT"
    own = in_file(reference.name)
    if own is not None:
        if default:
            raise ModelError("--weights DEFAULT is for torchvision's and timm's models; give the path of a checkpoint")
        model = _from_file(*own)
    elif reference.name.startswith(TIMM):
        model = _from_timm(reference.name.removeprefix(TIMM), pretrained=default)
    else:
        model = _from_torchvision(reference.name, "DEFAULT" if default else None)
    if reference.weights is not None and not default:
        load_weights(model, reference.weights)
    return unwrapped(model).eval()


def require_known(name: str) -> None:
    """Require a model's name that `load_model` knows, without building the model.

    Parameters
    ----------
    name
        As in `ModelReference.name`. A file must be there; its factory is not looked for.

    Raises
    ------
    ModelError
        If there is no such model (the message has similar names), or its package is missing.

    Examples
    --------
    >>> require_known("resnet18")
    >>> require_known("resnet1")
    Traceback (most recent call last):
        ...
    upscale_opt.errors.ModelError: there is no model 'resnet1'; did you mean resnet18 or resnet152 or resnet101?
    """
    own = in_file(name)
    if own is None and name.startswith(TIMM):
        _timm_with(name.removeprefix(TIMM))
    elif own is None:
        _torchvision_with(name)
    else:
        require_there(own[0], "factory", ModelError)


def has_random_weights(reference: ModelReference) -> bool:
    """Whether the weights of a model are known to be random. A factory in a file may set any weights."""
    return reference.weights is None and in_file(reference.name) is None


def in_memory_format(name: str, x: torch.Tensor, *models: nn.Module) -> torch.Tensor:
    """Return an input in a memory format (``contiguous`` or ``channels_last``). Convert the models in place."""
    if name == "contiguous":
        return x
    for model in models:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return x.to(memory_format=torch.channels_last)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a model, in place.

    The file is a ``.safetensors`` file, or a state_dict saved by torch (loaded with ``weights_only=True``). Three
    further forms are supported. The state_dict may be stored under the key ``state_dict`` or ``model``. It may come
    from a model that was pruned with `torch.nn.utils.prune`; its masks are then applied. It may come from a wrapped
    model (``module.``, ``_orig_mod.``, see `upscale_opt.models.wrappers.without_prefixes`).

    Raises
    ------
    ModelError
        If the file cannot be read, or does not fit the model.
    """
    model = unwrapped(model)
    names = model.state_dict().keys()
    state = permanent_state(without_prefixes(read_state_dict(path), names), names)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the checkpoint {path} does not fit the model ({reason})") from error


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the state_dict in a checkpoint file; see `load_weights` for the formats.

    Raises
    ------
    ModelError
        If the file cannot be read, or has no state_dict.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if str(path).endswith(".safetensors"):
            return load(Path(path).read_bytes())
        document: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"the checkpoint {path} is no safetensors file ({error})") from error
    except Exception as error:  # broken content can make torch.load raise any exception
        raise ModelError(
            f"the checkpoint {path} cannot be loaded with weights_only=True; save a plain state_dict with torch.save"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(document, dict) and isinstance(document.get(key), dict):
            document = document[key]
    if not isinstance(document, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in document.values()):
        raise ModelError(
            f"the checkpoint {path} holds no state_dict; save one with torch.save(model.state_dict(), ...)"
        )
    return document


def import_torchvision() -> ModuleType:
    """Import `torchvision`, also if torch is a CPU-only wheel and torchvision was built for CUDA.

    In that case torchvision's operators cannot load, and its import fails because ``torchvision::nms`` does not exist.
    The models do not use these operators, so it is enough to register their schemas without any implementation.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return importlib.import_module("torchvision")


def _torchvision_with(name: str) -> ModuleType:
    """torchvision's models, if there is one of this name."""
    import_torchvision()
    models = importlib.import_module("torchvision.models")
    known = models.list_models()
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "name a torchvision model, timm:NAME or path/to/file.py:factory"
        )
        raise ModelError(f"there is no model {name!r}; {hint}")
    return models


def _from_torchvision(name: str, weights: str | None) -> nn.Module:
    models = _torchvision_with(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # googlenet, inception_v3: their initialisation will change
            return models.get_model(name.lower(), weights=weights, **_without_backbone_weights(models, name.lower()))
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(
            f"cannot download the default weights of {name} ({error}); give --weights the path of a checkpoint"
        ) from error


def _timm_with(name: str) -> ModuleType:
    """The package timm, if it has a model of this name."""
    import_torchvision()  # timm imports torchvision
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModelError(f"{TIMM}{name} needs timm; run: pip install -e '.[timm]'") from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(TIMM + other for other in near)}?" if near else "see timm.list_models()"
        raise ModelError(f"there is no model {TIMM + name!r}; {hint}")
    return timm


def _from_timm(name: str, *, pretrained: bool) -> nn.Module:
    timm = _timm_with(name)
    try:
        return timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # the type of the hub's exception depends on the connection
        if not pretrained:
            raise
        raise ModelError(
            f"cannot download the default weights of {TIMM}{name} ({' '.join(str(error).split())[:200]}); "
            "give --weights the path of a checkpoint"
        ) from error


def _without_backbone_weights(models: ModuleType, name: str) -> dict[str, None]:
    """Return the argument that stops segmentation and detection models from downloading backbone weights."""
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    return {"weights_backbone": None} if "weights_backbone" in parameters else {}


def _from_file(path: Path, factory: str) -> nn.Module:
    function = function_in(path, factory, "factory", ModelError)
    try:
        model = function()
    except Exception as error:
        raise ModelError(f"{factory}() in {path} failed ({type(error).__name__}: {error})") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{factory}() in {path} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model
