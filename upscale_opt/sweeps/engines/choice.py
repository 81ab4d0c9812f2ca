"""Finds an engine by its name."""

from __future__ import annotations

from pathlib import Path

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.engines.dask_futures import Dask
from upscale_opt.sweeps.engines.interface import Engine
from upscale_opt.sweeps.engines.joblib_backends import Joblib
from upscale_opt.sweeps.engines.processes import Processes
from upscale_opt.sweeps.engines.ray_tasks import Ray
from upscale_opt.sweeps.engines.serial import Serial
from upscale_opt.sweeps.engines.submitit_jobs import Submitit

SERIAL, PROCESSES, JOBLIB, RAY, DASK, SLURM = ENGINES = ("serial", "processes", "joblib", "ray", "dask", "slurm")


def engine_named(
    name: str,
    workers: int,
    folder: Path,
    *,
    memory_limit: int | None = None,
    parameters: dict[str, object] | None = None,
) -> Engine:
    """The engine with a name. What stands behind a colon is a backend of joblib, or the address of a cluster.

    Parameters
    ----------
    name
        One of `ENGINES`, or ``joblib:BACKEND``, ``ray:ADDRESS``, ``dask:ADDRESS``, ``slurm:local``.
    workers
        Number of processes, or tasks at a time.
    folder
        Directory for files of jobs.
    memory_limit
        Bytes of a worker process, see `Processes`.
    parameters
        Of SLURM's jobs, see `Submitit`.

    Raises
    ------
    SweepError
        If there is no such engine, or its package is missing.
    """
    kind, _, where = name.partition(":")
    if kind not in ENGINES or (where and kind in (SERIAL, PROCESSES)):
        raise SweepError(f"there is no engine {name!r}; choose from {', '.join(ENGINES)} (docs/sweeps.md)")
    if parameters and kind != SLURM:
        raise SweepError(f"--job goes with --engine {SLURM}; leave it out with {name}")
    if kind == SERIAL:
        return Serial()
    if kind == PROCESSES:
        return Processes(workers, memory_limit)
    if kind == JOBLIB:
        return Joblib(workers, where or "loky")
    if kind == SLURM:
        return Submitit(workers, folder, where or "slurm", parameters)
    return (Ray if kind == RAY else Dask)(workers, where or None)
