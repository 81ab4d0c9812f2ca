"""The checker for joint problems: it evaluates a choice again, and computes what every claim of a proof shows.

The bound of free sets and that of multipliers are computed again; a search is repeated by enumeration if the problem is
tiny, and otherwise on trust. No solver is used.
"""

from __future__ import annotations

from pathlib import Path

from problems.checker.proof_checks import Standing, Statement
from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_any_json, require_format
from problems.joint.certificates import check_joint_certificate
from problems.joint.decision import JointChoice, evaluate_joint
from problems.joint.enumeration import best_of_all
from problems.joint.files import FORMAT, SOLUTION_FORMAT, VERSION, JointSolution, read_joint, stated_solution
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointClaim, JointProof
from problems.proofs import Kind


def check_joint_choice(problem: JointProblem, choice: JointChoice, value: int | None = None) -> tuple[Statement, ...]:
    """Whether a choice meets all widths and required sums, and has the claimed value.

    Examples
    --------
    >>> problem = JointProblem.from_importance([[5, 4, 0, 1], [0, 1, 3, 6]], widths=2, units=10)
    >>> print(*check_joint_choice(problem, JointChoice([[0, 1, 2, 3]], [[1, 1, 0, 0], [0, 0, 1, 1]]), 3), sep="\\n")
    verified: every access keeps what it must, and the order places every stored channel once
    WRONG: its value is 3 (it is 2)
    """
    text = "every access keeps what it must, and the order places every stored channel once"
    try:
        found = evaluate_joint(of_kind(problem, JointProblem, "the problem"), choice).value
    except ProblemError as error:
        return (Statement(text, Standing.WRONG, str(error)),)
    valid = Statement(text, Standing.VERIFIED)
    if value is None or value == found:
        return valid, Statement(f"its value is {found}", Standing.VERIFIED)
    return valid, Statement(f"its value is {value}", Standing.WRONG, f"it is {found}")


def check_joint_proof(problem: JointProblem, proof: JointProof) -> tuple[Statement, ...]:
    """Check every claim of a proof. The last statement is the bound: the best of the claims that hold.

    Examples
    --------
    >>> problem = JointProblem.from_importance([[5, 4, 0, 1], [0, 1, 3, 6]], widths=2, units=10)
    >>> claims = [JointClaim("trivial", 2), JointClaim("search", 2)]
    >>> print(*check_joint_proof(problem, JointProof.of(problem, claims)), sep="\\n")
    verified: the proof is one of this problem
    verified: every choice has a value >= 2: each access for itself
    verified: every choice has a value >= 2: search
    verified: every choice has a value >= 2
    """
    of_kind(proof, JointProof, "the proof")
    text = "the proof is one of this problem"
    if proof.instance != of_kind(problem, JointProblem, "the problem").content_hash():
        return (Statement(text, Standing.WRONG, "it has the hash of another one"),)
    claims = [_checked(problem, claim) for claim in proof.claims]
    bound = f"every choice has a value >= {proof.bound}"
    standing = Standing.WRONG
    if not any(own.standing is Standing.WRONG for own in claims):
        best = [own for own, claim in zip(claims, proof.claims) if claim.bound == proof.bound]
        verified = any(own.standing is Standing.VERIFIED for own in best)
        standing = Standing.VERIFIED if verified else Standing.UNCHECKED
    return (Statement(text, Standing.VERIFIED), *claims, Statement(bound, standing))


def check_joint_solution(problem: JointProblem, solution: JointSolution) -> tuple[Statement, ...]:
    """Whether the choice of a solution has its value, and whether its proof holds and is not above it."""
    found = check_joint_choice(problem, solution.choice, solution.value)
    if solution.proof is None:
        return found
    below = solution.proof.bound <= solution.value
    text = f"the bound {solution.proof.bound} is not above it"
    statement = Statement(text, Standing.VERIFIED if below else Standing.WRONG)
    return (*found, statement, *check_joint_proof(problem, solution.proof))


def is_joint(path: str | Path) -> bool:
    """Whether a file says that it is a joint problem."""
    document = read_any_json(path)
    return isinstance(document, dict) and document.get("format") == FORMAT


def check_joint_files(instance: str | Path, solution: str | Path | None) -> list[Statement]:
    """Check the file of a problem, and one of a solution of it.

    Raises
    ------
    ProblemError
        If a file cannot be read, or the solution is one of another problem.
    """
    problem = read_joint(instance)
    statements = [Statement(f"{instance} is a joint problem: {problem}", Standing.VERIFIED)]
    if solution is None:
        return statements
    document = require_format(read_any_json(solution), solution, file_format=SOLUTION_FORMAT, version=VERSION)
    try:
        stated = stated_solution(document, problem)
    except ProblemError as error:
        raise ProblemError(f"{solution}: {error}") from error
    return [*statements, *check_joint_solution(problem, stated)]


def _checked(problem: JointProblem, claim: JointClaim) -> Statement:
    """The verdict on a claim, by its kind."""
    if claim.kind is Kind.TRIVIAL:
        return _verdict(claim, problem.free_sets_bound, "free sets prove")
    if claim.certificate is not None:
        try:
            return _verdict(claim, check_joint_certificate(problem, claim.certificate), "the multipliers prove")
        except ProblemError as error:
            return Statement(str(claim), Standing.WRONG, str(error))
    try:
        least = evaluate_joint(problem, best_of_all(problem)).value
    except ProblemError:
        return Statement(str(claim), Standing.UNCHECKED)
    return _verdict(claim, least, "a choice has")


def _verdict(claim: JointClaim, proven: int, words: str) -> Statement:
    if claim.bound <= proven:
        return Statement(str(claim), Standing.VERIFIED)
    return Statement(str(claim), Standing.WRONG, f"{words} {proven}")
