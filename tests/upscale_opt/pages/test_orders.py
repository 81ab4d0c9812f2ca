"""Tests of pictures of orders: what stands out is what is counted, for any problem, order and objective."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import Access, Block, Order, Problem, evaluate
from problems.generators import random_masks
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt import save_picture
from upscale_opt.pages import orders
from upscale_opt.pages.states import COUNTED, DROPPED, KEPT, STATES, UNREAD, block_starts, counted, states


def _several_blocks(rng, sizes, num_accesses):
    """Accesses of random blocks in random sequence; some read a block twice."""
    accesses = []
    for a in range(num_accesses):
        blocks = tuple(rng.integers(len(sizes), size=rng.integers(1, 4)).tolist())
        kept = rng.random(sum(sizes[b] for b in blocks)) < 0.5
        kept[rng.integers(len(kept))] = True
        accesses.append(Access(f"a{a}", blocks, kept))
    return Problem(tuple(Block(f"b{i}", size) for i, size in enumerate(sizes)), tuple(accesses))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["copies", "span", "traffic", "runs"]))
def test_coloured_channels_are_those_that_the_objective_counts(seed, objective):
    rng = np.random.default_rng(seed)
    problem = _several_blocks(rng, rng.integers(1, 9, size=3).tolist(), 3)
    order = Order.random(problem, rng)
    evaluation = evaluate(problem, order, objective)
    found = states(problem, order, evaluation)
    assert found.shape == (3, problem.num_stored)
    for row, access, cost in zip(found, problem.accesses, evaluation.accesses, strict=True):
        numbers = {name: int((row == i).sum()) for i, name in enumerate(STATES)}
        read = {b for b in access.blocks if len(problem.stored[b])}
        assert numbers[UNREAD] == problem.num_stored - sum(len(problem.stored[b]) for b in read)
        assert not any(numbers[name] for name in COUNTED if name != cost.mode)
        if len(set(access.blocks)) < len(access.blocks):
            continue  # a channel that is read twice is drawn once
        assert numbers[VIEW] + numbers[KEPT] + numbers[PIECES] + numbers[COPY] == cost.kept
        assert numbers[OVER_READ] == (cost.span - cost.kept if cost.mode == OVER_READ else 0)
        assert numbers[COPY] == (cost.kept if cost.mode == COPY else 0)


def test_the_words_behind_a_strip_count_the_same():
    problem = random_masks(24, 3, seed=2)
    evaluation = evaluate(problem, Order.identity(problem), "span")
    found = states(problem, Order.identity(problem), evaluation)
    for row, cost in zip(found, evaluation.accesses, strict=True):
        assert counted(cost) == f"+{(row == STATES.index(OVER_READ)).sum()}"


def test_neighbours_of_one_state_are_one_rectangle():
    kept = np.repeat([True, False], 512)
    problem = Problem((Block("x", 1024),), (Access("<a>", (0,), kept), Access("b", (0,), np.ones(1024, bool))))
    html = orders.segment(problem, {"original": Order.identity(problem)}, "copies")
    assert re.findall(r' d="([^"]*)"', html) == ["M0 0h512v1h-512z", "M0 0h1024v1h-1024z"]
    assert "&lt;a&gt;" in html and "<a>" not in html


def test_pictures_of_very_many_rectangles_are_drawn_in_cells():
    problem = random_masks(5000, 4, seed=0)
    html = orders.segment(problem, {"original": Order.identity(problem)}, "copies")
    assert "Every cell stands for 12 channels" in html and len(html) < 50_000


def test_blocks_are_told_apart():
    problem = _several_blocks(np.random.default_rng(0), [3, 5], 2)
    html = orders.segment(problem, {"original": Order.identity(problem)}, "copies")
    edge = block_starts(problem, Order.identity(problem))[1]
    assert html.count(f'class="edge" d="M{edge} 0v1"') == 2


def test_the_legend_names_what_is_shown():
    assert "copied" in orders.legend({COPY}) and "copied" not in orders.legend({OVER_READ})
    assert "dropped, but read" in orders.legend({OVER_READ}) and DROPPED in STATES


@pytest.mark.slow
def test_pictures_have_the_form_of_their_name_and_are_the_same_every_time(tmp_path):
    problem = random_masks(12, 3, seed=1)
    for name in ("one.svg", "two.svg", "a.pdf"):
        save_picture(problem, {"original": Order.identity(problem)}, tmp_path / name, objective="span")
    one, two, pdf = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg", "a.pdf"))
    assert one.startswith(b"<?xml") and one == two and pdf.startswith(b"%PDF")
