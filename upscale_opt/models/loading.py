"""Models by name: torchvision's, timm's, or a factory in a Python file, with random, default or loaded weights."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
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
from upscale_opt.models.references import ModelReference
from upscale_opt.models.torch_prune import permanent_state
from upscale_opt.models.wrappers import unwrapped, without_prefixes

TIMM = "timm:"
"""How the names of timm's models begin."""

_libraries: list[torch.library.Library] = []  # a Library's registrations live as long as it does


@entrance()
def load_model(reference: ModelReference) -> nn.Module:
    """Build a model, in eval mode, on the CPU.

    Parameters
    ----------
    reference
        Its name (torchvision's, ``timm:NAME``, or ``path/to/file.py:factory``), weights and seed. Random weights are
        those of ``torch.manual_seed(seed)`` just before the model is built.

    Raises
    ------
    ModelError
        If there is no such model (the message has near matches), or its weights cannot be loaded.
    """
    torch.manual_seed(reference.seed)
    default = reference.weights == "DEFAULT"
    path, colon, factory = reference.name.rpartition(":")
    if colon and path.endswith(".py"):
        if default:
            raise ModelError("--weights DEFAULT is for torchvision's and timm's models; give the path of a checkpoint")
        model = _from_file(Path(path), factory)
    elif reference.name.startswith(TIMM):
        model = _from_timm(reference.name.removeprefix(TIMM), pretrained=default)
    else:
        model = _from_torchvision(reference.name, "DEFAULT" if default else None)
    if reference.weights is not None and not default:
        load_weights(model, reference.weights)
    return unwrapped(model).eval()


def has_random_weights(reference: ModelReference) -> bool:
    """Whether the weights of a model are known to be random; those of a factory in a file may be anything."""
    return reference.weights is None and not reference.name.rpartition(":")[0].endswith(".py")


def in_memory_format(name: str, x: torch.Tensor, *models: nn.Module) -> torch.Tensor:
    """An input in a memory format (``contiguous`` or ``channels_last``); models are converted in place."""
    if name == "contiguous":
        return x
    for model in models:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return x.to(memory_format=torch.channels_last)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint, in place: a ``.safetensors`` file, or a state_dict saved by torch (``weights_only=True``).

    A checkpoint that holds the state_dict under ``state_dict`` or ``model`` is understood, and so is that of a model
    pruned with `torch.nn.utils.prune`, whose masks are applied, and that of a wrapped one (``module.``,
    ``_orig_mod.``, see `upscale_opt.models.wrappers.without_prefixes`).

    Raises
    ------
    ModelError
        If the file cannot be read or does not fit the model.
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
    """The state_dict in a checkpoint file; see `load_weights`.

    Raises
    ------
    ModelError
        If the file cannot be read or holds no state_dict.
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
    except Exception as error:  # torch.load raises whatever the broken content leads to
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
    """`torchvision`, also where torch is a CPU-only wheel and torchvision one built for CUDA.

    Its operators cannot load then, and the import stops because ``torchvision::nms`` does not exist. The models need
    none of them, so registering the bare schemas is enough.
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


def _from_torchvision(name: str, weights: str | None) -> nn.Module:
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # googlenet and inception_v3 announce another initialisation
            return models.get_model(name.lower(), weights=weights, **_without_backbone_weights(models, name.lower()))
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(
            f"cannot download the default weights of {name} ({error}); give --weights the path of a checkpoint"
        ) from error


def _from_timm(name: str, *, pretrained: bool) -> nn.Module:
    import_torchvision()  # timm imports it, too
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModelError(f"{TIMM}{name} needs timm; run: pip install upscale-opt[timm]") from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(TIMM + other for other in near)}?" if near else "see timm.list_models()"
        raise ModelError(f"there is no model {TIMM + name!r}; {hint}")
    try:
        return timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # what the hub raises depends on how it is reached
        if not pretrained:
            raise
        raise ModelError(
            f"cannot download the default weights of {TIMM}{name} ({' '.join(str(error).split())[:200]}); "
            "give --weights the path of a checkpoint"
        ) from error


def _without_backbone_weights(models: ModuleType, name: str) -> dict[str, None]:
    """Segmentation and detection models would download trained weights of their backbone unless told otherwise."""
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    return {"weights_backbone": None} if "weights_backbone" in parameters else {}


def _from_file(path: Path, factory: str) -> nn.Module:
    if not path.is_file():
        raise ModelError(f"there is no file {path}; give path/to/file.py:factory")
    spec = importlib.util.spec_from_file_location(f"_upscale_opt_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file; give path/to/file.py:factory")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ModelError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error
    if not callable(getattr(module, factory, None)):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = f"it has {', '.join(functions)}" if functions else "it has none"
        raise ModelError(f"{path} has no factory {factory!r}; {hint}")
    try:
        model = getattr(module, factory)()
    except Exception as error:
        raise ModelError(f"{factory}() in {path} failed ({type(error).__name__}: {error})") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{factory}() in {path} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model
