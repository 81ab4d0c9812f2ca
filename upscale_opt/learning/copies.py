"""Copies of a model, trained at the same time in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from upscale_opt.errors import LearningError, UpscaleError
from upscale_opt.learning.checkpoints import Checkpoint, read_checkpoint
from upscale_opt.learning.columns import Columns
from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.finetuning import FixedMasks
from upscale_opt.learning.loop import Training, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.tracing.trace import trace

Factory = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Copy:
    """A training of a copy of a model, under fixed masks.

    Attributes
    ----------
    state
        The weights it starts with, on the CPU.
    masks
        Weight name to Boolean array.
    recipe
        How it is trained.
    checkpoint
        Where its checkpoint is, and in the end its outcome.
    """

    state: Mapping[str, torch.Tensor]
    masks: Mapping[str, np.ndarray]
    recipe: Recipe
    checkpoint: Path


def train_copies(
    copies: Sequence[Copy],
    factory: Factory | nn.Module,
    data: Dataset,
    *,
    device: str = "cpu",
    processes: int | None = None,
    progress: bool = False,
) -> list[Checkpoint]:
    """Train copies of a model in parallel; the same as one after the other, bit for bit.

    Parameters
    ----------
    copies
        What to train. One whose checkpoint exists goes on from there.
    factory
        What makes the model in another process: a model, or a function; both must be picklable.
    data
        Images to learn from and to test on.
    device
        Where to.
    processes
        How many at a time. 0: none, they are trained one after the other by the calling process. Default: as many as
        there are copies or processors.
    progress
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    list
        The checkpoints at the end.

    Raises
    ------
    LearningError
        If the model cannot be sent to another process, or a training fails.
    """
    before = torch.get_num_threads()
    threads = max(1, before // len(copies))  # however many at a time: sums depend on it in their last bits
    if processes == 0:
        try:
            torch.set_num_threads(threads)
            for copy in tqdm(copies, desc="copies", disable=None if progress else True, leave=False):
                _train(deepcopy(factory) if isinstance(factory, nn.Module) else factory(), data, copy, device)
        finally:
            torch.set_num_threads(before)
        return [read_checkpoint(copy.checkpoint) for copy in copies]
    number = min(len(copies), processes or os.cpu_count() or 1)
    try:
        jobs = [pickle.dumps((factory, data, copy, device, threads)) for copy in copies]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise LearningError(
            f"the model or the data cannot be sent to another process ({error}); define their classes in a module, or "
            "use cgap"
        ) from error
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(jobs))
    running: dict[Any, tuple[int, Any, Any]] = {}
    try:
        with tqdm(total=len(jobs), desc="copies", disable=None if progress else True, leave=False) as bar:
            while waiting or running:
                while waiting and len(running) < number:
                    index, job = waiting.pop(0)
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=_run, args=(job, sender))
                    process.start()
                    sender.close()
                    running[process.sentinel] = index, process, receiver
                for sentinel in connection.wait(list(running)):
                    index, process, receiver = running.pop(sentinel)
                    process.join()
                    _require_success(index, process, receiver)
                    bar.update()
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()
    return [read_checkpoint(copy.checkpoint) for copy in copies]


def _require_success(index: int, process: Any, receiver: Any) -> None:
    message = None
    with contextlib.suppress(EOFError):
        message = receiver.recv() if receiver.poll() else None
    receiver.close()
    if message is not None:
        raise LearningError(message)
    if process.exitcode == 130:
        raise KeyboardInterrupt
    if process.exitcode:
        raise LearningError(
            f"the training of copy {index} stopped with exit code {process.exitcode}; look at its message, and resume"
        )


def _train(model: nn.Module, data: Dataset, copy: Copy, device: str) -> None:
    """Train a copy, in place; the outcome is its checkpoint."""
    model = model.to(device).eval()
    model.load_state_dict(copy.state)
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device))
    method = _Orphanable(Columns(model, graph, copy.masks), copy.masks)
    fit(model, data, [copy.recipe], method=method, checkpoint=copy.checkpoint)


def _run(job: bytes, sender: Any) -> None:
    """What a process does."""
    try:
        factory, data, copy, device, threads = pickle.loads(job)
        torch.set_num_threads(threads)
        _train(factory if isinstance(factory, nn.Module) else factory(), data, copy, device)
    except KeyboardInterrupt:
        sys.exit(130)
    except UpscaleError as error:
        sender.send(str(error))
        sys.exit(2)


class _Orphanable(FixedMasks):
    """Stops after an epoch if the process that waits for the outcome is gone."""

    def after_epoch(self, training: Training) -> None:
        """Look whether it is."""
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            sys.exit(1)
