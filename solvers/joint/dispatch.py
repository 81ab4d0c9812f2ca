"""`choose_jointly`: kept sets and an order together, by local search and a constraint program, through one gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from problems import ProblemError
from problems.joint.certificates import JointCertificate
from problems.joint.decision import JointChoice
from problems.joint.problem import JointProblem
from solvers.common.arguments import require_problem, require_settings
from solvers.common.clock import time_now
from solvers.common.errors import SolverError
from solvers.common.stopping import Rule, TimeLimit, WorkLimit, alternatives
from solvers.joint.bound import joint_certificate
from solvers.joint.result import JointProgress, JointResult
from solvers.joint.run import JointRun
from solvers.showing.progress import shown_progress

JOINT_METHODS = ("auto", "cp-sat", "local-search", "sequential", "brute-force")
"""The methods of `choose_jointly`."""


def choose_jointly(
    problem: JointProblem,
    method: str = "auto",
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    hint: JointChoice | Sequence[JointChoice] | None = None,
    progress: Callable[[JointProgress], object] | bool | None = None,
    stop: Rule | None = None,
    workers: int = 1,
) -> JointResult:
    """What every access keeps, and an order of the stored channels, of small cost and loss together.

    Parameters
    ----------
    problem
        The problem.
    method
        ``"auto"`` (the default): local search, the bound of the relaxation, then the constraint program with the rest
        of the time. ``"cp-sat"``: the constraint program alone. ``"local-search"``: with the bound of free sets only.
        ``"sequential"``: the sets of largest importance first, then an order for them; what tools do that choose masks
        and order apart. ``"brute-force"``: everything, for up to about 7 channels.
    time_limit
        Seconds. `brute-force` has none. Default 10.
    seed
        Of every random choice.
    hint
        A choice to start from, or several; the result is not worse.
    progress
        A function is called with a `JointProgress` on every improvement of value or bound, perhaps from another thread.
        If it returns True, the search stops. What it raises is raised here, with the result in the attribute
        ``result``. None, True or False: where a line shows value and bound (`problems.showing.progress`).
    stop
        A rule such as ``GapLimit(0.01) | TimeLimit(5)`` (`solvers.common.stopping`). Work is not counted here.
    workers
        Threads of the constraint program. Default 1.

    Raises
    ------
    SolverError
        If the method is unknown or cannot be used, an argument is of the wrong kind, or a hint does not fit.
    JointInterrupted
        After Ctrl-C: a `KeyboardInterrupt` that brings the result.

    Examples
    --------
    >>> from problems import JointProblem
    >>> problem = JointProblem.from_importance([[5, 4, 1], [1, 5, 4], [4, 1, 5]], widths=2, units=10)
    >>> result = choose_jointly(problem)
    >>> result.totals, result.status.name
    (JointTotals(cost=0, loss=6, price=0, value=6), 'OPTIMAL')
    >>> choose_jointly(problem, "sequential").totals
    JointTotals(cost=2, loss=3, price=0, value=65)
    """
    require_problem(problem, JointProblem)
    require_settings(method=method, time_limit=time_limit, seed=seed, progress=progress, stop=stop, workers=workers)
    if method not in JOINT_METHODS:
        raise SolverError(f"there is no method {method!r}; choose one of {', '.join(JOINT_METHODS)}")
    hints = [hint] if isinstance(hint, JointChoice) else list(hint or ())
    for own in hints:
        try:
            if not isinstance(own, JointChoice):
                raise ProblemError(f"it is a {type(own).__name__}; give a JointChoice")
            own.require_valid(problem)
        except ProblemError as error:
            raise SolverError(f"hint: {error}") from error
    rules = alternatives(stop)
    if any(isinstance(rule, WorkLimit) for rule in rules):
        raise SolverError("stop: the methods of choose_jointly do not count work; use TimeLimit in place of WorkLimit")
    limit = min([time_limit, *(rule.seconds for rule in rules if isinstance(rule, TimeLimit))])
    others = [rule for rule in rules if not isinstance(rule, TimeLimit)]
    with shown_progress("choose jointly", progress, str) as tell:
        run = JointRun(problem, limit, seed=seed, workers=workers or 1, rules=others, progress=tell)
        return run.result(method, hints)


def joint_bound(problem: JointProblem, *, time_limit: float = 10.0) -> JointCertificate:
    """The bound of the relaxation, with the multipliers that prove it (`problems.check_joint_certificate`).

    Parameters
    ----------
    problem
        The problem.
    time_limit
        Seconds. Default 10.

    Raises
    ------
    SolverError
        If an argument is of the wrong kind.
    """
    require_problem(problem, JointProblem)
    require_settings(time_limit=time_limit)
    return joint_certificate(problem, deadline=time_now(0.0) + time_limit)
