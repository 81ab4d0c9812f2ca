"""Which export is the answer: the one that was asked for, or a simpler one that is faster.

An order for latency minimises what the cost tables say. Tables can be wrong, and pruning does not always pay. So the
export is compared with the unpruned network, the baseline, UPSCALE's own export and the other solvers' exports, by
measurement where there is one, else by the tables. If one of them is faster, it is the answer, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from problems import Problem
from solvers import solve
from upscale_opt.comparing.reports import FLOOR
from upscale_opt.comparing.variants import BASELINE, UNPRUNED, UPSCALE
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.measured_costs import MeasuredTable
from upscale_opt.latency.profiling import Profile
from upscale_opt.latency.readings import expected_as_planned
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plans import Plan, plan

__all__ = ["BASELINE", "UNPRUNED", "UPSCALE", "Answer", "fastest_expected", "fastest_measured", "upscale_plan"]
MEASURED, EXPECTED = "measured", "expected by the tables"


@dataclass(frozen=True)
class Answer:
    """The fastest of several variants, beside the one that was asked for.

    Attributes
    ----------
    asked
        The variant that was asked for.
    fastest
        The answer: the asked variant, unless another one is faster beyond noise.
    seconds
        Variant to seconds per pass if measured; if expected, to seconds beyond what no order can beat.
    source
        ``measured`` or ``expected by the tables``.
    """

    asked: str
    fastest: str
    seconds: Mapping[str, float]
    source: str

    @property
    def is_asked(self) -> bool:
        """Whether the answer is what was asked for."""
        return self.asked == self.fastest

    def __str__(self) -> str:
        if self.is_asked:
            others = ", ".join(name for name in self.seconds if name != self.asked)
            return f"answer: {self.asked}; {self.source}, none of {others} is faster"
        asked, fastest = (1e3 * self.seconds[name] for name in (self.asked, self.fastest))
        unit = "ms" if self.source == MEASURED else "ms beyond the floor"
        text = f"answer: {self.fastest}, not {self.asked}; {self.source}, {fastest:.3f} {unit} against {asked:.3f}"
        if self.fastest == UNPRUNED:
            text += "; prune more, or prune so that consumers agree (--mode constrained)"
        return text


def fastest_measured(latencies: Mapping[str, Profile], asked: str) -> Answer:
    """The answer by measurement.

    A variant is faster beyond noise if it is faster in three quarters of the rounds, in which all variants were
    measured in turn.

    Parameters
    ----------
    latencies
        Variant to latency, measured in turn (`upscale_opt.profile_interleaved`). The floor is no answer.
    asked
        One of the variants.

    Raises
    ------
    UpscaleError
        If the asked variant was not measured.
    """
    found = {name: profile for name, profile in latencies.items() if name != FLOOR}
    if asked not in found:
        raise UpscaleError(f"{asked!r} was not measured; choose from {', '.join(found)}")
    own = np.array(found[asked].seconds)
    faster = {
        name: profile.median
        for name, profile in found.items()
        if name != asked and np.percentile(np.array(profile.seconds) / own, 75) < 1
    }
    fastest = min(faster, key=lambda name: faster[name]) if faster else asked
    return Answer(asked, fastest, {name: profile.median for name, profile in found.items()}, MEASURED)


def fastest_expected(
    plans: Mapping[str, Plan], problems: Mapping[str, Problem], tables: Mapping[str, MeasuredTable], asked: str
) -> Answer:
    """The answer by measured cost tables, of plans for one masked model.

    Accesses without a table are left out, in all plans alike.

    Parameters
    ----------
    plans
        Variant to plan.
    problems, tables
        Segment name to problem, and access name to table (`upscale_opt.latency.readings.tables_of`).
    asked
        One of the variants.

    Raises
    ------
    UpscaleError
        If there is no plan of the asked variant.
    """
    if asked not in plans:
        raise UpscaleError(f"there is no plan of {asked!r}; choose from {', '.join(plans)}")
    beyond = {
        name: sum(own.excess for own in expected_as_planned(chosen, problems, tables).values()) / 1e9
        for name, chosen in plans.items()
    }
    fastest = min(beyond, key=lambda name: (beyond[name], name != asked))
    return Answer(asked, fastest, beyond, EXPECTED)


def upscale_plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    *,
    output_masks: Mapping[str, np.ndarray] | None = None,
    model: ModelReference | None = None,
) -> Plan:
    """What UPSCALE's own export does: greedy's order for copies, views, and copies of everything else.

    Source: Wan et al., UPSCALE, ICML 2023, section 3.

    Parameters
    ----------
    problems, masks, output_masks, model
        As for `upscale_opt.plan`.
    """
    results = {name: solve(problem, solver="greedy", objective="copies") for name, problem in problems.items()}
    return plan(problems, masks, results, output_masks=output_masks, model=model)
