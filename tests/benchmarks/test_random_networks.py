"""Tests that exports of random networks compute what the masked models compute, and that the random networks are good.

A failure shows the shortened network; to look at a seed: ``python -m benchmarks.random_networks --seeds SEED --show``.
"""

import random
import warnings
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from benchmarks.random_networks import (
    OPERATORS,
    Outcome,
    Program,
    Verdict,
    check,
    checks,
    random_network,
    recipes,
    running,
)
from benchmarks.random_networks.__main__ import main
from benchmarks.random_networks.program import Input, Step
from benchmarks.random_networks.running import outcome_of, outcomes
from benchmarks.random_networks.shrinking import shrink
from upscale_opt.verifying.gradients import Comparison

QUICK = settings(
    max_examples=60,  # two checks each: orders, and windows
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
SLOW_SEEDS = 20_000
FAULTS = Path(__file__).parent / "faults"
"""Networks whose exports were wrong once."""


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are tiny: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(*lines, output, init=("self.conv = nn.Conv2d(3, 4, 1)",), **settings):
    """A program of a few statements on one image."""
    steps = tuple(Step(line, (line.partition(" = ")[0],) if " = " in line else ()) for line in lines)
    settings = {"batch": 1, "fixed_batch": False, "seed": 0} | settings
    return Program((Input("x", (1, 3, 4, 4)),), tuple(init), steps, output, **settings)


@QUICK
@given(source=st.randoms(use_true_random=False))
def test_exports_of_random_networks_are_exact(source):
    """Masks, orders and read modes are random, too; hypothesis shortens what fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = random_network(source)
        note(program.code)
        outcome = check(program, source)
    assert outcome.verdict is not Verdict.WRONG, f"{outcome.reason}\n{outcome.detail}"


@pytest.mark.parametrize("seed", range(2))
def test_exports_of_random_streams_are_exact(seed):
    outcome = outcome_of(seed, streams=True)
    assert outcome.verdict is not Verdict.WRONG, f"{outcome.reason}\n{outcome.detail}"


@pytest.mark.slow
def test_exports_of_many_random_streams_are_exact():
    wrong = {seed: own.reason for seed, own in outcomes(range(2, 300), 2, streams=True) if own.verdict is Verdict.WRONG}
    assert not wrong


@pytest.mark.slow
def test_exports_of_twenty_thousand_random_networks_are_exact(capsys):
    """And few are refused or prove nothing."""
    assert main(["--seeds", f"0:{SLOW_SEEDS}"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_random_networks_have_every_operator_and_few_are_refused():
    """Whatever is in nobody's way may move: a generator that pins everything would prove nothing."""
    programs = [random_network(seed) for seed in range(600)]
    assert {operator.__name__ for operator in OPERATORS} <= set().union(*(p.operators for p in programs))
    outcomes = [outcome_of(seed) for seed in range(40)]
    skipped = sum(outcome.verdict is Verdict.SKIPPED for outcome in outcomes)
    unproven = sum(outcome.verdict is Verdict.UNPROVEN for outcome in outcomes)
    movable = sum(outcome.movable for outcome in outcomes) / sum(outcome.channels for outcome in outcomes)
    assert skipped <= 3 and unproven <= 6 and movable > 0.15


def test_a_seed_is_one_network():
    first, second = random_network(7), random_network(random.Random(7))
    assert first == second and first.code == second.code
    a, b = first.build(), second.build()
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert random_network(8).code != first.code


def test_the_second_check_finds_what_is_wrong_by_itself(monkeypatch):
    """Break the export, not the verification: a weight is twice what it was."""
    program = tiny(
        "y = self.conv(x)", "z = self.next(y)", output="z", init=(
            "self.conv = nn.Conv2d(3, 4, 1)", "self.next = nn.Conv2d(4, 5, 1)")
    )  # fmt: skip
    assert check(program).verdict is Verdict.RIGHT
    original = checks.export

    def broken(*arguments, **keywords):
        exported = original(*arguments, **keywords)
        exported.module.conv.weight.data *= 2
        return exported

    monkeypatch.setattr(checks, "export", broken)
    outcome = check(program)
    assert outcome.verdict is Verdict.WRONG and outcome.kind == "wrong result"


BETWEEN = tiny(
    *("y = torch.tanh(self.conv(x))", "z = self.a(y) + self.b(y)"),
    output="z",
    init=("self.conv = nn.Conv2d(3, 12, 1)", "self.a = nn.Conv2d(12, 5, 1)", "self.b = nn.Conv2d(12, 5, 1)"),
)


def reversed_backward(exported):
    """The outputs stay what they are."""
    for node in exported.module.graph.nodes:
        if node.target is torch.tanh:
            node.target = lambda x: 2 * torch.tanh(x.detach()) - torch.tanh(x)
    exported.module.recompile()


def frozen(exported):
    exported.module.conv.weight.requires_grad_(False)


def released(exported):
    """What is held is no longer: the hooks are on other tensors."""
    for path in ("a", "b", "conv"):
        module = exported.module.get_submodule(path)
        module.weight = torch.nn.Parameter(module.weight.detach().clone())
        module._forward_pre_hooks.clear()


@pytest.mark.parametrize("how", [reversed_backward, frozen, released])
def test_the_second_check_finds_wrong_gradients_by_itself(how, monkeypatch):
    """Whatever `verify` says: it is made to pass."""
    seeds = range(8)
    assert {check(BETWEEN, seed, windows=False).verdict for seed in seeds} == {Verdict.RIGHT}
    original = checks.export

    def broken(*arguments, **keywords):
        how(exported := original(*arguments, **keywords))
        return exported

    monkeypatch.setattr(checks, "export", broken)
    found = [check(BETWEEN, seed) for seed in seeds]
    assert Verdict.WRONG in {own.verdict for own in found}
    monkeypatch.setattr(checks.Verifier, "_compare_gradients", lambda *_: Comparison(0.0))
    found = [check(BETWEEN, seed) for seed in seeds]
    assert {own.kind for own in found if own.verdict is Verdict.WRONG} == {"wrong gradient"}


def test_networks_without_a_backward_pass_are_counted_by_reason(capsys):
    program = tiny("y = self.conv(x).exp()", "z = y * y.add_(1)", output="z")
    outcome = check(program)
    assert outcome.verdict is Verdict.UNPROVEN and "no backward pass" in outcome.reason
    assert outcome.kind == "outputs agree; no backward pass: a tensor that it needs is changed in place"
    assert main(["--seeds", "11"]) == 0
    assert f"1 unproven: {outcome.kind}" in capsys.readouterr().out


def test_the_sign_of_rounding_noise_proves_nothing():
    """The mean of a normalised channel is zero but for rounding, and the network asks for its sign (seed 20080)."""
    norm = "self.norm = nn.GroupNorm(4, 4, affine=False)"
    program = tiny(
        *("a = self.norm(self.conv(x))", "b = a.mean((2, 3)).reciprocal().clamp(-2, 2)"),
        output="b",
        init=("self.conv = nn.Conv2d(3, 4, 1)", norm),
    )
    outcomes = [check(program, seed) for seed in range(20)]
    assert {outcome.verdict for outcome in outcomes} <= {Verdict.UNPROVEN, Verdict.RIGHT}
    assert any(outcome.reason.startswith("rounding alone") for outcome in outcomes)
    assert not any(outcome.reason.startswith("relative error") for outcome in outcomes)  # verify blames no export


@pytest.mark.parametrize("outputs", [4, 6])
def test_weights_on_the_right_of_a_product_have_their_inputs_first(outputs):
    """A square weight looks the same both ways, and a check along the wrong dimension blamed the export."""
    program = tiny("y = x @ self.w", output="y", init=(f"self.w = nn.Parameter(torch.randn(4, {outputs}))",))
    assert {check(program, seed).verdict for seed in range(4)} <= {Verdict.RIGHT, Verdict.UNPROVEN}


def test_what_raises_is_wrong_and_what_is_refused_is_skipped(monkeypatch):
    program = tiny("y = self.conv(x)", output="y")
    refused = tiny("y = x if x.sum() > 0 else -x", output="y")
    assert check(refused).verdict is Verdict.SKIPPED

    def fails(*_, **__):
        raise KeyError("an accident")

    monkeypatch.setattr(checks, "problems_of", fails)
    outcome = check(program)
    assert (
        outcome.verdict is Verdict.WRONG and outcome.kind == "extract raises KeyError" and "Traceback" in outcome.detail
    )


def test_a_fault_of_the_check_itself_does_not_end_a_sweep(monkeypatch):
    def fails(*_, **__):
        raise KeyError("an accident")

    monkeypatch.setattr(running, "random_network", fails)
    outcome = outcome_of(7)
    assert outcome.verdict is Verdict.WRONG and outcome.kind == "the check itself raises KeyError"
    assert "Traceback" in outcome.detail


def test_a_process_that_dies_does_not_hang_the_sweep(monkeypatch, capsys):
    def dies(*_, **__):
        yield 0, Outcome(Verdict.RIGHT)
        raise BrokenProcessPool

    monkeypatch.setattr("benchmarks.random_networks.__main__.outcomes", dies)
    assert main(["--seeds", "0:40", "--jobs", "2"]) == 1
    assert "a process died at one of the seeds 1:25" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(FAULTS.glob("*.json")), ids=lambda path: path.stem)
