"""Measures saved networks in a fresh process: ``python -m upscale_opt.latency.file_timing A B --inputs X.npz``.

In the process that made the networks, memory is fragmented and caches are full, and eager modules are at hand that
users of the files do not have. `measured_files` starts such a process and returns what it measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from problems.files import write_text_atomically
from upscale_opt.errors import ModelError, UpscaleError, first_line
from upscale_opt.latency.environment import StolenTime, environment
from upscale_opt.onnx_runtime.requirements import require_inputs

SUFFIXES = (".pt2", ".onnx")
INPUT_SUFFIXES = (".npz", ".pt")
_SECONDS = 0.02
_WARM_UPS = 3
_SETTLING = 0.3  # seconds per network until the system has spread the threads of several sessions over the cores


def measured_files(
    paths: Sequence[str | Path],
    inputs: str | Path | Sequence[torch.Tensor],
    *,
    repeats: int = 10,
    together: bool = False,
) -> dict[str, Any]:
    """Measure the latency of saved networks in turn (A B A B ...), on the CPU, in a fresh Python process.

    The process uses as many threads as torch uses here.

    Parameters
    ----------
    paths
        Two or more files: ``.pt2`` runs through `torch.export.load`, ``.onnx`` in ONNX Runtime.
    inputs
        The positional inputs of all networks: tensors, or a file of them: ``.npz``, whose arrays are taken in their
        order, or ``.pt``, a tensor or a tuple of tensors.
    repeats
        Rounds: figures per network. Each is the median of single calls that take 20 ms or more.
    together
        What happens with ``.onnx`` files. Calls of other files always take turns. By default, an ``.onnx`` file gets a
        session of its own in every round, and no other session is there meanwhile. With `together`, all sessions stay,
        and calls take turns. After a call, the threads of a session go on spinning for a while, and slow down the other
        sessions on the same cores.

    Returns
    -------
    dict
        ``files``: per file ``path``, ``median``, ``iqr`` and the raw ``seconds``, per pass. ``ratios``: per file, the
        seconds of every round over those of the first file in the same round. ``median_ratios``, ``environment``,
        ``stolen``.

    Raises
    ------
    UpscaleError
        If a file is missing or of another kind, or cannot be measured on these inputs.
    """
    _require(paths, repeats)
    with tempfile.TemporaryDirectory() as directory:
        given, out = Path(directory) / "inputs.pt", Path(directory) / "measured.json"
        if isinstance(inputs, (str, Path)):
            given = _existing(inputs, INPUT_SUFFIXES)
        else:
            torch.save(tuple(inputs), given)
        options = ["--inputs", given, "--repeats", repeats, "--threads", torch.get_num_threads(), "--json", out]
        options += ["--together"] if together else []
        command = [sys.executable, "-m", "upscale_opt.latency.file_timing", *paths, *options]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if ran.returncode or not out.exists():
            raise UpscaleError(ran.stderr.strip().rpartition("\n")[2] or "the process that measures files has stopped")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def time_files(
    paths: Sequence[str | Path], inputs: Sequence[torch.Tensor], repeats: int, *, together: bool = False
) -> dict[str, Any]:
    """As `measured_files`, in this process."""
    _require(paths, repeats)
    stolen = StolenTime()
    kept = [i for i, path in enumerate(paths) if together or Path(path).suffix != ".onnx"]
    others = [i for i in range(len(paths)) if i not in kept]
    figures = np.empty((len(paths), repeats))
    with torch.inference_mode():
        calls = [_call(Path(paths[i]), inputs) for i in kept]
        if together:
            _round(calls, _SETTLING)
        for i in range(repeats):
            if kept:
                figures[kept, i] = _round(calls)
            for j in others:  # a session ends with its round
                figures[j, i] = _round([_call(Path(paths[j]), inputs)])[0]
    ratios = figures / figures[0]
    files = [
        {
            "path": str(path),
            "median": float(np.median(own)),
            "iqr": float(np.subtract(*np.percentile(own, (75, 25)))),
            "seconds": own.tolist(),
        }
        for path, own in zip(paths, figures, strict=True)
    ]
    return {
        "files": files,
        "ratios": ratios.tolist(),
        "median_ratios": np.median(ratios, axis=1).tolist(),
        "environment": environment(),
        "stolen": stolen.share(),
    }


def _call(path: Path, inputs: Sequence[torch.Tensor]) -> Callable[[], Any]:
    """A warm call of a saved network."""
    call = _session(path, inputs) if path.suffix == ".onnx" else _program(path)
    try:
        for _ in range(_WARM_UPS):
            call(inputs)
    except Exception as error:
        raise ModelError(f"{path} does not run on these inputs ({first_line(error)}); give others") from error
    return lambda: call(inputs)


def _round(calls: Sequence[Callable[[], Any]], seconds_per_call: float = _SECONDS) -> np.ndarray:
    """Median seconds of each network over single calls in turn; float64 of shape (networks,).

    Each call finds the caches as the others left them, and memory comes from the system as in any program: so would a
    plain loop over the files measure.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    started = time.perf_counter()
    while not seconds[0] or time.perf_counter() - started < seconds_per_call * len(calls):
        for call, own in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
    return np.median(np.array(seconds), axis=1)


