"""Tests of lines: nothing is lost but the middle of long names, and no word is broken."""

import pytest

from upscale_opt.screens.lines import NARROW, screen_width, shortened, wrapped


@pytest.mark.parametrize("columns", ["80", "120", "33", ""])
def test_the_screen_is_as_wide_as_the_terminal_and_at_least_80(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert screen_width() == max(NARROW, int(columns or 0))


def test_shortened_texts_keep_both_ends_and_differ_where_the_names_do():
    names = [f"features.denseblock{i}.denselayer{j}.conv{k}" for i in (3, 4) for j in (9, 24) for k in (1, 2)]
    for width in range(3, 50):
        for name in names:
            own = shortened(name, width)
            assert len(own) <= width and (own == name) == (len(name) <= width)
            assert name.startswith(own.partition("...")[0]) and name.endswith(own.rpartition("...")[2])
    assert len({shortened(name, 30) for name in names}) >= 4


def test_wrapped_lines_fit_and_lose_no_word():
    text = "note: the weights of the model are computed at every call (parametrised), so they are made plain first\n  b"
    found = wrapped(text, 40)
    assert max(map(len, found.splitlines())) <= 40 and found.split() == text.split()
    assert found.splitlines()[1].startswith("  ") and found.splitlines()[-1] == "  b"
    long = "/a/path/that/is/longer/than/any/screen/" * 4
    assert long in wrapped(f"written to {long} now", 40)


def test_lines_of_tables_stay_as_they_are():
    line = f"layer1.0.conv3{' ' * 20}{'12 ' * 30}"
    assert wrapped(line, 40) == line
