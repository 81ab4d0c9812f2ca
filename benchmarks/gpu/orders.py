"""Eleven orders of a masked network, the unpruned network, and UPSCALE's own reads; two orders node by node."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.networks import Masked, OrderCell, masked
from benchmarks.gpu.records import Records, facts_of, save_tables
from benchmarks.gpu.schedule import Deadline
from benchmarks.gpu.settings import Setting
from solvers import solve
from upscale_opt import MaskedModel, Plan, export, extract, prepare
from upscale_opt.comparing.order_checks import OrderCheck, check_orders
from upscale_opt.latency.access_nodes import nodes_of_accesses
from upscale_opt.latency.access_traces import NODE, NodeRunner, profiled_pass
from upscale_opt.latency.calibration import conditions_of, keys_of, measure
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.planning.cost_model import AnalyticCosts
from upscale_opt.planning.plans import plan_of_orders
from upscale_opt.tracing.trace import as_tuple

Row = dict[str, Any]
CALIBRATION_SHARE = 0.55
"""Share of a cell's time after which no further shape is timed. The other shapes have analytic costs."""
EXPLAINED = ("greedy", "exact latency")
"""The orders whose nodes are timed one by one."""
NODE_RUNS = 3
UNPRUNED, UPSCALE = "unpruned", "greedy as UPSCALE"


def check_cell(cell: OrderCell, setting: Setting, deadline: Deadline) -> str:
    """Calibrate, predict and measure. Gives rows for every order, and for every node of the two explained orders."""
    records = Records(setting.out, facts_of(setting.device, setting.commit))
    _release()
    began = time.perf_counter()
    subject = masked(cell, setting)
    loaded = time.perf_counter()
    tables, number, wanted = calibrated(subject, setting, deadline.share(CALIBRATION_SHARE))
    save_tables(setting.tables, setting.out)
    done = time.perf_counter()
    costs = MeasuredCosts(tables, AnalyticCosts.for_device(torch.device(setting.device).type))
    prepared = prepare(
        subject.model,
        subject.x,
        subject.masked,
        objective="latency",
        costs=costs,
    )
    found = check_orders(
        prepared,
        time_limit=setting.time_limit,
        repeats=setting.runs,
        copies=setting.copies,
        backend=setting.backend,
        verify=False,
        beside={UNPRUNED: subject.model, UPSCALE: _as_upscale(prepared, setting)},
    )
    seconds = {"load_s": loaded - began, "calibrate_s": done - loaded, "check_s": time.perf_counter() - done}
    place = _place(cell, setting)
    agreement = found.agreement
    summary = {
        **place,
        "kind": "cell",
        "conditions": str(tables.conditions),
        "notes": list(subject.notes),
        "shapes_measured": number,
        "shapes": wanted,
        **{name: round(own, 2) for name, own in seconds.items()},
        "noise_ms": 1e3 * found.noise,
        "floor_ms": 1e3 * found.floor,
        **vars(agreement),
        "verdict": agreement.verdict,
    }
    records.add("orders", [summary, *({**place, **row} for row in _rows(found))])
    line = _line(found)
    if deadline.left > 0:
        records.add("accesses", ({**place, **row} for row in _node_rows(prepared, found)))
    else:
        line += "; no time for single accesses"
    return line if number == wanted else f"{line}; {number} of {wanted} shapes measured"


def calibrated(subject: Masked, setting: Setting, deadline: Deadline) -> tuple[CostTables, int, int]:
    """Tables of as many shapes as there is time for, the number of these shapes, and the number of all shapes.

    Shapes that were measured for an earlier cell are not measured again.
    """
    conditions = conditions_of((subject.x,), backend=setting.backend)
    tables = CostTables.load(setting.tables, conditions)
    keys = keys_of(subject.masked)
    for key in keys:
        if tables.known(key, setting.effort.detail):
            continue
        if deadline.left <= 0:
            break
        tables.entries[key] = measure(key, conditions, subject.x.device, setting.effort)
        tables.details[key] = setting.effort.detail
    tables.save(setting.tables)
    return tables, sum(key in tables.entries for key in keys), len(keys)


def _as_upscale(prepared: MaskedModel, setting: Setting) -> nn.Module:
    """Greedy's order with views and copies, as in UPSCALE's own exports."""
    problems = extract(prepared.graph, prepared.masks)
    orders = {
        name: solve(problem, solver="greedy", objective="copies", time_limit=setting.time_limit).order
        for name, problem in problems.items()
    }
    plan = plan_of_orders(problems, prepared.masks, orders)
    return _exported(prepared, plan).module


def _exported(prepared: MaskedModel, plan: Plan) -> Any:
    return export(prepared.model, prepared.example_inputs, plan, verify=False, graph=prepared.graph)


