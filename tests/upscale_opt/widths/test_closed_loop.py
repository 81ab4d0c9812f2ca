"""The closed loop: it comes close in few turns, asks for nothing twice, and goes on after it was killed."""

import itertools

import networks
import numpy as np
import pytest
import width_networks
from width_networks import programme_of

from problems.allocation.problem import UnreachableSpeedupError
from upscale_opt.errors import UpscaleError
from upscale_opt.spdy.journal import Journal
from upscale_opt.widths.closed_loop import (
    CLOSE,
    Choice,
    Loop,
    best_of,
    correction_to,
    measured_correction,
    off_by,
    scores_to,
)
from upscale_opt.widths.corrections import Correction, fitted
from upscale_opt.widths.measuring import Measured
from upscale_opt.widths.results import Round

PLAIN = Correction(1.0, 0.0, (1.0, 2.0), (1.0, 2.0), 0.0)


def quiet(line):
    pass


class Machine:
    """Measures speedups as a function of those that the tables predict, and fails after some calls."""

    def __init__(self, programme, law, fails_after=None):
        self.programme, self.law, self.fails_after = programme, law, fails_after
        self.whole = programme.predicted({})
        self.asked = []

    def __call__(self, widths):
        if self.fails_after is not None and len(self.asked) == self.fails_after:
            raise KeyboardInterrupt
        assert widths not in self.asked, "measured twice"
        self.asked.append(dict(widths))
        return self.law(self.whole / self.programme.predicted(widths))


