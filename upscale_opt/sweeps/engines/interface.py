"""What an engine does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self, TypeVar

from upscale_opt.errors import SweepError

Task = TypeVar("Task")
Result = TypeVar("Result")
MOST_DEATHS = 3
"""How many processes a task may take with it before it counts as failed."""


class Engine(Protocol):
    """Computes tasks. Leaving its block ends what it has started.

    Attributes
    ----------
    keeps_shards
        Whether workers should keep results in files of their own, because they outlive this process.
    """

    keeps_shards: bool

    def results(
        self, tasks: Iterator[Task], compute: Callable[[Task], Result], lost: Callable[[Task, str], Result]
    ) -> Iterator[Result]:
        """Yield results as they come, in any order.

        Parameters
        ----------
        tasks
            The tasks. They are taken one by one, when there is room for them. They can be pickled.
        compute
            A function of a module. It raises no exception.
        lost
            Makes the result of a task whose processes died again and again, from a reason.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package(name: str, engine: str, extra: str) -> ModuleType | Any:
    """Import the package of an engine.

    Raises
    ------
    SweepError
        If it is missing. The sentence says what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SweepError(
            f"the engine {engine} needs {name}; run: pip install -e '.[{extra}]', or use --engine processes"
        ) from error
