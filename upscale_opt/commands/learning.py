"""The training commands: train, evaluate."""

from __future__ import annotations

import functools
import json as json_format
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale_opt.commands import data_options, options, spreading
from upscale_opt.commands.sessions import load_model_and_input, reference_of, refuse_beside, remark, say
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.mask_files import read_masks, save_masks

if TYPE_CHECKING:
    from upscale_opt.learning.datasets import Dataset
    from upscale_opt.learning.distillation import Distillation
    from upscale_opt.learning.learned import Learned
    from upscale_opt.learning.recipes import Recipe
    from upscale_opt.learning.targets import Target
    from upscale_opt.models.references import ModelReference
    from upscale_opt.rewriting.exports import Exported

NONE, FINETUNE, BIP, CGAP, PGAP = METHODS = ("none", "finetune", "bip", "cgap", "pgap")
_TARGET = ("amount", "scope", "layer_amount", "profile", "ignore")
_OF_METHODS = {
    _TARGET: (FINETUNE, BIP, CGAP, PGAP),
    ("finetune_epochs",): (BIP, CGAP, PGAP),
    ("mask_lr", "gamma", "implicit"): (BIP,),
    ("partitions", "rounds"): (CGAP, PGAP),
    ("processes",): (PGAP,),
}
CHECKPOINT, MASKS, LOG = "checkpoint.pt", "masks.json", "log.json"


@dataclass(frozen=True)
class Recipes:
    """The options on training. Each field is the option with its name."""

    epochs: options.Epochs = 20
    lr: options.Rate = 0.05
    momentum: options.Momentum = 0.9
    weight_decay: options.Decay = 5e-4
    batch_size: options.BatchSize = 64
    schedule: options.Schedule = "cosine"
    warmup: options.Warmup = 0.0
    mixed_precision: options.MixedPrecision = False
    finetune_epochs: options.FinetuneEpochs = 0

    def recipe(self, seed: int) -> Recipe:
        """The recipe for the method."""
        from upscale_opt.learning.recipes import Recipe

        values = {name: value for name, value in vars(self).items() if name != "finetune_epochs"}
        return Recipe(**values, seed=seed)

    def finetuning(self, seed: int) -> Recipe | None:
        """The recipe for fine-tuning after the method, if any."""
        own = self.recipe(seed)
        if self.finetune_epochs < 0:
            raise UpscaleError(f"--finetune-epochs is {self.finetune_epochs}; give a number from 0 on")
        return replace(own, epochs=self.finetune_epochs, seed=seed + 10**6) if self.finetune_epochs else None


@dataclass(frozen=True)
class Pruned:
    """The options on the method and on the channels to drop. Each field is the option with its name."""

    method: options.MethodName = FINETUNE
    amount: options.Amount = "0.5"
    scope: options.Scope = "local"
    layer_amount: options.LayerAmounts = ()  # type: ignore[assignment]
    profile: options.ProfileIn = None
    ignore: options.Ignore = ()  # type: ignore[assignment]
    masks: options.LearntMasks = None
    mask_lr: options.MaskRate = 0.1
    gamma: options.Gamma = 1.0
    implicit: options.Implicit = True
    partitions: options.Partitions = 4
    rounds: options.Rounds = 2
    processes: options.Processes = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UpscaleError(f"there is no method {self.method!r}; choose from {', '.join(METHODS)}")
        if self.masks is not None and self.method != FINETUNE:
            raise UpscaleError(f"--masks goes with --method {FINETUNE}; leave it out with {self.method}")

    def check_typed(self) -> None:
        """Raise `UpscaleError` if the user typed an option that the method does not use."""
        for names, methods in _OF_METHODS.items():
            if self.method not in methods:
                spreading.refuse(names, f"--method {self.method} has no use for what is of {', '.join(methods)}")
        if self.masks is not None:
            spreading.refuse(_TARGET, "--masks says which channels stay")

    def target(self) -> Target:
        """The target: how many channels to drop."""
        from upscale_opt.learning.targets import Target

        amounts = options.layer_amounts(self.layer_amount, self.profile)
        return Target(self.amount, self.scope, amounts, tuple(self.ignore))


DEFAULT_RECIPES = Recipes()
DEFAULT_PRUNED = Pruned()
DEFAULT_TEACHING = data_options.Teaching()


