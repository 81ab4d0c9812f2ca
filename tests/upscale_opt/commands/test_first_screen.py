"""Tests of what solve shows first: what was gained, by measurement, in 80 columns; and advice that can be followed."""

import json
import shlex

import pytest
import typer
from command_line import RESIDUAL, upscale_opt, words

from problems import write_instance
from problems.generators import random_masks, with_tables
from upscale_opt.commands.cli import app

GROUP = typer.main.get_command(app)
VARIANTS = ["unpruned", "baseline", "upscale", "greedy", "auto", "floor"]


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A first run: nothing is calibrated. Its screen, and its document."""
    path = tmp_path_factory.mktemp("first")
    found = upscale_opt("solve", *RESIDUAL, "--tables", path / "tables", "--json", path / "a.json")
    assert found.returncode == 0, found.stderr
    return found.stdout, json.loads((path / "a.json").read_text())


def advice(screen):
    """The commands that a screen advises, as a shell reads them."""
    text = screen.partition("\nnext:\n")[2].replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("    ")]


def test_the_screen_shows_the_gain_in_this_order(solved):
    screen, document = solved
    parts = ("its layers keep", "order by", "greedy's", "Milliseconds per pass", "verified against", " next: ")
    places = [words(screen).index(part) for part in parts]
    assert places == sorted(places)
    assert document["objective"] == "traffic", "nothing is calibrated"
    assert list(document["latency"]) == VARIANTS
    begins = [line.split(maxsplit=1)[0] for line in screen.splitlines() if "#" in line]
    assert begins == [name for name in VARIANTS if name in begins] and len(begins) >= 3


def test_the_screen_fits_80_columns_but_for_paths(solved):
    assert not [line for line in solved[0].splitlines() if len(line) > 80 and "/" not in line]


def test_every_word_is_explained_where_it_stands(solved):
    screen = words(solved[0])
    for word in ("greedy", "auto", "traffic", "copies", "bound", "unpruned", "baseline", "upscale", "floor"):
        assert f"{word}: " in screen, word
    assert not {"consumer", "segment", "view", "access", "over-read"} & set(screen.partition(" next: ")[0].split())


def test_all_advice_can_be_followed(solved):
    """Commands that exist, with what was typed: all parse, and nothing of the first command is lost."""
    commands = advice(solved[0])
    assert [command[1] for command in commands] == ["calibrate", "solve", "compare", "export", "solve"]
    for program, name, *arguments in commands:
        assert program == "upscale-opt"
        context = GROUP.commands[name].make_context(name, arguments)
        assert context.params["model"] == RESIDUAL[1] and context.params["input_shape"] == RESIDUAL[3]
        assert str(context.params["tables"]).endswith("tables")


def test_what_costs_time_can_be_left_out():
    found = upscale_opt("solve", *RESIDUAL, "--no-measure", "--no-verify", "--segments", "--objective", "copies")
    assert found.returncode == 0 and "Milliseconds" not in found.stdout, found.stderr
    assert "(segments)" in words(found.stdout) and "free" in found.stdout and "not verified" in found.stdout
    assert "see every group" not in found.stdout


@pytest.mark.parametrize(("timed", "objective"), [(False, "traffic"), (True, "latency")])
def test_instances_are_solved_for_time_where_they_have_tables(timed, objective, tmp_path):
    problem = random_masks(24, 4)
    write_instance(with_tables(problem) if timed else problem, tmp_path / "a.json")
    found = upscale_opt("solve", "--instance", tmp_path / "a.json", "--json", tmp_path / "o.json")
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / "o.json").read_text())["objective"] == objective
    assert [command[1] for command in advice(found.stdout)] == ["solve", "show"]
    assert not [line for line in found.stdout.splitlines() if len(line) > 80 and "/" not in line]


@pytest.mark.slow
def test_random_weights_are_said():
    how = ("--input-shape", "1,3,64,64", "--no-verify")
    found = upscale_opt("solve", "--model", "resnet18", *how)
    assert found.returncode == 0 and "Its weights are random" in words(found.stdout), found.stderr
    assert ["--weights", "DEFAULT"] in [command[-2:] for command in advice(found.stdout)]
