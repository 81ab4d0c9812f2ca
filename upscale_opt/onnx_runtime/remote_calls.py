"""Parts of networks that are timed in a process of their own, where all sessions of ONNX Runtime share their threads.

Inside a network, threads that wait for the next operator spin, so it starts at once. A part alone is a session with
threads of its own. If these spin, they slow down all other sessions. If they sleep, small operators take twice as long
as in the network, because threads wake up first. One pool for all sessions has neither fault. But a process with such a
pool allows no session without it, so it must not be the user's process.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from upscale_opt.onnx_runtime.requirements import OnnxError

WORKER = "upscale_opt.latency.onnx_worker"
"""The module that runs in the other process."""
DONE, REFUSED = "done", "refused"
"""Whether an answer is a result or an error's text."""
LOAD, RUN, INTERLEAVED = "load", "run", "interleaved"
"""What may be asked."""
_ENDED = "the process that times parts in ONNX Runtime has ended; run this again"


class TimingProcess:
    """Another process with sessions of ONNX Runtime that share their threads. It ends with this one.

    Parameters
    ----------
    threads
        Number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._lock, self._number, self._forgotten, self._owner = threading.Lock(), 0, list[int](), os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self.close)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked: by the process that started it, not by a fork of that."""
        return self._owner == os.getpid() and self._process.poll() is None

    def load(
        self, content: bytes, inputs: Mapping[str, torch.Tensor], copies: int, *, optimise: bool
    ) -> list[RemoteCall]:
        """Sessions of a model, warmed up, each with weights of its own.

        Parameters
        ----------
        content
            The ONNX model.
        inputs
            Input name to tensor. What the model does not take is left out.
        copies
            Number of sessions.
        optimise
            Apply all optimisations of the graph; otherwise none.

        Raises
        ------
        OnnxError
            If ONNX Runtime does not run the model.
        """
        handles = list(range(self._number, self._number + copies))
        self._number += copies
        self._ask(
            LOAD, handles, content, {name: x.detach().contiguous().numpy() for name, x in inputs.items()}, optimise
        )
        calls = [RemoteCall(self, own) for own in handles]
        for call in calls:
            weakref.finalize(call, self._forgotten.append, call.handle)
        return calls

    def run(self, handle: int) -> None:
        """Run a session once."""
        self._ask(RUN, handle)

    def interleaved(self, handles: Sequence[Sequence[int]], seconds: float, rounds: int) -> list[tuple[int, ...]]:
        """Nanoseconds per call, as `upscale_opt.latency.interleaving.interleaved`."""
        found: list[tuple[int, ...]] = self._ask(INTERLEAVED, handles, seconds, rounds)
        return found

    def _ask(self, what: str, *details: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            if not self.is_running:
                raise OnnxError(_ENDED)
            gone = self._forgotten.copy()
            del self._forgotten[: len(gone)]
            try:
                pickle.dump((gone, what, details), self._process.stdin)
                self._process.stdin.flush()
                kind, answer = pickle.load(self._process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                self.close()
                raise OnnxError(_ENDED) from error
            except BaseException:  # an answer may be on its way, so nothing can be asked any more
                self.close()
                raise
        if kind == REFUSED:
            raise OnnxError(answer)
        return answer

    def close(self) -> None:
        """End it."""
        if self._owner != os.getpid():
            return
        atexit.unregister(self.close)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent needs no reader
                    stream.close()


@dataclass(frozen=True, eq=False)
class RemoteCall:
    """A call of a model in a `TimingProcess`, on fixed inputs. Its results stay there.

    Attributes
    ----------
    process
        Where it runs.
    handle
        Its number there.
    """

    process: TimingProcess
    handle: int

    def __call__(self) -> None:
        """Run it once."""
        self.process.run(self.handle)


_processes: dict[int, TimingProcess] = {}


def timing_process() -> TimingProcess:
    """The process for as many threads as torch has now. It is started if it does not run."""
    threads = torch.get_num_threads()
    own = _processes.get(threads)
    if own is None or not own.is_running:
        own = _processes[threads] = TimingProcess(threads)
    return own
