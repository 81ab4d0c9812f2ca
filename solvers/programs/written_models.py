"""Models written for other programs: LP and MPS files, and CP-SAT's protocol buffers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from problems import Objective, Order, Problem, ProblemError, objective_named
from problems.files import write_bytes_atomically, write_text_atomically
from problems.showing.reprs import shown
from problems.weights import without_weights
from solvers.common.arguments import require_problem, require_settings
from solvers.common.clock import time_now
from solvers.common.task import Task


@shown
@dataclass(frozen=True)
class WrittenModel:
    """What the objective of a written model means: ``value = offset + unit * objective``.

    Attributes
    ----------
    offset, unit
        Exact numbers; for objectives with tables in ticks.
    num_variables, num_constraints
        Its size.
    """

    offset: Fraction
    unit: Fraction
    num_variables: int
    num_constraints: int


def write_model(problem: Problem, path: str | Path, objective: str | Objective = "copies") -> WrittenModel:
    """Write a problem as a model for another solver, atomically; the suffix of the path says which.

    | suffix | what | for |
    |---|---|---|
    | ``.lp``, ``.mps`` | a mixed-integer linear program over positions | HiGHS, SCIP, Gurobi, CPLEX |
    | ``.pb``, ``.txt`` | the constraint program over places that `cp-sat` uses for runs | CP-SAT: binary, or as text |

    A model has no weights of accesses; it is one of the problem without them (`problems.weights.without_weights`).

    Raises
    ------
    problems.ProblemError
        If the suffix is another one, the objective is unknown, the path cannot be written, or a model has no form for
        the problem: linear ones for tables and for units that may change places, CP-SAT's for runs of such units.

    Examples
    --------
    >>> import tempfile
    >>> problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     written = write_model(problem, f"{directory}/m.lp", "runs")
    ...     print(Path(f"{directory}/m.lp").read_text().splitlines()[-1])
    End
    >>> written.offset, written.unit, written.num_variables
    (Fraction(0, 1), Fraction(1, 1), 15)
    """
    require_problem(problem)
    require_settings(objective=objective)
    goal, suffix = objective_named(objective), Path(path).suffix.lower()
    problem = without_weights(problem, goal)
    if suffix in (".lp", ".mps"):
        return _write_linear(problem, path, goal, suffix)
    if suffix in (".pb", ".txt"):
        return _write_cp_sat(problem, path, goal, suffix)
    raise ProblemError(f"{path} has the suffix {suffix!r}; give .lp, .mps, .pb or .txt")


def _write_linear(problem: Problem, path: str | Path, objective: Objective, suffix: str) -> WrittenModel:
    from solvers.programs.linear_model import LinearModel

    model = LinearModel(problem, objective).model
    text = model.export_to_lp_string() if suffix == ".lp" else model.export_to_mps_string()
    write_text_atomically(text, path)
    return WrittenModel(Fraction(0), Fraction(1), model.num_variables, model.num_constraints)


def _write_cp_sat(problem: Problem, path: str | Path, objective: Objective, suffix: str) -> WrittenModel:
    from solvers.programs.direct_model import DirectModel
    from solvers.programs.formulation import formulations

    objective.ticks_of(problem)
    if problem.bundles and objective.counts_runs:
        raise ProblemError(f"{problem.name}: there is no model that counts runs where units may change places")
    start, now = Order.identity(problem), time_now()
    task = Task(problem, objective, start, started=now, deadline=float("inf"))
    form = formulations(task, counts_pieces=True, max_single_channels=sum(map(len, problem.stored)))[0]
    model = DirectModel(form, task, start).model
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / f"model{suffix}"
        if not model.export_to_file(str(file)):
            raise ProblemError(f"cannot write {path}: CP-SAT could not write the model")
        write_bytes_atomically(file.read_bytes(), path)
    proto = model.proto
    offset = sum((Fraction(base) for base in form.bases), Fraction(0))
    return WrittenModel(offset, Fraction(form.unit), len(proto.variables), len(proto.constraints))
