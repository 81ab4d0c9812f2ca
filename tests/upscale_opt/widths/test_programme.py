"""From measured tables to a width problem: its times are those of the tables, and its bounds on speedups hold."""

import networks
import numpy as np
import pytest
import width_networks
from width_networks import programme_of

from problems.allocation.problem import UnreachableSpeedupError
from solvers.widths.dispatch import choose_widths
from upscale_opt.widths.candidates import losses_at
from upscale_opt.widths.group_calibration import requests_of

KINDS = [networks.Residual, networks.Dense, networks.Inverted, networks.Flattened, networks.Two,
         width_networks.PreActivation, width_networks.LikeConvNeXt, width_networks.Mixed]  # fmt: skip


def drawn(programme, rng):
    return {b: int(rng.choice(widths)) for b, widths in programme.candidates.items()}


def summed(programme, widths):
    """The tables' times of a choice, group by group, straight from the tables."""
    graph, total = programme.graph, 0
    wanted = requests_of(graph, programme.parts, programme.candidates)
    for group, request in zip(programme.parts.groups, wanted, strict=True):
        first, second = (
            sum(widths.get(b, graph.blocks[b].size) for b in side) for side in (group.inputs, group.outputs)
        )
        total += programme.tables.entries[request.signature].at((first,), (second,))[0, 0]
    return total


def choice_of(programme, problem, widths):
    graph = programme.graph
    return problem.choice_of({block.name: widths.get(b, block.size) for b, block in enumerate(graph.blocks)})


@pytest.mark.parametrize("kind", KINDS)
def test_times_of_choices_are_sums_of_tables(kind):
    _, _, programme = programme_of(kind)
    problem = programme.problem(1.0)
    groups = len(programme.parts.groups)
    full = problem.evaluate(problem.full_choice)
    assert full.time == problem.base == problem.budget and full.loss == 0 and full.speedup == 1
    assert abs(problem.base - summed(programme, {})) <= groups
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = drawn(programme, rng)
        found = problem.evaluate(choice_of(programme, problem, widths))
        assert abs(found.time - summed(programme, widths)) <= groups  # every table is in whole nanoseconds
        assert programme.predicted(widths) == found.time
        lost = sum(losses_at(programme.scores[programme.graph.blocks[b].name], (w,))[0] for b, w in widths.items())
        assert found.loss * programme.loss_unit == pytest.approx(lost, rel=1e-9)


def test_a_correction_scales_the_tables_and_adds_a_constant():
    _, _, programme = programme_of(networks.Residual)
    plain, corrected = programme.problem(1.0), programme.problem(1.0, scale=1.5, constant=12345.6)
    assert corrected.fixed == 12346
    assert corrected.base == pytest.approx(1.5 * plain.base + 12346, abs=len(plain.works))
    widths = drawn(programme, np.random.default_rng(1))
    one, other = (own.evaluate(choice_of(programme, own, widths)).time for own in (plain, corrected))
    assert other == pytest.approx(1.5 * one + 12346, abs=2 * len(plain.works))
    assert corrected.for_speedup(2).budget == corrected.base // 2


def test_equal_tables_are_shared():
    _, _, programme = programme_of(networks.Residual)
    problem = programme.problem(1.0)
    assert len(problem.tables) < len(problem.works) == len(programme.parts.groups)


def test_scores_of_zero_make_a_problem_without_losses():
    _, _, programme = programme_of(networks.Residual)
    for own in programme.scores.values():
        own[:] = 0
    problem = programme.problem(1.0)
    assert all(not any(block.losses) for block in problem.blocks) and programme.loss_unit == 1.0


@pytest.mark.parametrize("kind", [networks.Residual, networks.Dense, width_networks.Mixed])
def test_what_no_widths_reach_is_refused_with_what_they_reach(kind):
    _, _, programme = programme_of(kind)
    problem = programme.problem(1.0)
    with pytest.raises(UnreachableSpeedupError) as error:
        choose_widths(problem.for_speedup(1000.0), time_limit=5)
    most = error.value.max_speedup
    narrow = {b: widths[0] for b, widths in programme.candidates.items()}
    fastest = problem.evaluate(choice_of(programme, problem, narrow))
    assert most == pytest.approx(fastest.speedup)
    found = choose_widths(problem.for_speedup(0.999 * most), time_limit=5)
    assert found.speedup >= 0.999 * most


def test_choices_are_within_the_budget_and_no_worse_than_uniform_ones():
    _, _, programme = programme_of(networks.Residual)
    problem = programme.problem(1.0).for_speedup(1.5)
    joint, uniform = (choose_widths(problem, method, time_limit=5) for method in ("auto", "uniform"))
    assert joint.speedup >= 1.5 and uniform.speedup >= 1.5 and joint.loss <= uniform.loss and joint.bound <= joint.loss
