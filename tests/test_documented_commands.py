"""Every command in the pages exists with its options; those that take minutes at most are run (slow)."""

from __future__ import annotations

import re

import pytest
from documented_commands import PAGES, PARSED_ONLY, ROOT, Command, block_commands, parse, run, span_commands

EXPECTED = {0, 1}
"""Exit codes of a command that did what it says. 1: a measured speedup was not reached, which may happen anywhere."""
MENTIONED = "the following arguments are required"
"""What argparse says of a program that a text mentions without all that it needs."""


def named(page):
    return str(page.relative_to(ROOT))


BENCHMARKS = ROOT / "benchmarks" / "README.md"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page == BENCHMARKS), id=named(page)) for page in PAGES]
)
def test_commands_exist_with_their_options(page):
    wrong = {own.text: parse(own) for own in block_commands(page)}
    for own in span_commands(page):
        reason = parse(own)
        wrong[own.text] = None if reason and MENTIONED in reason else reason
    assert not {text: reason for text, reason in wrong.items() if reason}


def test_commands_are_in_blocks_of_bash():
    for page in PAGES:
        fenced = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for block in (text for language, text in fenced if not language):
            assert not re.search(r"^(\S*python3? -m|upscale-opt|pip) ", block, flags=re.MULTILINE), (
                f"{named(page)}: {block}"
            )


def test_what_is_not_run_says_why():
    for page in PAGES:
        for mark in re.findall(r"<!-- commands: (.*?) -->", page.read_text()):
            assert re.fullmatch(PARSED_ONLY + r", \w.+", mark), f"{named(page)}: {mark}"


README = ROOT / "README.md"
TO_RUN = [page for page in PAGES if page != README and any(not own.parsed_only for own in block_commands(page))]
OF_DIGITS = {
    "my_net.py": "from benchmarks.digits import Residual as make\n",
    "my_data.py": """
from upscale_opt.learning.datasets import load_data
def unlabelled():
    return [images for images, *_ in load_data("digits").test_batches()]
""",
}
"""What docs/methods.md calls a network and data of one's own; its weights are those of the digits."""


@pytest.fixture
def reader(tmp_path):
    """A directory such as a reader has: the README's two files, and the folders that pages name."""
    for name in ("benchmarks", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for text in re.findall(r"^```python\n(# my_\w+\.py\n.*?)^```", README.read_text(), re.M | re.S):
        (tmp_path / text.split()[1]).write_text(text)
    return tmp_path


def run_all(page, directory):
    """Run the commands of a page, each as soon as the one before is done, and return what they print."""
    said = []
    for command in block_commands(page):
        if command.parsed_only:
            continue
        done = run(command, directory)
        assert done.returncode in EXPECTED and "Traceback" not in done.stderr, (
            f"{command.text}\n{done.stdout}\n{done.stderr}"
        )
        if done.returncode:
            assert "NOT reached" in done.stdout, f"{command.text}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("page", TO_RUN, ids=named)
def test_commands_run(page, reader):
    if page.name == "methods.md":
        for name, text in OF_DIGITS.items():
            (reader / name).write_text(text)
    assert run_all(page, reader)


@pytest.mark.slow
def test_a_new_user_comes_from_the_readme_to_a_file(reader):
    """The README's own text, word for word: two files, four commands, and a network that needs nothing but torch."""
    trained, faster, compared, deployed = run_all(README, reader)
    assert "top-1" in trained and "top-1" in compared and "torch.Size([8, 10])" in deployed
    page = (reader / "fast" / "report.html").read_text()
    for row in ("latency", "parameters", "top-1 on held-out images"):
        before, after = re.search(rf"^ *{row} +(.+?) -> (.+)$", faster, flags=re.MULTILINE).groups()
        assert row in page and before in page and after in page
    assert {"model.pt2", "model.safetensors", "plan.json"} <= {own.name for own in (reader / "fast").iterdir()}
    code = "import sys, torch; torch.export.load('fast/model.pt2'); print('upscale_opt' in sys.modules)"
    alone = run(Command(code, ("python", "-c", code)), reader)
    assert alone.stdout == "False\n", alone.stderr
