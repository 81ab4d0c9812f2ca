"""The page of a check: latencies as predicted and as measured, and the accesses that explain differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.comparing.reports import FLOOR
from upscale_opt.pages.bars import BEFORE, CHOSEN, LIMIT, SIMPLE, Bar, Bars, of_seconds
from upscale_opt.pages.facts import facts, repeat, where
from upscale_opt.pages.page import Figure, Page, Section
from upscale_opt.pages.tables import Cell, Column, Table
from upscale_opt.planning.reading import READ_MODES

_ABOUT_ACCESSES = "Readers that are furthest from what their cost table says, over all orders."


def check_page(
    check: OrderCheck,
    *,
    title: str,
    asked: Mapping[str, Any] | None = None,
    command: str = "",
    notes: tuple[str, ...] = (),
) -> Page:
    """The page of a check.

    Parameters
    ----------
    check
        What `upscale_opt.check_orders` returned.
    title
        The network's name.
    asked
        Name to value of what was asked for.
    command
        The command that made it.
    notes
        What a reader must know, one sentence each.
    """
    errors = np.abs(np.array(check.predicted) / np.array(check.measured) - 1)
    agreement = check.agreement
    figures = (
        Figure(f"{100 * float(errors.mean()):.1f} %", "mean error of predicted latency, over the orders"),
        Figure(f"{100 * float(errors.max()):.1f} %", "largest error of predicted latency"),
        Figure(f"{100 * check.noise / check.floor:.1f} %", "noise of one measured latency, as a share of the floor"),
    )
    sections = [
        Section("What was asked", (facts(dict(asked or {})),)),
        Section("Orders", (order_table(check), str(agreement))),
    ]
    worst = check.worst_accesses()
    if worst:
        rows = [(order, access, 1e6 * one, 1e6 * other) for order, access, one, other in worst]
        columns: list[str | Column] = [
            "order",
            "reader",
            Column("expected", "µs", digits=1),
            Column("measured", "µs", digits=1),
        ]
        sections.append(Section("Readers", (_ABOUT_ACCESSES, Table.of(columns, rows), str(check.access_agreement))))
    if check.misranking is not None:
        sections.append(Section("The pair of orders that is ranked worst", tuple(check.misranking.lines())))
    sections += [where(), *repeat(command)]
    answer = f"Predicted and measured latency of {len(check.names)} orders: {agreement.verdict}."
    return Page(title, answer, figures, (_bars(check),), tuple(sections), notes=notes)


def order_table(check: OrderCheck) -> Table:
    """One row per order: predicted and measured latency, and the ways of reading of its plan."""
    columns = [
        Column("order"),
        *(Column(own, "ms", digits=3) for own in ("predicted", "measured", "IQR")),
        Column("error", "%", digits=1),
        Column("to floor", digits=3),
        *(Column(own) for own in READ_MODES),
        Column("same plan as"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            1e3 * predicted,
            1e3 * measured,
            1e3 * check.profiles[name].iqr,
            100 * (predicted / measured - 1),
            measured / check.floor,
            *(check.plans[name].count(mode) for mode in READ_MODES),
            check.same_as.get(name, ""),
        )
        for name, predicted, measured in zip(check.names, check.predicted, check.measured, strict=True)
    ]
    return Table(tuple(columns), tuple(rows)).without(if_empty=(*READ_MODES, "same plan as"))


def _bars(check: OrderCheck) -> Bars:
    """Measured latencies with the noise of one value, and what was predicted."""
    bars = [Bar(name, own, BEFORE) for name, own in check.beside.items()]
    for name, predicted, measured in zip(check.names, check.predicted, check.measured, strict=True):
        chosen = CHOSEN if name.startswith("exact") else SIMPLE
        bars.append(Bar(name, measured, chosen, measured - check.noise, measured + check.noise, mark=predicted))
    bars.append(Bar(FLOOR, check.floor, LIMIT))
    profile = check.profiles[FLOOR]
    how = f"bars: measured ({profile.device}, {profile.backend}); lines: noise; diamonds: predicted"
    return of_seconds("Latency per pass", bars, how=how)
