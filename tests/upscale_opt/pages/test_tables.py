"""Tests of tables: one model, the same content in every form."""

import csv
import io

import pytest

from upscale_opt import UpscaleError
from upscale_opt.pages.tables import Column, Table

HOSTILE = "<b>&_%$#{}~^\\\n\"'"
TABLE = Table(
    (Column("segment"), Column("value", "ns", "greedy"), Column("gap", "%", "auto", 1), Column("way", ways=True)),
    ((HOSTILE, 12345, 0.123456789, "copy"), ("b", 0, None, "view")),
    ("all", 12345, None, ""),
    "what & why",
)


def test_csv_has_every_digit_and_no_last_row():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows[0] == ["segment", "greedy value, ns", "auto gap, %", "way"]
    assert rows[1] == [HOSTILE, "12345", "0.123456789", "copy"]
    assert rows[2] == ["b", "0", "", "view"] and len(rows) == 3


def test_latex_escapes_text_and_has_the_rules_of_booktabs():
    lines = TABLE.latex().splitlines()
    assert lines[0] == "% what & why" and r"\begin{tabular}{lrrl}" in lines
    rules = [own for own in lines if own in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    row = next(own for own in lines if "textbackslash" in own)
    assert r"\textless{}b\textgreater{}\&\_\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in row
    assert row.endswith(r"& 12{,}345 & 0.1 & copy \\")
    assert r" & \multicolumn{1}{c}{greedy} & \multicolumn{1}{c}{auto} &  \\" in lines
    assert r"\cmidrule(lr){2-2}\cmidrule(lr){3-3}" in lines
    for own in lines[3:-1]:
        assert own.count("&") - own.count(r"\&") in (0, 3)  # as many cells in every row


def test_html_escapes_text_and_colours_ways_of_reading():
    html = TABLE.html()
    assert "<b>&_" not in html and "&lt;b&gt;&amp;_" in html
    assert '<span class="way copy">copy</span>' in html and '<td class="number">12,345</td>' in html


def test_text_sets_numbers_to_the_right():
    lines = TABLE.text().splitlines()
    assert lines[0] == "what & why" and lines[-1].split()[:2] == ["all", "12,345"]
    simple = Table.of(["a", Column("b", digits=2)], [("x", 1.0), ("long", 10.0)])
    assert simple.text().splitlines()[2:] == ["x      1.00", "long  10.00"]


def test_columns_can_be_left_out():
    assert [own.name for own in TABLE.without("gap").columns] == ["segment", "value", "way"]
    zero = Table.of(["a", "b", "c"], [("x", 0, 0), ("y", 0, 1)])
    assert [own.name for own in zero.without(if_empty=("b", "c")).columns] == ["a", "c"]


def test_rows_must_fit():
    with pytest.raises(UpscaleError, match="a row has 1 values for 2 columns"):
        Table.of(["a", "b"], [("x",)])
