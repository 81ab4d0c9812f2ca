"""Checks whether the objective predicts latency: several orders of one masked model, predicted and measured.

Predicted latency = measured floor + the expected extra cost of every access in the tables
(`upscale_opt.latency.readings`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import Order, Problem
from problems.objectives import OVER_READ
from problems.showing.progress import ProgressBar, ShowProgress
from problems.showing.reprs import shown_as
from solvers import solve
from upscale_opt.arguments.checks import a_flag, either, names
from upscale_opt.arguments.entrance import entrance
from upscale_opt.comparing.floors import floor_of
from upscale_opt.comparing.masked_model import MaskedModel
from upscale_opt.comparing.reports import FLOOR
from upscale_opt.errors import UpscaleError
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.access_profiles import profile_accesses_interleaved
from upscale_opt.latency.agreement import Agreement, agreement, worst_ranked_pair
from upscale_opt.latency.backends import ONNXRUNTIME, in_form_of, require_backend
from upscale_opt.latency.copies import by_model, copied, require_copies
from upscale_opt.latency.environment import stolen_note
from upscale_opt.latency.misranking import Difference, Misranking
from upscale_opt.latency.profiling import Profile, default_backend, joined, measured_in_turn, without_drift
from upscale_opt.latency.readings import Expected, cheapest_readings, expected_as_planned, fastest_kernels
from upscale_opt.planning.plans import Plan, baseline_plan, plan_of_orders
from upscale_opt.rewriting.exports import Exported
from upscale_opt.screens.grids import Column, grid
from upscale_opt.showing.cards import order_check_card
from upscale_opt.tracing.trace import as_tuple

BASELINE = "baseline"
OBJECTIVES = ("copies", "runs", "span", "traffic", "latency")
NUM_RANDOM = 3


@shown_as(order_check_card)
@dataclass(frozen=True, eq=False)
class OrderCheck:
    """Orders of one masked model, predicted and measured.

    Attributes
    ----------
    names
        Names of the orders.
    predicted, measured
        Seconds per pass of every order. Measured values are medians over the rounds, means over copies of the export,
        and without drift, the slow-down of whole rounds (`upscale_opt.latency.profiling.without_drift`). Orders with
        the same plan share one export and have the same values.
    noise
        Noise of one value, in seconds. It is the larger of two numbers. The first is half the interquartile range of an
        order's values, as a median over the orders. The second is the standard deviation between the medians of copies
        of the same export.
    floor
        Measured latency of the floor. In ONNX Runtime, of the export that reads all stored channels, less what the
        tables say that this costs.
    expected
        Order to access to the cost that the tables predict.
    profiles
        Order (and ``floor``) to its raw measurements, with all copies joined one after the other.
    plans
        Order to plan.
    accesses
        Order to access to its measured seconds. Empty if accesses were not measured.
    same_as
        Order to an earlier order with the same plan. It was not exported again and has the values of the earlier order.
    beside
        Name to measured seconds of other models that were measured in turn with the orders.
    """

    names: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    noise: float
    floor: float
    expected: Mapping[str, Mapping[str, Expected]]
    profiles: Mapping[str, Profile]
    plans: Mapping[str, Plan]
    accesses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    same_as: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def stolen(self) -> float | None:
        """Share of processor time that the host of a virtual machine gave to other guests during the measurement."""
        return next(iter(self.profiles.values())).stolen

    @property
    def agreement(self) -> Agreement:
        """The agreement over the orders. Orders within twice the noise count as equal."""
        return agreement(self.predicted, self.measured, tolerance=2 * self.noise)

    def __str__(self) -> str:
        names, measured = [*self.names, *self.beside], [*self.measured, *self.beside.values()]
        beside = ["-"] * len(self.beside)
        errors = (f"{100 * (p / m - 1):+.1f} %" for p, m in zip(self.predicted, self.measured, strict=True))
        columns = [
            Column("order", names, right=False, is_name=True),
            Column("predicted ms", [*(f"{1e3 * own:.2f}" for own in self.predicted), *beside]),
            Column("measured ms", [f"{1e3 * own:.2f}" for own in measured]),
            Column("IQR ms", [f"{1e3 * self.profiles[name].iqr:.2f}" for name in names]),
            Column("error", [*errors, *beside]),
            Column("x floor", [f"{own / self.floor:.2f}" for own in measured]),
        ]
        if self.same_as:
            same = {name: f"same plan as {other}" for name, other in self.same_as.items()}
            columns.append(Column("note", [same.get(name, "-") for name in names], right=False))
        head = f"floor {1e3 * self.floor:.2f} ms, noise {1e3 * self.noise:.2f} ms"
        worst = [
            f"  {order}: {access} expected {1e6 * expected:.0f} us, measured {1e6 * measured:.0f} us"
            for order, access, expected, measured in self.worst_accesses()
        ]
        below = [f"per access: {self.access_agreement}", "furthest from their tables:", *worst] if worst else []
        below += self.misranking.lines() if self.misranking else []
        note = stolen_note(self.stolen)
        return "\n".join([head, "", grid(columns), "", str(self.agreement), *below, *([note] if note else [])])

    @property
    def access_agreement(self) -> Agreement | None:
        """The agreement over all accesses of all orders. None if they were not measured."""
        pairs = self._distinct_pairs()
        return agreement([p[2] for p in pairs], [p[3] for p in pairs]) if len(pairs) > 1 else None

    def worst_accesses(self, most: int = 10) -> list[tuple[str, str, float, float]]:
        """Order, access, expected and measured seconds of the accesses with the largest differences, in seconds."""
        return sorted(self._distinct_pairs(), key=lambda own: -abs(own[2] - own[3]))[:most]

    @property
    def misranking(self) -> Misranking | None:
        """The two orders with the worst ranking error. None if there are none, or their accesses were not measured."""
        pair = worst_ranked_pair(self.predicted, self.measured, tolerance=2 * self.noise)
        if pair is None or not all(self.names[i] in self.accesses for i in pair):
            return None
        (faster, slower), (p, m) = (self.names[i] for i in pair), (self.predicted, self.measured)
        seconds = {(order, access): (expected, own) for order, access, expected, own in self._access_pairs()}
        differences = [
            Difference(access, *np.subtract(seconds[slower, access], seconds[faster, access]).tolist())
            for order, access in seconds
            if order == faster and (slower, access) in seconds
        ]
        return Misranking(
            faster,
            slower,
            Difference("whole model", p[pair[1]] - p[pair[0]], m[pair[1]] - m[pair[0]]),
            tuple(sorted(differences, key=lambda own: -abs(own.unexpected))),
        )

    def _distinct_pairs(self) -> list[tuple[str, str, float, float]]:
        """The pairs of one order per plan."""
        of_plans = {self.same_as.get(order, order): order for order in reversed(list(self.accesses))}
        return [own for own in self._access_pairs() if own[0] in of_plans.values()]

    def _access_pairs(self) -> list[tuple[str, str, float, float]]:
        """Order, access, expected and measured seconds."""
        return [
            (order, access, own.nanoseconds / 1e9, self.accesses[order][access])
            for order in self.accesses
            for access, own in self.expected[order].items()
            if access in self.accesses[order]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with raw measurements."""
        found = self.agreement
        return {
            "floor": self.floor,
            "floor_profile": self.profiles[FLOOR].to_dict(),
            "noise": self.noise,
            "stolen": self.stolen,
            "orders": {
                name: {
                    "predicted": p,
                    "measured": m,
                    "ratio_to_floor": m / self.floor,
                    "same_as": self.same_as.get(name),
                    "profile": self.profiles[name].to_dict(),
                    "accesses": {
                        access: {
                            "mode": own.reading.mode,
                            "width": own.reading.width,
                            "kernel": own.reading.kernel,
                            "late": own.reading.late,
                            "expected": own.nanoseconds / 1e9,
                            "least": own.least / 1e9,
                            "measured": self.accesses.get(name, {}).get(access),
                        }
                        for access, own in self.expected[name].items()
                    },
                }
                for name, p, m in zip(self.names, self.predicted, self.measured, strict=True)
            },
            "beside": dict(self.beside),
            "agreement": {**vars(found), "verdict": found.verdict},
            "access_agreement": vars(self.access_agreement) if self.access_agreement else None,
            "worst_accesses": [
                {"order": order, "access": access, "expected": expected, "measured": measured}
                for order, access, expected, measured in self.worst_accesses()
            ],
            "misranking": self.misranking.to_dict() if self.misranking else None,
        }


