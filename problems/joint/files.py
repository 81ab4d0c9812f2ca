"""Joint problems and their solutions as JSON files with a version; docs/formats.md describes the fields.

    {"format": "upscale_opt.joint", "version": 1, "name": "conv1", "objective": "copies", "cost_price": null,
     "loss_price": 1, "stored_price": 0, "blocks": [{"name": "conv1", "size": 4, ...}],
     "accesses": [{"name": "a", "blocks": [0], "importance": [5, 4, 0, 1], "width": 2, "required": null, ...}]}

    {"format": "upscale_opt.joint_solution", "version": 1, "instance": "<content hash>", "value": 2, "method": "auto",
     "order": [[0, 1, 3]], "kept": [[0, 1], [1, 3]], "claims": [{"kind": "trivial", "bound": 2, "text": ""}]}

Writing and reading are exact. A file is written as a whole or not at all, and unknown fields are refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from problems.blocks import MAX_SIZE, Block
from problems.conversions import of_kind, text, whole_number
from problems.errors import ProblemError
from problems.files import (
    json_of,
    read_bytes,
    reject_unknown_fields,
    require_field,
    require_format,
    write_text_atomically,
)
from problems.joint.access import JointAccess
from problems.joint.certificates import JointCertificate
from problems.joint.decision import JointChoice, evaluate_joint
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointClaim, JointProof
from problems.order import Order
from problems.proof_files import objective_from_json, objective_to_json
from problems.solution_files import channels_of, runs_of

FORMAT = "upscale_opt.joint"
SOLUTION_FORMAT = "upscale_opt.joint_solution"
VERSION = 1
_PRICES = ("cost_price", "loss_price", "stored_price")
_BLOCK = {"name": str, "size": int, "pinned": bool, "removable": bool, "required": list}
_ACCESS: dict[str, Any] = {
    "name": str,
    "blocks": list,
    "importance": list,
    "width": (int, type(None)),
    "required": (int, type(None)),
    "price": int,
    "channel_size": int,
}
_CERTIFICATE = {"unit": int, "widths": list, "sums": list, "potentials": list, "coupled": list, "bound": int}
Made = TypeVar("Made")


@dataclass(frozen=True)
class JointSolution:
    """A choice with what is known about it, as in a file.

    Attributes
    ----------
    choice, value
        The choice, and its value.
    proof
        Why no choice is better than the proof's bound; None: there is no bound.
    method
        Who found the choice.
    """

    choice: JointChoice
    value: int
    proof: JointProof | None
    method: str

    @property
    def bound(self) -> int | None:
        """No choice has a smaller value; None if no bound is known."""
        return None if self.proof is None else self.proof.bound

    @property
    def proven(self) -> bool:
        """Whether value and bound meet."""
        return self.bound == self.value


def write_joint(problem: JointProblem, path: str | Path) -> None:
    """Write a joint problem to a file, in one step.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    write_text_atomically(joint_text(problem), path)


def read_joint(path: str | Path) -> JointProblem:
    """Read a joint problem.

    Raises
    ------
    ProblemError
        If the file cannot be read, is newer than this program, or a field is not as described. The message names the
        field.
    """
    return joint_in(read_bytes(path), path)


