"""The command `prune`: makes masks by any importance, and writes the masked weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale_opt.arguments.amounts import require_amount, require_rounding
from upscale_opt.arguments.modes import AUTO, CONSTRAINED, INPUT, OUTPUT
from upscale_opt.commands import data_options, options, spreading
from upscale_opt.commands.front_ends import FrontEnd
from upscale_opt.commands.mask_choices import MaskChoice, Rounding, require_own_masks
from upscale_opt.commands.measuring import Measuring
from upscale_opt.commands.sessions import Run, Search, Setting, load_model_and_input, reference_of, remark, say
from upscale_opt.errors import MaskError, UpscaleError
from upscale_opt.planning.mask_files import save_masks

if TYPE_CHECKING:
    import numpy as np

    from upscale_opt.learning.datasets import Dataset
    from upscale_opt.tracing.graphs import Graph

MASKS, OUTPUT_MASKS = "masks.json", "output_masks.json"
DEFAULT_SHAPE = "1,3,224,224"


@dataclass(frozen=True)
class Ranking(Rounding):
    """The options on which channels to drop. Each field is the option with its name.

    Raises
    ------
    UpscaleError
        If a value is invalid, or does not go with the others.
    """

    importance: options.ImportanceName = "l2"
    amount: options.Amount = "0.5"
    scope: options.Scope = "local"
    mode: options.RankedMode = INPUT
    layer_amount: options.LayerAmounts = ()  # type: ignore[assignment]
    profile: options.ProfileIn = None
    ignore: options.Ignore = ()  # type: ignore[assignment]
    round_to: options.RoundTo = "1"
    min_channels: options.MinChannels = 1
    images: data_options.ScoredImages = 256

    def __post_init__(self) -> None:
        require_amount(self.amount)
        require_rounding(self.multiple, self.min_channels)
        if self.mode not in (INPUT, CONSTRAINED, OUTPUT):
            raise MaskError(f"there is no mode {self.mode!r} for prune; choose {INPUT}, {CONSTRAINED} or {OUTPUT}")
        require_own_masks(self.rounding, self.mode)

    def amounts(self) -> dict[str, float | str]:
        """Layer patterns to amounts: first those of the profile, then those of --layer-amount."""
        return options.layer_amounts(self.layer_amount, self.profile)

    def to_dict(self) -> dict[str, Any]:
        """The options, for the JSON document."""
        values = {name: value for name, value in vars(self).items() if name != "profile"}
        own = {"ignore": list(self.ignore), "layer_amount": self.amounts(), "round_to": self.rounding}
        return {**values, **own}

    def __str__(self) -> str:
        own = "" if not self.amounts() else f" ({len(self.amounts())} with amounts of their own)"
        return f"{self.importance}, amount {self.amount} {self.scope}{own}, {self.mode}"


DEFAULT_RANKING = Ranking()


def prune(
    model: options.Model = None,
    ranking: Ranking = DEFAULT_RANKING,
    data: data_options.ScoredData = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    front_end: FrontEnd = AUTO,
    workers: data_options.Workers = 0,
    objective: options.ObjectiveName = None,
    time_limit: options.TimeLimit = 10.0,
    verify: options.Verify = True,
    out: options.PruneDirectory = None,
    export: options.ExportDirectory = None,
    json: options.JsonPath = None,
) -> None:
    """Choose masks by an importance; write them and the masked weights, and with --export the pruned model."""
    if out is None:
        raise UpscaleError("give --out, a directory for masks and weights")
    if export is None:
        spreading.refuse(("objective", "time_limit", "verify"), "nothing is ordered or exported without --export")
    if data is None:
        spreading.refuse(("workers", "images"), "there are no images to load without --data")
    else:
        spreading.refuse(("input_shape",), "--data has images of a shape of their own")
    amounts = ranking.amounts()
    options.require_settings(objective, time_limit)
    options.require_writable(json)
    options.require_creatable(out)
    options.require_creatable(export)
    images = None if data is None else data_options.loaded(data, workers)
    reference = reference_of(None, model, weights, input_shape, seed)
    if images is not None:
        reference = replace(reference, input_shape=(1, *images.input_shape))
    network, x, notes = load_model_and_input(reference, device)
    remark(notes)
    from safetensors.torch import save

    from problems.files import write_bytes_atomically
    from upscale_opt.latency.environment import environment
    from upscale_opt.rewriting.exports import WEIGHTS_FILE
    from upscale_opt.tracing.trace import trace
    from upscale_opt.verifying.masked_copies import masked_copy

    _require_data(ranking.importance, images, network)
    graph = trace(network, x, front_end=front_end)
    masks = _ranked(graph, ranking, amounts, images, seed)
    summary = ""
    if isinstance(ranking.rounding, str):
        masks, summary = _rounded(graph, masks, x, ranking)
    options.require_directory(out)
    is_output = ranking.mode == OUTPUT  # masks apply after normalisation, so no weight is zero
    axes = {} if is_output else {name: graph.consumers[name].input_axis for name in masks}
    masked = masked_copy(network, {} if is_output else masks, axes)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in masked.state_dict().items()}
    write_bytes_atomically(save(state), out / WEIGHTS_FILE)
    save_masks(masks, out / (OUTPUT_MASKS if is_output else MASKS))
    kept, total = (sum(int(own.sum()) for own in masks.values()), sum(map(len, masks.values())))
    say(f"{ranking}: {kept} of {total} {'output' if is_output else 'input'} channels kept in {len(masks)} layers")
    if summary:
        say(summary)
    say(f"masks and weights: {out}")
    document = {"model": model, "data": data, "seed": seed, **ranking.to_dict(), "environment": environment()}
    document["kept"] = {name: int(mask.sum()) for name, mask in masks.items()}
    if export is not None:
        shape = ",".join(map(str, reference.input_shape))
        given = MaskChoice(output_masks=out / OUTPUT_MASKS) if is_output else MaskChoice(masks=out / MASKS)
        setting = Setting(reference.name, str(out / WEIGHTS_FILE), given, shape, seed, device, front_end=front_end)
        document["verified"] = _export(setting, Search(["greedy", "auto"], objective, time_limit, seed), export, verify)
    options.write_json(document, json)


def _require_data(importance: str, images: Dataset | None, network: Any) -> None:
    """Raise an error if the importance needs images and there are none, or if the images do not fit the model.

    The model must be loaded first, because its file may register the importance.
    """
    from upscale_opt.importance.registry import importance_named

    named = importance_named(importance)
    if images is not None:
        images.require_fitting(network)
        if named.needs_labels:
            images.require_labels(f"the importance {named.name}", "give images with class numbers")
    elif named.needs_data:
        raise MaskError(
            f"the importance {named.name} looks at images; give --data: digits, mnist5k, file.py:function or a folder"
        )


def _ranked(
    graph: Graph, ranking: Ranking, amounts: Mapping[str, float | str], images: Dataset | None, seed: int
) -> dict[str, np.ndarray]:
    """The masks. They drop exactly as many channels as asked for."""
    from problems.showing.progress import ProgressBar
    from upscale_opt.importance.criteria import GLOBAL
    from upscale_opt.importance.ranking import require_reached
    from upscale_opt.importance.registry import importance_named
    from upscale_opt.masking.importance_masks import importance_masks

    batches = None
    if images is not None and importance_named(ranking.importance).needs_data:
        chosen = images.sampled(ranking.images, seed=seed)
        batches = ProgressBar("look at images", chosen, unit="batch", progress=True)
    masks = importance_masks(
        graph,
        ranking.importance,
        ranking.amount,
        scope=ranking.scope,
        mode=ranking.mode,
        amounts=amounts,
        ignore=ranking.ignore,
        data=batches,
        seed=seed,
        round_to=ranking.multiple,
        min_channels=ranking.min_channels,
    )
    if not masks:
        side = "outputs" if ranking.mode == OUTPUT else "inputs"
        raise MaskError(f"the network has no convolution whose {side} can be dropped; choose another model")
    exact = ranking.multiple == ranking.min_channels == 1
    if ranking.scope == GLOBAL and ranking.mode != CONSTRAINED and exact:
        require_reached(graph, masks, ranking.amount, amounts)
    return masks


def _rounded(
    graph: Graph, masks: Mapping[str, np.ndarray], x: Any, ranking: Ranking
) -> tuple[dict[str, np.ndarray], str]:
    """The masks with the counts that measurements here find, and a line on them."""
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.masking.rounding import kept_channels_report, summary

    given = MaskedGraph(graph, masks, report=kept_channels_report(graph, masks, masks))
    found = Measuring().rounded(given, x, ranking.rounding, min_channels=ranking.min_channels)
    how: Any = {"round_to": ranking.rounding, "min_channels": ranking.min_channels}
    return dict(found.masks), summary(found.report, **how)


def _export(setting: Setting, search: Search, directory: Path, verify: bool) -> dict[str, float]:
    """Export the pruned model, with its channels in the best order found."""
    from upscale_opt.planning.solutions import best_solver

    run = Run(setting, search, None)
    run.solve()
    best = best_solver(run.solutions, search.solvers)
    exported = run.export(verify=verify, only=best)[best]
    exported.save(directory, [])
    say(str(exported))
    say(f"pruned model: {directory}")
    return {best: exported.verification.relative_error} if exported.verification is not None else {}