@entrance(accesses=either(a_flag, names))
def check_orders(
    masked: MaskedModel,
    *,
    time_limit: float = 5.0,
    seed: int = 0,
    repeats: int | None = None,
    copies: int = 4,
    backend: str | None = None,
    verify: bool = True,
    accesses: bool | Collection[str] = False,
    beside: Mapping[str, nn.Module] | None = None,
    progress: ShowProgress = None,
) -> OrderCheck:
    """Predict and measure eleven orders: identity, three random ones, the baseline, greedy, and the best per objective.

    The baseline gathers before every consumer. All other orders use the readings that are cheapest in the tables.

    Parameters
    ----------
    masked
        The masked model, with measured costs (`upscale_opt.prepare` with `MeasuredCosts`).
    time_limit
        Seconds per segment for the solvers.
    seed
        Seed of the random orders and the solvers.
    repeats, backend
        As for `upscale_opt.profile_interleaved`.
    copies
        How many copies of every export are measured. Twice as many of the floor are measured. The addresses of its
        tensors can make one copy several per cent slower than an equal copy. The mean of four copies has half the error
        of one.
    verify
        Check every export in float64.
    accesses
        Also measure every access (`upscale_opt.profile_accesses`, the orders in turn). True: of every order. Names: of
        these orders, of the order with the worst prediction, and of the two orders with the worst ranking error.
    beside
        Name to other models, such as the unpruned one. They are measured in turn with the orders, but not predicted.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    UpscaleError
        If an export is wrong, the backend does not fit the device, the number of copies is below 1, another model has
        the name of an order, or accesses are to be measured in ONNX Runtime.
    """
    require_copies(copies)
    problems, masks, tables = masked.problems, masked.masks, masked.tables
    plans, expected = {}, {}
    for name, orders in _orders(problems, time_limit, seed, progress):
        if name == BASELINE:
            plans[name] = baseline_plan(problems, masks, output_masks=masked.output_masks)
            expected[name] = expected_as_planned(plans[name], problems, tables)
        else:
            chosen = plan_of_orders(problems, masks, orders, output_masks=masked.output_masks)
            plans[name], expected[name] = cheapest_readings(chosen, problems, tables)
    given = (masked.model, masked.example_inputs)
    inputs = as_tuple(masked.example_inputs)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    backend = backend or default_backend(device)
    require_backend(backend, device)
    if accesses and backend == ONNXRUNTIME:
        raise UpscaleError(f"accesses are measured in eager mode only; leave them out with the backend {ONNXRUNTIME}")
    verifier = masked.verifier() if verify else False
    exports: dict[str, Exported] = {}
    same_as: dict[str, str] = {}
    for name, own in ProgressBar("export and verify", plans.items(), unit="export", progress=progress):
        same = next((earlier for earlier in exports if plans[earlier] == own), None)
        if same is None:
            exports[name] = export(*given, own, verify=verifier, graph=masked.graph)
        else:
            same_as[name] = same
    kernels, below = fastest_kernels(tables), 0.0
    if backend == ONNXRUNTIME:
        floor, below = _reading_everything(masked)
    else:
        floor = floor_of(*given, masked, problems, kernels=kernels)
    models = {FLOOR: floor, **{name: own.module for name, own in exports.items()}}
    others = _others(beside, (FLOOR, *plans))
    # traced or written once per model, not once per copy
    every = {name: in_form_of(backend, own, inputs) for name, own in {**models, **others}.items()}
    timed = copied(every, copies, twice=[FLOOR])
    figures = measured_in_turn(timed, inputs, repeats=repeats, backend=backend, progress=progress)
    steady = without_drift(figures)
    medians, noise = _medians(steady, models)
    lowest = medians.pop(FLOOR) - below
    own_others = {name: float(np.mean(np.median(own, axis=1))) for name, own in by_model(steady, others).items()}
    first = {name: same_as.get(name, name) for name in plans}
    medians = {name: medians[first[name]] for name in plans}
    predicted = {name: lowest + sum(own.excess for own in expected[name].values()) / 1e9 for name in plans}
    wanted = _explaining(predicted, medians, noise, accesses)
    profiled = profile_accesses_interleaved(
        {own: exports[own] for own in dict.fromkeys(first[name] for name in wanted)}, inputs, progress=progress
    )
    own_times = {
        name: {p.name: p.seconds + p.selection_seconds + p.prologue_seconds for p in profiled[first[name]]}
        for name in wanted
    }
    profiles = {name: joined(own) for name, own in by_model(figures, every).items()}
    return OrderCheck(
        tuple(plans),
        tuple(predicted.values()),
        tuple(medians[name] for name in plans),
        noise,
        lowest,
        expected,
        {name: profiles[first.get(name, name)] for name in (FLOOR, *plans, *others)},
        plans,
        own_times,
        same_as,
        own_others,
    )


