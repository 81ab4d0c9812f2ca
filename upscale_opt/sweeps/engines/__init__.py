"""Engines: where the cells of a sweep are computed. An engine knows nothing of sweeps: it has tasks and a function.

- `interface` says what an engine does; `choice` finds one by name.
- `serial` computes in this process. `processes` has worker processes of its own.
- `joblib_backends`, `ray_tasks`, `dask_futures` and `submitit_jobs` (SLURM) hand tasks to existing engines.
"""