def joint_text(problem: JointProblem) -> str:
    """The content of the file of a problem."""
    of_kind(problem, JointProblem, "the problem")
    fields = {"format": FORMAT, "version": VERSION, "name": problem.name}
    fields["objective"] = objective_to_json(problem.objective)
    fields |= {field: getattr(problem, field) for field in _PRICES}
    blocks = [{field: getattr(own, field) for field in _BLOCK} for own in problem.blocks]
    accesses = []
    for access in problem.accesses:
        own = {field: getattr(access, field) for field in _ACCESS}
        accesses.append({**own, "importance": access.importance.tolist()})
    parts = [json.dumps(fields)[:-1]]
    for name, rows in (("blocks", blocks), ("accesses", accesses)):
        parts.append(f'"{name}": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]")
    return ",\n ".join(parts) + "}\n"


def joint_in(content: bytes, where: str | Path) -> JointProblem:
    """The problem in the content of a file; `where` names the file in errors, which are those of `read_joint`."""
    document = require_format(json_of(content, where), where, file_format=FORMAT, version=VERSION)
    return _named(where, lambda: _problem_of(document))


def write_joint_solution(problem: JointProblem, solution: JointSolution, path: str | Path) -> None:
    """Write a solution to a file, in one step. Its value is computed again.

    Raises
    ------
    ProblemError
        If the choice does not fit the problem or has another value, or the path cannot be written.
    """
    write_text_atomically(joint_solution_text(problem, solution), path)


def joint_solution_text(problem: JointProblem, solution: JointSolution) -> str:
    """The content of the file of a solution; errors as in `write_joint_solution`."""
    of_kind(solution, JointSolution, "the solution")
    _require_value(problem, solution)
    claims = [] if solution.proof is None else [_claim_to_dict(own) for own in solution.proof.claims]
    document = {
        "format": SOLUTION_FORMAT,
        "version": VERSION,
        "instance": problem.content_hash(),
        "value": solution.value,
        "method": solution.method,
        "order": runs_of(solution.choice.order),
        "kept": runs_of(Order(np.flatnonzero(own) for own in solution.choice.kept)),
        "claims": claims,
    }
    return json.dumps(document) + "\n"


def read_joint_solution(path: str | Path, problem: JointProblem) -> JointSolution:
    """Read a solution of a problem. Its choice is checked, and its value computed again; its proof is not checked.

    Raises
    ------
    ProblemError
        If the file cannot be read, is one of another problem, a field is not as described, or the value is another.
    """
    return joint_solution_in(read_bytes(path), path, problem)


def joint_solution_in(content: bytes, where: str | Path, problem: JointProblem) -> JointSolution:
    """The solution in the content of a file; errors as in `read_joint_solution`."""
    document = require_format(json_of(content, where), where, file_format=SOLUTION_FORMAT, version=VERSION)

    def made() -> JointSolution:
        solution = stated_solution(document, problem)
        _require_value(problem, solution)
        return solution

    return _named(where, made)


def stated_solution(document: dict[str, Any], problem: JointProblem) -> JointSolution:
    """What a solution file states, without a look at whether it is true, but for the problem that it is one of."""
    where = "the solution"
    known = {"format", "version", "instance", "value", "method", "order", "kept", "claims"}
    reject_unknown_fields(document, known, where)
    if require_field(document, "instance", str, where) != problem.content_hash():
        raise ProblemError(f"it is a solution of another problem than {problem.name}: the content hash differs")
    order = [channels_of(own, f"order[{b}]") for b, own in enumerate(require_field(document, "order", list, where))]
    sets = require_field(document, "kept", list, where)
    if len(sets) != problem.num_accesses:
        raise ProblemError(f"field 'kept' has {len(sets)} entries for {problem.num_accesses} accesses; give one each")
    kept = []
    for access, raw in zip(problem.accesses, sets):
        positions = channels_of(raw, f"kept of access {access.name!r}")
        mask = np.zeros(len(access.importance), dtype=bool)
        if positions.size and positions.max() >= len(mask):
            raise ProblemError(f"kept of access {access.name!r} lists positions it does not have; it has {len(mask)}")
        mask[positions] = True
        kept.append(mask)
    claims = [_claim_of(raw, f"claims[{i}]") for i, raw in enumerate(require_field(document, "claims", list, where))]
    value = whole_number(require_field(document, "value", int, where), "field 'value'", least=0)
    proof = JointProof.of(problem, claims) if claims else None
    return JointSolution(JointChoice(order, kept), value, proof, require_field(document, "method", str, where))


def _require_value(problem: JointProblem, solution: JointSolution) -> None:
    found = evaluate_joint(problem, solution.choice).value
    text(solution.method, "the method of a solution")
    if found != solution.value:
        raise ProblemError(f"the solution states the value {solution.value}, but its choice has {found}; correct it")


def _problem_of(document: dict[str, Any]) -> JointProblem:
    where = "the joint problem"
    known = {"format", "version", "name", "objective", "blocks", "accesses", *_PRICES}
    reject_unknown_fields(document, known, where)
    made: dict[str, list[Any]] = {}
    kinds: dict[str, tuple[type, dict[str, Any]]] = {"blocks": (Block, _BLOCK), "accesses": (JointAccess, _ACCESS)}
    for field, (kind, fields) in kinds.items():
        raw = require_field(document, field, list, where)
        made[field] = [_part(kind, own, fields, f"{field}[{i}]") for i, own in enumerate(raw)]
    if sum(own.size for own in made["blocks"]) > MAX_SIZE:
        raise ProblemError(f"the blocks have more than {MAX_SIZE} channels together")
    prices = {field: require_field(document, field, (int, type(None)), where) for field in _PRICES}
    objective = objective_from_json(require_field(document, "objective", (str, dict), where), where)
    name = require_field(document, "name", str, where)
    return JointProblem(made["blocks"], made["accesses"], objective, name=name, **prices)


def _part(kind: Callable[..., Made], raw: Any, fields: dict[str, Any], where: str) -> Made:
    """A block, an access or a certificate of its JSON object."""
    values = {field: require_field(raw, field, own, where) for field, own in fields.items()}
    reject_unknown_fields(raw, fields, where)
    return _named(where, lambda: kind(**values))


def _claim_to_dict(claim: JointClaim) -> dict[str, Any]:
    document = {"kind": str(claim.kind), "bound": claim.bound, "text": claim.text}
    if claim.certificate is not None:
        document["certificate"] = dataclasses.asdict(claim.certificate)
    return document


def _claim_of(raw: Any, where: str) -> JointClaim:
    kind, bound = require_field(raw, "kind", str, where), require_field(raw, "bound", int, where)
    words, certificate = require_field(raw, "text", str, where), None
    reject_unknown_fields(raw, {"kind", "bound", "text", "certificate"}, where)
    if "certificate" in raw:
        certificate = _part(JointCertificate, raw["certificate"], _CERTIFICATE, f"{where}.certificate")
    return _named(where, lambda: JointClaim(kind, bound, words, certificate))


def _named(where: str | Path, make: Callable[[], Made]) -> Made:
    """What is made, with the place in front of an error."""
    try:
        return make()
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error
