"""The engine that hands tasks to Ray: a cluster that runs already, or a local one of its own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from upscale_opt.sweeps.engines.interface import MOST_DEATHS, Result, Task, package

MOST_CALLS = 200
"""Ray replaces a worker process after so many tasks, so that memory stays bounded."""


class Ray:
    """Tasks of Ray; see `upscale_opt.sweeps.engines.interface.Engine`.

    Parameters
    ----------
    workers
        Processes of a local cluster. In a cluster that runs already, tasks at a time.
    address
        Of a cluster, such as ``auto`` or ``ray://host:10001``. Default: a local cluster, which ends with this process.

    Raises
    ------
    SweepError
        If Ray is missing.
    """

    keeps_shards = False

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.ray = package("ray", "ray", "ray")
        self.num_workers, self.address = workers, address

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as they come."""
        ray = self.ray
        remote = ray.remote(num_cpus=1, max_calls=MOST_CALLS, max_retries=MOST_DEATHS - 1)(_called)
        pending: dict[Any, Task] = {}
        empty = False
        while True:
            while not empty and len(pending) < self.num_workers + 1:  # one more, so that no process waits
                task = next(tasks, None)
                empty = task is None
                if task is not None:
                    pending[remote.remote(compute, task)] = task
            if not pending:
                return
            ready, _ = ray.wait(list(pending), num_returns=1)
            for reference in ready:
                task = pending.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().partition("\n")[0]
                    result = lost(task, f"Ray lost it {MOST_DEATHS} times ({type(error).__name__}: {reason[:200]})")
                yield result

    def __enter__(self) -> Self:
        how: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            paths = os.pathsep.join(dict.fromkeys([os.getcwd(), *(own for own in sys.path if own)]))
            how |= {"num_cpus": self.num_workers, "include_dashboard": False}
            how["runtime_env"] = {"env_vars": {"PYTHONPATH": paths}}
        else:
            how["address"] = self.address
        self.ray.init(**how)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.ray.shutdown()


def _called(compute: Callable[[Task], Result], task: Task) -> Result:
    return compute(task)
