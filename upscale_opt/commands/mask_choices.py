"""The options on masks, and how they become one mask for every consumer.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upscale_opt.arguments.amounts import require_amount, require_rounding
from upscale_opt.arguments.modes import BOTH, CONSTRAINED, INPUT, MODES, OUTPUT, rounding
from upscale_opt.commands import options, spreading
from upscale_opt.errors import MaskError
from upscale_opt.planning.mask_files import read_masks

if TYPE_CHECKING:
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.tracing.graphs import Graph


class Rounding:
    """Options with `--round-to` among them."""

    round_to: str

    @property
    def rounding(self) -> str | int:
        """What --round-to says: a multiple, or how counts are measured."""
        return rounding(self.round_to, "round_to")

    @property
    def multiple(self) -> int:
        """The multiple of --round-to; 1 if counts are measured."""
        return self.rounding if isinstance(self.rounding, int) else 1


@dataclass(frozen=True)
class MaskChoice(Rounding):
    """The options on masks of a command. Each field is the option with its name.

    Raises
    ------
    MaskError
        If a value is invalid, or does not go with the others.
    """

    amount: options.Amount = "0.5"
    masks: options.Masks = None
    mode: options.Mode = INPUT
    ignore: options.Ignore = ()  # type: ignore[assignment]
    round_to: options.RoundTo = "1"
    min_channels: options.MinChannels = 1
    output_masks: options.OutputMasks = None

    def __post_init__(self) -> None:
        require_amount(self.amount)
        require_rounding(self.multiple, self.min_channels)
        if self.mode not in MODES:
            raise MaskError(f"there is no mode {self.mode!r}; choose from {', '.join(MODES)}")
        if self.is_given and (self.mode != INPUT or self.ignore):
            option = "--mode" if self.mode != INPUT else "--ignore"
            raise MaskError(f"{self._given} already selects the channels; leave out {option}, which goes with --amount")
        require_own_masks(self.rounding, self.mode, self.output_masks is not None)

    def check_typed(self) -> None:
        """Raise `UpscaleError` if the user typed an amount although mask files decide what is kept."""
        if self.is_given:
            spreading.refuse(("amount",), f"{self._given} says which channels stay")

    @property
    def _given(self) -> str:
        return "--masks" if self.masks is not None else "--output-masks"

    @property
    def is_given(self) -> bool:
        """Whether mask files decide what is kept, instead of an amount."""
        return self.masks is not None or self.output_masks is not None

    def __str__(self) -> str:
        inputs = [f"masks {self.masks}"] if self.masks is not None else []
        outputs = [f"output masks {self.output_masks}"] if self.output_masks is not None else []
        source = ", ".join([*inputs, *outputs]) or f"amount {self.amount}"
        return source if self.mode == INPUT else f"{source} {self.mode}"

    def to_dict(self) -> dict[str, Any]:
        """The choice, for the JSON document."""
        return {
            "mode": self.mode,
            "ignore": list(self.ignore),
            "round_to": self.rounding,
            "min_channels": self.min_channels,
        }


def settle(graph: Graph, choice: MaskChoice) -> MaskedGraph:
    """Make a mask for every consumer of a traced model.

    Raises
    ------
    MaskError
        If a mask file cannot be read, or a name in the file or a name to ignore is unknown.
    """
    from upscale_opt.masking.constrained import constrained_masks
    from upscale_opt.masking.input_masks import effective_masks, l2_masks
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.masking.rounding import kept_channels_report

    how = {"round_to": choice.multiple, "min_channels": choice.min_channels}
    if choice.mode == CONSTRAINED:
        asked = constrained_masks(graph, choice.amount, ignore=choice.ignore)
        masks = constrained_masks(graph, choice.amount, ignore=choice.ignore, **how)
        return MaskedGraph(graph, masks, report=kept_channels_report(graph, asked, masks))
    if choice.mode == OUTPUT or choice.is_given:
        given = None if choice.masks is None else read_masks(choice.masks)
        return effective_masks(graph, given, **how)
    outputs = settle_outputs(graph, choice)
    return effective_masks(graph, l2_masks(graph, choice.amount, ignore=choice.ignore, output_masks=outputs), **how)


def require_own_masks(rounding: str | int, mode: str, has_output_masks: bool = False) -> None:
    """Raise `MaskError` if counts are to be measured although consumers do not keep channels each by itself."""
    if isinstance(rounding, str) and (mode != INPUT or has_output_masks):
        what = f"--mode {mode}" if mode != INPUT else "--output-masks"
        raise MaskError(
            f"--round-to {rounding} rounds what every consumer keeps by itself, which {what} does not leave to it; "
            "give a multiple such as 8"
        )


def settle_outputs(graph: Graph, choice: MaskChoice) -> dict[str, Any]:
    """Make the output masks of a choice. In modes of the input side, there are none.

    Raises
    ------
    MaskError
        If a mask file cannot be read or does not fit, or a name to ignore is unknown.
    """
    from upscale_opt.masking.output_masks import l2_output_masks, normalise_output_masks

    if choice.output_masks is not None:
        return normalise_output_masks(graph, read_masks(choice.output_masks))
    if choice.mode not in (OUTPUT, BOTH):
        return {}
    return l2_output_masks(
        graph,
        choice.amount,
        ignore=choice.ignore,
        round_to=choice.multiple,
        min_channels=choice.min_channels,
    )
