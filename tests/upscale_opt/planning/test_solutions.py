"""Tests of solving all segments: order of the results, and what is told while it works."""

from problems.generators import random_masks
from upscale_opt.planning.solutions import each_solution


def test_progress_tells_segment_solver_value_and_bound():
    told = []
    given = {"first": random_masks(64, 6), "second": random_masks(64, 6, seed=1)}
    found = list(each_solution(given, ("greedy", "auto"), objective="span", progress=told.append))
    assert [(segment, name) for segment, name, _ in found] == [
        ("first", "greedy"), ("first", "auto"), ("second", "greedy"), ("second", "auto")
    ]  # fmt: skip
    assert [own.done for own in told] == [0, 1, 2, 3, 4] and all(own.what == "solve" and own.total == 4 for own in told)
    best = found[1][2]
    assert told[2].note == f"first auto: best {best.value}, bound {best.bound}, gap {best.gap:.1%}"