def test_networks_that_found_faults(path):
    """They are files, because a seed makes another network as soon as a statement is added."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = check(*recipes.load(path))
    assert outcome.verdict in (Verdict.RIGHT, Verdict.UNPROVEN), outcome.reason


def test_recipes_are_networks(tmp_path, capsys):
    for seed in range(8):
        program = random_network(seed)
        assert recipes.from_recipe(recipes.to_recipe(program)) == replace(program, operators=frozenset())
    path = tmp_path / "network.json"
    assert main(["--seeds", "3", "--show", "--save", str(path)]) == 0
    program, seed = recipes.load(path)
    assert seed == 3 and program.code == random_network(3).code and program.code in capsys.readouterr().out
    assert program.inputs == random_network(3).inputs


def test_shrinking_leaves_what_matters(monkeypatch):
    """Of nine statements two are needed: the accident happens where a network has a softmax."""
    program = tiny(
        *("a = self.conv(x)", "b = F.relu(a)", "c = b * 2", "d = torch.cat([c, a], 1)", "e = d.softmax(1)"),
        *("f = e + 1", "f.add_(1)", "g = F.relu(f)", "h = g * 3"),
        output="[h, (a, b)]",
    )

    def accident(shorter, *_, **__):
        wrong = any("softmax" in step.line for step in shorter.steps)
        return Outcome(Verdict.WRONG, "an accident: here") if wrong else Outcome(Verdict.RIGHT)

    monkeypatch.setattr("benchmarks.random_networks.shrinking.check", accident)
    shorter, _ = shrink(program, 0, "an accident")
    assert len(shorter.steps) <= 3 and shorter.output in "abcdefgh"
    assert any("softmax" in step.line for step in shorter.steps) and not any(
        "* 3" in step.line for step in shorter.steps
    )


@pytest.mark.slow
def test_two_processes_find_what_one_does():
    assert list(outcomes(range(4), 2)) == list(outcomes(range(4)))


def test_the_command_counts_and_shows(capsys):
    assert main(["--seeds", "0:3"]) == 0
    assert "seeds 0:3:" in capsys.readouterr().out
    assert main(["--seeds", "1", "--show"]) == 0
    assert "class Network(nn.Module):" in capsys.readouterr().out
    assert main(["--seeds", "three"]) == 2 and main(["--without", "magic"]) == 2
    errors = capsys.readouterr().err
    assert "give FIRST:BEHIND_LAST" in errors and "no operator 'magic'" in errors


def test_the_command_fails_if_a_network_is_wrong_and_says_how_far_it_got(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.random_networks.running.check", lambda *_: Outcome(Verdict.WRONG, "an accident"))
    assert main(["--seeds", "4:6"]) == 1
    assert "seed 4 wrong: an accident" in capsys.readouterr().out

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.random_networks.running.check", interrupt)
    assert main(["--seeds", "4:6"]) == 130
    assert "go on with --seeds 4:6" in capsys.readouterr().err
