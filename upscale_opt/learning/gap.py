"""GaP: trains a sparse model from scratch, with one partition at a time dense (Ma et al., ICLR 2022).

The network is cut into partitions. One partition is grown to its full width, trained, and pruned by magnitude. Then the
next one follows. C-GaP does this in a cycle on one machine. P-GaP trains one copy of the model per partition, in
parallel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems.showing.progress import ShowProgress
from upscale_opt.arguments.checks import an, callable_with, whole
from upscale_opt.arguments.entrance import DATASET, LEARNER, entrance
from upscale_opt.errors import LearningError
from upscale_opt.learning.checkpoints import own_random_state, read_state, require_same, seed_everything, write_state
from upscale_opt.learning.columns import Columns, HeldColumns
from upscale_opt.learning.copies import Copy, Factory, train_copies
from upscale_opt.learning.evaluation import Accuracy, accuracy
from upscale_opt.learning.finetuning import FixedMasks
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.learned import Learned
from upscale_opt.learning.loop import Epoch, Training, fit
from upscale_opt.learning.partitions import Partition, combined, owners, partitions_of
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.schedules import Step, dense_partitions
from upscale_opt.learning.targets import Target
from upscale_opt.models.running import device_of, reestimate_batch_norm
from upscale_opt.tracing.trace import trace


@dataclass(frozen=True)
class Gap:
    """Settings of growing and pruning.

    Attributes
    ----------
    partitions
        Number of partitions; see `upscale_opt.learning.partitions`.
    rounds
        How often each partition is dense.
    processes
        P-GaP: how many copies are trained at a time. 0: one after the other, in this process. Default: the number of
        copies or of processors, whichever is less.

    Raises
    ------
    LearningError
        If a number is invalid.
    """

    partitions: int = 4
    rounds: int = 2
    processes: int | None = None

    def __post_init__(self) -> None:
        processes = 0 if self.processes is None else self.processes
        for name, value, least in (
            ("partitions", self.partitions, 1),
            ("rounds", self.rounds, 1),
            ("processes", processes, 0),
        ):
            whole(least, LearningError)(value, f"the number of {name}")


_SETTINGS = an("upscale_opt.learning.gap", "Gap", "a upscale_opt.learning.gap.Gap", LearningError)


@entrance(model=LEARNER, data=DATASET, settings=_SETTINGS)
def cgap(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    target: Target | None = None,
    settings: Gap | None = None,
    *,
    finetuning: Recipe | None = None,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
) -> Learned:
    """Train a sparse model by C-GaP, in place. The partitions are dense in turn.

    Parameters
    ----------
    model
        An untrained model (or a trained one), in eval mode.
    data, checkpoint, progress
        See `upscale_opt.learning.loop.fit`.
    recipe
        The recipe for every step. Each step has a fresh optimiser and the seed ``recipe.seed + step``.
    target
        How many channels to drop. A global target holds for the layers of each partition together. Default: half of
        every layer.
    settings
        Number of partitions and rounds. Default: `Gap()`.
    finetuning
        A recipe for further training after the last step, with fixed masks. Default: none.

    Returns
    -------
    Learned
        Its log has one `Step` for every step, and one for the final masks.

    Raises
    ------
    MaskError
        If the target cannot be reached.
    LearningError
        If the network cannot be cut into so many partitions, and in the same cases as `fit`.

    Notes
    -----
    Source: Ma et al., Effective Model Sparsification by Scheduled Grow-and-Prune Methods, ICLR 2022, here for input
    channels. They are pruned by the L2 norm of the column, to exact numbers. Grown columns start at zero.
    """
    target, settings = target or Target(), settings or Gap()
    columns, partitions = _prepared(model, data, target, settings)
    method = _Cycle(columns, target, partitions, settings.rounds, final=finetuning is None)
    recipes = [replace(recipe, seed=recipe.seed + t) for t in range(method.num_steps)]
    recipes += [] if finetuning is None else [finetuning]
    epochs = fit(model, data, recipes, method=method, checkpoint=checkpoint, progress=progress)
    final = accuracy(model, data.test_batches()) if finetuning is None else None  # pruned after its last epoch
    return Learned(model, columns.masks, epochs, tuple(method.log), final)


@entrance(
    model=LEARNER,
    data=DATASET,
    settings=_SETTINGS,
    factory=callable_with("nothing that returns the model", LearningError),
)
def pgap(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    target: Target | None = None,
    settings: Gap | None = None,
    *,
    finetuning: Recipe | None = None,
    checkpoint: str | Path | None = None,
    progress: ShowProgress = None,
    factory: Factory | None = None,
) -> Learned:
    """Train a sparse model by P-GaP, in place. Every round trains one copy per partition, where that partition is
    dense.

    After a round, the copies are combined into one model. A partition owns the tensors that it uses first, and the
    model takes these from the partition's copy. Then all layers are pruned, and BatchNorm statistics are estimated
    again.

    Parameters
    ----------
    model, data, target, settings, finetuning, progress
        As for `cgap`. A global target holds for all layers together.
    recipe
        The recipe for every copy in every round. Copy i of round r has the seed ``recipe.seed + r * partitions + i``.
    checkpoint
        As for `cgap`. Rounds and copies have separate files beside it. Default: no checkpoint.
    factory
        A picklable function that makes the model in another process. Default: the model itself is sent to the process.

    Returns
    -------
    Learned
        Its log has one `Step` for every copy of every round, and one for the final masks.

    Raises
    ------
    MaskError, LearningError
        In the same cases as `cgap`, and if the model cannot be sent to another process.

    Notes
    -----
    Source: as for `cgap`. In the original, tensors that belong to no partition get arbitrary values. Here every tensor
    has an owner. In the first round, each copy starts from the model where all but its own partition is pruned. Its own
    partition has its initial weights, as in the first step of `cgap`.
    """
    target, settings = target or Target(), settings or Gap()
    columns, partitions = _prepared(model, data, target, settings)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(checkpoint) if checkpoint is not None else Path(temporary) / "checkpoint.pt"
        rounds = _Rounds(columns, data, recipe, target, settings, partitions, path, factory)
        rounds.run(progress)
        kept = _counts(columns.masks)
        log = [*rounds.log, Step(len(rounds.log), settings.rounds, None, kept)]
        epochs = list(rounds.epochs)
        if finetuning is not None:
            method = FixedMasks(columns, dict(columns.masks))
            last = fit(model, data, [finetuning], method=method, checkpoint=path, progress=progress)
            epochs += [replace(own, phase=len(rounds.log)) for own in last]
    final = accuracy(model, data.test_batches()) if finetuning is None else None  # combined after the last epoch
    return Learned(model.eval(), columns.masks, tuple(epochs), tuple(log), final)


def _prepared(model: nn.Module, data: Dataset, target: Target, settings: Gap) -> tuple[Columns, tuple[Partition, ...]]:
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device_of(model)))
    weights = target.weights(graph)
    columns = Columns(model, graph, weights)
    target.masks(graph, columns.norms())  # raises an error if the target cannot be reached
    return columns, partitions_of(graph, weights, settings.partitions)


def _counts(masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _dense(columns: Columns, weights: Iterable[str]) -> dict[str, np.ndarray]:
    return {name: np.ones(columns.size(name), dtype=bool) for name in weights}


def _reestimate(model: nn.Module, data: Dataset, recipe: Recipe) -> None:
    """Estimate BatchNorm statistics in one pass over the images, always in the same order."""
    with own_random_state():
        seed_everything(recipe.seed)
        images = data.train_batches(recipe.batch_size, torch.Generator().manual_seed(recipe.seed))
        reestimate_batch_norm(model, ((x,) for x, _ in images))


class _Cycle(HeldColumns):
    """C-GaP's hooks. A step is a phase. A partition is grown at its beginning and pruned at its end."""

    def __init__(
        self, columns: Columns, target: Target, partitions: tuple[Partition, ...], rounds: int, *, final: bool
    ) -> None:
        super().__init__(columns)
        self.target, self.partitions = target, partitions
        self.dense = dense_partitions(len(partitions), rounds)
        self.final = final
        self.log: list[Step] = []

    @property
    def num_steps(self) -> int:
        """Number of phases before the fine-tuning."""
        return len(self.dense)

    def begin(self, training: Training) -> None:
        """Grow the partition of the step. Before the first step, prune all other partitions."""
        if training.phase >= self.num_steps:
            return
        dense = self.dense[training.phase]
        if training.phase == 0:
            for i in range(len(self.partitions)):
                if i != dense:
                    self._prune(i)
        self.columns.set(_dense(self.columns, self.partitions[dense].weights))
        self._note(training.phase, dense)

    def end(self, training: Training) -> None:
        """Prune the partition of the step. After the last step, no partition is dense."""
        if training.phase >= self.num_steps:
            return
        self._prune(self.dense[training.phase])
        if training.phase + 1 == self.num_steps:
            self._note(self.num_steps, None)
            if self.final:
                _reestimate(training.model, training.data, training.recipe)

    def settings(self) -> dict[str, str]:
        """The target and the schedule."""
        schedule = {"partitions": str(len(self.partitions)), "steps": str(self.num_steps)}
        return {**super().settings(), "method": "cgap", "target": str(self.target), **schedule}

    def state(self) -> dict[str, Any]:
        """The masks and the log of the schedule."""
        return {**super().state(), "log": [own.to_dict() for own in self.log]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        super().restore(state)
        self.log = [Step(**own) for own in state["log"]]

    def _prune(self, partition: int) -> None:
        weights = self.partitions[partition].weights
        self.columns.set(self.target.masks(self.columns.graph, self.columns.norms(), weights))

    def _note(self, index: int, dense: int | None) -> None:
        self.log.append(Step(index, index // len(self.partitions), dense, _counts(self.columns.masks)))


class _Rounds:
    """The rounds of P-GaP. Their progress is written to a file after each round."""

    def __init__(
        self,
        columns: Columns,
        data: Dataset,
        recipe: Recipe,
        target: Target,
        settings: Gap,
        partitions: tuple[Partition, ...],
        checkpoint: Path,
        factory: Factory | None,
    ) -> None:
        self.columns, self.data, self.recipe, self.target = columns, data, recipe, target
        self.gap, self.partitions, self.checkpoint, self.factory = settings, partitions, checkpoint, factory
        self.log: list[Step] = []
        self.epochs: list[Epoch] = []
        self.done = 0
        self.settings = {"data": str(data), "recipe": str(recipe), "target": str(target)}
        self.settings |= {"partitions": str(len(partitions)), "rounds": str(settings.rounds), "method": "pgap"}

    @property
    def path(self) -> Path:
        """The file with the progress."""
        return self.checkpoint.with_name(f"{self.checkpoint.stem}.rounds.pt")

    def run(self, progress: ShowProgress) -> None:
        """Run all rounds that are not finished."""
        if self.path.exists():
            self._restore()
        while self.done < self.gap.rounds:
            self._round(progress)

    def _round(self, progress: ShowProgress) -> None:
        """Train the copies, combine them into one model, and prune it."""
        columns, model = self.columns, self.columns.model
        first = self.done * len(self.partitions)
        sparse = dict(columns.masks) if self.done else self.target.masks(columns.graph, columns.norms())
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        copies = [
            Copy(
                state,
                sparse | _dense(columns, own.weights),
                replace(self.recipe, seed=self.recipe.seed + first + i),
                self.checkpoint.with_name(f"{self.checkpoint.stem}.round-{self.done}.copy-{i}.pt"),
            )
            for i, own in enumerate(self.partitions)
        ]
        found = train_copies(
            copies,
            self.factory or model,
            self.data,
            device=str(device_of(model)),
            processes=self.gap.processes,
            progress=progress,
        )
        for i, own in enumerate(found):
            self.log.append(Step(first + i, self.done, i, _counts(copies[i].masks)))
            self.epochs += [_epoch(entry, first + i) for entry in own.log]
        columns.set(_dense(columns, columns.weights))
        owned = owners(columns.graph, state, self.partitions)
        model.load_state_dict(combined([own.model for own in found], owned))
        columns.set(self.target.masks(columns.graph, columns.norms()))
        _reestimate(model, self.data, self.recipe)
        self.done += 1
        self._write()
        for path in self.checkpoint.parent.glob(f"{self.checkpoint.stem}.round-*.copy-*.pt"):
            path.unlink()

    def _write(self) -> None:
        document = {
            "settings": self.settings,
            "done": self.done,
            "model": self.columns.model.state_dict(),
            "masks": {name: torch.from_numpy(mask) for name, mask in self.columns.masks.items()},
            "log": [own.to_dict() for own in self.log],
            "epochs": [asdict(own) for own in self.epochs],
        }
        write_state(document, self.path)

    def _restore(self) -> None:
        stored = read_state(self.path)
        require_same(stored["settings"], self.settings, self.path.parent)
        self.columns.model.load_state_dict(stored["model"])
        self.columns.set({name: mask.numpy() for name, mask in stored["masks"].items()})
        self.done = stored["done"]
        self.log = [Step(**own) for own in stored["log"]]
        self.epochs = [_epoch(own, own["phase"]) for own in stored["epochs"]]


def _epoch(entry: Mapping[str, Any], phase: int) -> Epoch:
    return Epoch(**{**entry, "phase": phase, "test": Accuracy(**entry["test"])})
