"""The result file: a `Result` as JSON, with a version. Reading it checks what can be checked, and passes the gate.

    {"format": "upscale_opt.result", "version": 1, "instance": "<content hash>", "name": "layer1", "objective": "span",
     "solver": "auto", "seed": 0, "value": 12, "bound": 10, "status": "FEASIBLE", "stop_reason": "gap limit",
     "runtime": 1.5, "order": [[4, [0, 3]]], "stats": {"classes": 7},
     "trajectory": [[0.01, 14, 0, "greedy"], [0.4, 12, 10, "levels"]], "proof": {...}}

``order`` lists channels and runs ``[first, count]`` per block, as solution files do; ``arrangement`` and ``proof`` may
be left out. docs/formats.md says what the fields mean.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from problems import Claim, Kind, Objective, Order, Problem, ProblemError, Proof, evaluate
from problems.checker.proof_checks import Standing, check_proof
from problems.conversions import of_kind, whole_number
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.proof_files import objective_from_json, objective_to_json, proof_from_dict, proof_to_dict
from problems.signatures import content_hash
from problems.solution_files import channels_of, runs_of
from solvers.common.result import Result, Status, StopReason, TrajectoryPoint
from solvers.common.task import Finding
from solvers.gate import result_of

FORMAT = "upscale_opt.result"
VERSION = 1  # version: of the files that are written and the latest that is read
_FIELDS: dict[str, Any] = {
    "instance": str,
    "name": str,
    "objective": (str, dict),
    "solver": str,
    "seed": int,
    "value": int,
    "bound": (int, type(None)),
    "status": str,
    "stop_reason": str,
    "runtime": (int, float),
    "order": list,
    "stats": dict,
    "trajectory": list,
}


def write_result(result: Result, path: str | Path) -> None:
    """Write a result to a file, atomically.

    Raises
    ------
    problems.ProblemError
        If the path cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from problems.generators import random_masks
    >>> from solvers import solve
    >>> problem = random_masks(64, 5)
    >>> result = solve(problem, objective="span", proof=True)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_result(result, f"{directory}/result.json")
    ...     again = read_result(f"{directory}/result.json", problem)
    >>> again.order == result.order, again.bound == result.bound, again.proof == result.proof
    (True, True, True)
    """
    write_text_atomically(json.dumps(result_to_dict(result), indent=1) + "\n", path)


def read_result(path: str | Path, problem: Problem) -> Result:
    """Read a result for a problem.

    The order is evaluated again. The bound is compared with it, and with the proof if there is one, whose claims are
    checked as far as they can be (`problems.checking`); for small problems any bound is checked. A bound that cannot be
    checked is taken on trust.

    Raises
    ------
    problems.ProblemError
        If the file cannot be read, is newer than this program, a field is wrong, the result is one of another problem,
        or its bound or its proof is false. The message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        return result_from_dict(document, problem)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def result_to_dict(result: Result) -> dict[str, Any]:
    """The JSON object of a result, with plain Python values only."""
    problem, goal = of_kind(result, Result, "the result").problem, result.objective
    if problem is None or goal is None:
        raise ProblemError("the result does not know its problem; only results of `solvers.solve` can be written")
    arrangement = [own.tolist() for own in result.order.arrangement]
    return {
        "format": FORMAT,
        "version": VERSION,
        "instance": content_hash(problem),
        "name": problem.name,
        "objective": objective_to_json(goal),
        "solver": result.solver,
        "seed": result.seed,
        "value": result.value,
        "bound": result.bound,
        "status": str(result.status),
        "stop_reason": str(result.stop_reason),
        "runtime": result.runtime,
        "order": runs_of(result.order),
        **({"arrangement": arrangement} if arrangement else {}),
        "stats": {name: _plain(own) for name, own in result.stats.items()},
        "trajectory": [[own.seconds, own.value, own.bound, own.method] for own in result.trajectory],
        **({} if result.proof is None else {"proof": proof_to_dict(result.proof)}),
    }


