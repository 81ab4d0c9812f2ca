"""The joint problems of the instance library: `joint_names`, `load_joint`, and the best choice known, `best_joint`.

They are in one archive, ``library/joint/networks.zip``: per problem ``NAME.json`` and ``NAME.sol.json``.

    >>> print(load_joint("resnet18/windows-0.50/layer2"))
    resnet18/windows-0.50/layer2: 1 block, 128 channels, 3 accesses that choose, copies first
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from problems.archives import Archive, write_archive
from problems.conversions import text
from problems.errors import ProblemError
from problems.joint.files import JointSolution, joint_in, joint_solution_in, joint_solution_text, joint_text
from problems.joint.problem import JointProblem

ARCHIVE = Path(__file__).parents[1] / "library" / "joint" / "networks.zip"
"""The archive that comes with the package."""

_PROBLEM, _SOLUTION = ".json", ".sol.json"


def joint_names() -> list[str]:
    """The names of the problems, sorted.

    Examples
    --------
    >>> "resnet18/windows-0.50/layer2" in joint_names()
    True
    """
    found = [own for own in _archive().names if not own.endswith(_SOLUTION)]
    return sorted(own.removesuffix(_PROBLEM) for own in found)


def load_joint(name: str) -> JointProblem:
    """A problem of the library.

    Raises
    ------
    ProblemError
        If there is none of that name; the message lists similar names.
    """
    return joint_in(_archive().read(_known(name) + _PROBLEM), f"{ARCHIVE}: {name}")


def best_joint(name: str) -> JointSolution | None:
    """The best choice known, with its bound; None if nobody has solved the problem. Its value is computed again.

    Raises
    ------
    ProblemError
        If there is no problem of that name.

    Examples
    --------
    >>> known = best_joint("resnet18/windows-0.50/layer2")
    >>> known is None or known.bound <= known.value
    True
    """
    member = _known(name) + _SOLUTION
    if member not in _archive().names:
        return None
    return joint_solution_in(_archive().read(member), f"{ARCHIVE}: {name}", load_joint(name))


def write_joint_archive(
    problems: Mapping[str, JointProblem], solutions: Mapping[str, JointSolution], path: str | Path = ARCHIVE
) -> None:
    """Write problems and solutions, by name, as an archive, in one step.

    Raises
    ------
    ProblemError
        If a solution is none of its problem, or the path cannot be written.
    """
    files = {f"{name}{_PROBLEM}": joint_text(own).encode() for name, own in problems.items()}
    for name, solution in solutions.items():
        files[f"{name}{_SOLUTION}"] = joint_solution_text(problems[name], solution).encode()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_archive(files, path)
    _archive.cache_clear()


@cache
def _archive() -> Archive:
    return Archive(ARCHIVE)


def _known(name: str) -> str:
    names = joint_names()
    if text(name, "the name of a problem") not in names:
        near = difflib.get_close_matches(name, names, 3, 0.3) or names[:3]
        raise ProblemError(f"the library has no joint problem {name!r}; similar are {', '.join(near)}")
    return name