def train(
    model: options.Model = None,
    data: data_options.Data = None,
    pruned: Pruned = DEFAULT_PRUNED,
    recipes: Recipes = DEFAULT_RECIPES,
    teaching: data_options.Teaching = DEFAULT_TEACHING,
    weights: options.Weights = None,
    plan: options.PlanIn = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    workers: data_options.Workers = 0,
    out: options.TrainDirectory = None,
    resume: options.Resume = False,
) -> None:
    """Train a model, prune it by a method that trains, or fine-tune it with masks or as an export (--plan)."""
    if out is None:
        raise UpscaleError("give --out, a directory for checkpoint, weights, masks and log")
    if plan is not None:
        if pruned.method != FINETUNE or pruned.masks is not None:
            raise UpscaleError(f"--plan is for fine-tuning an export; use --method {FINETUNE}, without --masks")
        spreading.refuse(_TARGET, "a plan says which channels stay")
    _require_fresh(out, resume)
    images = data_options.loaded(data, workers)
    _require_taught(images, pruned, teaching)
    recipe, finetuning = recipes.recipe(seed), recipes.finetuning(seed)
    options.require_directory(out)
    try:
        if plan is not None:
            exported, reference = _export(plan, model, weights, images, seed, device, trains=True)
            taught = _distillation(teaching, reference, device)
            _finetune_export(exported, images, recipe, out, taught)
            return
        network, reference = _network(model, weights, images, seed, device)
        taught = _distillation(teaching, reference, device)
        say(str(images))
        found = _learn(network, reference, images, pruned, recipe, finetuning, out, taught)
    except KeyboardInterrupt:
        print(f"interrupted; what was done up to the last epoch is in {out}, go on with --resume", file=sys.stderr)
        raise
    from safetensors.torch import save

    from problems.files import write_bytes_atomically
    from upscale_opt.rewriting.exports import WEIGHTS_FILE

    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    write_bytes_atomically(save(state), out / WEIGHTS_FILE)
    asked = {"model": model, "data": images.name, "seed": seed, "recipe": asdict(recipe)}
    drops = pruned.method != NONE and pruned.masks is None
    asked |= {"method": pruned.method, "target": str(pruned.target()) if drops else None}
    asked |= _about(taught, images)
    _write_log(out, asked, found.epochs, found.test, [asdict(own) for own in found.log], found.masks)
    if found.masks:
        save_masks(found.masks, out / MASKS)
    say(str(found) if found.masks else f"test {found.test}")
    say(f"written to {out}")


def evaluate(
    model: options.Model = None,
    data: data_options.Data = None,
    weights: options.Weights = None,
    plan: options.PlanIn = None,
    dense: data_options.DenseWeights = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    workers: data_options.Workers = 0,
    json: options.JsonPath = None,
) -> None:
    """Measure the accuracy of a model, or of an export (--plan), on the test images; or its fidelity (--dense)."""
    options.require_writable(json)
    images = data_options.loaded(data, workers)
    if dense is None:
        images.require_labels("accuracy", "add --dense WEIGHTS to compare with the dense model")
    from problems.showing.progress import ProgressBar
    from upscale_opt.learning.evaluation import accuracy
    from upscale_opt.learning.fidelity import compare_outputs

    if plan is not None:
        exported, reference = _export(plan, model, weights, images, seed, device, trains=False)
        network: Any = exported.module
    else:
        network, reference = _network(model, weights, images, seed, device)
    images.require_fitting(network)
    with ProgressBar("evaluate", images.test_batches(), unit="batch", progress=True) as batches:
        if dense is None:
            found: Any = accuracy(network, batches)
        else:
            found = compare_outputs(_dense(dense, reference, device), network, batches)
    say(str(found))
    options.write_json({"model": model, "data": images.name, "plan": plan and str(plan), **asdict(found)}, json)


def _learn(
    network: Any,
    reference: ModelReference,
    images: Dataset,
    pruned: Pruned,
    recipe: Recipe,
    finetuning: Recipe | None,
    out: Path,
    taught: Distillation | None,
) -> Learned:
    """Run a method."""
    from upscale_opt.learning import bip, gap, learned, loop
    from upscale_opt.learning import finetuning as fixed

    common: dict[str, Any] = {"checkpoint": out / CHECKPOINT, "progress": True}
    if pruned.method == NONE:
        return learned.Learned(network, {}, loop.fit(network, images, [recipe], **common))
    target = pruned.target()
    if pruned.method == FINETUNE:
        masks = None if pruned.masks is None else read_masks(pruned.masks)
        if taught is not None:
            common |= {"teacher": taught.teacher, "distillation": taught.weight, "temperature": taught.temperature}
        return fixed.finetune(network, images, recipe, target, masks=masks, **common)
    common["finetuning"] = finetuning
    if pruned.method == BIP:
        settings = bip.Bip(gamma=pruned.gamma, lr=pruned.mask_lr, implicit=pruned.implicit)
        return bip.bip(network, images, recipe, target, settings, **common)
    parts = gap.Gap(pruned.partitions, pruned.rounds, pruned.processes)
    if pruned.method == CGAP:
        return gap.cgap(network, images, recipe, target, parts, **common)
    factory = functools.partial(_built, reference)
    return gap.pgap(network, images, recipe, target, parts, factory=factory, **common)