LAWS = {
    "as predicted": lambda s: s,
    "slower": lambda s: 1 + 0.6 * (s - 1),
    "faster": lambda s: 1 + 1.5 * (s - 1),
    "saturating": lambda s: s**0.7,
    "stepped": lambda s: np.floor(s * 5) / 5,
    "constant": lambda s: 1 / (0.2 + 0.8 / s),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("target", [1.3, 1.6])
def test_the_loop_comes_close_to_the_target(name, target):
    _, _, programme = programme_of(width_networks.PreActivation, step=1)
    machine = Machine(programme, LAWS[name])
    told = []
    loop = Loop(target, rounds=8, time_limit=5)
    choices = loop.run(programme, PLAIN, machine, Journal(None, ""), told.append)
    best = best_of(choices, target)
    assert best.round.measured >= target
    if name != "stepped":
        assert best.round.measured <= 1.1 * target
    assert len(machine.asked) == len(choices) == len(told) <= 8
    for own in choices[:-1]:
        assert not target <= own.round.measured <= CLOSE * target, "it ends when it is close"
    for own in choices:
        assert programme.predicted({}) / programme.predicted(own.widths) >= own.round.asked * (1 - 1e-9)
        assert own.round.bound <= own.round.loss * (1 + 1e-9)
        assert all(own.widths[b] in widths for b, widths in programme.candidates.items())
        wide = {block.name: block.size for block in programme.graph.blocks}
        assert all(w < wide[name] for name, w in own.round.widths.items())


def test_one_turn_is_enough_if_the_tables_are_right():
    _, _, programme = programme_of(width_networks.PreActivation, step=1)
    choices = Loop(1.5, time_limit=5).run(programme, PLAIN, Machine(programme, lambda s: s), Journal(None, ""), quiet)
    assert len(choices) == 1


@pytest.mark.parametrize(("factor", "target"), [(0.7, 1.5), (1.6, 2.5)])
def test_what_another_method_found_of_the_tables_saves_turns(factor, target):
    """Tables that are off by the same factor for all networks are right at once the next time."""
    _, _, programme = programme_of(width_networks.PreActivation, step=1)
    first, second = ([], [])
    for made, off in ((first, 1.0), (second, factor)):
        loop = Loop(target, rounds=6, time_limit=5, off=off)
        loop.run(programme, PLAIN, Machine(programme, lambda s: factor * s), Journal(None, ""), quiet, made)
        # Choices are a little faster than what was asked for.
        assert off_by([own.round for own in made]) == pytest.approx(factor, rel=0.05)
    assert len(first) > len(second) == 1
    assert second[0].round.predicted == pytest.approx(second[0].round.measured)


def test_a_turn_that_was_much_too_fast_does_not_lead_to_the_unpruned_network():
    _, _, programme = programme_of(width_networks.PreActivation, step=1)
    loop = Loop(1.3, rounds=4, time_limit=5)
    machine = Machine(programme, lambda s: 5 * s)
    choices = loop.run(programme, PLAIN, machine, Journal(None, ""), quiet)
    assert len(choices) > 1 and all(own.round.asked > 1 and own.round.measured > 5 for own in choices)


def test_a_choice_that_was_too_slow_is_not_measured_again_but_left_behind():
    """With few candidates, a little more speedup is the same choice: the loop asks for the next one."""
    _, _, programme = programme_of(networks.Residual, step=8)
    machine = Machine(programme, lambda s: s if s > 1.55 else 1.29)
    choices = Loop(1.3, rounds=6, time_limit=5).run(programme, PLAIN, machine, Journal(None, ""), quiet)
    assert len(choices) > 1 and best_of(choices, 1.3).round.measured >= 1.3


def test_what_is_out_of_reach_later_ends_at_the_fastest():
    _, _, programme = programme_of(networks.Residual)
    problem = programme.problem(1.0)
    with pytest.raises(UnreachableSpeedupError) as error:
        Loop(1e4, time_limit=5).run(programme, PLAIN, Machine(programme, lambda s: s), Journal(None, ""), quiet)
    most = error.value.max_speedup
    target = 0.9 * most
    machine = Machine(programme, lambda s: 0.5 * s)
    choices = Loop(target, rounds=8, time_limit=5).run(programme, PLAIN, machine, Journal(None, ""), quiet)
    best = best_of(choices, target)
    assert best.round.measured < target and best.round.asked == pytest.approx(most)
    assert best.round.predicted == pytest.approx(best.round.measured, rel=0.01)  # the turn before corrected the scale
    assert problem.base / programme.predicted(best.widths) == pytest.approx(most)


@pytest.mark.parametrize("method", ["joint", "uniform", "halp", "mdp"])
def test_all_methods_go_round(method):
    _, _, programme = programme_of(networks.Residual, step=1)
    machine = Machine(programme, LAWS["slower"])
    choices = Loop(1.2, method, rounds=4, time_limit=5).run(programme, PLAIN, machine, Journal(None, ""), quiet)
    assert choices and best_of(choices, 1.2).round.measured > 1


@pytest.mark.parametrize("name", ["slower", "faster", "constant"])
def test_a_killed_run_goes_on_with_the_same_choices(name, tmp_path):
    _, _, programme = programme_of(width_networks.PreActivation, step=1)
    loop = Loop(1.6, rounds=5, time_limit=5)
    wanted = loop.run(programme, PLAIN, Machine(programme, LAWS[name]), Journal(None, "x"), quiet)
    for killed in range(len(wanted)):
        directory = tmp_path / str(killed)
        first = Machine(programme, LAWS[name], fails_after=killed)
        with pytest.raises(KeyboardInterrupt):
            loop.run(programme, PLAIN, first, Journal(directory, "x"), quiet)
        second = Machine(programme, LAWS[name])
        found = loop.run(programme, PLAIN, second, Journal(directory, "x"), quiet)
        assert found == wanted
        assert len(first.asked) + len(second.asked) == len(wanted)
        third = Machine(programme, LAWS[name], fails_after=0)
        assert loop.run(programme, PLAIN, third, Journal(directory, "x"), quiet) == wanted


def choice(measured, loss):
    return Choice(Round(1.0, 1.0, measured, loss, loss, {}), {})


def test_the_best_is_the_least_loss_that_reaches_the_target_else_the_fastest():
    slow, fast, fastest = choice(1.4, 1.0), choice(1.6, 2.0), choice(1.9, 3.0)
    for order in itertools.permutations((slow, fast, fastest)):
        assert best_of(list(order), 1.5) is fast
        assert best_of(list(order), 2.5) is fastest
    with pytest.raises(UpscaleError, match="give more rounds"):
        best_of([], 2.0)


def test_corrections_and_scores_come_back_from_a_journal(tmp_path):
    made = fitted([1e6, 2e6, 3.5e6], [1.3e6, 2.2e6, 4e6])
    scores = {"one": np.random.default_rng(0).lognormal(size=5), "two": np.zeros(2)}

    def never():
        raise AssertionError("made twice")

    journal = Journal(tmp_path, "x")
    assert correction_to(journal, lambda: made) == made
    scores_to(journal, lambda: scores)
    again = Journal(tmp_path, "x")
    assert correction_to(again, never) == made
    found = scores_to(again, never)
    assert found.keys() == scores.keys() and all(np.array_equal(found[name], own) for name, own in scores.items())


def test_a_discarded_journal_leaves_nothing(tmp_path):
    journal = Journal(tmp_path / "new", "x")
    journal.note("scores", 1)
    journal.discard()
    assert not (tmp_path / "new").exists() and journal.recall("scores") is None
    (tmp_path / "file").write_text("kept")
    journal = Journal(tmp_path, "x")
    journal.note("scores", 1)
    journal.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    Journal(None, "x").discard()


def test_a_correction_is_fitted_to_the_unpruned_network_and_others_beside_it():
    model, inputs, programme = programme_of(networks.Residual)

    class Watch:
        def measure_all(self, exports):
            self.sizes = [sum(p.numel() for p in own.module.parameters()) for own in exports]
            return [Measured(2.0 + i, 2e-3) for i in range(len(exports))]

    watch = Watch()
    found = measured_correction(programme, model, inputs, watch, networks=3, seed=0)
    assert len(found.measured) == len(found.predicted) == 4
    assert found.predicted[0] == programme.predicted({}) and len(watch.sizes) == 3
    assert found.measured == pytest.approx([2e6, 1e6, 2e6 / 3, 5e5])
