"""Which masks a command line asks for, and from there to a mask for every consumer.

torch is imported inside the function that needs it, so that ``solve --instance`` does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upscale_opt import options
from upscale_opt.amounts import require_amount, require_rounding
from upscale_opt.errors import MaskError
from upscale_opt.mask_files import read_masks
from upscale_opt.modes import BOTH, CONSTRAINED, INPUT, MODES, OUTPUT

if TYPE_CHECKING:
    from upscale_opt.graphs import Graph
    from upscale_opt.masks import EffectiveMasks


@dataclass(frozen=True)
class MaskChoice:
    """The options on masks of a command; each field is the option of its name.

    Raises
    ------
    MaskError
        If a value makes no sense, alone or beside the others.
    """

    amount: options.Amount = "0.5"
    masks: options.Masks = None
    mode: options.Mode = INPUT
    ignore: options.Ignore = ()  # type: ignore[assignment]
    round_to: options.RoundTo = 1
    min_channels: options.MinChannels = 1

    def __post_init__(self) -> None:
        require_amount(self.amount)
        require_rounding(self.round_to, self.min_channels)
        if self.mode not in MODES:
            raise MaskError(f"there is no mode {self.mode!r}; choose from {', '.join(MODES)}")
        if self.masks is not None and (self.mode != INPUT or self.ignore):
            option = "--mode" if self.mode != INPUT else "--ignore"
            raise MaskError(f"--masks says which channels stay; leave out {option}, which goes with --amount")

    def __str__(self) -> str:
        source = f"masks {self.masks}" if self.masks else f"amount {self.amount}"
        return source if self.mode == INPUT else f"{source} {self.mode}"

    def to_dict(self) -> dict[str, Any]:
        """What the JSON document says of the choice."""
        return {
            "mode": self.mode,
            "ignore": list(self.ignore),
            "round_to": self.round_to,
            "min_channels": self.min_channels,
        }


def settle(graph: Graph, choice: MaskChoice) -> EffectiveMasks:
    """A mask for every consumer of a traced model.

    Raises
    ------
    MaskError
        If a file of masks cannot be read, or a name in it or among those to ignore is unknown.
    """
    from upscale_opt.constrained import constrained_masks
    from upscale_opt.masks import EffectiveMasks, effective_masks, l2_masks, normalise_masks
    from upscale_opt.rounding import kept_channels_report

    rounding = {"round_to": choice.round_to, "min_channels": choice.min_channels}
    if choice.mode == CONSTRAINED:
        asked = constrained_masks(graph, choice.amount, ignore=choice.ignore)
        masks = constrained_masks(graph, choice.amount, ignore=choice.ignore, **rounding)
        return EffectiveMasks(masks, (), kept_channels_report(graph, asked, masks))
    if choice.mode == OUTPUT:
        return effective_masks(graph, {}, **rounding)
    if choice.masks is not None:
        return effective_masks(graph, normalise_masks(graph, read_masks(choice.masks)), **rounding)
    outputs = settle_outputs(graph, choice)
    return effective_masks(graph, l2_masks(graph, choice.amount, ignore=choice.ignore, outputs=outputs), **rounding)


def settle_outputs(graph: Graph, choice: MaskChoice) -> dict[str, Any]:
    """The output masks of producers that a choice asks for; none on the input side.

    Raises
    ------
    MaskError
        If a name to ignore is unknown.
    """
    from upscale_opt.output_masks import l2_output_masks

    if choice.mode not in (OUTPUT, BOTH):
        return {}
    return l2_output_masks(
        graph,
        choice.amount,
        ignore=choice.ignore,
        round_to=choice.round_to,
        min_channels=choice.min_channels,
    )
