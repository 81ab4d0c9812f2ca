"""What to do next: commands that exist, with what the user typed. This module does not import torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from upscale_opt.commands.spreading import typed_for
from upscale_opt.screens.lines import screen_width, wrapped


@dataclass(frozen=True)
class Step:
    """One thing to do next.

    Attributes
    ----------
    purpose
        What it is good for.
    commands
        Each as a list of words after the program's name.
    """

    purpose: str
    commands: Sequence[Sequence[str]]


def again(command: str, *more: str, without: Collection[str] = ()) -> list[str]:
    """A command with what the user typed now, as far as the command takes it, and with more."""
    return [command, *typed_for(command, without=without), *more]


def next_text(steps: Sequence[Step]) -> str:
    """The steps, each with its commands to copy. Long commands go on over lines, as a shell reads them."""
    lines = ["next:"]
    for step in steps:
        lines.append(wrapped(f"- {step.purpose}:"))
        lines += [_command(words) for words in step.commands]
    return "\n".join(lines)


def program() -> list[str]:
    """How the user started this program."""
    if Path(sys.argv[0]).name == "__main__.py":
        return [sys.orig_argv[0], "-m", "upscale_opt"]
    return [Path(sys.argv[0]).name]


def _command(words: Sequence[str]) -> str:
    """A command in lines that fit, broken in front of options."""
    parts: list[str] = [shlex.join([*program(), words[0]])]
    for word in words[1:]:
        quoted = shlex.quote(word)
        if word.startswith("--") or parts == parts[:1]:
            parts.append(quoted)
        else:
            parts[-1] += f" {quoted}"
    lines = [f"    {parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 > screen_width():
            lines[-1] += " \\"
            lines.append(f"        {part}")
        else:
            lines[-1] += f" {part}"
    return "\n".join(lines)
