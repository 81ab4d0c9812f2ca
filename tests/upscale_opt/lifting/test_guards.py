"""Tests of conditions on sizes: they are read, and those that say nothing about usual sizes are left out."""

import pytest
import torch

from upscale_opt.lifting.guards import Condition, UnreadableError, _evaluated, _says_something, hold_for


def value(text, **sizes):
    return _evaluated(text, lambda place, axis: sizes[place][axis], lambda function, *args: function(*args))


def test_conditions_are_read():
    assert value("(L['x'].size()[2] % 2) == 0", x=(1, 3, 8))
    assert not value("L['x'].size()[0]*(L['y'].size()[1] // 2) != 6 or 1 > 2", x=(2,), y=(1, 7))
    assert value("max(1, Mod(L['x'].size()[0], 3)) <= 2 and not (-1 + L['x'].size()[0] < 0)", x=(5,))
    assert hold_for([Condition("L['x'].size()[0] == 2", None)], {"x": torch.Size([2])})
    assert not hold_for([Condition("L['x'].size()[0] == 2", None)], {"x": torch.Size([3])})
    with pytest.raises(UnreadableError):
        value("round(L['x'].size()[0])", x=(5,))


def test_nested_places_are_read():
    found = []

    def size(place, axis):
        found.append((place, axis))
        return 1

    _evaluated("L['x']['left'][0].size()[3] == 1", size, lambda function, *args: function(*args))
    assert found == [("x['left'][0]", 3)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("L['x'].size()[2] != 1", False),
        ("L['x'].size()[2]*L['x'].size()[3] >= L['x'].size()[3]", False),
        ("L['x'].size()[2] != 7", True),
        ("(L['x'].size()[2] % 2) == 0", True),
        ("L['x'].size()[2] == L['x'].size()[3]", True),
        ("round(L['x'].size()[2])", True),
    ],
)
def test_questions_that_all_sizes_answer_alike_say_nothing(text, says):
    assert _says_something(text) is says


def test_conditions_name_the_line_or_the_size():
    assert str(Condition("L['x'].size()[2] != 7", None)) == "the program of torch.export (`x.size(2) != 7`)"
    assert str(Condition("L['x'].size()[2] != 7", "line 3 of a.py")) == "line 3 of a.py"
