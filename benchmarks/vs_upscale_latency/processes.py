"""Work in a separate process. It may crash; its imports and its memory do not affect the main process."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch


class ChildError(Exception):
    """The child process raised an error, or died. The message says which."""


def in_child(function: Callable[..., Iterable[Any]], *arguments: Any, num_threads: int = 1) -> Iterator[Any]:
    """Yield what a function yields in a new process.

    Parameters
    ----------
    function
        The function. It can be imported by name, and what it yields can be pickled.
    arguments
        Its positional arguments.
    num_threads
        Number of torch threads in that process.

    Raises
    ------
    ChildError
        If the function raises an error or its process ends early.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(function, arguments, num_threads, sender), daemon=True)
    child.start()
    sender.close()
    try:
        while True:
            try:
                kind, value = receiver.recv()
            except EOFError:
                child.join()
                raise ChildError(f"its process ended with exit code {child.exitcode}") from None
            if kind == "value":
                yield value
                continue
            child.join()  # by itself, so that it can clean up
            if kind == "error":
                raise ChildError(value)
            return
    finally:
        child.kill()
        child.join()
        receiver.close()


def reason(error: BaseException) -> str:
    """An exception in one line, with its last frame: it shows where another package failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" in {trace.tb_frame.f_code.co_name}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{where}: {text if len(text) <= 200 else text[:200] + ' ...'}"


def _report(function: Callable[..., Iterable[Any]], arguments: tuple[Any, ...], num_threads: int, sender: Any) -> None:
    """The function that the child process runs."""
    torch.set_num_threads(num_threads)
    warnings.simplefilter("ignore")  # TorchScript is deprecated, and its tracer warns about constants
    try:
        for value in function(*arguments):
            sender.send(("value", value))
        sender.send(("end", None))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        sender.send(("error", reason(error)))