def _reading_everything(masked: MaskedModel) -> tuple[nn.Module, float]:
    """An export whose consumers read all stored channels, and the seconds that the tables say it takes too long.

    It stands for the floor in ONNX Runtime, which cannot run a consumer on a part of a tensor in place.
    """
    stored = {name: table.key.stored for name, table in masked.tables.items() if table.key.kept < table.key.stored}
    chosen = masked.baseline_plan()
    for name, width in stored.items():
        chosen = chosen.with_readings([name], mode=OVER_READ, width=width)
    expected = expected_as_planned(chosen, masked.problems, masked.tables)
    exported = export(masked.model, masked.example_inputs, chosen, verify=False, graph=masked.graph)
    return exported.module, sum(expected[name].excess for name in stored) / 1e9


def _others(beside: Mapping[str, nn.Module] | None, taken: Collection[str]) -> dict[str, nn.Module]:
    """The other models. An order or the floor must not have the same name."""
    others = dict(beside or {})
    double = [name for name in others if name in taken]
    if double:
        raise UpscaleError(
            f"beside the orders there is a model {double[0]!r}, which has the name of an order; rename it"
        )
    return others


def _explaining(
    predicted: Mapping[str, float], measured: Mapping[str, float], noise: float, accesses: bool | Collection[str]
) -> list[str]:
    """The orders whose accesses are measured one by one."""
    names = list(predicted)
    if isinstance(accesses, bool):
        return names if accesses else []
    worst = max(names, key=lambda name: abs(predicted[name] / measured[name] - 1))
    misranked = worst_ranked_pair(list(predicted.values()), [measured[name] for name in names], tolerance=2 * noise)
    wanted = {*accesses, worst, *(names[i] for i in misranked or ())}
    return [name for name in names if name in wanted]


