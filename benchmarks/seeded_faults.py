"""Do the fast tests detect faults? Twenty lines in all subpackages are broken, one at a time.

    python -m benchmarks.seeded_faults                # the fast tests of the subpackage with the fault
    python -m benchmarks.seeded_faults --whole        # all fast tests for every fault
    python -m benchmarks.seeded_faults --only masking # faults with this word in their file or description

Faults are made in a copy of the last commit. The copy is deleted; the checkout is not touched. Exit code 0 if every
fault is detected, 1 if one is not, 2 if a line to be broken no longer exists.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """A line and its faulty replacement.

    Attributes
    ----------
    what
        Description of the fault.
    file
        Path of the file, from the root.
    before, after
        The text, which occurs once in the file, and its replacement.
    tests
        Directories of the fast tests of its subpackage, from ``tests/``.
    """

    what: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "bounds are multiplied by ticks whatever the objective",
        "problems/objectives.py",
        "        if self.uses_tables:\n            return problem.ticks",
        "        if True:\n            return problem.ticks",
        ("problems", "solvers/common"),
    ),
    Fault(
        "a bound above a solution's value passes the checker",
        "problems/checker/checking.py",
        "    if bound > own.value:\n",
        "    if False:\n",
        ("problems/checker",),
    ),
    Fault(
        "proofs do not know of bundles",
        "problems/proofs.py",
        '("blocks", "accesses", "bundles", "constraints")',
        '("blocks", "accesses", "constraints")',
        ("problems/checker",),
    ),
    Fault(
        "of pieces one run counts, too",
        "problems/objectives.py",
        "offered = (runs >= 2)",
        "offered = (runs >= 1)",
        ("problems",),
    ),
    Fault(
        "a bound above a value is cut in silence",
        "solvers/common/incumbent.py",
        "        if self.bound > self.value:\n",
        "        self.bound = min(self.bound, self.value)\n        if False:\n",
        ("solvers/common",),
    ),
    Fault(
        "greedy prefers the last of equal paths",
        "solvers/methods/induced_paths.py",
        "if value > best_value:\n                    best_value",
        "if value >= best_value:\n                    best_value",
        ("solvers/methods",),
    ),
    Fault(
        "what large neighbourhoods prove of units in place counts for all arrangements",
        "solvers/methods/in_places.py",
        "    return incumbent.finding(found.stats)",
        "    incumbent.raise_bound(found.bound or 0)\n    return incumbent.finding(found.stats)",
        ("solvers",),
    ),
    Fault(
        "functions take any odd argument",
        "upscale_opt/arguments/entrance.py",
        "                    given.arguments[name] = chosen[name](value, name)",
        "                    pass",
        ("upscale_opt/arguments",),
    ),
    Fault(
        "networks are not put back after a trace",
        "upscale_opt/models/preservation.py",
        "        self._snapshot.restore()\n        self._randomness.restore()",
        "        self._randomness.restore()",
        ("upscale_opt/models",),
    ),
    Fault(
        "a convolution as a matrix product forgets its stride",
        "upscale_opt/modules/matrix_convolution.py",
        "            x = x[:, :, ::rows, ::columns]",
        "            x = x[:, :, : x.shape[2] // rows, : x.shape[3] // columns]",
        ("upscale_opt/modules",),
    ),
    Fault(
        "regions lose their context in the code of a trace",
        "upscale_opt/capture/regions.py",
        "f\"with {_expression(entering['call'])}:\"",
        "'if True:'",
        ("upscale_opt/capture",),
    ),
    Fault(
        "channels of a fixed tensor are picked for users that nothing is known of",
        "upscale_opt/channels/whole_uses.py",
        "    _give_up_picks(flow)\n",
        "",
        ("upscale_opt/operators", "upscale_opt/channels"),
    ),
    Fault(
        "weights that are no numbers are not named",
        "upscale_opt/tracing/finite.py",
        "        if num_nan or num_infinite:",
        "        if False:",
        ("upscale_opt/tracing",),
    ),
    Fault(
        "the strongest channels go, and not the weakest",
        "upscale_opt/importance/ranking.py",
        'np.argsort(score, kind="stable")',
        'np.argsort(-score, kind="stable")',
        ("upscale_opt/importance", "upscale_opt/masking"),
    ),
    Fault(
        "what a selection needs is not stored",
        "upscale_opt/masking/masked_graph.py",
        "                _require(required, stored, source[selection.index[stored[output]]])\n",
        "                pass\n",
        ("upscale_opt/masking", "upscale_opt/operators", "upscale_opt/tracing", "upscale_opt/planning"),
    ),
    Fault(
        "units that have changed places are stored where they were",
        "upscale_opt/rewriting/stored_layouts.py",
        "    if plan.places:",
        "    if False:",
        ("upscale_opt/tracing", "upscale_opt/exporting"),
    ),
    Fault(
        "gradients are not compared",
        "upscale_opt/verifying/verification.py",
        "return self.gradients.compare(module, exported, self.graph.reads) if self.with_gradients else Comparison()",
        "return Comparison()",
        ("upscale_opt/verifying",),
    ),
    Fault(
        "dropped columns learn in functional calls",
        "upscale_opt/exporting/held_entries.py",
        "    if called and _put_in_place",
        "    if False and _put_in_place",
        ("upscale_opt/exporting",),
    ),
    Fault(
        "the least-squares repair draws to zero",
        "upscale_opt/spdy/least_squares.py",
        "right = rows @ flat.T + self.epsilon(ridge) * flat[:, entries].T",
        "right = rows @ flat.T",
        ("upscale_opt/spdy",),
    ),
    Fault(
        "measured curves may fall",
        "upscale_opt/latency/measured_costs.py",
        "np.asarray(isotonic_regression(times).x)",
        "np.asarray(times, dtype=float)",
        ("upscale_opt/latency",),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the faults, run the tests and print the outcomes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeded_faults", description=__doc__.split("\n")[0])
    parser.add_argument("--whole", action="store_true", help="run all fast tests for every fault")
    parser.add_argument("--only", default="", help="faults with this word in their file or description")
    given = parser.parse_args(arguments)
    chosen = [fault for fault in FAULTS if given.only in fault.file or given.only in fault.what]
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "copy"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
        for fault in chosen:
            if (copy / fault.file).read_text().count(fault.before) != 1:
                print(f"error: {fault.file} no longer has the line of '{fault.what}'; fix the list", file=sys.stderr)
                return 2
        for fault in chosen:
            found = detected_by(fault, copy, whole=given.whole)
            missed += found is None
            print(
                f"{'detected' if found else 'MISSED'}: {fault.what} ({fault.file}){f': {found}' if found else ''}",
                flush=True,
            )
    print(f"{len(chosen) - missed} of {len(chosen)} faults detected")
    return int(missed > 0)


def detected_by(fault: Fault, copy: Path, *, whole: bool) -> str | None:
    """The first test that fails with a fault; None if no test fails. The fault is then undone."""
    path = copy / fault.file
    sound = path.read_text()
    path.write_text(sound.replace(fault.before, fault.after))
    tests = [] if whole else [f"tests/{name}" for name in fault.tests]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        ran = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(copy)}
        )
    finally:
        path.write_text(sound)
    if ran.returncode == 0:
        return None
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].partition(" ")[2].partition(" - ")[0] if failed else f"pytest ends with exit code {ran.returncode}"


if __name__ == "__main__":
    sys.exit(main())
