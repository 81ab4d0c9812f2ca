"""What ``--proof`` prints and ``--save-proof`` writes: per segment the strongest proof, in words and as files.

A directory gets, per segment, everything that ``python -m problems.checking`` asks for. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from problems import Problem, Proof, in_units, write_instance, write_proof
from problems.order_files import write_order
from solvers import Result
from upscale_opt.commands import options
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.solutions import Solutions

_MOST_LINES = 12


def proof_text(problems: Mapping[str, Problem], solutions: Solutions, solvers: Sequence[str]) -> str:
    """What was proven about every segment with at least two accesses, and how it compares with the best order found."""
    lines = []
    for segment in solutions:
        proof, best = strongest_proof(solutions[segment], solvers), best_result(solutions[segment], solvers)
        if proof is None or len(problems[segment].accesses) < 2:
            continue
        head, *claims = str(proof).splitlines()
        value = in_units(best.objective, best.evaluation.ticks)
        optimal = ": optimal" if best.objective == proof.bound else ""
        lines += [f"{head}; the best found, by {best.solver}, has {value}{optimal}", *claims[:_MOST_LINES]]
        if len(claims) > _MOST_LINES:
            lines.append(f"  and {len(claims) - _MOST_LINES} more claims, which --save-proof writes")
    return "\n".join(lines)


def without_proofs(problems: Mapping[str, Problem]) -> tuple[str, ...]:
    """What has to be said of the segments of a model that there are no proofs of."""
    arranged = [segment for segment, problem in problems.items() if problem.bundles]
    if not arranged:
        return ()
    named = f"{', '.join(arranged[:3])}{' and others' if len(arranged) > 3 else ''}"
    return (
        f"no proofs of {named}: groups may change places there, which proofs cannot say yet; the bounds hold all the "
        "same",
    )


def strongest_proof(results: Mapping[str, Result], solvers: Sequence[str]) -> Proof | None:
    """The proof of the highest bound, of the first solver on ties; None without any."""
    proofs = [proof for name in solvers if (proof := results[name].proof) is not None]
    return max(proofs, key=lambda proof: proof.bound, default=None)


def best_result(results: Mapping[str, Result], solvers: Sequence[str]) -> Result:
    """The result of least value, of the first solver on ties."""
    return min((results[name] for name in solvers), key=lambda result: result.objective)


def require_proof_path(path: Path | None, *, single: bool) -> None:
    """Raise unless proofs can be written: to a file ``*.json`` if there is a `single` one, or into a directory.

    Raises
    ------
    UpscaleError
        If they cannot.
    """
    if path is None or not _is_file(path):
        options.require_directory(path)
    elif single:
        options.require_writable(path)
    else:
        raise UpscaleError(f"--save-proof {path} is a file, but a model has many segments; name a directory")


def save_proofs(problems: Mapping[str, Problem], solutions: Solutions, solvers: Sequence[str], path: Path) -> int:
    """Write the proof of a single segment to a file, or of all segments, each with instance and order, to a directory.

    Returns how many there were: segments without a proof are left out.

    Raises
    ------
    problems.ProblemError
        If a file cannot be written.
    """
    number = 0
    for segment, results in solutions.items():
        proof = strongest_proof(results, solvers)
        if proof is None:
            continue
        number += 1
        if _is_file(path):
            write_proof(proof, path)
            continue
        stem = segment.replace("/", "_")
        write_instance(problems[segment], path / f"{stem}.json")
        write_proof(proof, path / f"{stem}.proof.json")
        write_order(problems[segment], best_result(results, solvers).order, path / f"{stem}.order.json")
    return number


def _is_file(path: Path) -> bool:
    return path.suffix == ".json" and not path.is_dir()
