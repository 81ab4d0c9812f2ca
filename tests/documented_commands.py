"""The commands in the pages of the project: found, checked for being commands that exist, and run as a reader would.

A command is a line of a ``bash`` block, or a code span that begins like one. An HTML comment in front of a block says
why it is only parsed: ``<!-- commands: parsed only, REASON -->``. What installs packages, or runs the tests, is never
run from here: continuous integration does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "problems/library/README.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
PARSED_ONLY = "parsed only"
_BLOCK = re.compile(r"(?:<!-- commands: ([^\n]*?) -->\n)?^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:python -m (?:upscale_opt|benchmarks|problems|solvers)|upscale-opt)\b[^`]*)`")
_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
_TOOLS = {"venv", "pytest", "ruff", "mypy", "mkdocs", "timeit", "pip"}


@dataclass(frozen=True)
class Command:
    """A command of a page: its words as a shell sees them, and whether it is only parsed."""

    text: str
    words: tuple[str, ...]
    parsed_only: bool = False

    @property
    def module(self) -> str | None:
        """The module that it runs, if it is a program of Python."""
        name = Path(self.words[0]).name
        if name in ("upscale-opt", "pip", "mkdocs"):
            return name.replace("-", "_")
        if name.startswith("python") and self.words[1] == "-m":
            return self.words[2]
        return None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the module is given."""
        return self.words[3:] if Path(self.words[0]).name.startswith("python") else self.words[1:]


def block_commands(page: Path) -> list[Command]:
    """The commands of the bash blocks of a page, in order."""
    found = []
    for mark, block in _BLOCK.findall(page.read_text()):
        assert not mark or mark.startswith(PARSED_ONLY), f"{page}: the mark {mark!r} is not known"
        values: dict[str, str] = {}
        for line in re.sub(r"\\\n", " ", block).splitlines():
            line = re.sub(r"\$(\w+)", lambda name: values[name[1]], line)  # noqa: B023
            for text in line.split(" && "):
                words = tuple(shlex.split(text, comments=True))
                if words and (set_ := _ASSIGNMENT.fullmatch(words[0])) and len(words) == 1:
                    values[set_[1]] = set_[2]
                elif words:
                    found.append(Command(text.strip(), words, bool(mark) or not _can_run(words)))
    return found


def span_commands(page: Path) -> list[Command]:
    """The commands in the text of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = (" ".join(span.split()) for span in _SPAN.findall(text))
    return [Command(span, tuple(shlex.split(re.sub(r"[][]", "", span))), parsed_only=True) for span in found]


def _can_run(words: tuple[str, ...]) -> bool:
    program = words[0]
    return program == "upscale-opt" or (program == "python" and words[1:3] != ("-m", "mkdocs"))


def parse(command: Command) -> str | None:
    """What is wrong with a command, or None: the program, its options and the form of their values must exist."""
    module = command.module
    if module is None:
        if command.words[:2] == ("python", "-c"):
            compile(command.words[2], command.text, "exec")
            return None
        return f"{command.words[0]} is no program that is known here"
    if module == "pip":
        return _wrong_extras(command)
    if module in _TOOLS:
        return None
    if module == "upscale_opt":
        return _wrong_for_typer(command)
    return _wrong_for_argparse(module, command)


def _wrong_extras(command: Command) -> str | None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {own for found in re.findall(r"\[([\w,]+)\]", command.text) for own in found.split(",")}
    return f"there are no extras {asked - set(extras)}" if asked - set(extras) else None


def _wrong_for_typer(command: Command) -> str | None:
    from upscale_opt.commands.cli import app

    group = typer.main.get_command(app)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            context = group.make_context("upscale-opt", list(command.arguments) or ["--help"])
            if command.arguments:
                name, own, rest = group.resolve_command(
                    context, [*getattr(context, "_protected_args", ()), *context.args]
                )
                if rest:  # without options only the name of the command is meant
                    own.make_context(name, rest, parent=context)
        except typer.Exit:
            return None
        except Exception as error:
            return str(getattr(error, "message", error))
    return None


class _Parsed(BaseException):
    """The arguments were parsed; nothing else is to happen."""


def _wrong_for_argparse(module: str, command: Command) -> str | None:
    if not command.arguments:
        path = ROOT / module.replace(".", "/")
        return None if path.with_suffix(".py").exists() or (path / "__main__.py").exists() else f"no module {module}"
    whole = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        whole(self, args, namespace)
        raise _Parsed

    errors = io.StringIO()
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        mock.patch.object(sys, "argv", [module, *command.arguments]),
        contextlib.redirect_stderr(errors),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except _Parsed:
            return None
        except SystemExit:
            pass
    return errors.getvalue() or "it does not parse its arguments"


def run(command: Command, directory: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, in a directory, as a reader runs it after the set-up."""
    programs = directory / ".programs"
    if not programs.exists():
        programs.mkdir()
        for name, program in {"python": "", "upscale-opt": " -m upscale_opt"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{program} "$@"\n')
            (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "UPSCALE_OPT_CACHE": str(directory / "cache"),
    }
    return subprocess.run(
        shlex.join(command.words), shell=True, cwd=directory, env=environment, capture_output=True, text=True
    )
