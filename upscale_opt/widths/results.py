"""The result of `upscale_opt.speedup`: the network, and everything that was promised and measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from upscale_opt.learning.fidelity import Fidelity
from upscale_opt.planning.plans import Plan
from upscale_opt.rewriting.exports import Exported
from upscale_opt.showing.cards import speedup_card
from upscale_opt.widths.corrections import Correction

COLUMNS = 80
"""Longest line of a report."""
TIME, MACS = "time", "macs"
"""What a budget is of: measured time, or multiply-accumulates that are counted."""


@dataclass(frozen=True)
class Round:
    """One turn of the closed loop: a choice for a budget, exported and measured.

    Attributes
    ----------
    asked
        The speedup that the choice was made for, by the tables.
    predicted
        The speedup of the choice by the tables, scaled by the measurement of the turn before.
    measured
        Median over the rounds of the measurement of the unpruned network's time over the network's. With a budget of
        multiply-accumulates, their ratio.
    loss, bound
        Estimated loss of the choice, and what no choice for the same budget can go below; None if nothing is known.
    widths
        Block name to width, of the blocks that are narrower than before. With SPDY, weight name to number of input
        channels.
    windows
        Block name to access name to width, of the windows that are narrower than what is stored.
    """

    asked: float
    predicted: float
    measured: float
    loss: float
    bound: float | None
    widths: Mapping[str, int]
    windows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """How far the loss may be above the least one, as a share of the loss; None without a bound."""
        if self.bound is None:
            return None
        return (self.loss - self.bound) / self.loss if self.loss > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"asked for {self.asked:.3f}x: predicted {self.predicted:.3f}x, measured {self.measured:.3f}x, "
            f"loss {self.loss:.4g}, {self.gap_text}"
        )

    @property
    def gap_text(self) -> str:
        """The gap in words."""
        return "no bound" if self.gap is None else f"gap {100 * self.gap:.2f} %"

    @property
    def bound_text(self) -> str:
        """In one sentence, what the bound says."""
        if self.bound is None:
            return "no bound is known for this method"
        return f"no choice under the same tables and budget is below {self.bound:.4g} ({self.gap_text})"


@dataclass(frozen=True)
class Size:
    """What a network needs.

    Attributes
    ----------
    parameters
        Number of parameters.
    macs
        Multiply-accumulates of one pass over the example inputs.
    file_bytes
        Bytes of its parameters and buffers.
    """

    parameters: int
    macs: int
    file_bytes: int


@dataclass(frozen=True, eq=False, repr=False)
class Speedup:
    """A network that was made for a speedup.

    Attributes
    ----------
    target
        The speedup asked for.
    reached
        Whether the measured speedup is at least the target.
    exported
        The verified export; `module` and `plan` are its parts.
    method
        How widths were chosen.
    rounds
        The turns of the closed loop.
    chosen
        The turn whose network this is.
    measured
        Speedup of the final network, measured as `how` says.
    dense_seconds, seconds
        Median seconds of the unpruned network, and what the final one takes at the same speed of the machine.
    how
        On what, and where, it was measured.
    correction
        How sums of tables became times of networks; None for a method that sums no tables.
    masked, repaired
        Fidelity on held-out images before and after the repair.
    used
        Fidelity after the repair on the images that it was repaired with: how far apart the two are says how much more
        images would help.
    dense_size, size
        What the unpruned and the final network need.
    fixed
        Block name to the reason why it keeps all its channels.
    notes
        What else should be known, one sentence each.
    budget
        What was to be saved: `TIME` or `MACS`.
    others
        Networks of other methods for the same target, made and measured alike, that were not taken.
    interrupted
        Whether Ctrl-C ended the turns.
    tuned
        Fidelity on held-out images after fine-tuning for `epochs` epochs (`upscale_opt.widths.tuning`), or None.
    """

    target: float
    reached: bool
    exported: Exported
    method: str
    rounds: tuple[Round, ...]
    chosen: Round
    measured: float
    dense_seconds: float
    seconds: float
    how: str
    correction: Correction | None
    masked: Fidelity
    repaired: Fidelity
    used: Fidelity
    dense_size: Size
    size: Size
    fixed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    budget: str = TIME
    others: tuple[Speedup, ...] = ()
    interrupted: bool = False
    tuned: Fidelity | None = None
    epochs: int = 0

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.exported.module

    @property
    def final(self) -> Fidelity:
        """Fidelity of the network as it is now, on held-out images."""
        return self.repaired if self.tuned is None else self.tuned

    @property
    def plan(self) -> Plan:
        """Its plan: masks, orders and readings."""
        return self.exported.plan

    def __repr__(self) -> str:
        return f"<{self._words()}>"

    def _words(self) -> str:
        reached = "reached" if self.reached else "NOT reached"
        return f"Speedup {self.measured:.2f}x of {self.target:g}x asked for, {reached}; {self.final}"

    def _repr_html_(self) -> str:
        return speedup_card(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows of what changed: what, before, after."""
        faster = self.measured if self.budget == TIME else self.dense_seconds / self.seconds
        rows = [
            ("latency", f"{1e3 * self.dense_seconds:.3f} ms", f"{1e3 * self.seconds:.3f} ms ({faster:.3f}x)"),
            ("parameters", f"{self.dense_size.parameters:,}", f"{self.size.parameters:,}"),
            ("MACs", f"{self.dense_size.macs:,}", f"{self.size.macs:,}"),
            ("bytes", f"{self.dense_size.file_bytes:,}", f"{self.size.file_bytes:,}"),
        ]
        if self.final.accuracy is not None and self.final.dense_accuracy is not None:
            before, after = self.final.dense_accuracy, self.final.accuracy
            rows.append(("top-1 on held-out images", f"{100 * before.top1:.2f} %", f"{100 * after.top1:.2f} %"))
        rows.append(("same class as before", "100.00 %", f"{100 * self.final.agreement:.2f} %"))
        rows.append(("KL to the network before", "0", f"{self.final.kl:.4g} nats"))
        return rows

    def report(self) -> str:
        """What was asked for, chosen and measured, as text of at most `COLUMNS` columns."""
        head = "reached" if self.reached else "NOT reached; this is the fastest network that was found"
        width = max(len(name) for name, _, _ in self.table())
        before = max(len(own) for _, own, _ in self.table())
        lines = [
            f"speedup {self.target:g}x: {head} ({self.how})",
            *(f"  {name:<{width}}  {old:>{before}} -> {new}" for name, old, new in self.table()),
            *([f"  before {self.epochs} epochs of fine-tuning: {self.repaired}"] if self.tuned is not None else []),
            f"  before repair: {self.masked}",
            f"  on the images that it was repaired with: {self.used}",
            f"choice ({self.method}): estimated loss {self.chosen.loss:.4g}, {self.chosen.bound_text}",
            *(f"windows of {name}: {_counted(own)}" for name, own in self.chosen.windows.items()),
            *([f"tables: {self.correction}"] if self.correction is not None else []),
            *(f"round {i}: {own}" for i, own in enumerate(self.rounds, start=1)),
            *self.notes,
            *(f"compared with {own.method}: {own.measured:.3f}x, {own.repaired}" for own in self.others),
        ]
        if self.fixed:
            reasons: dict[str, int] = {}
            for reason in self.fixed.values():
                reasons[reason] = reasons.get(reason, 0) + 1
            lines.append(
                f"kept whole: {len(self.fixed)} blocks ("
                + "; ".join(f"{number}: {reason}" if number > 1 else reason for reason, number in reasons.items())
                + ")"
            )
        return "\n".join(textwrap.fill(line, COLUMNS, subsequent_indent="    ") for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "target": self.target,
            "reached": self.reached,
            "method": self.method,
            "measured": self.measured,
            "dense_seconds": self.dense_seconds,
            "seconds": self.seconds,
            "how": self.how,
            "chosen": asdict(self.chosen),
            "rounds": [asdict(own) for own in self.rounds],
            "correction": None if self.correction is None else asdict(self.correction),
            "masked": self.masked.to_dict(),
            "repaired": self.repaired.to_dict(),
            "used": self.used.to_dict(),
            "tuned": None if self.tuned is None else self.tuned.to_dict(),
            "epochs": self.epochs,
            "dense_size": asdict(self.dense_size),
            "size": asdict(self.size),
            "fixed": dict(self.fixed),
            "notes": list(self.notes),
            "budget": self.budget,
            "others": [own.to_dict() for own in self.others],
        }


def _counted(windows: Mapping[str, int]) -> str:
    """How wide the narrower windows are."""
    return ", ".join(f"{name} {width}" for name, width in windows.items())
