"""Is every export of a random network right? It is checked twice: by `upscale_opt.verify`, and by independent code.

An export is right if its outputs are right, and the gradients of a random loss if autograd can differentiate the
network.

The second check shares no code with `upscale_opt.verifying.verification` (`benchmarks.random_networks.oracle`). The
network has random parameters and statistics from the start. The masked model is a copy with zeroed weight columns, and
with hooks that set outputs to zero. Both run forward and backward in float64 on new inputs with another batch size.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from torch import nn

from benchmarks.random_networks.oracle import TOLERANCE, Oracle, input_axis, tensor_of
from benchmarks.random_networks.program import Program
from problems import Order, Problem, evaluate, places_of
from problems.objectives import COPY, OVER_READ, PIECES
from solvers import solve
from upscale_opt import (
    AnalyticCosts,
    ModelError,
    Plan,
    constrained_masks,
    effective_masks,
    export,
    plan,
    trace,
)
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.windows import WindowChoice, window_masks
from upscale_opt.modules.matrix_convolution import is_pointwise
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.padding import paddable, padded
from upscale_opt.planning.reading import MATMUL, Reading
from upscale_opt.planning.window_plans import window_plan
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.prologues import prologues_of
from upscale_opt.tracing.writes import writes_of
from upscale_opt.verifying.verification import Verifier

MODES = ("input", "input", "constrained", "output", "both")
OBJECTIVES = ("copies", "span", "traffic", "runs", "latency")
JOINING = AnalyticCosts(launch_ns=0, piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
"""Joining runs is free and everything else is expensive. So `latency` reads in pieces if there is more than one run."""
NOISE = "rounding alone changes the output, so nothing is proven"
OVERWRITTEN = "forward writes into what its own backward pass needs, so the backward pass is not proven"
GRADIENT_NOISE = "rounding alone changes a gradient, so the backward pass is not proven"
UNPROVEN = {
    "no output varies with the input (a head whose input is masked away, or integers)": ("does not vary",),
    "no swap of two kept columns shows in the output": ("swapping two kept columns",),
    "no swap of two columns of a gradient shows": ("swapping two columns",),
    "rounding alone changes the output": ("rounding alone changes the output",),
    "rounding alone changes a gradient": ("rounding alone changes", "gradient"),
    "outputs agree; no backward pass: a tensor that it needs is changed in place": (
        "no backward pass",
        "modified by an",
    ),
    "outputs agree; no backward pass: one of several views is changed in place": ("no backward pass", "is a view and"),
    "outputs agree; no backward pass: autograd takes no `out=`": ("no backward pass", "out=..."),
    "outputs agree; no backward pass for another reason": ("no backward pass",),
    "outputs agree; no gradient flows back from any output": ("autograd follows",),
    "outputs agree; every gradient is zero": ("every gradient",),
    "outputs agree; a gradient of the masked model is not finite": ("is not finite",),
    "outputs agree; the backward pass needs what forward overwrites": ("its own backward pass needs",),
}
"""Kinds of reasons why a network is unproven, with their words. The first kind whose words all occur is chosen."""
SENSITIVITY = 1e-6
"""If gradients differ by more than this, they are unproven, even if rounding explains the difference."""
WINDOWS = 1
"""Distinguishes the random numbers for windows from others of the same seed."""
T = TypeVar("T")


class Verdict(Enum):
    """The verdict on a network."""

    RIGHT = "right"
    UNPROVEN = "unproven"
    """Right by the second check, but `verify` says that its inputs prove nothing."""
    SKIPPED = "skipped"
    """The trace refuses the network."""
    WRONG = "wrong"
    """An export differs from the masked model, or an unexpected error was raised."""


@dataclass(frozen=True)
class Outcome:
    """The verdict on a network, and the reason in one line.

    Attributes
    ----------
    verdict
        The verdict.
    reason
        Empty if there is no error. The part before the first colon is the kind of the failure.
    detail
        Masks, orders and read modes of a wrong export, or a traceback.
    channels, movable
        Number of channels of the network, and how many of them are not pinned.
    """

    verdict: Verdict
    reason: str = ""
    detail: str = ""
    channels: int = 0
    movable: int = 0

    @property
    def kind(self) -> str:
        """The kind of the failure, or of the reason why nothing is proven, without figures and names of the network."""
        if self.verdict is not Verdict.UNPROVEN:
            return self.reason.partition(":")[0]
        kinds = (kind for kind, words in UNPROVEN.items() if all(word in self.reason for word in words))
        return next(kinds, self.reason)


class _Wrong(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.outcome = Outcome(Verdict.WRONG, reason, detail)


def check(
    program: Program,
    source: int | random.Random = 0,
    *,
    num_plans: int = 3,
    modes: Sequence[str] = MODES,
    windows: bool = True,
) -> Outcome:
    """Trace a network, prune it at random, export it in several ways and compare each with the masked model.

    Parameters
    ----------
    program
        The network.
    source
        Seed or source of the masks, orders and read modes.
    num_plans
        Number of exports: greedy's order first, then random ones.
    modes
        Modes of the masks; one is drawn.
    windows
        Also check an export with random windows, if the network has residual streams.
    """
    seed = source.getrandbits(32) if isinstance(source, random.Random) else source
    rng = np.random.default_rng(seed)
    model, inputs = program.build(), program.call_with(program.example_inputs())
    try:
        graph = _must(lambda: trace(model, inputs), "trace", allowed=ModelError)
    except ModelError as error:
        return Outcome(Verdict.SKIPPED, str(error))
    except _Wrong as wrong:
        return wrong.outcome
    size = sum(block.size for block in graph.blocks), sum(block.size for block in graph.blocks if not block.pinned)
    try:
        unproven = [reason for reason in _check_exports(program, model, graph, rng, num_plans, modes) if reason]
        # Windows come from another stream, so that nothing else depends on them.
        windowed = () if not windows else _check_windows(program, model, graph, np.random.default_rng([seed, WINDOWS]))
        unproven += [reason for reason in windowed if reason]
    except _Wrong as wrong:
        return Outcome(Verdict.WRONG, wrong.outcome.reason, wrong.outcome.detail, *size)
    return Outcome(Verdict.UNPROVEN if unproven else Verdict.RIGHT, "; ".join(unproven[:1]), "", *size)


def _check_exports(
    program: Program, model: nn.Module, graph: Graph, rng: np.random.Generator, num_plans: int, modes: Sequence[str]
) -> Iterator[str]:
    """Check exports one by one. Yields the reason if an export is unproven."""
    mode = modes[rng.integers(len(modes))] if len(modes) > 1 else modes[0]
    masks, outputs = _must(lambda: random_sides(program, graph, rng, mode), "masks")
    yield from _check_plans(
        program, model, MaskedGraph(graph, masks, outputs), _plans(graph, masks, outputs, rng, num_plans)
    )


def _check_windows(program: Program, model: nn.Module, graph: Graph, rng: np.random.Generator) -> Iterator[str]:
    """Check an export with random windows of streams, if the network has streams."""
    choices = random_windows(graph, rng)
    if not choices:
        return
    masked = _must(lambda: window_masks(graph, choices), "windows")
    chosen = _must(lambda: random_window_plan(masked, choices, rng), "plan of windows", repr(choices))
    yield from _check_plans(program, model, masked, [chosen])


def _check_plans(program: Program, model: nn.Module, masked: MaskedGraph, plans: Iterable[Plan]) -> Iterator[str]:
    """Check the exports of one masked model one by one. Yields the reason if an export is unproven."""
    inputs, graph, masks = program.call_with(program.example_inputs()), masked.graph, dict(masked.masks)
    verifier = _must(lambda: Verifier(model, inputs, masked), "verifier")
    writes = writes_of(graph)
    hooks = {writes[w].module: (kept, writes[w].layout.axis) for w, kept in masked.output_masks.items()}
    oracle = _must(lambda: Oracle(program, model, masks, hooks), "masked model")
    for chosen in plans:
        told = describe(masks, chosen)
        exported = _must(lambda c=chosen: export(model, inputs, c, verify=False, graph=graph), "export", told)
        verification = _must(lambda e=exported: verifier.check(e), "verify", told)
        module = exported.module.double()  # the original is no longer needed
        error = _must(lambda m=module: oracle.error(m), "run", told)
        if not error <= TOLERANCE:
            if oracle.noise > TOLERANCE:
                yield NOISE
                continue
            raise _Wrong(f"wrong result: relative error {error:.1e}", told)
        if not verification.relative_error <= TOLERANCE and oracle.noise <= TOLERANCE:
            raise _Wrong(f"verify alone fails: {verification.message}", told)
        gradients = _must(lambda m=module: oracle.gradient_error(m), "backward pass", told)
        if gradients is not None and not gradients[0] <= TOLERANCE:
            if oracle.overwrites:
                yield OVERWRITTEN
                continue
            if not oracle.is_gradient_noise(*gradients):
                raise _Wrong(f"wrong gradient: relative error {gradients[0]:.1e} of {gradients[1]}", told)
            if gradients[0] > SENSITIVITY:
                yield GRADIENT_NOISE
                continue
        if verification.message is not None and verification.gradients is not None:
            raise _Wrong(f"verify alone fails: {verification.message}", told)
        yield verification.message or verification.gradients_reason or ""


def random_masks(program: Program, graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Each consumer keeps a share of its inputs between 0.1 and 0.9; some, or all, have no mask."""
    masked = rng.random() < 0.95
    result = {}
    for name in graph.consumers:
        length = tensor_of(graph.module, name).shape[input_axis(program, graph.module, name)]
        if masked and rng.random() < 0.9:
            result[name] = rng.random(length) < rng.uniform(0.1, 0.9)
    return result


