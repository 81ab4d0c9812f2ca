"""All measurements on one GPU, in under ten minutes.

    python -m benchmarks.gpu run --out DIR                 # on the GPU machine: everything, most valuable cells first
    python -m benchmarks.gpu run --out DIR --dry           # here: run every step on the CPU, with a fake clock
    python -m benchmarks.gpu prepare PLANS                 # here: make plans, with analytic costs of a GPU
    python -m benchmarks.gpu measure PLANS                 # on the GPU machine: calibrate, export the plans, measure

``run`` calibrates, orders and measures in steps. It needs OR-Tools; on a machine without a package index,
``--wheels DIR`` installs the wheels in DIR. Every step has a time budget, and is stopped when the budget is used up. An
error in one step does not affect the others. Rows are written as soon as they are measured, with device, versions and
commit:

    steps.jsonl     the outcome of every step; errors.log has their tracebacks
    tests.txt       the tests that need a GPU
    orders.jsonl    eleven orders of a cell, the unpruned network, UPSCALE's own reads, and the floor; CUDA graphs
    accesses.jsonl  two of the orders access by access, expected and measured, and node by node
    widths.jsonl    convolutions and elementwise work by the number of channels they compute
    kernels.jsonl   the kernel that gathers by itself against gather and convolution
    tables.zip      the cost tables

``prepare`` and ``measure`` are for a GPU machine without OR-Tools. They run three benchmarks, each with its own file in
``benchmarks/results``: `benchmarks.latency`, `benchmarks.gather_convolution`, and `benchmarks.vs_upscale_latency` if
apple-upscale is installed (``pip install --no-deps apple-upscale==0.1.1``). Exit code 2 without a CUDA device, 130 if
interrupted; for ``run`` 1 if a step failed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import results

BUDGET = 480.0
MODELS = ("resnet50", "densenet121", "mobilenet_v2")
BATCHES = ("8", "64", "1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested command."""
    given = _parser().parse_args(arguments)
    if given.command == "run":
        return _run(given)
    from benchmarks.gpu import plans

    return plans.prepare(given) if given.command == "prepare" else plans.measure(given)


def steps() -> list[Any]:
    """The steps, the most valuable first."""
    from benchmarks.gpu.device_tests import run_tests
    from benchmarks.gpu.kernels import measure_kernels
    from benchmarks.gpu.networks import OrderCell
    from benchmarks.gpu.orders import check_cell
    from benchmarks.gpu.schedule import Step
    from benchmarks.gpu.widths import measure_widths

    def orders(most: float, *cell: object, aligned: bool = False) -> Step:
        chosen = OrderCell(*cell, "channels_last", aligned)  # type: ignore[arg-type]
        return Step(f"orders of {chosen}", partial(check_cell, chosen), most, least=0.6 * most)

    return [
        orders(80, "resnet50", 64, "float16"),
        orders(130, "densenet121", 64, "float16"),
        orders(60, "resnet50", 64, "float16", aligned=True),
        orders(55, "mobilenet_v2", 64, "float16"),
        Step("widths float16", partial(measure_widths, "float16"), 40),
        Step("tests", run_tests, 60),
        Step("kernels", measure_kernels, 25),
        orders(55, "resnet50", 1, "float16"),
        orders(45, "mobilenet_v2", 1, "float16"),
        Step("widths float32", partial(measure_widths, "float32"), 30),
        orders(90, "densenet121", 1, "float16"),
        orders(60, "resnet50", 64, "float32"),
        orders(45, "mobilenet_v2", 64, "float32"),
        orders(90, "densenet121", 64, "float32"),
    ]


def _run(given: argparse.Namespace) -> int:
    began = time.monotonic()
    import torch

    if not given.dry and not torch.cuda.is_available():
        print("error: there is no CUDA device here; run it on a machine that has one, or with --dry", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        if given.wheels is not None:
            fault = _install(given.wheels, Path(scratch) / "packages")
            if fault:
                print(f"error: {fault}", file=sys.stderr)
                return 2
        if importlib.util.find_spec("ortools") is None:
            print("error: OR-Tools is not installed; give --wheels a folder that holds its wheel", file=sys.stderr)
            return 2
        if not _chosen(given.only):  # imported here: steps may need packages from the wheels
            names = "; ".join(step.name for step in steps())
            print(f"error: no step has {' or '.join(given.only)} in its name; there are: {names}", file=sys.stderr)
            return 2
        return _measured(given, Path(scratch) / "tables", given.budget - (time.monotonic() - began))


def _chosen(words: Sequence[str]) -> list[Any]:
    """The steps with one of these words in their names."""
    return [step for step in steps() if any(word in step.name for word in words)]


def _measured(given: argparse.Namespace, tables: Path, budget: float) -> int:
    from benchmarks.gpu.records import Records
    from benchmarks.gpu.schedule import DIED, EXPIRED, FAILED, DryRun, FakeClock, Worker, run_steps
    from benchmarks.gpu.settings import Setting

    out = given.out.absolute()
    records = Records(out, {"commit": given.commit or results.commit()})
    place = (out, tables, records.facts["commit"])
    if given.dry:
        clock = FakeClock(0.01)
        dry = DryRun(Setting.dry(*place), clock, share=0.5)
        found = run_steps(_chosen(given.only), given.budget, dry, clock, records)
        print(f"{clock.now:.0f} of {given.budget:.0f} s by the fake clock")
    else:
        worker = Worker(Setting(*place))
        try:
            found = run_steps(_chosen(given.only), budget, worker, time.monotonic, records)
        except KeyboardInterrupt:
            return 130
        finally:
            worker.close()
    return int(any(outcome.kind in (DIED, EXPIRED, FAILED) for outcome in found))


def _install(wheels: Path, target: Path) -> str:
    """Install the wheels of a folder, for this process and its children. Returns the error, or nothing."""
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        return f"there are no wheels in {wheels}; pip download --only-binary=:all: -d {wheels} ortools puts them there"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    done = subprocess.run([*pip, "--target", str(target), *found], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        return f"the wheels in {wheels} cannot be installed ({last}); download them for this version of Python"
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join(own for own in (str(target), os.environ.get("PYTHONPATH")) if own)
    importlib.invalidate_caches()
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure everything on a GPU")
    run.add_argument("--out", type=Path, required=True, help="directory that gets the rows")
    run.add_argument("--wheels", type=Path, help="directory of wheels to install first, such as OR-Tools'")
    run.add_argument("--budget", type=float, default=BUDGET, help=f"seconds for everything [{BUDGET:.0f}]")
    run.add_argument("--commit", help="of the code, where git cannot say it")
    run.add_argument("--only", nargs="+", default=[""], help="steps with one of these words in their names [all]")
    run.add_argument("--dry", action="store_true", help="walk every step on the CPU, by a fake clock")
    for name, help_text in (("prepare", "write plans"), ("measure", "carry plans out on a GPU")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("plans", type=Path, help="directory of plans")
        command.add_argument("--models", nargs="+", default=MODELS)
        command.add_argument("--batches", nargs="+", default=BATCHES)
        command.add_argument("--image-size", default="224")
        command.add_argument("--budget", type=float, default=560.0, help="seconds for everything [560]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
