"""How benchmark results are kept: a CSV, and a Markdown table with machine, versions and commit beside it."""

from __future__ import annotations

import csv
import datetime
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from problems.files import write_text_atomically
from upscale_opt.environment import environment

DIRECTORY = Path(__file__).parent / "results"


def commit() -> str:
    """The short commit hash of the working tree, with ``+`` if it has changes other than results."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + ("+" if changes else "")


def save(name: str, rows: Sequence[dict[str, Any]], summary: str) -> str:
    """Write ``results/NAME.csv`` and ``results/NAME.md``; returns the Markdown.

    Parameters
    ----------
    name
        Of the benchmark.
    rows
        One dictionary per row, all with the same keys.
    summary
        Sentences above the table.
    """
    DIRECTORY.mkdir(exist_ok=True)
    columns = list(rows[0])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(buffer.getvalue(), DIRECTORY / f"{name}.csv")
    where = environment()
    versions = ", ".join(f"{package} {where[package]}" for package in ("torch", "torchvision", "ortools", "numpy"))
    markdown = "\n".join(
        [
            summary,
            "",
            f"Measured {datetime.date.today()} on {where['machine']}, {where['cores']} cores, "
            f"{where.get('torch_threads')} torch threads, GPU: {where.get('gpu') or 'none'}; Python {where['python']}, "
            f"{versions}; commit {commit()}. Command: `python -m benchmarks.{name}`.",
            "",
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows),
            "",
        ]
    )
    write_text_atomically(markdown, DIRECTORY / f"{name}.md")
    return markdown


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
