"""The engine that computes in this process, one task after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from upscale_opt.sweeps.engines.interface import Result, Task


class Serial:
    """In this process; see `upscale_opt.sweeps.engines.interface.Engine`."""

    keeps_shards = False

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results in the order of the tasks."""
        yield from map(compute, tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass
