"""Copies of a model that are trained in parallel, each in a separate process."""

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

from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.errors import LearningError, UpscaleError
from upscale_opt.learning.checkpoints import Checkpoint, read_checkpoint
from upscale_opt.learning.columns import Columns
from upscale_opt.learning.finetuning import FixedMasks
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.loop import Training, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.tracing.trace import trace

Factory = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Copy:
    """The training of one copy of a model with fixed masks.

    Attributes
    ----------
    state
        The initial weights, on the CPU.
    masks
        Weight name to Boolean array.
    recipe
        The training recipe.
    checkpoint
        The file of its checkpoint. At the end, it holds the result.
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
    progress: ShowProgress = None,
) -> list[Checkpoint]:
    """Train copies of a model in parallel. The result equals sequential training, bit for bit.

    Parameters
    ----------
    copies
        The copies to train. If a checkpoint exists, the copy resumes from it.
    factory
        A model, or a function that makes it in another process. It must be picklable, and so must the data.
    data
        Images for training and for testing.
    device
        The device to train on.
    processes
        Number of processes at a time. 0: the calling process trains the copies one after the other. Default: the number
        of copies or of processors, whichever is less.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Returns
    -------
    list
        The checkpoints at the end of training.

    Raises
    ------
    LearningError
        If the model cannot be sent to another process, or if a training run fails.
    """
    before = torch.get_num_threads()
    threads = max(1, before // len(copies))  # for any `processes`: the number of threads changes the last bits of sums
    if processes == 0:
        try:
            torch.set_num_threads(threads)
            for copy in ProgressBar("train copies", copies, unit="copy", progress=progress):
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
        with ProgressBar[None]("train copies", total=len(jobs), unit="copy", progress=progress) as bar:
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
                    bar.advance()
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
    """Train a copy, in place. Its checkpoint is the result."""
    model = model.to(device).eval()
    model.load_state_dict(copy.state)
    graph = trace(model, torch.zeros(1, *data.input_shape, device=device))
    method = _Orphanable(Columns(model, graph, copy.masks), copy.masks)
    fit(model, data, [copy.recipe], method=method, checkpoint=copy.checkpoint)


def _run(job: bytes, sender: Any) -> None:
    """The main function of a process."""
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
    """Stops after an epoch if the parent process has ended."""

    def after_epoch(self, training: Training) -> None:
        """Stop if the parent process has ended."""
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            sys.exit(1)
