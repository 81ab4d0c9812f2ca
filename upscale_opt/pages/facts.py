"""Parts that all pages share: names with values, the environment of a run, and the commands that repeat it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from upscale_opt.latency.environment import environment
from upscale_opt.pages.html import Html, element
from upscale_opt.pages.page import Section

_FOREIGN = 2.0
"""Seconds that git may take."""


def facts(values: Mapping[str, Any]) -> Html:
    """Names with values beside them. Values that are None or empty are left out.

    Examples
    --------
    >>> facts({"model": "resnet50", "weights": None})
    '<dl><dt>model</dt><dd>resnet50</dd></dl>'
    """
    rows = []
    for name, value in values.items():
        if value is not None and value != "":
            rows += [element("dt", name.replace("_", " ")), element("dd", str(value))]
    return element("dl", *rows)


def commands(*lines: str) -> Html:
    """Commands to copy."""
    return element("pre", element("code", "\n".join(lines)))


def command_line(arguments: Iterable[str]) -> str:
    """The command of a run as people type it.

    Examples
    --------
    >>> command_line(["solve", "--model", "my net.py:make"])
    "python -m upscale_opt solve --model 'my net.py:make'"
    """
    return shlex.join(["python", "-m", "upscale_opt", *arguments])


def where(found: Mapping[str, Any] | None = None) -> Section:
    """The section with machine and versions.

    Parameters
    ----------
    found
        As `upscale_opt.latency.environment.environment` returns it. Default: that of this process, with the commit.
    """
    known = {**environment(), "commit": commit()} if found is None else dict(found)
    known = {name: value for name, value in known.items() if not isinstance(value, (dict, list))}
    return Section("Machine and versions", (facts(known),))


def repeat(*lines: str) -> tuple[Section, ...]:
    """The section with the commands that repeat a run. Nothing without commands."""
    given = [own for own in lines if own]
    return (Section("To repeat it", (commands(*given),)),) if given else ()


def commit() -> str | None:
    """The commit of the source code that runs, with ``+`` if files were changed since. None outside a repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_FOREIGN).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