def random_sides(
    program: Program, graph: Graph, rng: np.random.Generator, mode: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Masks of consumers and of producers in one of the modes."""
    if mode == "constrained":
        return constrained_masks(graph, f"{rng.uniform(0.1, 0.9):.2f}"), {}
    masks = effective_masks(graph, random_masks(program, graph, rng) if mode != "output" else {}).masks
    if mode == "input":
        return masks, {}
    outputs = {}
    for weight, write in writes_of(graph).items():
        length = sum(graph.blocks[b].size for b in write.layout.blocks)
        kept = rng.random(length) < rng.uniform(0.1, 0.9)
        if rng.random() < 0.8 and kept.any():
            outputs[weight] = kept
    return masks, outputs


def random_windows(graph: Graph, rng: np.random.Generator) -> dict[str, WindowChoice]:
    """Random windows of most accesses, in a random order: of streams (somebody adds to them) and other blocks."""
    writes = writes_of(graph).values()
    streams = {b for own in writes if own.addition is not None for b in own.layout.blocks}
    choices = {}
    for b, block in enumerate(graph.blocks):
        if block.pinned or not block.removable or not streams or (b not in streams and rng.random() < 0.6):
            continue
        names = [read.name for read in graph.reads if b in read.input.blocks]
        calls = Counter(read.weight for read in graph.reads)
        names = [read.name for read in graph.reads if read.name in names and calls[read.weight] == 1]
        names += [own.name for own in writes if b in own.layout.blocks]
        windows = {}
        for name in names:
            start, stop = sorted(rng.choice(block.size + 1, 2, replace=False).tolist())
            if rng.random() < 0.85:
                windows[name] = (start, stop)
        choices[block.name] = WindowChoice(rng.permutation(block.size), windows)
    return choices


def random_window_plan(masked: MaskedGraph, choices: Mapping[str, WindowChoice], rng: np.random.Generator) -> Plan:
    """The plan of windows. First writers are padded always or never, and some selections come late."""
    costs = AnalyticCosts(launch_ns=0, flops_per_ns=1) if rng.random() < 0.7 else AnalyticCosts(launch_ns=10**9)
    chosen = window_plan(masked, problems_of(masked), choices, costs=costs)
    late = [name for name in chosen.readings if rng.random() < 0.3]
    return chosen.with_readings(late, late=True)


def describe(masks: Mapping[str, np.ndarray], chosen: Plan) -> str:
    """Masks, orders and read modes as text."""
    lines = [f"kept by {name}: {np.flatnonzero(mask).tolist()} of {len(mask)}" for name, mask in masks.items()]
    lines += [f"order of {name}: {np.asarray(order).tolist()}" for name, order in chosen.orders.items()]
    lines += [f"computed by {name}: {np.flatnonzero(own).tolist()}" for name, own in chosen.output_masks.items()]
    lines += [f"padding of {name}: {own.tolist()}" for name, own in chosen.padding.items()]
    lines += [f"place of {name}: {other}" for name, other in chosen.places.items()]
    return "\n".join([*lines, *(f"{name} is read by {reading}" for name, reading in chosen.readings.items())])


def _plans(
    graph: Graph,
    masks: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
    rng: np.random.Generator,
    number: int,
) -> Iterator[Plan]:
    """Greedy's order; then random orders in the modes of a random objective, or in random modes; then random padding.

    What is random about the padded plan comes from another stream, so that the plans before it do not depend on it.
    """
    yield from _plans_of(MaskedGraph(graph, masks, outputs), rng, number)
    sequence = rng.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    other = np.random.default_rng(sequence.spawn(1)[0])
    masked = _must(lambda: random_padding(MaskedGraph(graph, masks, outputs), other), "padding")
    if masked.padding:
        *_, last = _plans_of(masked, other, 2 + int(other.integers(2)))
        yield last


def random_padding(masked: MaskedGraph, rng: np.random.Generator) -> MaskedGraph:
    """The same with any number of dropped channels stored, in some of the blocks that may store more."""
    widths = {name: int(rng.integers(*own, endpoint=True)) for name, own in paddable(masked).items()}
    return padded(masked, {name: width for name, width in widths.items() if rng.random() < 0.7})


def _plans_of(masked: MaskedGraph, rng: np.random.Generator, number: int) -> Iterator[Plan]:
    """Greedy's order; then random orders in the modes of a random objective, or in random modes."""
    graph, masks, outputs = masked.graph, dict(masked.masks), dict(masked.output_masks)
    problems = _must(lambda: problems_of(masked, costs=JOINING), "extract")
    results = _must(lambda: {name: solve(problem, solver="greedy") for name, problem in problems.items()}, "solve")
    yield _must(lambda: plan(problems, masks, results, output_masks=outputs), "plan")
    for i in range(1, number):
        orders = {name: Order.random(problem, rng) for name, problem in problems.items()}
        objective = OBJECTIVES[rng.integers(len(OBJECTIVES))]
        modes = _must(lambda o=orders, name=objective: _modes(problems, o, name), "evaluate")
        if i > 1:
            # All calls of one weight have the same mode, because its columns are stored once.
            by_weight = {weight: str(rng.choice([OVER_READ, PIECES, COPY])) for weight in graph.consumers}
            chosen = {read.name: by_weight[read.weight] for read in graph.reads}
            modes = {name: chosen.get(name) or str(rng.choice([OVER_READ, COPY])) for name in modes}
        stored = {b.name: orders[name][i] for name, problem in problems.items() for i, b in enumerate(problem.blocks)}
        places = {
            name: other
            for segment, problem in problems.items()
            for name, other in places_of(problem, orders[segment]).items()
        }
        readings = _readings(graph, problems, modes, rng) if i > 1 else modes
        yield Plan(masks, stored, readings, None, outputs, places, padding=masked.padding)


def _readings(
    graph: Graph, problems: Mapping[str, Problem], modes: Mapping[str, str], rng: np.random.Generator
) -> dict[str, Reading]:
    """Some wider ranges, matrix products where they can be, and selections in front of some prologues or of all."""
    accesses = {access.name: (problem, access) for problem in problems.values() for access in problem.accesses}
    widths, kernels = {}, {}
    for read in graph.reads:
        problem, access = accesses[read.name]
        if rng.random() < 0.3:
            widths[read.name] = int(rng.integers(1, sum(len(problem.stored[b]) for b in access.blocks) + 1))
        node = next(node for node in graph.module.graph.nodes if node.name == read.node)
        if node.op == "call_module" and is_pointwise(graph.module.get_submodule(str(node.target))):
            kernels |= {read.name: MATMUL} if rng.random() < 0.5 else {}
    every = rng.random() < 0.5
    early = set(modes) if every else {name for name in prologues_of(graph) if rng.random() < 0.5}
    return {
        name: Reading(mode, widths.get(name), kernels.get(name, ""), late=name not in early)
        for name, mode in modes.items()
    }


def _modes(problems: Mapping[str, Problem], orders: Mapping[str, Order], objective: str) -> dict[str, str]:
    """The read modes that an objective chooses."""
    evaluations = (evaluate(problem, orders[name], objective) for name, problem in problems.items())
    return {access.name: access.mode for evaluation in evaluations for access in evaluation.accesses}


def _must(action: Callable[[], T], stage: str, detail: str = "", *, allowed: type[Exception] | None = None) -> T:
    """The result of an action that may raise the allowed errors only."""
    try:
        return action()
    except Exception as error:
        if allowed is not None and isinstance(error, allowed):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        text = "".join(traceback.format_exception(error))
        raise _Wrong(f"{stage} raises {type(error).__name__}: {first}", f"{detail}\n{text}".strip()) from error