def read_inputs(path: str | Path) -> tuple[torch.Tensor, ...]:
    """The tensors of a file of inputs.

    Raises
    ------
    UpscaleError
        If the file is missing, of another kind, or has no tensors.
    """
    found = _existing(path, INPUT_SUFFIXES)
    try:
        if found.suffix == ".npz":
            with np.load(found) as arrays:
                return tuple(torch.from_numpy(arrays[name]) for name in arrays.files)
        loaded = torch.load(found, weights_only=True)
    except Exception as error:
        raise UpscaleError(f"cannot read inputs from {found} ({first_line(error)}); save tensors there") from error
    tensors = (loaded,) if isinstance(loaded, torch.Tensor) else loaded
    if not isinstance(tensors, (tuple, list)) or not all(isinstance(x, torch.Tensor) for x in tensors):
        raise UpscaleError(f"{found} holds no tensor and no tuple of tensors; save the positional inputs there")
    return tuple(tensors)


def _require(paths: Sequence[str | Path], repeats: int) -> None:
    if len(paths) < 2:
        raise UpscaleError(f"{len(paths)} files are too few to compare; give two or more")
    if repeats < 2:
        raise UpscaleError(f"a latency needs at least 2 repeats, not {repeats}")
    for path in paths:
        _existing(path, SUFFIXES)


def _existing(path: str | Path, suffixes: Sequence[str]) -> Path:
    found = Path(path)
    if found.suffix not in suffixes:
        raise UpscaleError(f"{found} is no {' or '.join(suffixes)} file; give one of these")
    if not found.is_file():
        raise UpscaleError(f"there is no file {found}; give the path of a saved one")
    return found


def _program(path: Path) -> Callable[[Sequence[torch.Tensor]], Any]:
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded ({first_line(error)}); save it again") from error
    return lambda inputs: module(*inputs)


def _session(path: Path, inputs: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], Any]:
    """A session of ONNX Runtime with its own defaults, but for the number of threads: as users run a file."""
    require_inputs(inputs)
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded ({first_line(error)}); save it again") from error
    names = [own.name for own in session.get_inputs()]
    return lambda given: session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the files of the command line, and write JSON to a file or to standard output."""
    parser = argparse.ArgumentParser(description="Measure saved networks in turn, on the CPU.")
    parser.add_argument("paths", nargs="+", type=Path, help="two or more .pt2 or .onnx files")
    parser.add_argument("--inputs", required=True, type=Path, help=".npz or .pt file of the positional inputs")
    parser.add_argument("--repeats", type=int, default=10, help="figures per network")
    parser.add_argument("--threads", type=int, help="threads of torch and of ONNX Runtime")
    parser.add_argument("--together", action="store_true", help="calls of .onnx files take turns, too")
    parser.add_argument("--json", type=Path, help="file for the result")
    given = parser.parse_args(arguments)
    try:
        if given.threads:
            torch.set_num_threads(given.threads)
        _require(given.paths, given.repeats)
        found: Mapping[str, Any] = time_files(
            given.paths, read_inputs(given.inputs), given.repeats, together=given.together
        )
        text = json.dumps(found, indent=1)
        if given.json is None:
            print(text)
        else:
            write_text_atomically(text, given.json)
    except UpscaleError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