def _medians(steady: Mapping[str, np.ndarray], names: Iterable[str]) -> tuple[dict[str, float], float]:
    """Seconds of every model as a mean over its copies, and the noise of these values."""
    figures = by_model(steady, names)
    medians = {name: np.median(own, axis=1) for name, own in figures.items()}
    orders = [own for name, own in figures.items() if name != FLOOR]
    within = float(np.median([np.subtract(*np.percentile(own, (75, 25))) / 2 for own in chain(*orders)]))
    spreads = [np.var(own, ddof=1) for own in medians.values() if len(own) > 1]
    between = float(np.sqrt(np.mean(spreads))) if spreads else 0.0
    return {name: float(np.mean(own)) for name, own in medians.items()}, max(within, between)


def _orders(problems: Mapping[str, Problem], time_limit: float, seed: int, progress: ShowProgress) -> Any:
    """Yield (name, segment to order)."""
    identity = {name: Order.identity(problem) for name, problem in problems.items()}
    yield "identity", identity
    rng = np.random.default_rng(seed)
    for i in range(NUM_RANDOM):
        yield f"random {i + 1}", {name: Order.random(problem, rng) for name, problem in problems.items()}
    yield BASELINE, identity
    chosen = [("greedy", "greedy", "copies"), *((f"exact {name}", "auto", name) for name in OBJECTIVES)]
    for name, solver, objective in ProgressBar("solve", chosen, unit="order", progress=progress):
        yield (
            name,
            {
                segment: solve(problem, solver=solver, objective=objective, time_limit=time_limit, seed=seed).order
                for segment, problem in problems.items()
            },
        )
