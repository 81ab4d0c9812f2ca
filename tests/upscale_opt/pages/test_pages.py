"""Tests of pages: they need nothing else, all text is escaped, and figures say what was found."""

import re
from html import unescape

import numpy as np
import pytest

from problems import Access, Block, Problem
from problems.generators import random_masks, with_tables
from solvers import solve
from upscale_opt import UpscaleError
from upscale_opt.comparing.comparison_pages import Compared
from upscale_opt.latency.profiling import Profile
from upscale_opt.pages import facts
from upscale_opt.pages.bar_figures import save_bars
from upscale_opt.pages.bars import Bar, Bars
from upscale_opt.pages.page import Page, Section
from upscale_opt.planning.reading import Reading

HOSTILE = "<script>alert('x')</script>&\"'"
SOLVERS = ("greedy", "auto")


def _compared(problem, objective="copies", **more):
    solutions = {problem.name: {name: solve(problem, solver=name, objective=objective) for name in SOLVERS}}
    return Compared("a network", {problem.name: problem}, solutions, SOLVERS, objective, **more)


def _profile(*seconds):
    return Profile(seconds, "cpu", "eager", None, {})


def _without_markup(html):
    body = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_everything_that_is_text_is_escaped():
    accesses = (Access(HOSTILE, (0,), np.array([1, 0, 1, 1], bool)), Access("b", (0,), np.array([1, 1, 0, 1], bool)))
    problem = Problem((Block(HOSTILE, 4),), accesses, name=HOSTILE)
    shown = _compared(problem, asked={HOSTILE: HOSTILE}, notes=(HOSTILE,), remarks=(HOSTILE,), command=HOSTILE,
                      answer=HOSTILE, readings={"auto": {HOSTILE: Reading("copy", kernel="gathering")}})  # fmt: skip
    html = shown.page().html()
    assert "alert(" in html and "<script>alert" not in html and html.count("<script>") == 1
    page = Page(HOSTILE, HOSTILE, top=(Bars(HOSTILE, (Bar(HOSTILE, 1, note=HOSTILE),), HOSTILE, how=HOSTILE),),
                sections=(Section(HOSTILE, (HOSTILE,)),), words={HOSTILE: HOSTILE})  # fmt: skip
    assert "<script>" not in page.html()


def test_a_page_asks_for_nothing():
    html = _compared(random_masks(32, 4, seed=1), command="python -m upscale_opt").page().html()
    assert not re.search(r"https?:|@import|url\(|<(link|img|iframe|script) [^>]*(src|href)=\"(?!data:,)", html)
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html and "@media print" in html


def test_the_top_says_what_was_gained_and_what_is_proven():
    problem = random_masks(64, 5, seed=3)
    shown = _compared(problem, "traffic", verified={"auto": 1e-14})
    text = _without_markup(shown.page().html())
    own = shown.solutions[problem.name]
    greedy, best = own["greedy"].value, own["auto"].value
    assert best < greedy
    share = 100 * (greedy - best) / greedy
    assert f"The orders of auto have {share:.1f} % less traffic than greedy's: {best:,} instead of {greedy:,}." in text
    assert f"-{share:.1f} % traffic against greedy" in text
    assert "optimal proven for all 1 segments" in text and "1e-14" in text


def test_nothing_gained_is_said_too():
    shown = _compared(random_masks(8, 2, seed=0))
    text = _without_markup(shown.page().html())
    assert "No order was found that is better than greedy's: copies 0." in text and "0 % copies" in text


def test_measured_latencies_have_their_noise_and_their_ratio():
    latencies = {
        "unpruned": _profile(0.020, 0.021, 0.022),
        "auto": _profile(0.010, 0.0105, 0.011),
        "floor": _profile(0.009, 0.009, 0.009),
    }
    shown = _compared(random_masks(32, 3, seed=1), latencies=latencies, answer="auto is fastest")
    html = shown.page().html()
    text = _without_markup(html)
    assert "2.00x as fast as unpruned, measured: 21.00 to 10.50 ms" in text and "Auto is fastest." in text
    assert "measured: median of 3 rounds in turn on cpu (eager)" in text and "not measured" not in text
    unpruned = shown.bars()[0].bars[0]
    assert (unpruned.low, unpruned.high) == (pytest.approx(20.5), pytest.approx(21.5))
    assert html.count('class="noise"') == 3 and f"left:{100 * 20.5 / 21.5:.2f}%" in html


def test_times_by_cost_tables_have_units():
    problem = with_tables(random_masks(32, 3, seed=1))
    shown = _compared(problem, "latency")
    text = _without_markup(shown.page().html())
    assert "Objective: latency" in text and "expected by cost tables" in text and "µs" in text
    assert "objective, ns" in text


def test_bars_are_drawn_for_papers(tmp_path):
    panels = (Bars("a", (Bar("x", 2, low=1, high=3), Bar("bound", 1, "limit")), "ms", 1), Bars("none", ()))
    for name, start in (("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        save_bars(panels, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(UpscaleError, match=r"end its name with \.png, \.svg or \.pdf"):
        save_bars(panels, tmp_path / "a.txt")


def test_a_page_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    with pytest.raises(UpscaleError, match="choose a writable path"):
        Page("a").save(tmp_path / "nowhere" / "a.html")


def test_the_machine_is_described():
    html = facts.where().parts[0]
    assert "<dt>python</dt>" in html and "<dt>processor</dt>" in html
    assert facts.where({"python": "3", "gpu": None, "load": [1]}).parts == ("<dl><dt>python</dt><dd>3</dd></dl>",)
