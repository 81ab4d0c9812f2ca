"""The engine that hands tasks to Dask: a cluster that runs already, or a local one of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from upscale_opt.sweeps.engines.interface import MOST_DEATHS, Result, Task, package


class Dask:
    """Futures of Dask; see `upscale_opt.sweeps.engines.interface.Engine`.

    Parameters
    ----------
    workers
        Processes of a local cluster. In a cluster that runs already, tasks at a time.
    address
        Of a scheduler, such as ``tcp://host:8786``. Default: a local cluster, which ends with this process.

    Raises
    ------
    SweepError
        If Dask is missing.
    """

    keeps_shards = False

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.dask, self.distributed = package("dask", "dask", "dask"), package("distributed", "dask", "dask")
        self.num_workers, self.address = workers, address
        self._client: Any = None
        self._cluster: Any = None

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as they come."""
        found = self.distributed.as_completed()
        pending: dict[Any, Task] = {}

        def fed() -> bool:
            task = next(tasks, None)
            if task is None:
                return False
            future = self._client.submit(compute, task, pure=False)
            pending[future] = task
            found.add(future)
            return True

        more = True
        while more and len(pending) < self.num_workers + 1:  # one more, so that no process waits
            more = fed()
        while pending:
            future = next(found)
            task = pending.pop(future)
            more = more and fed()
            error = future.exception() if future.status == "error" else None
            if error is not None or future.status != "finished":
                reason = str(error or future.status).strip().partition("\n")[0]
                yield lost(task, f"Dask lost it {MOST_DEATHS} times ({type(error).__name__}: {reason[:200]})")
            else:
                yield future.result()

    def __enter__(self) -> Self:
        self.dask.config.set({"distributed.scheduler.allowed-failures": MOST_DEATHS - 1})
        if self.address is None:
            self._cluster = self.distributed.LocalCluster(
                n_workers=self.num_workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
        self._client = self.distributed.Client(self._cluster or self.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