def result_from_dict(document: dict[str, Any], problem: Problem) -> Result:
    """The result of a JSON object; errors as in `read_result`."""
    where = "the result"
    reject_unknown_fields(document, {"format", "version", "arrangement", "proof", *_FIELDS}, where)
    raw = {name: require_field(document, name, kind, where) for name, kind in _FIELDS.items()}
    if raw["instance"] != content_hash(of_kind(problem, Problem, "the problem")):
        raise ProblemError("field 'instance' is the hash of another problem; give the one that was solved")
    arrangement = require_field(document, "arrangement", list, where) if "arrangement" in document else []
    channels = [channels_of(runs, f"field 'order[{b}]'") for b, runs in enumerate(raw["order"])]
    order = Order(channels, arrangement)
    goal = objective_from_json(raw["objective"], where)
    value = evaluate(problem, order, goal).value
    if value != raw["value"]:
        raise ProblemError(
            f"field 'value' is {raw['value']}, but the order has {value}; the channels may have been in another order"
        )
    bound = raw["bound"]
    if bound is not None and bound > value:
        raise ProblemError(f"field 'bound' is {bound}, above the value {value}")
    if (raw["status"] == Status.OPTIMAL) != (bound == value) or raw["status"] not in list(Status):
        raise ProblemError(f"field 'status' is {raw['status']!r}, but the value is {value} and the bound {bound}")
    if raw["stop_reason"] not in list(StopReason):
        raise ProblemError(f"field 'stop_reason' is {raw['stop_reason']!r}; it must be one of {', '.join(StopReason)}")
    proof = proof_from_dict(require_field(document, "proof", dict, where)) if "proof" in document else None
    _require_sound(problem, goal, bound, proof)
    return _through_the_gate(raw, problem, goal, order, proof)


def _through_the_gate(
    raw: dict[str, Any], problem: Problem, goal: Objective, order: Order, proof: Proof | None
) -> Result:
    """The result, made as any other."""
    if raw["runtime"] < 0 or not math.isfinite(raw["runtime"]):
        raise ProblemError(f"field 'runtime' is {raw['runtime']}; it must be a number of seconds")
    stats = {name: tuple(own) if isinstance(own, list) else own for name, own in raw["stats"].items()}
    claims = () if proof is None else proof.claims
    return result_of(
        problem,
        goal,
        Finding(order, raw["bound"], value=raw["value"], stats=stats, claims=claims),
        solver=raw["solver"],
        runtime=float(raw["runtime"]),
        want_proof=proof is not None,
        stop_reason=StopReason(raw["stop_reason"]),
        trajectory=[_point(own, f"field 'trajectory[{i}]'") for i, own in enumerate(raw["trajectory"])],
        seed=whole_number(raw["seed"], "field 'seed'", least=0),
    )


def _require_sound(problem: Problem, goal: Objective, bound: int | None, proof: Proof | None) -> None:
    """Raise unless the proof, or a bound without one, survives the checker."""
    if proof is not None and (proof.bound != bound or proof.objective != goal):
        raise ProblemError(f"field 'proof' is one of {proof.objective.name} >= {proof.bound}, not of the bound {bound}")
    if bound is None or problem.bundles or problem.constraints:
        return
    if proof is None:
        proof = Proof.of(problem, goal, max(0, bound), [Claim(Kind.SEARCH, max(0, bound), "a file says so")])
    for statement in check_proof(problem, proof):
        if statement.standing is Standing.WRONG:
            raise ProblemError(f"the bound {bound} is false: {statement}")


def _point(raw: Any, where: str) -> TrajectoryPoint:
    if not (isinstance(raw, list) and len(raw) == 4 and isinstance(raw[3], str)):
        raise ProblemError(f"{where} must be [seconds, value, bound or null, method]")
    seconds, value, bound, method = raw
    numbers = type(seconds) in (int, float) and type(value) is int and (bound is None or type(bound) is int)
    if not numbers:
        raise ProblemError(f"{where} must be [seconds, value, bound or null, method]")
    return TrajectoryPoint(float(seconds), value, bound, method)


def _plain(figure: Any) -> Any:
    """A figure as JSON has it."""
    if isinstance(figure, (tuple, list)):
        return [_plain(own) for own in figure]
    if isinstance(figure, (bool, int, float, str, type(None))):
        return figure
    return figure.item() if hasattr(figure, "item") else str(figure)
