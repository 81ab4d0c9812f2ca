"""Output of ``--proof`` and ``--save-proof``: the strongest proof of each segment, in words and as files.

For each segment, a directory gets all files that ``python -m problems.checking`` needs. This module does not import
torch.
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
    """The proofs of all segments with at least two accesses, in words, compared with the best orders found."""
    lines = []
    for segment in solutions:
        proof, best = strongest_proof(solutions[segment], solvers), best_result(solutions[segment], solvers)
        if proof is None or len(problems[segment].accesses) < 2:
            continue
        head, *claims = str(proof).splitlines()
        value = in_units(best.value, best.evaluation.ticks)
        optimal = ": optimal" if best.value == proof.bound else ""
        lines += [f"{head}; the best found, by {best.solver}, has {value}{optimal}", *claims[:_MOST_LINES]]
        if len(claims) > _MOST_LINES:
            lines.append(f"  and {len(claims) - _MOST_LINES} more claims, which --save-proof writes")
    return "\n".join(lines)


def without_proofs(problems: Mapping[str, Problem]) -> tuple[str, ...]:
    """A message about the segments of a model that have no proofs."""
    arranged = [segment for segment, problem in problems.items() if problem.bundles]
    if not arranged:
        return ()
    named = f"{', '.join(arranged[:3])}{' and others' if len(arranged) > 3 else ''}"
    return (
        f"no proofs of {named}: groups may change places there, which proofs cannot say yet; the bounds are still "
        "valid",
    )


def strongest_proof(results: Mapping[str, Result], solvers: Sequence[str]) -> Proof | None:
    """The proof with the highest bound. On ties, of the first solver. None if there is no proof."""
    proofs = [proof for name in solvers if (proof := results[name].proof) is not None]
    return max(proofs, key=lambda proof: proof.bound, default=None)


def best_result(results: Mapping[str, Result], solvers: Sequence[str]) -> Result:
    """The result with the least value. On ties, of the first solver."""
    return min((results[name] for name in solvers), key=lambda result: result.value)


def require_proof_path(path: Path | None, *, single: bool) -> None:
    """Raise an error unless proofs can be written. A ``*.json`` file is for a `single` proof, a directory for many.

    Raises
    ------
    UpscaleError
        If proofs cannot be written.
    """
    if path is None or not _is_file(path):
        options.require_directory(path)
    elif single:
        options.require_writable(path)
    else:
        raise UpscaleError(f"--save-proof {path} is a file, but a model has many segments; name a directory")


def save_proofs(problems: Mapping[str, Problem], solutions: Solutions, solvers: Sequence[str], path: Path) -> int:
    """Write the proof of one segment to a file, or the proofs of all segments to a directory.

    The directory also gets the instance and the order of each segment. Returns the number of proofs. Segments without a
    proof are left out.

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
