"""Tests that binary matrices are read in every form, and that files without one are refused with their reason."""

import numpy as np
import pytest

from problems import ProblemError, evaluate, read_matrix, read_problem, write_instance
from problems.generators import BLOCK_GROUPS, block_matrix, random_masks
from problems.order import Order

MATRIX = np.array([[1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 1, 0, 1, 1]], dtype=bool)
LISTS = "4 5\n3 1 4 5\n0\n2 2 4\n4 1 2 4 5\n"
WRAPPED = " 4 5 \n 3 \n 1 4 \n 5 \n 0 \n 2 2 \n 4 \n 4 1 2 4 5"
COVERING = "4 5\n7 7 7 7\n7\n3\n1 4 5\n0\n2\n2 4\n4\n1 2 4 5\n"
DENSE = "10011\n00000\n01010\n11011\n"
SPACED = "\n1 0 0 1 1\n0 0 0 0 0\n\n0 1 0 1 0\n1 1 0 1 1"
SIZED = "4 5\n" + DENSE


def _read(tmp_path, text):
    path = tmp_path / "m1.txt"
    path.write_text(text)
    return read_matrix(path)


@pytest.mark.parametrize("text", [LISTS, WRAPPED, COVERING, DENSE, SPACED, SIZED], ids=lambda text: text[:9])
def test_every_form_gives_the_same_problem(tmp_path, text):
    """Rows without ones are left out, columns without ones stay, and names say where rows were."""
    problem = _read(tmp_path, text)
    assert problem.name == "m1"
    assert [access.name for access in problem.accesses] == ["row1", "row3", "row4"]
    assert np.array_equal([access.kept for access in problem.accesses], MATRIX[[0, 2, 3]])
    assert problem.num_stored == 5


def test_runs_are_blocks_of_consecutive_ones(tmp_path):
    problem = _read(tmp_path, LISTS)
    assert evaluate(problem, Order.identity(problem), "runs").value == 2 + 2 + 2
    assert evaluate(problem, Order([[2, 1, 3, 0, 4]]), "runs").value == 1 + 1 + 1


@pytest.mark.parametrize("seed", range(5))
def test_random_matrices_survive_lists_and_lines(tmp_path, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random((int(rng.integers(1, 9)), int(rng.integers(2, 40)))) < 0.4
    kept[0, :2] = True, False
    rows = [np.flatnonzero(row) + 1 for row in kept]
    lists = "\n".join(" ".join(map(str, [len(row), *row])) for row in rows)
    dense = "\n".join("".join("01"[int(one)] for one in row) for row in kept)
    for text in (f"{len(kept)} {kept.shape[1]}\n{lists}\n", f"{len(kept)} {kept.shape[1]}\n{dense}\n"):
        problem = _read(tmp_path, text)
        assert np.array_equal([access.kept for access in problem.accesses], kept[kept.any(axis=1)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("4 5\n3 1 4 5\n0\n2 2 4\n4 1 2 4\n", "ends within row 4"),
        ("4 5\n3 1 4 5\n0\n2 2 4\n", "ends before row 4"),
        ("2 5\n1 6\n1 2\n", "row 1 lists a column outside 1 to 5"),
        ("2 5\n1 0\n1 2\n", "row 1 lists a column outside 1 to 5"),
        ("2 5\n2 3 3\n1 2\n", "row 1 lists a column twice"),
        ("2 5\n1 3\n1 2\n4\n", "1 numbers are left after row 2"),
        ("100\n01\n", "its lines are not equally long"),
        ("2 3\n010\n01\n", "it has 5 digits"),
        ("2 3\n012\n010\n", "other than 0 and 1"),
        ("99999 99999 1 1\n", "too many"),
        ("12345678901234567890 3\n", "more than 18 digits"),
        ("2 5\n1 3\n1 -2\n", "line 3: a matrix is made of whole numbers, not '-2'"),
        ("2 5\n1 3.5\n1 2\n", "line 2: a matrix is made of whole numbers, not '.5'"),
        ("2 2\n0\n0\n", "without ones"),
        ("0 0\n0 0\n", "without ones"),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_reason(tmp_path, text, reason):
    with pytest.raises(ProblemError, match=r"m1\.txt") as caught:
        _read(tmp_path, text)
    assert reason in str(caught.value)


def test_two_meanings_are_refused(tmp_path):
    """One row whose only one is in the first column, or one row of two ones."""
    with pytest.raises(ProblemError, match="2 different matrices"):
        _read(tmp_path, "1 2\n1 1\n")


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "bytes").write_bytes(b"1 2 \xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "bytes"):
        with pytest.raises(ProblemError, match=str(path)):
            read_matrix(path)
    with pytest.raises(ProblemError, match="absent"):
        read_problem(tmp_path / "absent")


def test_problems_are_read_whatever_their_file(tmp_path):
    problem = random_masks(8, 3)
    write_instance(problem, tmp_path / "a.json")
    (tmp_path / "b").write_text("\n\n" + LISTS)
    (tmp_path / "c.json").write_text("no matrix")
    assert read_problem(tmp_path / "a.json") == problem
    assert read_problem(tmp_path / "b").name == "b"
    with pytest.raises(ProblemError, match="not valid JSON"):
        read_problem(tmp_path / "c.json")


@pytest.mark.parametrize("group", BLOCK_GROUPS)
def test_groups_have_their_sizes_and_densities(group):
    problem = block_matrix(group, seed=3)
    columns, density = BLOCK_GROUPS[group]
    assert (problem.num_channels, len(problem.accesses)) == (columns, 100)
    ones = sum(access.num_kept for access in problem.accesses)
    assert abs(ones / (100 * columns) - density) < 0.006
    assert problem == block_matrix(group, seed=3) != block_matrix(group, seed=4)


def test_groups_that_are_not_there_are_named():
    with pytest.raises(ProblemError, match=r"no group 'z'.*a, b"):
        block_matrix("z")
