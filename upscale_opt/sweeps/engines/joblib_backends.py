"""The engine that hands tasks to joblib, on any of its backends whose workers are processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.engines.interface import MOST_DEATHS, Result, Task, package

BACKENDS = ("loky", "dask", "ray")
"""Not joblib's ``threading`` and ``multiprocessing``: torch's generators are of a process, and forks of it hang."""


class Joblib:
    """Tasks of joblib; see `upscale_opt.sweeps.engines.interface.Engine`.

    Joblib gives up all tasks if one of its processes dies. Then those without results are computed again, until a round
    brings no result.

    Parameters
    ----------
    workers
        Number of processes.
    backend
        One of `BACKENDS`.

    Raises
    ------
    SweepError
        If joblib is missing, or has no such backend.
    """

    keeps_shards = False

    def __init__(self, workers: int, backend: str = "loky") -> None:
        if backend not in BACKENDS:
            raise SweepError(f"the engine joblib has no backend {backend!r} here; choose from {', '.join(BACKENDS)}")
        self.joblib = package("joblib", "joblib", "joblib")
        self.num_workers, self.backend = workers, backend

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as they come."""
        taken: dict[int, Task] = {}

        def numbered(waiting: Iterator[tuple[int, Task]]) -> Iterator[tuple[int, Task]]:
            for number, task in waiting:
                taken[number] = task
                yield number, task

        fresh: Iterator[tuple[int, Task]] = enumerate(tasks)
        waiting, broken = fresh, 0
        while True:
            try:
                parallel = self.joblib.Parallel(
                    n_jobs=self.num_workers, backend=self.backend, return_as="generator_unordered", batch_size=1
                )
                call = self.joblib.delayed(_numbered)
                for number, result in parallel(call(compute, *own) for own in numbered(waiting)):
                    del taken[number]
                    broken = 0
                    yield result
            except Exception as error:  # its type depends on the backend
                broken += 1
                if broken < MOST_DEATHS:
                    waiting = iter(sorted(taken.items()))
                    continue
                reason = f"joblib gave up {MOST_DEATHS} times ({type(error).__name__}); a process died over this or ..."
                for number in sorted(taken):
                    yield lost(taken.pop(number), reason.replace("this or ...", "this cell or one beside it"))
                broken = 0
            if waiting is fresh:
                return
            waiting = fresh

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass


def _numbered(compute: Callable[[Task], Result], number: int, task: Task) -> tuple[int, Result]:
    return number, compute(task)
