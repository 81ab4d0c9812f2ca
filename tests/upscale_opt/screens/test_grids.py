"""Tests of tables and bars: every table fits, and every cell is there at every width."""

import io
import sys

import pytest

from upscale_opt.screens.bars import bars
from upscale_opt.screens.grids import Column, grid

WIDTHS = (80, 120, 200)


def _columns(groups, rows=3, name="features.denseblock4.denselayer16.conv1"):
    columns = [Column("segment", [f"{i}.{name}.{i}" for i in range(rows)], right=False, is_name=True, footer="total")]
    for g in range(groups):
        for heading in ("objective", "bound", "gap", "status"):
            cells = [f"{heading}{g}{i}" for i in range(rows)]
            columns.append(Column(f"{heading}", cells, group=f"solver{g}", footer=f"sum{g}{heading}"))
    return columns


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("groups", [0, 1, 2, 5])
def test_tables_fit_and_drop_no_column(groups, width):
    columns = _columns(groups)
    text = grid(columns, width=width)
    assert max(map(len, text.splitlines())) <= width
    for column in columns[1:]:
        assert all(cell in text for cell in (*column.cells, column.footer))
        assert column.group in text
    assert all(f"{i}.features" in text and f"conv1.{i}" in text for i in range(3))


def test_a_wide_screen_shows_one_table_with_whole_names():
    text = grid(_columns(2), width=200)
    assert "\n\n" not in text and "..." not in text
    assert text.splitlines()[0].split() == ["solver0", "solver1"]


def test_a_divided_table_begins_with_the_names_again():
    blocks = grid(_columns(5), width=80).split("\n\n")
    assert len(blocks) > 1
    assert all(len([line for line in block.splitlines() if "conv1" in line]) == 3 for block in blocks)


def test_a_group_that_is_wider_than_the_screen_is_divided():
    columns = [Column("a", ["x"]), *(Column("h" * 30, [f"cell{i}"], group="g") for i in range(5))]
    text = grid(columns, width=80)
    assert max(map(len, text.splitlines())) <= 80 and all(f"cell{i}" in text for i in range(5))


def test_a_text_that_is_wider_than_the_screen_loses_its_middle():
    text = grid([Column("a", ["x"]), Column("long", ["begin" + "-" * 200 + "end"])], width=80)
    assert max(map(len, text.splitlines())) <= 80 and "begin" in text and "end" in text


def test_tables_without_rows_and_with_one_column():
    assert grid([Column("a", [])], width=80).splitlines() == ["a", "-"]


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_to_scale_and_fit(monkeypatch, width):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    figures = {"unpruned": 8.0, "a.very.long.name.of.a.variant.that.is.too.long": 4.0, "tiny": 0.001, "nothing": 0.0}
    lines = bars(figures, width=width).splitlines()
    lengths = [line.count("#") for line in lines]
    assert max(map(len, lines)) <= width and lengths[0] > 20
    assert abs(lengths[1] - lengths[0] / 2) <= 0.5 and lengths[2:] == [1, 0]


def test_bars_are_of_blocks_where_the_terminal_can_show_them(monkeypatch):
    for encoding, block in (("utf-8", "█"), ("ascii", "#")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert block in bars({"a": 1.0}, width=80)
