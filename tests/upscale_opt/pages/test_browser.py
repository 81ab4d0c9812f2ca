"""Pages in a real browser (slow): nothing in the console, nothing from the network, and the gain on the first screen.

Pictures are left in pytest's temporary folder, for people to look at.
"""

import io
from pathlib import Path

import pytest
import torch
from browser import browser, installed
from networks import Residual
from PIL import Image

from upscale_opt import ModelReference, load_model, prune
from upscale_opt.pages.page import Page, Section
from upscale_opt.pages.tables import Column, Table
from upscale_opt.sweeps.benchmark_files import rows_of
from upscale_opt.sweeps.pages import page as sweep_pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed() is None, reason="no browser: install chromium (apt-get install chromium)"),
]
SCREENS = [(1280, 800, False), (1280, 800, True), (390, 844, False), (390, 844, True)]
RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BOTTOM = "document.querySelector('.top').getBoundingClientRect().bottom"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LONGEST_NAME = (
    "Math.max(...[...document.querySelectorAll('.bars .name')].map(own => own.scrollWidth - own.clientWidth))"
)


@pytest.fixture(scope="module")
def chromium():
    with browser() as own:
        yield own


def _networks():
    yield "small", Residual().eval(), torch.zeros(1, 3, 8, 8), True
    yield "resnet50", load_model(ModelReference("resnet50")), torch.zeros(1, 3, 224, 224), False


@pytest.fixture(scope="module", params=["small", "resnet50"])
def page(request, tmp_path_factory):
    name, model, x, measured = next(own for own in _networks() if own[0] == request.param)
    path = tmp_path_factory.mktemp(name) / "report.html"
    found = prune(model, x, 0.5).compare(objective="traffic", verify=measured, measure=measured, repeats=3)
    found.save_report(path, title=name, command="python -m upscale_opt compare")
    return path


def test_a_page_opens_without_a_word_and_shows_the_gain_at_once(chromium, page):
    assert page.stat().st_size < 3e6
    colours = set()
    for width, height, dark in SCREENS:
        seen = chromium.open(
            page, width=width, height=height, dark=dark, questions=(OVERFLOW, BOTTOM, BACKGROUND, LONGEST_NAME)
        )
        assert not seen.messages
        assert [own for own in seen.requests if not own.startswith("data:")] == [page.absolute().as_uri()]
        assert seen.values[OVERFLOW] <= 0 and seen.values[LONGEST_NAME] <= 0
        assert width < 600 or seen.values[BOTTOM] <= height
        colours.add((dark, seen.values[BACKGROUND]))
        image = Image.open(io.BytesIO(seen.picture))
        assert image.size == (width, height) and len(image.convert("RGB").getcolors(1 << 24)) > 20
        (page.parent / f"{width}_{'dark' if dark else 'light'}.png").write_bytes(seen.picture)
    assert len({colour for _, colour in colours}) == 2


def test_a_table_is_sorted_by_a_click_and_filtered_by_typing(chromium, tmp_path):
    rows = [("b", 10), ("a", 9), ("c", None), ("d", 100)]
    table = Table.of(["name", Column("number")], rows, sortable=True)
    Page("a table", sections=(Section("rows", (table,)),)).save(tmp_path / "table.html")
    names = (
        "[...document.querySelectorAll('tbody tr')].filter(own => !own.hidden)"
        ".map(own => own.cells[0].textContent).join('')"
    )
    click = "document.querySelectorAll('th')[{}].click(), " + names
    typed = (
        "(() => { const own = document.querySelector('.filter'); own.value = 'A'; "
        f"own.dispatchEvent(new Event('input')); return {names}; }})()"
    )
    questions = (names, click.format(1), click.format(1) + " + ''", click.format(0), typed)
    seen = chromium.open(tmp_path / "table.html", width=800, height=600, questions=questions)
    assert list(seen.values.values()) == ["bacd", "abdc", "cdba", "abcd", "a"]
    assert not seen.messages


def test_the_page_of_a_sweep_draws_its_pictures_and_filters_its_cells(chromium, tmp_path):
    rows = rows_of(RESULTS / "accuracy.csv")
    sweep_pages.page({"sweep.sqlite": rows}).save(tmp_path / "sweep.html")
    drawn, count = (
        "document.querySelectorAll('.pictures svg').length",
        "document.getElementById('cells-count').textContent",
    )
    typed = (
        "(() => { const own = document.querySelector('.filter'); own.value = 'model=dense kind=accuracy'; "
        f"own.dispatchEvent(new Event('input')); return {count}; }})()"
    )
    for width, dark in ((1280, False), (390, True)):
        questions = (OVERFLOW, drawn, count, typed)
        seen = chromium.open(tmp_path / "sweep.html", width=width, height=800, dark=dark, questions=questions)
        assert not seen.messages and seen.values[OVERFLOW] <= 0 and seen.values[drawn] == 3
        assert seen.values[count] == f"{len(rows)} of {len(rows)} rows, the first 500 shown"
        wanted = sum(row.cell["kind"] == "accuracy" and row.cell["model"]["name"].endswith("dense") for row in rows)
        assert seen.values[typed].startswith(f"{wanted} of ")
