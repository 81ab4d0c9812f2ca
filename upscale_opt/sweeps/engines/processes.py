"""The engine with worker processes of its own.

A process has one task at a time. If it dies, only its task is computed again, by another process. A process is replaced
when it has grown too large, so memory stays bounded. All processes end with this one, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from upscale_opt.sweeps.engines.interface import MOST_DEATHS, Result, Task

MOST_TASKS = 1000
"""A process is replaced after so many tasks, whatever its size."""
_GRACE_SECONDS = 5.0


@dataclass(eq=False)
class _Worker:
    process: Any
    connection: Connection
    task: Any = None
    done: int = 0
    bytes: int = 0


class Processes:
    """Worker processes; see `upscale_opt.sweeps.engines.interface.Engine`.

    Parameters
    ----------
    workers
        Number of processes.
    memory_limit
        Bytes. A process that is larger after a task is replaced. Default: half of the machine, shared among them.
    """

    keeps_shards = False

    def __init__(self, workers: int, memory_limit: int | None = None) -> None:
        self.num_workers = workers
        self.memory_limit = memory_limit or machine_bytes() // (2 * workers)
        self._workers: list[_Worker] = []
        self._deaths: dict[Any, int] = {}

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as they come."""
        again: list[Task] = []
        empty = False

        def fed(worker: _Worker) -> None:
            nonlocal empty
            task = again.pop() if again else None if empty else next(tasks, None)
            empty = empty or (task is None and not again)
            worker.task = task
            if task is not None:
                with contextlib.suppress(OSError):  # it has died; its sentinel says so
                    worker.connection.send(task)

        while len(self._workers) < self.num_workers:
            self._workers.append(_started(compute))
        for worker in self._workers:
            fed(worker)
        while any(worker.task is not None for worker in self._workers):
            for worker in self._ready():
                task, result, alive = worker.task, *_received(worker)
                if alive and worker.done < MOST_TASKS and worker.bytes <= self.memory_limit:
                    fed(worker)
                else:
                    fresh = self._replaced(worker, compute)
                    if not alive:
                        self._deaths[task] = self._deaths.get(task, 0) + 1
                        if self._deaths[task] < MOST_DEATHS:
                            again.append(task)
                        else:
                            result = lost(task, _last_words(worker.process.exitcode))
                    fed(fresh)
                if result is not None:
                    yield result
            for worker in self._workers:
                if worker.task is None and (again or not empty):
                    fed(worker)

    def _ready(self) -> list[_Worker]:
        """Workers with a result, and those that died over a task."""
        busy = [worker for worker in self._workers if worker.task is not None]
        found = set(wait([own for worker in busy for own in (worker.connection, worker.process.sentinel)]))
        return [worker for worker in busy if {worker.connection, worker.process.sentinel} & found]

    def _replaced(self, worker: _Worker, compute: Callable[[Any], Any]) -> _Worker:
        _ended(worker)
        fresh = _started(compute)
        self._workers[self._workers.index(worker)] = fresh
        return fresh

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
        for worker in self._workers:
            _ended(worker)
        self._workers = []


def _started(compute: Callable[[Any], Any]) -> _Worker:
    """Start a worker. Its numerical libraries have one thread; `compute` may set another number."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(far, compute), daemon=False)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
    far.close()
    return _Worker(process, near)


def _ended(worker: _Worker) -> None:
    """Let a worker end, or make it."""
    with contextlib.suppress(OSError):
        worker.connection.send(None)
    worker.process.join(_GRACE_SECONDS)
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _received(worker: _Worker) -> tuple[Any, bool]:
    """The result of a worker and True, or None and False if it died before it had one."""
    try:
        if not worker.connection.poll():
            raise EOFError
        result, worker.bytes = worker.connection.recv()
        worker.done += 1
        return result, True
    except (EOFError, OSError):
        worker.process.join(_GRACE_SECONDS)
        return None, False


def _last_words(code: int | None) -> str:
    kind = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"its process ended {MOST_DEATHS} times, at last with {kind}{hint}"


def _serve(connection: Connection, compute: Callable[[Any], Any]) -> None:
    """What a worker runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process says when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        result = compute(task)
        connection.send((result, resident_bytes()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def resident_bytes() -> int:
    """Memory of this process. 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def machine_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
