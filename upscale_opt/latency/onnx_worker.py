"""The process that times parts of networks in ONNX Runtime: ``python -m upscale_opt.latency.onnx_worker THREADS``.

It reads questions from standard input and writes answers to standard output, as pickles, until the input ends
(`upscale_opt.onnx_runtime.remote_calls`).
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch

from upscale_opt.errors import UpscaleError, first_line
from upscale_opt.latency.backends import warmed
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.onnx_runtime.remote_calls import DONE, INTERLEAVED, LOAD, REFUSED, RUN
from upscale_opt.onnx_runtime.sessions import bound_by_name, share_threads


class Worker:
    """Sessions by their numbers."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], Any]] = {}

    def load(self, handles: Sequence[int], content: bytes, inputs: Mapping[str, np.ndarray], optimise: bool) -> None:
        """Make sessions of a model, and warm them up."""
        given = {name: torch.from_numpy(x) for name, x in inputs.items()}
        for handle in handles:
            self.calls[handle] = warmed(bound_by_name(content, given, optimise=optimise))

    def run(self, handle: int) -> None:
        """Run a session once."""
        self.calls[handle]()

    def interleaved(self, handles: Sequence[Sequence[int]], seconds: float, rounds: int) -> list[tuple[int, ...]]:
        """Nanoseconds per call, measured in turn."""
        calls = [[self.calls[own] for own in some] for some in handles]
        return interleaved(calls, torch.device("cpu"), SimpleNamespace(seconds=seconds, rounds=rounds))

    def answer(self, forgotten: Sequence[int], what: str, details: Sequence[Any]) -> tuple[str, Any]:
        """What is sent back."""
        for handle in forgotten:
            self.calls.pop(handle, None)
        known: dict[str, Any] = {LOAD: self.load, RUN: self.run, INTERLEAVED: self.interleaved}
        try:
            return DONE, known[what](*details)
        except UpscaleError as error:
            return REFUSED, str(error)
        except Exception as error:  # whatever ONNX Runtime raises; the one who asked goes on
            return REFUSED, f"ONNX Runtime does not run this part ({first_line(error)})"


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is no question left."""
    worker = Worker()
    while True:
        try:
            forgotten, what, details = pickle.load(questions)
        except EOFError:
            return
        pickle.dump(worker.answer(forgotten, what, details), answers)
        answers.flush()


def main() -> None:
    """Serve on standard input and output. What libraries print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    share_threads(threads)
    with torch.inference_mode():
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
