"""Tests of the help: groups, two examples each that the program takes, advice that can be followed, and 80 columns."""

import re
import shlex

import pytest
import typer
from command_line import ROOT, upscale_opt, words

from upscale_opt.commands.cli import app
from upscale_opt.commands.help_pages import EXAMPLES, GROUPS, RARE

GROUP = typer.main.get_command(app)


def test_every_command_stands_in_a_group_and_has_two_examples():
    assert list(GROUP.commands) == list(GROUPS) and GROUPS.keys() == EXAMPLES.keys()
    text = upscale_opt("--help").stdout
    places = [text.index(group) for group in dict.fromkeys(GROUPS.values())]
    assert places == sorted(places) and all(len(own) == 2 for own in EXAMPLES.values())


@pytest.mark.parametrize("command", GROUPS)
def test_examples_are_of_the_command_and_parse(command):
    """Every option exists and has a value of its type; nothing is run."""
    for example in EXAMPLES[command]:
        program, own, *arguments = shlex.split(example)
        assert (program, own) == ("upscale-opt", command) and len(example) <= 78
        page = GROUP.commands[command]
        context = page.make_context(command, arguments)
        if hasattr(page, "commands"):
            name, inner, rest = page.resolve_command(context, [*context._protected_args, *context.args])
            inner.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", GROUPS)
def test_help_fits_80_columns_with_rare_options_below(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    text = upscale_opt(command, "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert all(example in text for example in EXAMPLES[command])
    above, _, below = text.partition("Advanced options")
    assert "--model" in above
    for parameter in GROUP.commands[command].params:
        if parameter.name in RARE and getattr(parameter, "rich_help_panel", None):
            assert parameter.opts[0] in below


def test_help_shows_what_stands_in_brackets():
    """They are no markup; defaults that a sentence explains stand in them."""
    assert "[default: png]" in words(upscale_opt("show", "--help").stdout)
    assert "[default: 10 on CPU" in words(upscale_opt("compare", "--help").stdout)


def test_rare_options_are_options():
    known = {parameter.name for command in GROUP.commands.values() for parameter in command.params}
    assert known >= RARE


def test_no_message_advises_to_install_this_package_from_an_index():
    """It is on none: ``pip install -e '.[extra]'`` in the project's folder is what works."""
    files = [path for floor in ("problems", "solvers", "upscale_opt") for path in (ROOT / floor).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        assert not re.search(r"pip install[^\n]*upscale[-_]opt\[", path.read_text()), path