def _built(reference: ModelReference) -> Any:
    """Build a model of this reference with any weights."""
    return load_model_and_input(replace(reference, weights=None), "cpu")[0]


def _dense(weights: str, reference: ModelReference, device: str) -> Any:
    """The dense model of a reference, with these weights."""
    network, _, notes = load_model_and_input(replace(reference, weights=weights), device)
    remark(notes)
    return network


def _distillation(teaching: data_options.Teaching, reference: ModelReference, device: str) -> Distillation | None:
    """The teacher of the command line, if there is one."""
    if teaching.distill is None:
        return None
    from upscale_opt.learning.distillation import Distillation

    return Distillation(_dense(teaching.distill, reference, device), teaching.distillation, teaching.temperature)


def _about(taught: Distillation | None, images: Dataset) -> dict[str, str]:
    """What the log says of a teacher."""
    return {} if taught is None else taught.settings(labelled=images.labelled)


def _finetune_export(
    exported: Exported, images: Dataset, recipe: Recipe, out: Path, taught: Distillation | None
) -> None:
    from upscale_opt.learning.loop import fit

    say(str(images))
    epochs = fit(exported.module, images, [recipe], distillation=taught, checkpoint=out / CHECKPOINT, progress=True)
    exported.save(out)
    asked = {"data": images.name, "method": FINETUNE, "export": True, "recipe": asdict(recipe)}
    asked |= _about(taught, images)
    _write_log(out, asked, epochs, epochs[-1].test, [], {})
    say(f"test {epochs[-1].test}")
    say(f"export written to {out}")


def _network(
    model: str | None, weights: str | None, images: Dataset, seed: int, device: str
) -> tuple[Any, ModelReference]:
    """Load the model of the command line, and require that it fits the images."""
    reference = replace(reference_of(None, model, weights, "1", seed), input_shape=(1, *images.input_shape))
    network, _, notes = load_model_and_input(reference, device)
    remark(notes)
    images.require_fitting(network)
    return network, reference


def _export(
    plan: Path, model: str | None, weights: str | None, images: Dataset, seed: int, device: str, *, trains: bool
) -> tuple[Exported, ModelReference]:
    """Load an export by its plan. Also returns the reference of its model, without weights.

    Its weights are given, or beside the plan. The seed matters only for training.
    """
    from upscale_opt.exporting.exporter import load
    from upscale_opt.models.loading import read_state_dict
    from upscale_opt.planning.plan_files import read_plan
    from upscale_opt.rewriting.exports import WEIGHTS_FILE

    stored = read_plan(plan)
    if not trains:
        refuse_beside(stored, "seed")
    reference = reference_of(stored, model, None, "1", seed)
    reference = replace(reference, weights=None, input_shape=(1, *images.input_shape))
    network, x, notes = load_model_and_input(reference, device)
    remark(notes)
    state = read_state_dict(weights or plan.parent / WEIGHTS_FILE)
    return load(stored, network, {name: tensor.to(device) for name, tensor in state.items()}, x), reference


def _require_taught(images: Dataset, pruned: Pruned, teaching: data_options.Teaching) -> None:
    """Raise an error unless there are labels or a teacher, and a teacher is for the method."""
    if teaching.distill is not None and pruned.method != FINETUNE:
        raise UpscaleError(f"--distill goes with --method {FINETUNE}; leave it out with {pruned.method}")
    if teaching.distill is None:
        images.require_labels("training", f"use --method {FINETUNE} with --distill WEIGHTS, those of the dense model")
    elif not images.labelled:
        spreading.refuse(("distillation",), f"{images.name} has no labels, so the teacher counts alone")


def _require_fresh(out: Path, resume: bool) -> None:
    """Raise an error if the directory has a training run that should not be resumed."""
    if not resume and out.is_dir() and any(out.glob("checkpoint*.pt")):
        raise UpscaleError(f"there is a training in {out}; add --resume to go on with it, or choose another directory")


def _write_log(
    out: Path, asked: Mapping[str, Any], epochs: Any, test: Any, log: list[dict[str, Any]], masks: Mapping[str, Any]
) -> None:
    """Write the settings, the result of every epoch, and the log of the method."""
    from problems.files import write_text_atomically
    from upscale_opt.latency.environment import environment

    document = {
        **asked,
        "environment": environment(),
        "test": asdict(test),
        "kept": {name: int(mask.sum()) for name, mask in masks.items()},
        "epochs": [asdict(own) for own in epochs],
        "log": log,
    }
    write_text_atomically(json_format.dumps(document, indent=1) + "\n", out / LOG)
