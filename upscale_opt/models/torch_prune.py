"""Models pruned with `torch.nn.utils.prune`: their masks, and a copy in which the pruning is permanent.

A pruned module computes its weight from ``weight_orig`` and ``weight_mask`` in a hook, at every call. A hook can do
anything, so `upscale_opt.trace` pins all channels that the module touches. A permanently pruned copy has no such hooks,
but plain weights with zeros.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.prune import BasePruningMethod

from problems.showing.reprs import shown_as
from upscale_opt.arguments.entrance import entrance
from upscale_opt.arguments.mask_arrays import MaskHolder
from upscale_opt.errors import MaskError
from upscale_opt.models.attributes import copied
from upscale_opt.showing.cards import pruning_card

Model = TypeVar("Model", bound=nn.Module)


@shown_as(pruning_card)
@dataclass(frozen=True, eq=False)
class PruningMasks(MaskHolder):
    """The whole input and output channels that masks of `torch.nn.utils.prune` drop. Scattered zeros are ignored.

    Attributes
    ----------
    columns
        Weight name to Boolean array. An entry is False if the mask of that input channel is all zero.
        `upscale_opt.normalise_masks` accepts these masks. Depthwise convolutions are left out, because their inputs
        are not masked.
    rows
        Weight name to Boolean array. An entry is False if the mask of that output channel is all zero. The value of
        such a channel is its bias.
    """

    columns: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]

    def __str__(self) -> str:
        (inputs, columns), (outputs, rows) = (
            (sum(int((~mask).sum()) for mask in side.values()), sum(mask.size for mask in side.values()))
            for side in (self.columns, self.rows)
        )
        weights = len(self.columns.keys() | self.rows.keys())
        return f"{weights} weights drop {inputs} of {columns} input channels and {outputs} of {rows} output channels"

    def of_inputs(self) -> dict[str, np.ndarray]:
        """Return the columns, if they describe the whole pruning.

        Raises
        ------
        MaskError
            If output channels are dropped, too: masks of input channels cannot express this.
        """
        dropped = list(self.of_outputs())
        if dropped:
            others = f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
            raise MaskError(
                f"the pruning drops output channels of {dropped[0]}{others}, and masks are of input channels; give the "
                "field columns as masks, and rows as outputs (--output-masks on the command line) if what these "
                "channels become behind a normalisation shall be zero, too (prune, prepare and compare do both)"
            )
        return self.columns

    def of_outputs(self) -> dict[str, np.ndarray]:
        """Return the rows of all weights that lose channels. `upscale_opt.normalise_output_masks` accepts them."""
        return {weight: mask for weight, mask in self.rows.items() if not mask.all()}


def is_pruned(model: nn.Module) -> bool:
    """Whether any module of a model has masks of `torch.nn.utils.prune` that are not permanent yet."""
    return any(True for _ in _pruned_tensors(model))


@entrance()
def masks_from_pruning(model: nn.Module) -> PruningMasks:
    """Return the masks of convolutions and linear layers that were pruned with `torch.nn.utils.prune`.

    An export does not need this function: it finds the zero columns of a permanently pruned model
    (`permanently_pruned`) by itself. Use it to look at the masks, or to apply them to another model of the same
    architecture.

    Parameters
    ----------
    model
        Pruned by ``ln_structured``, ``random_structured`` or any other method, one or several times.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(4, 2, 1))
    >>> _ = nn.utils.prune.ln_structured(model[0], "weight", amount=0.5, n=2, dim=1)
    >>> int(masks_from_pruning(model).columns["0.weight"].sum())
    2
    """
    columns: dict[str, np.ndarray] = {}
    rows: dict[str, np.ndarray] = {}
    for path, module, method in _pruned_tensors(model):
        if method._tensor_name != "weight" or not isinstance(module, (_ConvNd, nn.Linear)):
            continue
        name = f"{path}.weight".removeprefix(".")
        mask = module.get_buffer("weight_mask") != 0
        groups = int(getattr(module, "groups", 1))
        columns[name] = _any(mask, 1)
        rows[name] = _any(mask, 0)
        if getattr(module, "transposed", False):
            # The groups divide the input axis. The output channels of the groups follow one after the other.
            columns[name] = _any(mask, 0)
            rows[name] = np.concatenate([_any(part, 1) for part in mask.chunk(groups)])
        if 1 < groups == getattr(module, "in_channels", 1):
            del columns[name]
    return PruningMasks(columns, rows)


@entrance()
def permanently_pruned(model: Model) -> Model:
    """Return a copy of a model in which the pruning by `torch.nn.utils.prune` is permanent.

    The copy has zeros in its weights, and no masks and no hooks of the pruning. The result is as after
    ``torch.nn.utils.prune.remove`` on every pruned tensor, with two differences. The model itself is not changed.
    A tensor that several modules share gets zeros only in those modules in which it is pruned.

    Parameters
    ----------
    model
        Any module, pruned or not.
    """
    result = copied(model)
    made: dict[int, list[tuple[torch.Tensor, nn.Parameter]]] = {}
    for _, module, method in list(_pruned_tensors(result)):
        name = method._tensor_name
        original, mask = module._parameters.pop(f"{name}_orig"), module._buffers.pop(f"{name}_mask")
        assert original is not None and mask is not None
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is method]:
            del module._forward_pre_hooks[key]
        if name in vars(module):
            delattr(module, name)
        # Modules that share both a tensor and its mask share the new parameter.
        shared = made.setdefault(id(original), [])
        parameter = next((own for other, own in shared if torch.equal(other, mask)), None)
        if parameter is None:
            pruned = original.detach() * mask.to(original.dtype)
            parameter = nn.Parameter(pruned, requires_grad=original.requires_grad)
            shared.append((mask, parameter))
        setattr(module, name, parameter)
    return result


def permanent_state(state: Mapping[str, torch.Tensor], names: Container[str]) -> dict[str, torch.Tensor]:
    """Convert a state_dict of a pruned model to one of a model without masks.

    ``X_orig`` and ``X_mask`` become their product ``X``.

    Parameters
    ----------
    state
        The state_dict.
    names
        Names in the state_dict of the model that will load it. An entry with such a name is not converted.
    """
    result = dict(state)
    for name in state:
        plain = name.removesuffix("_orig")
        if plain != name and name not in names and f"{plain}_mask" in state:
            original, mask = result.pop(name), result.pop(f"{plain}_mask")
            result[plain] = original * mask.to(original.dtype)
    return result


def _pruned_tensors(model: nn.Module) -> Iterator[tuple[str, nn.Module, BasePruningMethod]]:
    """Yield every pruned tensor: the path of its module, the module, and the hook, which holds the tensor's name."""
    for path, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, BasePruningMethod):
                yield path, module, hook


def _any(mask: torch.Tensor, axis: int) -> np.ndarray:
    """Whether any entry along the other axes is kept: bool, shape (length of the axis,)."""
    return mask.transpose(0, axis).flatten(1).any(dim=1).cpu().numpy()
