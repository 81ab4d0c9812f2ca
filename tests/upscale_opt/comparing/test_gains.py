"""What a first look says about measured latencies."""

import pytest

from upscale_opt.comparing.gains import latency_text
from upscale_opt.latency.profiling import Profile


def said(**milliseconds):
    latencies = {
        name: Profile(tuple(1e-3 * own for own in found), "cpu", "eager", None, {})
        for name, found in milliseconds.items()
    }
    return " ".join(latency_text(latencies, "auto", how="measured").split())


def test_factors_are_those_of_the_medians_where_most_rounds_agree():
    text = said(unpruned=(20, 21, 22), baseline=(9, 10, 11), upscale=(5, 5, 5.1), auto=(10, 10.5, 9.5))
    assert "auto is 2.10 times as fast as unpruned, 2.00 times as slow as upscale, not to be told apart" in text


@pytest.mark.parametrize("busy", ["unpruned", "auto"])
def test_restless_rounds_say_no_factor(busy):
    figures = {"unpruned": (20, 21, 22), "baseline": (9, 10, 11), "auto": (10, 10.5, 9.5)}
    text = said(**{**figures, busy: (10, 30, 90)})
    assert f"The rounds of {busy} differ by more than half" in text and "times as fast" not in text
    assert "measure again when nothing else runs" in text
