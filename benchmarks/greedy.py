"""How good is greedy? UPSCALE's order compared with the best known, per family, from the library's solution files.

For an objective, ``avoidable`` is the share of greedy's cost that a better order saves, ``(greedy - best) / greedy``
(0 where greedy costs nothing). Where the best known is proven this is exact; elsewhere it lies between the share
against the best known and the share against the bound. Columns are intervals over that: one number where all is proven.

* *greedy optimal*: share of instances where greedy's order has the optimal value. At least those where greedy meets
  the best bound; at most those where no better order is known.
* *avoidable mean*, *avoidable worst*: over the instances of the family, for each end of the interval.
* *over-reads*: share of instances whose optimal `traffic` order reads at least one access as an over-read that costs
  strictly less than its copy. It counts proven orders and looks at the order in the file: another optimal order
  may do without. Unproven instances count as not known: the lower end has none of them, the upper end all.
* *over-reading beats copying*: share of instances where the optimal `traffic` is strictly below the least cost of an
  order carried out with views and copies only, which is the optimal `copies` times the price of a copied channel. This
  does not depend on which optimal order was found.

    python -m benchmarks.greedy
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.results import DIRECTORY, csv_text, markdown_table, save_markdown
from problems import OBJECTIVES, Order, Problem, ProblemError, evaluate
from problems.collection import LIBRARY
from problems.files import write_text_atomically
from problems.objectives import OVER_READ
from problems.solutions import Solution
from solvers import greedy_order

COMPARED = ("copies", "runs", "traffic")
COPY_PRICE = OBJECTIVES["traffic"].gamma or 0


@dataclass(frozen=True)
class Comparison:
    """Greedy's value and the best known one, of one instance and objective.

    Attributes
    ----------
    greedy
        Value of greedy's order.
    value, bound
        Best known value and bound; the bound is at least 0.
    """

    greedy: int
    value: int
    bound: int

    @property
    def avoidable(self) -> tuple[float, float]:
        """Share of greedy's cost that is avoidable: lower and upper limit."""
        return (self.greedy - self.value) / max(1, self.greedy), (self.greedy - self.bound) / max(1, self.greedy)

    @property
    def optimal(self) -> tuple[bool, bool]:
        """Whether greedy is certainly optimal, and whether it is possibly optimal."""
        return self.greedy <= self.bound, self.greedy <= self.value


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.greedy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="greedy", help="of the files in benchmarks/results [greedy]")
    given = parser.parse_args(arguments)
    try:
        rows = [instance_row(name) for name in tqdm(_names(), unit="instance")]
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    DIRECTORY.mkdir(exist_ok=True)
    write_text_atomically(csv_text(rows), DIRECTORY / f"{given.name}.csv")
    print(save_markdown(given.name, tables(rows)))
    return 0


def instance_row(name: str) -> dict[str, Any]:
    """Greedy's values and the best known of one instance, as a row of the CSV; empty if nothing is known."""
    problem, known = LIBRARY.load(name), LIBRARY.solutions(name)
    order = greedy_order(problem)
    row: dict[str, Any] = {"family": LIBRARY.entry(name).family, "instance": name}
    for objective in COMPARED:
        solution = known.get(objective)
        row[f"{objective} greedy"] = evaluate(problem, order, objective).value
        row[f"{objective} value"] = "" if solution is None else solution.value
        row[f"{objective} bound"] = "" if solution is None else solution.bound or 0
    traffic = known.get("traffic")
    low, high = (False, True) if traffic is None else over_reads(problem, traffic)
    return {**row, "over-reads": int(low) + int(high)}


def over_reads(problem: Problem, traffic: Solution) -> tuple[bool, bool]:
    """Whether the optimal order certainly, and possibly, has an over-read that is cheaper than its copy."""
    if not traffic.proven:
        return False, True
    found = has_cheap_over_read(problem, traffic.order)
    return found, found


