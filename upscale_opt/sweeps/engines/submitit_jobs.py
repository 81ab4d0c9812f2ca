"""The engine that submits jobs to SLURM through submitit, or runs them here with submitit's local executor.

A job computes several tasks in a row, because starting one takes seconds or waits in a queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from upscale_opt.sweeps.engines.interface import MOST_DEATHS, Result, Task, package

MOST_TASKS = 50
"""Tasks of one job, at most."""
POLL_SECONDS = 0.5


class Submitit:
    """Jobs of submitit; see `upscale_opt.sweeps.engines.interface.Engine`.

    Parameters
    ----------
    workers
        Jobs at a time.
    folder
        Directory for the jobs' files. On SLURM, all machines must see it.
    cluster
        ``slurm``, or ``local``: processes of this machine.
    parameters
        Further parameters of the jobs, such as ``{"slurm_partition": "cpu", "timeout_min": 240}``.
    num_tasks
        Tasks of one job.

    Raises
    ------
    SweepError
        If submitit is missing.
    """

    keeps_shards = True

    def __init__(
        self,
        workers: int,
        folder: Path,
        cluster: str = "slurm",
        parameters: Mapping[str, Any] | None = None,
        num_tasks: int = MOST_TASKS,
    ) -> None:
        self.submitit = package("submitit", "slurm", "slurm")
        self.num_workers, self.folder, self.cluster, self.num_tasks = workers, folder, cluster, num_tasks
        self.parameters = {"timeout_min": 24 * 60, **(parameters or {})}
        self._jobs: dict[Any, list[Any]] = {}
        self._deaths: dict[Any, int] = {}

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as jobs end."""
        executor = self.submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        again: list[Task] = []
        while True:
            while len(self._jobs) < self.num_workers:
                chunk = again[:1] or list(islice(tasks, self.num_tasks))  # a task that died is tried by itself
                again = again[1:]
                if not chunk:
                    break
                self._jobs[executor.submit(_all, compute, chunk)] = chunk
            if not self._jobs:
                return
            ended = [job for job in self._jobs if job.done()]
            if not ended:
                time.sleep(POLL_SECONDS)
            for job in ended:
                chunk = self._jobs.pop(job)
                error = job.exception()
                if error is None:
                    yield from job.result()
                    continue
                for task in chunk:
                    self._deaths[task] = self._deaths.get(task, 0) + 1
                    if self._deaths[task] < MOST_DEATHS:
                        again.append(task)
                    else:
                        reason = str(error).strip().partition("\n")[0]
                        yield lost(task, f"its job ended {MOST_DEATHS} times ({type(error).__name__}: {reason[:200]})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for job in self._jobs:
            job.cancel()
        self._jobs = {}


def _all(compute: Callable[[Task], Result], tasks: list[Task]) -> list[Result]:
    return [compute(task) for task in tasks]
