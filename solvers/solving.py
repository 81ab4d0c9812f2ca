"""One solve from its start to its result, however it ends: by itself, by a rule, by the callback, or by Ctrl-C.

All methods report to one `Watch`. Its best order, its best bound and its claims go through the gate. Methods know no
weights of accesses; they get the problem without them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from problems import Claim, Kind, Objective, Order, Problem, evaluate
from problems.weights import without_weights
from solvers.arranging import suited
from solvers.common.bounds import trivial_bound
from solvers.common.clock import Clock, running, working_on
from solvers.common.errors import SolverError
from solvers.common.proofs import claim
from solvers.common.result import Progress, Result, SolveInterrupted, StopReason, TrajectoryPoint
from solvers.common.stopping import Rule, TimeLimit, WorkLimit, alternatives
from solvers.common.task import Finding, Solver, Task
from solvers.common.watch import CallbackFailed, Stopped, Watch
from solvers.gate import result_of
from solvers.logs import Log
from solvers.methods.greedy import greedy_in_time
from solvers.showing.progress import noted, solve_bar

GREEDY_SHARE = 0.5  # share: of the time that greedy's order may take; by hand


@dataclasses.dataclass(frozen=True)
class _Limit:
    """What methods share: seconds, or work; and the rules that are left to ask."""

    amount: float
    counts_work: bool
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, time_limit: float, stop: Rule | None) -> _Limit:
        """Time limits become part of the deadline; if work is counted, they are asked like other rules."""
        rules = alternatives(stop)
        work = min((rule.work for rule in rules if isinstance(rule, WorkLimit)), default=None)
        if work is None:
            seconds = min([time_limit, *(rule.seconds for rule in rules if isinstance(rule, TimeLimit))])
            return cls(float(seconds), False, tuple(rule for rule in rules if not isinstance(rule, TimeLimit)))
        guard = [TimeLimit(time_limit)] if math.isfinite(time_limit) else []
        return cls(float(work), True, (*guard, *(rule for rule in rules if not isinstance(rule, WorkLimit))))

    def reason(self, clock: Clock) -> StopReason | None:
        """Why a search ended that ended by itself: the limit, if it has been reached."""
        spent = clock.work if self.counts_work else clock.seconds
        limit = StopReason.WORK_LIMIT if self.counts_work else StopReason.TIME_LIMIT
        return limit if spent >= self.amount else None

    def __str__(self) -> str:
        return f"{self.amount:g} {'units of work' if self.counts_work else 's'}"


class Solve:
    """A call of `solve` whose arguments make sense; `solvers.dispatch.solve` says what they mean."""

    def __init__(
        self,
        problem: Problem,
        solver: Solver,
        objective: Objective,
        *,
        seed: int,
        hints: Sequence[Order],
        proof: bool,
        lower_bound: int | None,
        earlier: Result | None,
    ) -> None:
        self._given, self._problem = problem, without_weights(problem, objective)
        self._solver, self._objective, self._seed = solver, objective, seed
        given = [*hints, *([] if earlier is None else [earlier.order])]
        self._hints = sorted(given, key=lambda order: evaluate(problem, order, objective).value)
        self._proof, self._earlier = proof, earlier
        bounds = [lower_bound, None if earlier is None else earlier.bound]
        self._given_bound = max((bound for bound in bounds if bound is not None), default=None)
        self._start = Order.identity(problem)
        self._known: list[Order] | None = None

    def run(
        self,
        time_limit: float,
        stop: Rule | None,
        progress: Callable[[Progress], object] | bool | None,
        write: Callable[[str], object] | None,
    ) -> Result:
        """The result; raises what the callback raises, and Ctrl-C, with the result."""
        if callable(progress):
            return self._run(time_limit, stop, progress, write, ())
        logged = progress is None and write is not None
        with solve_bar(self._problem, progress=False if logged else progress) as bar:
            return self._run(time_limit, stop, None, write, (noted(bar, self._objective.ticks_of(self._problem)),))

    def _run(
        self,
        time_limit: float,
        stop: Rule | None,
        callback: Callable[[Progress], object] | None,
        write: Callable[[str], object] | None,
        listeners: Sequence[Callable[[Progress], object]],
    ) -> Result:
        limit = _Limit.of(time_limit, stop)
        log = None if write is None else Log(write, self._given, self._objective)
        watch = Watch(
            callback,
            limit.rules,
            counts_work=limit.counts_work,
            known_bound=self._given_bound,
            listeners=listeners if log is None else [*listeners, log.improved],
        )
        if log is not None:
            log.begin(self._solver.name, str(limit), self._seed)
        result, error = self._result(watch, limit)
        if log is not None:
            log.end(result)
        if isinstance(error, CallbackFailed):
            cause = error.__cause__
            assert cause is not None
            cause.add_note(f"the best so far is the attribute 'result' of this exception: {result}")
            vars(cause)["result"] = result
            raise cause
        if error is not None:
            raise SolveInterrupted(result) from error
        return result

    def _result(self, watch: Watch, limit: _Limit) -> tuple[Result, BaseException | None]:
        """The result, and what the callback raised, or Ctrl-C, which does not keep the result from being made."""
        finding: Finding | None = None
        reason: StopReason | None = None
        error: BaseException | None = None
        begun = False
        with running(watch.clock), working_on(self._solver.name):
            while True:
                try:
                    if not begun:
                        begun = True
                        finding = self._search(watch, limit)
                        reason = limit.reason(watch.clock)
                    return self._concluded(watch, finding, reason), error
                except Stopped as stopped:
                    reason = stopped.reason
                except (KeyboardInterrupt, CallbackFailed) as raised:
                    reason, error = StopReason.INTERRUPTED, raised

    def _concluded(self, watch: Watch, finding: Finding | None, reason: StopReason | None) -> Result:
        """What was found, through the gate; and what was told besides, if that is better."""
        watch.close()
        if finding is None:
            least = trivial_bound(self._problem, self._objective)
            order = self._start if watch.best is None else watch.best
            bound, claims = max(least, watch.bound or 0), watch.claims if self._proof else ()
            finding = Finding(order, bound, stats=watch.clock.figures, claims=claims)
            if self._given_bound is not None:
                finding = self._with_given_bound(finding)
            return self._gated(watch, finding, reason)
        result = self._gated(watch, finding, reason)
        better = watch.best is not None and watch.value is not None and watch.value < result.value
        higher = (
            watch.bound is not None
            and watch.bound > (result.bound or 0)
            and (result.bound is not None or watch.bound > trivial_bound(self._problem, self._objective))
        )
        if better or higher:
            order = watch.best if better and watch.best is not None else result.order
            bounds = (own for own in (result.bound, watch.bound) if own is not None)
            finding = dataclasses.replace(finding, order=order, value=None, bound=max(bounds, default=None))
            return self._gated(watch, self._with_given_bound(finding), reason)
        return result

    def _gated(self, watch: Watch, finding: Finding, reason: StopReason | None) -> Result:
        """A finding through the gate."""
        stats = dict(finding.stats)
        if watch.clock.counts_work:
            stats["work"] = round(watch.clock.work, 6)
        return result_of(
            self._given,
            self._objective,
            dataclasses.replace(finding, stats=stats),
            solver=self._solver.name,
            runtime=watch.clock.seconds + (0.0 if self._earlier is None else self._earlier.runtime),
            start=self._start if self._solver.exact else None,
            alternatives=self._known,
            want_proof=self._proof,
            stop_reason=reason,
            trajectory=self._trajectory(watch),
            seed=self._seed,
        )

    def _search(self, watch: Watch, limit: _Limit) -> Finding:
        """Let the solver search, from the best order known."""
        started = watch.clock.read(0.0)
        task = Task(
            self._problem,
            self._objective,
            start=self._start,
            started=started,
            deadline=started + limit.amount,
            seed=self._seed,
            hint=self._hints[0] if self._hints else None,
            more_hints=tuple(self._hints[1:]),
            progress=watch,
            want_proof=self._proof,
            claims_heard=watch.hear_claims,
        )
        if self._earlier is not None:
            with working_on("resume"):
                task.report(self._earlier.value, self._earlier.bound, self._earlier.order)
        if self._solver.exact:
            known = self._known_orders(task)
            self._start = min(known, key=lambda order: evaluate(self._problem, order, self._objective).value)
            self._known = known
            task = task.with_start(self._start)
        return suited(self._solver, self._problem).solve(task)

    def _known_orders(self, task: Task) -> list[Order]:
        """Greedy's order, the hints, and the identity: of equally good ones the first is the start.

        Each is reported as soon as it is there, so that none is lost.
        """
        with working_on("identity"):
            task.report(task.start_value, task.trivial_bound, task.start)
        with working_on("hint"):
            for order in self._hints:
                task.report(task.value(order), task.trivial_bound, order)
        if self._problem.constraints:  # greedy does not keep them
            return [*self._hints, task.start]
        with working_on("greedy"):
            greedy = greedy_in_time(task, GREEDY_SHARE)
            for order in greedy:
                task.report(task.value(order), task.trivial_bound, order)
        return [*greedy, *self._hints, task.start]

    def _with_given_bound(self, finding: Finding) -> Finding:
        """The finding, once the bound that was given is known not to be false; with its claims, if it is the best."""
        given, value = self._given_bound, evaluate(self._problem, finding.order, self._objective).value
        if given is None or finding.bound != given:
            return finding
        if given > value:
            raise SolverError(f"the lower bound is {given}, but an order has {value}; leave it out, or give a true one")
        claims = (*finding.claims, *self._given_claims(given))
        return dataclasses.replace(finding, claims=claims, stats={**finding.stats, "given_bound": given})

    def _given_claims(self, bound: int) -> tuple[Claim, ...]:
        """Why a bound that came from outside holds: the claims of the result it comes from, if they are there."""
        if not self._proof:
            return ()
        if self._earlier is not None and self._earlier.bound == bound and self._earlier.proof is not None:
            return self._earlier.proof.claims
        return (claim(self._problem, Kind.SEARCH, bound, "known before the solve, as the caller says"),)

    def _trajectory(self, watch: Watch) -> list[TrajectoryPoint]:
        """The points of this solve, after those of the result it resumes."""
        if self._earlier is None:
            return watch.points
        points = list(self._earlier.trajectory)
        for own in watch.points:
            if not points or (own.value, own.bound) != (points[-1].value, points[-1].bound):
                points.append(dataclasses.replace(own, seconds=own.seconds + self._earlier.runtime))
        return points