def has_cheap_over_read(problem: Problem, order: Order) -> bool:
    """Whether `traffic` reads an access of the order as an over-read that costs strictly less than its copy."""
    costs = evaluate(problem, order, "traffic").accesses
    return any(
        cost.mode == OVER_READ and cost.cost < COPY_PRICE * access.channel_size * access.num_kept
        for cost, access in zip(costs, problem.accesses, strict=True)
    )


def tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The Markdown file, line by line."""
    families = [*dict.fromkeys(row["family"] for row in rows), "all"]
    lines = [
        "How good greedy is, on the instances of the library without cost tables: optimal values are proven ones; "
        "where some are not, the interval says how it may be.",
        "",
        "*Avoidable*: share of greedy's cost that a better order saves, (greedy - best) / greedy. *Proven*: instances "
        "whose optimum is known. *Over-reads*: an optimal `traffic` order has an over-read strictly cheaper than its "
        "copy. *Beats copying*: the optimal `traffic` is below that of every order with views and copies only. Exact "
        "definitions: `benchmarks/greedy.py`. Greedy is made for `copies`, without over-reads; for the other "
        "objectives its order gets the best read modes it has.",
    ]
    for objective in COMPARED:
        table = [objective_row(family, _of(rows, family), objective) for family in families]
        lines += ["", f"## {objective}", "", markdown_table([row for row in table if row])]
    table = [over_read_row(family, _of(rows, family)) for family in families]
    return [*lines, "", "## Over-reading", "", markdown_table([row for row in table if row])]


def objective_row(family: str, rows: Sequence[dict[str, Any]], objective: str) -> dict[str, Any]:
    """One family's line for one objective; empty if nothing is known of it."""
    found = [comparison(row, objective) for row in rows]
    known = [one for one in found if one is not None]
    if not known:
        return {}
    avoidable, optimal = (np.array([getattr(one, what) for one in known]) for what in ("avoidable", "optimal"))
    return {
        "family": family,
        "instances": len(known),
        "proven": sum(one.value == one.bound for one in known),
        "greedy optimal": _interval(*optimal.mean(axis=0)),
        "avoidable mean": _interval(*avoidable.mean(axis=0)),
        "avoidable worst": _interval(*avoidable.max(axis=0)),
    }


def over_read_row(family: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One family's line of the table on over-reading; empty if nothing is known of it."""
    pairs = [(comparison(row, "traffic"), comparison(row, "copies"), int(row["over-reads"])) for row in rows]
    known = [(traffic, copies, state) for traffic, copies, state in pairs if traffic is not None and copies is not None]
    if not known:
        return {}
    states = np.array([(state == 2, state >= 1) for _, _, state in known])
    beats = np.array([(t.value < COPY_PRICE * c.bound, t.bound < COPY_PRICE * c.value) for t, c, _ in known])
    return {
        "family": family,
        "instances": len(known),
        "proven": sum(t.value == t.bound for t, _, _ in known),
        "over-reads": _interval(*states.mean(axis=0)),
        "over-reading beats copying": _interval(*beats.mean(axis=0)),
    }


def comparison(row: dict[str, Any], objective: str) -> Comparison | None:
    """The figures of a row for one objective; None if nothing is known."""
    values = [row[f"{objective} {what}"] for what in ("greedy", "value", "bound")]
    return None if "" in values else Comparison(*map(int, values))


def _names() -> list[str]:
    return [name for name in LIBRARY.names() if set(COMPARED) <= set(LIBRARY.objectives(name))]


def _of(rows: Sequence[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    return [row for row in rows if family in (row["family"], "all")]


def _interval(low: float, high: float) -> str:
    """Both ends in per cent, or one number if they are equal.

    Examples
    --------
    >>> _interval(0.25, 0.25), _interval(0.25, 0.5)
    ('25.0%', '25.0% to 50.0%')
    """
    ends = f"{low:.1%}", f"{high:.1%}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


if __name__ == "__main__":
    sys.exit(main())
