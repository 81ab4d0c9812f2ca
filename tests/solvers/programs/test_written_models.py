"""Proves that written models have the optimum of the problem, as other solvers read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from ortools.sat import cp_model_pb2
from ortools.sat.python import cp_model
from scipy.optimize._highspy import _core as highs  # reads the files that users of HiGHS read
from solver_instances import several_blocks

from problems import Objective, Problem, ProblemError
from problems.generators import grouped_masks, random_masks, with_tables
from solvers import solve, write_model

MATRIX = [[1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 1, 1, 1]]
PROBLEMS = [Problem.from_matrix(MATRIX, weights=[1, 2, 1, 1], channel_sizes=[2, 1, 1, 3]), several_blocks(3)]
OBJECTIVES = ["runs", "span", "copies", "traffic", Objective("mine", alpha=2, gamma=1)]


def forms(first: str, second: str, objectives: list[str | Objective]) -> list[object]:
    """Suffix and objective: one form with every objective, the other one, of the same model, with one."""
    slow = [pytest.param(second, own, marks=pytest.mark.slow) for own in objectives if own != "span"]
    return [*((first, own) for own in objectives), (second, "span"), *slow]


@pytest.mark.parametrize(("suffix", "objective"), forms(".lp", ".mps", OBJECTIVES), ids=str)
def test_the_linear_program_has_the_optimum(tmp_path: Path, objective, suffix: str) -> None:
    for problem in PROBLEMS:
        best = solve(problem, objective=objective)
        assert best.bound == best.value
        path = tmp_path / f"m{suffix}"
        written = write_model(problem, path, objective)
        other = highs._Highs()
        other.setOptionValue("output_flag", False)
        other.readModel(str(path))
        assert other.getNumCol() == written.num_variables and other.getNumRow() == written.num_constraints
        other.run()
        assert other.modelStatusToString(other.getModelStatus()) == "Optimal"
        assert written.offset + written.unit * round(other.getObjectiveValue()) == best.value


@pytest.mark.parametrize(("suffix", "objective"), forms(".pb", ".txt", [*OBJECTIVES, "latency"]), ids=str)
def test_the_constraint_program_has_the_optimum(tmp_path: Path, objective, suffix: str) -> None:
    for problem in (*PROBLEMS, *([] if objective == "runs" else [grouped_masks(3, 4, 3, whole=0)])):
        own = with_tables(problem) if objective == "latency" else problem
        best = solve(own, objective=objective)
        assert best.bound == best.value
        path = tmp_path / f"m{suffix}"
        written = write_model(own, path, objective)
        proto = cp_model_pb2.CpModelProto()
        if suffix == ".pb":
            proto.ParseFromString(path.read_bytes())
        else:
            text_format.Parse(path.read_text(), proto)
        assert len(proto.variables) == written.num_variables
        model = cp_model.CpModel()
        model.proto.parse_text_format(text_format.MessageToString(proto))
        solver = cp_model.CpSolver()
        solver.parameters.catch_sigint_signal = False  # else Ctrl-C ends this process from now on
        solver.parameters.num_workers = 1
        assert solver.solve(model) == cp_model.OPTIMAL
        assert written.offset + written.unit * round(solver.objective_value) == best.value


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    problem = random_masks(8, 2)
    with pytest.raises(ProblemError, match="suffix"):
        write_model(problem, tmp_path / "m.doc")
    with pytest.raises(ProblemError, match="tables"):
        write_model(with_tables(problem), tmp_path / "m.lp", "latency")
    with pytest.raises(ProblemError, match="change places"):
        write_model(grouped_masks(2, 4, 2), tmp_path / "m.mps")
    with pytest.raises(ProblemError, match="counts runs"):
        write_model(grouped_masks(2, 4, 2), tmp_path / "m.pb", "runs")
    assert list(tmp_path.iterdir()) == []
