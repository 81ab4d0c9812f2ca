"""Converts masks to Boolean arrays.

The caller may give Booleans, zeros and ones, or a list of kept channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from upscale_opt.arguments.checks import described
from upscale_opt.errors import MaskError, UpscaleError

ACCEPTED = "a Boolean array or tensor, True = kept, or a list of kept channels"


class MaskHolder:
    """Base of objects that can be given as masks. They hold more information than the masks.

    Attributes
    ----------
    is_settled
        Whether the object has a mask for every consumer, and reports what had to be changed to get these masks.
    """

    is_settled: ClassVar[bool] = False

    def of_inputs(self) -> Mapping[str, np.ndarray]:
        """Return masks of the input channels of weights, by weight name."""
        raise NotImplementedError

    def of_outputs(self) -> Mapping[str, np.ndarray]:
        """Return masks of the output channels of weights, by weight name."""
        raise NotImplementedError


def boolean_mask(what: str, mask: Any, length: int) -> np.ndarray:
    """Return a mask as a Boolean array.

    Parameters
    ----------
    what
        Name of the mask in error messages, such as ``the mask of fc.weight``.
    mask
        One of three forms. An array or a tensor with one entry per channel: Booleans, or numbers that are all 0 or 1.
        A list of Booleans, one per channel. A list of the indices of the kept channels, each index once.
    length
        Number of channels.

    Raises
    ------
    MaskError
        If the mask has none of these forms, or another length. Also if the list of indices repeats an index, or has
        the index of a channel that does not exist.

    Examples
    --------
    >>> boolean_mask("the mask of fc.weight", [0, 2], 3)
    array([ True, False,  True])
    """
    if isinstance(mask, Sequence) and not isinstance(mask, (str, bytes)):
        array = _array(what, mask)
        if array.dtype != bool:
            return _from_indices(what, array, length)
    else:
        array = _array(what, mask)
    if array.shape != (length,):
        raise MaskError(f"{what} has shape {array.shape}; it must have length {length}")
    return _zeros_and_ones(what, array, MaskError)


def named_masks(
    masks: Mapping[str, Any], of_name: Callable[[str], tuple[str, int]], kind: str = "mask"
) -> dict[str, np.ndarray]:
    """Return Boolean masks by the names of weights.

    Parameters
    ----------
    masks
        Names to masks. A mask has any form that `boolean_mask` accepts.
    of_name
        Maps a name to the name of its weight and the number of channels of its mask.
    kind
        The word for a mask in error messages.

    Raises
    ------
    MaskError
        If a mask is not valid, or two names of one weight have different masks.
    """
    result: dict[str, np.ndarray] = {}
    named: dict[str, str] = {}
    for name, mask in masks.items():
        weight, length = of_name(name)
        array = boolean_mask(f"the {kind} of {name}", mask, length)
        if weight in result and not np.array_equal(result[weight], array):
            raise MaskError(
                f"{named[weight]!r} and {name!r} name the same weight and have different {kind}s; give it one {kind}"
            )
        result[weight], named[weight] = array, name
    return result


def boolean_arrays(masks: Mapping[str, Any], what: str, error: type[UpscaleError] = MaskError) -> dict[str, np.ndarray]:
    """Return Boolean masks by the names of weights, without the network.

    Lists of kept channels are not supported: without the network, the number of channels is unknown.

    Raises
    ------
    UpscaleError
        An error of the type `error`, if a mask is not a vector of Booleans, or of zeros and ones.
    """
    result = {}
    for name, mask in masks.items():
        own = f"{what} of {name}"
        array = _array(own, mask, error)
        if array.ndim != 1:
            raise error(f"{own} has shape {array.shape}; it must be a vector of Booleans, True = kept")
        result[name] = _zeros_and_ones(own, array, error)
    return result


def _array(what: str, mask: Any, error: type[UpscaleError] = MaskError) -> np.ndarray:
    if hasattr(mask, "detach"):  # a tensor; this test needs no import of torch
        if mask.is_meta:
            raise error(f"{what} is on the meta device, without values; give {ACCEPTED}")
        if str(mask.layout) != "torch.strided":
            raise error(f"{what} is a sparse tensor; give {ACCEPTED}")
        mask = (mask.double() if mask.is_floating_point() else mask).detach().cpu().numpy()
    try:
        array = np.asarray(mask)
    except ValueError as jagged:
        raise error(f"{what} has parts of different lengths; give {ACCEPTED}") from jagged
    if array.dtype.kind not in "biuf":
        if isinstance(mask, Sequence) and not len(mask):
            return array
        raise error(f"{what} is {described(mask)}; give {ACCEPTED}")
    return array


def _zeros_and_ones(what: str, array: np.ndarray, error: type[UpscaleError]) -> np.ndarray:
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise error(f"{what} must be Boolean, or a list of kept channels")
    return array.astype(bool)


def _from_indices(what: str, indices: np.ndarray, length: int) -> np.ndarray:
    mask = np.zeros(length, dtype=bool)
    if indices.size == 0:
        return mask
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise MaskError(f"{what} must be Boolean, or a list of kept channels")
    outside = indices[(indices < 0) | (indices >= length)]
    if outside.size:
        raise MaskError(f"{what} keeps channel {outside[0]}, which does not exist; it has {length}")
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise MaskError(
            f"{what} has channel {values[counts > 1][0]} more than once; list each kept channel once, or give Booleans"
        )
    mask[indices] = True
    return mask


def pruned_pairs(
    pairs: Iterable[Any], of_name: Callable[[str], tuple[str, int]], side: str = "input"
) -> dict[str, np.ndarray]:
    """Return Boolean masks from UPSCALE's format: pairs of a parameter's name and a *pruned* channel.

    Parameters
    ----------
    pairs
        The pairs.
    of_name
        Maps a name to the name of its weight and the number of channels of its mask.
    side
        What the channels are, for error messages: ``input`` or ``output``.

    Raises
    ------
    MaskError
        If an entry is not such a pair, or its channel does not exist.
    """
    result: dict[str, np.ndarray] = {}
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise MaskError(
                f"the masks hold {described(pair)}; give a mapping of weight names to masks, or pairs of a weight's "
                "name and a pruned channel"
            )
        name, channel = pair
        weight, length = of_name(name)
        if isinstance(channel, (bool, np.bool_)) or not isinstance(channel, (int, np.integer)):
            raise MaskError(f"the pruned channel {described(channel)} of {weight} is no whole number; give its index")
        if not 0 <= channel < length:
            raise MaskError(f"channel {channel} of {weight} does not exist; it has {length} {side} channels")
        result.setdefault(weight, np.ones(length, dtype=bool))[channel] = False
    return result