def _rows(found: OrderCheck) -> list[Row]:
    """One row per order, per other model, and for the floor."""
    rows: list[Row] = [
        {
            "kind": "order",
            "order": name,
            "predicted_ms": 1e3 * predicted,
            "measured_ms": 1e3 * measured,
            "to_floor": measured / found.floor,
            "to_unpruned": measured / found.beside[UNPRUNED],
            "iqr_ms": 1e3 * found.profiles[name].iqr,
            "same_as": found.same_as.get(name),
            "modes": dict(Counter(own.mode for own in found.plans[name].readings.values())),
            "kernels": dict(Counter(own.kernel for own in found.plans[name].readings.values() if own.kernel)),
        }
        for name, predicted, measured in zip(found.names, found.predicted, found.measured, strict=True)
    ]
    for name, seconds in {**found.beside, "floor": found.floor}.items():
        rows.append(
            {
                "kind": "model",
                "order": name,
                "measured_ms": 1e3 * seconds,
                "to_floor": seconds / found.floor,
                "to_unpruned": seconds / found.beside[UNPRUNED],
                "iqr_ms": 1e3 * found.profiles[name].iqr,
            }
        )
    return rows


def _node_rows(prepared: MaskedModel, found: OrderCheck) -> list[Row]:
    """Predicted times of the accesses of the explained orders, and the measured time of every node in eager mode."""
    inputs = as_tuple(prepared.example_inputs)
    exports = {name: _exported(prepared, found.plans[name]) for name in EXPLAINED}
    accesses = {name: nodes_of_accesses(exported) for name, exported in exports.items()}
    runners = {
        name: NodeRunner(exported.module, frozenset(own.consumer for own in accesses[name]))
        for name, exported in exports.items()
    }
    for runner in runners.values():
        profiled_pass(runner, inputs)
    passes = [{name: profiled_pass(runner, inputs) for name, runner in runners.items()} for _ in range(NODE_RUNS)]
    rows: list[Row] = []
    for order, exported in exports.items():
        names = [node.name for node in exported.module.graph.nodes if node.op.startswith("call_")]
        seconds = {
            name: float(np.median([own[order][NODE + name].seconds for own in passes]))
            for name in names
            if NODE + name in passes[0][order]
        }
        rows += _access_rows(order, found, accesses[order], seconds)
        part_of = {
            node: (own.name, part)
            for own in accesses[order]
            for part, nodes in (
                ("consumer", (own.consumer,)),
                ("selection", own.selection),
                ("prologue", own.prologue),
            )
            for node in nodes
        }
        for name, own in seconds.items():
            access, part = part_of.get(name, (None, None))
            row = {"kind": "node", "order": order, "node": name, "access": access, "part": part}
            rows.append({**row, "measured_us": 1e6 * own})
    return rows


def _access_rows(order: str, found: OrderCheck, accesses: Any, seconds: Mapping[str, float]) -> list[Row]:
    rows = []
    for own in accesses:
        nodes = (own.consumer, *own.selection, *own.prologue)
        row: Row = {
            "kind": "access",
            "order": order,
            "access": own.name,
            "mode": own.mode,
            "kept": own.kept,
            "stored": own.stored,
            "measured_us": 1e6 * sum(seconds[node] for node in nodes),
            "consumer_us": 1e6 * seconds[own.consumer],
        }
        expected = found.expected[order].get(own.name)
        if expected is not None:
            reading = expected.reading
            row |= {
                "expected_us": expected.nanoseconds / 1e3,
                "least_us": expected.least / 1e3,
                "width": reading.width,
                "kernel": reading.kernel,
                "late": reading.late,
            }
        rows.append(row)
    return rows


def _place(cell: OrderCell, setting: Setting) -> Row:
    return {
        "network": cell.network,
        "batch": setting.batch_of(cell.batch),
        "dtype": cell.dtype,
        "memory_format": cell.memory_format,
        "aligned": cell.aligned,
        "backend": setting.backend,
    }


def _line(found: OrderCheck) -> str:
    """The shares of the unpruned network's latency."""
    unpruned = found.beside[UNPRUNED]
    measured = dict(zip(found.names, found.measured, strict=True))
    names = {
        "baseline": measured["baseline"],
        UPSCALE: found.beside[UPSCALE],
        "greedy": measured["greedy"],
        "exact latency": measured["exact latency"],
        "floor": found.floor,
    }
    shares = ", ".join(f"{name} {own / unpruned:.3f}" for name, own in names.items())
    error = found.agreement.percentage_error
    return f"unpruned {1e3 * unpruned:.3f} ms; of it: {shares}; predictions are {error:.1f} % off"


def _release() -> None:
    """Free the memory of earlier steps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
