"""One call of `choose_jointly`: what is known so far, the methods that add to it, and how it ends.

However it ends (by itself, by a rule, by the callback, or by Ctrl-C), its result is made of what is known then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from problems import Kind, Order, ProblemError
from problems.joint.decision import JointChoice, evaluate_joint
from problems.joint.enumeration import best_of_all
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointClaim
from solvers.common.clock import Clock, running, time_now, working_on
from solvers.common.errors import SolverError
from solvers.common.result import StopReason, TrajectoryPoint
from solvers.common.search import OutOfTimeError, Values, run_search
from solvers.common.settings import SearchSettings
from solvers.common.stopping import Rule, Standing
from solvers.common.watch import CallbackFailed, Stopped
from solvers.dispatch import solve
from solvers.joint.bound import joint_certificate
from solvers.joint.gate import joint_result_of
from solvers.joint.local_search import JointClimb
from solvers.joint.program import JointModel
from solvers.joint.result import JointInterrupted, JointProgress, JointResult

_ORDER_SHARE = 0.15  # share: of the time, for the order of the sets that were chosen first; by hand
_SEARCH_SHARE = 0.35  # share: of the time left, for the local search, if anything follows; by hand
_BOUND_SHARE = 0.3  # share: of the time left, for the relaxation, if anything follows; by hand
_PATIENCE = 4  # changes: per channel of the lines in vain, before the local search ends; by hand
_PATIENCE_ALONE = 20  # changes: per channel, the same, if nothing follows; by hand
_MOST_CLAUSES = 1_500_000  # clauses: of a constraint program that `auto` still builds; by hand


class JointRun:
    """The best choice and the best bound of one call.

    Parameters
    ----------
    problem
        What is solved.
    time_limit
        Seconds.
    seed, workers, progress
        As in `solvers.joint.dispatch.choose_jointly`.
    rules
        Any of them stops the call.
    """

    def __init__(
        self,
        problem: JointProblem,
        time_limit: float,
        *,
        seed: int,
        workers: int,
        rules: Sequence[Rule],
        progress: Callable[[JointProgress], object] | None,
    ) -> None:
        self.problem, self.seed = problem, seed
        self._workers, self._rules, self._progress = workers, tuple(rules), progress
        self._clock = Clock(check=self._check if rules else None)
        self._deadline = self._clock.read(0.0) + time_limit
        self._choice: JointChoice | None = None
        self._value: int | None = None
        self._improved = 0.0
        self._claims = {Kind.TRIVIAL: JointClaim(Kind.TRIVIAL, problem.free_sets_bound)}
        self._points: list[TrajectoryPoint] = []
        self._stats: dict[str, Any] = {}
        self._lock = RLock()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self._deadline - time_now(0.0))

    @property
    def _bound(self) -> int:
        return max(own.bound for own in self._claims.values())

    @property
    def _closed(self) -> bool:
        return self._value == self._bound

    def result(self, method: str, hints: Sequence[JointChoice]) -> JointResult:
        """Let the method run, and make the result of what is known in the end.

        Raises
        ------
        JointInterrupted
            After Ctrl-C. What the callback raises is raised as well; both bring the result.
        """
        reason: StopReason | None = None
        error: BaseException | None = None
        with running(self._clock), working_on(method):
            try:
                self._run(method, hints)
                reason = StopReason.TIME_LIMIT if self.remaining <= 0 else None
            except Stopped as stopped:
                reason = stopped.reason
            except (KeyboardInterrupt, CallbackFailed) as raised:
                reason, error = StopReason.INTERRUPTED, raised
        result = self._gated(method, reason)
        if isinstance(error, CallbackFailed) and error.__cause__ is not None:
            error.__cause__.add_note(f"the best so far is the attribute 'result' of this exception: {result}")
            vars(error.__cause__)["result"] = result
            raise error.__cause__
        if error is not None:
            raise JointInterrupted(result) from error
        return result

    def _gated(self, method: str, reason: StopReason | None) -> JointResult:
        choice = self._choice or _first(self.problem)
        best = self._bound
        return joint_result_of(
            self.problem,
            choice,
            method=method,
            seconds=self._clock.seconds,
            claims=[own for own in self._claims.values() if own.kind is Kind.TRIVIAL or own.bound == best],
            value=self._value,
            stop_reason=reason,
            trajectory=self._points,
            seed=self.seed,
            stats=self._stats,
        )

    def _run(self, method: str, hints: Sequence[JointChoice]) -> None:
        if method == "brute-force":
            try:
                choice = best_of_all(self.problem)
            except ProblemError as error:
                raise SolverError(f"method 'brute-force': {error}; use 'auto'") from error
            self._offer(choice)
            assert self._value is not None
            self._claim(JointClaim(Kind.SEARCH, self._value, "all orders and all kept sets were compared"))
            return
        for hint in hints:
            self._offer(hint)
        with working_on("identity"):
            self._offer(_first(self.problem))
        if not self._closed:
            with working_on("sequential"):
                self._sets_then_order()
        if method == "sequential":
            return
        alone = method == "local-search"
        searches = method in ("auto", "local-search")
        if searches and not self._closed:
            with working_on("local search"):
                self._climb(*((1.0, _PATIENCE_ALONE) if alone else (_SEARCH_SHARE, _PATIENCE)))
        if method == "auto" and not self._closed:
            with working_on("relaxation"):
                self._relax()
        if method in ("auto", "cp-sat") and not self._closed:
            if method == "cp-sat" or self._num_clauses <= _MOST_CLAUSES:
                with working_on("CP-SAT"):
                    self._program()
            else:
                with working_on("local search"):
                    self._climb(1.0, _PATIENCE_ALONE)

    def _sets_then_order(self) -> None:
        """The best sets if order did not matter, and then the best order that is found for them."""
        kept = self.problem.largest_kept()
        seconds = _ORDER_SHARE * self.remaining
        if seconds <= 0:
            return
        found = solve(
            self.problem.with_kept(kept),
            objective=self.problem.objective,
            time_limit=seconds,
            seed=self.seed,
            progress=False,
        )
        self._offer(JointChoice(found.order, kept))
        time_now(0.0)

    def _climb(self, share: float, patience: int) -> None:
        assert self._choice is not None
        rng = np.random.default_rng([self.seed, self._stats.get("steps", 0)])
        deadline = time_now(0.0) + share * self.remaining
        climb = JointClimb(self.problem, rng, deadline, lambda choice, value: self._offer(choice))
        climb.run([self._choice], patience * self.problem.num_channels)
        self._stats["steps"] = self._stats.get("steps", 0) + climb.steps

    def _relax(self) -> None:
        deadline = time_now(0.0) + _BOUND_SHARE * self.remaining
        certificate = joint_certificate(self.problem, value=self._value, choice=self._choice, deadline=deadline)
        self._claim(JointClaim(Kind.RELAXATION, certificate.bound, certificate=certificate))

    @property
    def _num_clauses(self) -> int:
        """About how many clauses the constraint program has."""
        readers = np.bincount([b for slots in self.problem.slots for b, _ in slots], minlength=len(self.problem.blocks))
        sizes = np.array([own.size for own in self.problem.blocks])
        return int((3 * readers * (2 * readers + 1) * sizes).sum())

    def _program(self) -> None:
        """Let CP-SAT improve the choice and the bound."""
        try:
            model = JointModel(self.problem, self._deadline, self._choice)
        except OutOfTimeError:
            return

        def on_solution(values: Values) -> None:
            self._offer(model.choice(values))

        outcome = run_search(
            model.model,
            self,
            SearchSettings(num_workers=self._workers),
            on_solution=on_solution,
            on_bound=partial(self._claim_search, told=True),
        )
        self._stats["deterministic_time"] = outcome.deterministic_time
        if outcome.values is not None and outcome.bound is not None:
            self._offer(model.choice(outcome.values))
            self._claim_search(outcome.bound, branches=outcome.num_branches)

    def _claim_search(self, bound: int, *, branches: int | None = None, told: bool = False) -> None:
        """A bound of CP-SAT's: after its end, or while it runs (and then not above what is known)."""
        if told and self._value is not None:
            bound = min(bound, self._value)
        counted = "" if branches is None else f" ({branches} branches)"
        self._claim(JointClaim(Kind.SEARCH, max(0, bound), f"CP-SAT over events, cells and kept sets{counted}"))

    def _offer(self, choice: JointChoice) -> None:
        """Take a choice if it is the best so far."""
        value = evaluate_joint(self.problem, choice).value
        with self._lock:
            if self._value is None or value < self._value:
                self._choice, self._value, self._improved = choice, value, self._clock.seconds
                self._tell()

    def _claim(self, claim: JointClaim) -> None:
        """Take a bound if it is the best so far."""
        with self._lock:
            if claim.bound > self._bound or claim.kind is Kind.RELAXATION:
                raised = claim.bound > self._bound
                self._claims[claim.kind] = claim
                if raised:
                    self._tell()

    def _tell(self) -> None:
        if self._value is None or self._choice is None:
            return
        seconds, method = self._clock.seconds, self._clock.method
        self._points.append(TrajectoryPoint(seconds, self._value, self._bound, method))
        if self._progress is not None:
            try:
                answer = self._progress(JointProgress(seconds, self._value, self._bound, self._choice, method))
            except Exception as error:
                raise CallbackFailed from error
            if answer is True:
                raise Stopped(StopReason.CALLBACK)
        self._check()

    def _check(self) -> None:
        """Raise `Stopped` if a rule says so."""
        if self._value is None:
            return
        seconds = self._clock.seconds
        standing = Standing(seconds, 0.0, self._value, self._bound, seconds - self._improved, 0.0)
        for rule in self._rules:
            try:
                asked = rule(standing)
            except Exception as error:
                raise CallbackFailed from error
            if asked:
                raise Stopped(getattr(rule, "reason", StopReason.RULE))


def _first(problem: JointProblem) -> JointChoice:
    """The best sets if order did not matter, in the original order."""
    kept = problem.largest_kept()
    return JointChoice(Order.identity(problem.with_kept(kept)), kept)
