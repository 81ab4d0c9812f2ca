"""The wild family's part of docs/coverage.md: what is refused and why, what is free by kind, and a row per network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from benchmarks.coverage.wild.catalogue import NETWORKS
from benchmarks.results import markdown_table

Row = dict[str, Any]
TRACE_SECONDS = 5
INTERFACE = ("network input", "network output")
"""Reasons that keep channels in place in every network."""


def section(rows: Sequence[Row]) -> str:
    """Markdown: a summary, a table by kind, what pins channels in how many networks, losses, a table by network.

    Parameters
    ----------
    rows
        The family's rows of the sweep.
    """
    by_model: dict[str, list[Row]] = {name: [] for name in NETWORKS}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    found = {name: own for name, own in by_model.items() if own}
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in found))
    parts = [
        _summary(found),
        markdown_table([_kind_line(kind, _of_kind(found, kind)) for kind in kinds] + [_kind_line("all", found)]),
        "### What pins channels in them",
        "Apart from a network's input and output. *Lost*: the sum over networks of the share of their channels.",
        markdown_table(pins) if (pins := _pins(found)) else "Nothing.",
        "### Losses",
        "\n".join(_losses(found)) or "None.",
        "### Every network",
        markdown_table([_line(name, own) for name, own in found.items()]),
    ]
    return "\n\n".join(parts)


def own_free(row: Row) -> float | None:
    """The share of free channels among those that could be: neither read by a LayerNorm nor a network's in- or output.

    Examples
    --------
    >>> own_free({"channels": "100", "free": "60", "not_removable": "10",
    ...           "pinned_by": "network output 10; no rule for roll 20"})
    0.75
    """
    if not row.get("channels"):
        return None
    held = sum(number for reason, number in pins_of(row) if reason not in INTERFACE)
    return int(row["free"]) / max(1, int(row["free"]) + held)


def pins_of(row: Row) -> list[tuple[str, int]]:
    """Reasons and numbers of pinned channels.

    Examples
    --------
    >>> pins_of({"pinned_by": "network output 10; no rule for roll 20"})
    [('network output', 10), ('no rule for roll', 20)]
    """
    texts = [text for text in (row.get("pinned_by") or "").split("; ") if text]
    return [(text.rpartition(" ")[0], int(text.rpartition(" ")[2])) for text in texts]


def _of_kind(found: dict[str, list[Row]], kind: str) -> dict[str, list[Row]]:
    return {name: own for name, own in found.items() if name.startswith(f"{kind}/")}


def _first(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.get("channels")), None)


def _verified(found: dict[str, list[Row]]) -> list[str]:
    return [name for name, own in found.items() if all(row["status"] == "verified" for row in own)]


def _refused(found: dict[str, list[Row]]) -> list[str]:
    return [name for name, own in found.items() if any(row["status"] == "refused" for row in own)]


def _summary(found: dict[str, list[Row]]) -> str:
    verified, refused = _verified(found), _refused(found)
    wrong = [name for name in found if name not in verified and name not in refused]
    attention = [name for name in found if name in NETWORKS and NETWORKS[name].attention]
    rows = [own for own in map(_first, found.values()) if own is not None]
    slow = sorted((float(own["trace_cpu_seconds"]), name) for name, all_ in found.items() if (own := _first(all_)))
    over = [f"{name} {seconds:.1f}" for seconds, name in reversed(slow) if seconds > TRACE_SECONDS]
    commits = ", ".join(sorted({row["commit"] for own in found.values() for row in own}))
    versions = ", ".join(sorted({row["versions"] for own in found.values() for row in own}))
    reasonless = [n for n, own in found.items() if any(row.get("gradients_reason") for row in own)]
    waiting = [name for name in NETWORKS if name not in found]
    sentences = [
        f"{len(found)} networks beyond those above: {len(verified)} are exported exactly, outputs and gradients, in",
        "every mode that was measured;",
        f"{len(refused)} are refused ({len(refused) / max(1, len(found)):.1%}), {len(wrong)} fail.",
        f"Median share of free channels {_middle(_share(own) for own in rows)}, of those that could be free",
        f"{_middle(own_free(own) for own in rows)}; over the {len(attention)} networks with attention",
        f"{_middle(_share(own) for own in map(_first, (found[n] for n in attention)) if own)} and",
        f"{_middle(own_free(own) for own in map(_first, (found[n] for n in attention)) if own)}.",
        f"Slowest to trace: {slow[-1][1]}, {slow[-1][0]:.1f} s of one processor." if slow else "",
        f"Beyond {TRACE_SECONDS} s: {', '.join(over) or 'none'}.",
        f"Not measured yet: {len(waiting)}{', such as ' + waiting[0] if waiting else ''}.",
        f"Gradients were not compared in {len(reasonless)}, for the reasons below.",
        "*Could be free* are channels that no LayerNorm or softmax reads and that are no in- or output of the network.",
    ]
    about = f"Rows of commit {commits}; {versions}. Command: `python -m benchmarks.coverage --family wild`."
    return " ".join(filter(None, sentences)) + f"\n\n{about}"


def _middle(shares: Iterable[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{median(known):.0%}" if known else "unknown"


def _share(row: Row) -> float:
    return int(row["free"]) / max(1, int(row["channels"]))


def _kind_line(kind: str, found: dict[str, list[Row]]) -> Row:
    rows = [own for own in map(_first, found.values()) if own is not None]
    errors = [float(row["error"]) for own in found.values() for row in own if row["status"] == "verified"]
    learned = [float(row["gradients"]) for own in found.values() for row in own if row.get("gradients")]
    return {
        "kind": kind,
        "networks": len(found),
        "verified": len(_verified(found)),
        "refused": len(_refused(found)),
        "error": f"{max(errors):.1e}" if errors else "",
        "gradients": f"{max(learned):.1e}" if learned else "",
        "free, median": _middle(_share(own) for own in rows),
        "of what could be": _middle(own_free(own) for own in rows),
        "trace s, largest": f"{max((float(own['trace_cpu_seconds']) for own in rows), default=0):.1f}",
    }


def _pins(found: dict[str, list[Row]]) -> list[Row]:
    """Reasons by the share of channels they cost, summed over networks."""
    lost: Counter[str] = Counter()
    networks: dict[str, list[str]] = {}
    for name, own in found.items():
        row = _first(own)
        for reason, number in pins_of(row) if row else []:
            if reason not in INTERFACE:
                lost[reason] += number / max(1, int(row["channels"]))
                networks.setdefault(reason, []).append(name)
    return [
        {
            "reason": reason,
            "networks": len(networks[reason]),
            "lost": f"{share:.2f}",
            "for example": networks[reason][0],
        }
        for reason, share in lost.most_common(40)
    ]


def _losses(found: dict[str, list[Row]]) -> list[str]:
    """One line per reason of a refusal, a failure, or of gradients that were not compared."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, own in found.items():
        for row in own:
            if row["status"] != "verified":
                kinds.setdefault((row["status"], row["reason"]), []).append(name)
            elif row.get("gradients_reason"):
                kinds.setdefault(("gradients not compared", row["gradients_reason"]), []).append(name)
    return [
        f"- {status} ({', '.join(dict.fromkeys(names))}): {_plain(reason)}" for (status, reason), names in kinds.items()
    ]


def _plain(reason: str) -> str:
    """A reason on one line of Markdown."""
    return re.sub(r"([<>|])", r"\\\1", reason)


def _line(name: str, rows: list[Row]) -> Row:
    first = _first(rows)
    verified = [row for row in rows if row["status"] == "verified"]
    learned = [float(row["gradients"]) for row in verified if row.get("gradients")]
    return {
        "network": name,
        "input": next((row["input"] for row in rows if row.get("input")), ""),
        "verified": f"{len(verified)}/{len(rows)}",
        "error": f"{max(float(row['error']) for row in verified):.1e}" if verified else "",
        "gradients": f"{max(learned):.1e}" if learned else "",
        "free": f"{_share(first):.1%}" if first else "",
        "of what could be": f"{own_free(first):.1%}" if first else "",
        "pinned by": _plain(first["pinned_by"]) if first else "",
        "trace s": f"{float(first['trace_cpu_seconds']):.2f}" if first else "",
    }
