"""Mask files: JSON or safetensors, or the masks of a plan. This module reads no pickles and does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from problems import ProblemError
from problems.blocks import MAX_SIZE
from problems.files import json_of, read_bytes, write_bytes_atomically, write_text_atomically
from upscale_opt.arguments.entrance import arrays_by_name, entrance
from upscale_opt.errors import MaskError, PlanError

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".npy", ".npz")


@entrance()
def read_masks(path: str | Path) -> Any:
    """Read masks from a file, in a form that `upscale_opt.normalise_masks` accepts.

    A ``.safetensors`` file has one Boolean tensor per weight. Any other file is JSON: a plan; or an object of weight or
    module names to lists of kept channels or of Booleans; or a list of pairs of a name and a *pruned* channel. Formats:
    docs/masks.md.

    Returns
    -------
    dict or list
        Masks by name, or the pairs.

    Raises
    ------
    MaskError
        If the file cannot be read or has no masks. Pickles are refused, because reading one may run any program.
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        raise MaskError(f"{path} may be a pickle, which is not read; save masks with upscale_opt.save_masks")
    try:
        content = read_bytes(path)
    except ProblemError as error:
        raise MaskError(str(error)) from error
    return _from_safetensors(content, path) if path.suffix.lower() == ".safetensors" else _from_json(content, path)


@entrance(masks=arrays_by_name)
def save_masks(masks: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write masks to a file. The format is safetensors if the name ends in ``.safetensors``, else JSON.

    A safetensors file has Boolean tensors. JSON has lists of Booleans.

    Parameters
    ----------
    masks
        Weight name to Boolean array.
    path
        The file to write.
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(mask, dtype=bool) for name, mask in masks.items()}
    if path.suffix.lower() == ".safetensors":
        from safetensors.numpy import save

        write_bytes_atomically(save(arrays), path)
    else:
        write_text_atomically(json.dumps({name: mask.tolist() for name, mask in arrays.items()}) + "\n", path)


def _from_safetensors(content: bytes, path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MaskError(f"{path} is no safetensors file of masks ({error})") from error
    for name, tensor in tensors.items():
        if tensor.dtype != bool or tensor.ndim != 1:
            raise MaskError(
                f"{path}: {name!r} is {tensor.dtype} of shape {tensor.shape}; masks are Boolean vectors, True = kept"
            )
    return tensors


def _from_json(content: bytes, path: Path) -> Any:
    try:
        document = json_of(content, path)
    except ProblemError as error:
        raise MaskError(str(error)) from error
    if isinstance(document, dict) and isinstance(document.get("format"), str):
        from upscale_opt.planning.plan_files import read_plan

        try:
            return dict(read_plan(path).masks)
        except PlanError as error:
            raise MaskError(str(error)) from error
    if isinstance(document, list):
        return [_pair(own, path) for own in document]
    if not isinstance(document, dict):
        raise MaskError(
            f"{path} must hold an object of weight names to lists of kept channels or of Booleans, or a list of pairs "
            "of a weight name and a pruned channel"
        )
    for name, mask in document.items():
        _require_mask(mask, f"{path}: the mask of {name!r}")
    return document


def _pair(own: Any, path: Path) -> tuple[str, int]:
    """A pair of a weight name and a pruned channel."""
    if not isinstance(own, list) or len(own) != 2 or not isinstance(own[0], str) or type(own[1]) is not int:
        raise MaskError(f'{path} holds a list, so each entry must be a pair such as ["layer1.0.conv1.weight", 3]')
    return own[0], own[1]


def _require_mask(mask: Any, where: str) -> None:
    """Raise an error unless a mask is a list of Booleans, or a list of different channels."""
    kinds = {type(own) for own in mask} if isinstance(mask, list) else {type(mask)}
    if not (kinds <= {bool} or kinds <= {int}):
        raise MaskError(f"{where} must be a list of kept channels, or one of Booleans")
    if kinds == {int} and (min(mask) < 0 or max(mask) >= MAX_SIZE or len(set(mask)) < len(mask)):
        raise MaskError(f"{where} must list the channels that are kept, from 0, each once")
