"""Tests that objectives mean what docs/model.md says: against a second evaluator in plain Python."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from problems import OBJECTIVES, Access, Block, Objective, Order, Problem, ProblemError, evaluate, evaluate_batch
from problems.generators import random_concat
from problems.objectives import COPY, OVER_READ, VIEW

PRICES = {"copies": (None, 1), "span": (1, None), "traffic": (1, 2)}

TABLELESS = {name: objective for name, objective in OBJECTIVES.items() if not objective.uses_tables}


def naive_costs(problem, order, objective, prices=None):
    """(mode, start, span, runs, cost) per access, straight from the definitions; `prices` is (alpha, gamma)."""
    found = []
    for access in problem.accesses:
        kept, offset = [], 0
        for b in access.blocks:
            kept += [bool(access.kept[offset + channel]) for channel in order[b].tolist()]
            offset += problem.blocks[b].size
        positions = [i for i, keep in enumerate(kept) if keep]
        count, span = len(positions), positions[-1] - positions[0] + 1
        runs = sum(keep and (i == 0 or not kept[i - 1]) for i, keep in enumerate(kept))
        if objective == "runs":
            mode, cost = (VIEW if runs == 1 else COPY), runs
        else:
            alpha, gamma = prices or PRICES[objective]
            options = {VIEW: 0} if span == count else {}
            if alpha is not None and span > count:
                options[OVER_READ] = alpha * (span - count) * access.channel_size
            if gamma is not None and span > count:
                options[COPY] = gamma * count * access.channel_size
            mode = min(options, key=options.get)
            cost = options[mode]
        found.append((mode, positions[0], span, runs, cost))
    return found


def random_order(problem, rng):
    return Order(
        [
            stored if block.pinned else rng.permutation(stored)
            for block, stored in zip(problem.blocks, problem.stored, strict=True)
        ]
    )


def with_sizes(problem, rng):
    accesses = tuple(
        Access(access.name, access.blocks, access.kept, int(rng.integers(1, 5))) for access in problem.accesses
    )
    return Problem(problem.blocks, accesses)


@pytest.mark.parametrize("objective", TABLELESS)
def test_evaluate_agrees_with_the_definitions(objective):
    rng = np.random.default_rng(0)
    for seed in range(100):
        problem = with_sizes(random_concat(3, 6, 4, pinned=0.3, keep=0.4, seed=seed), rng)
        order = random_order(problem, rng)
        evaluation = evaluate(problem, order, objective)
        found = [(a.mode, a.start, a.span, a.runs, a.cost) for a in evaluation.accesses]
        expected = naive_costs(problem, order, objective)
        assert found == expected
        assert evaluation.value == sum(cost for *_, cost in expected)
        assert evaluation.views + evaluation.over_reads + evaluation.copies == len(problem.accesses)
        copied = [access.num_kept for access, cost in zip(problem.accesses, expected, strict=True) if cost[0] == COPY]
        assert (evaluation.copies, evaluation.copied_channels) == (len(copied), sum(copied))
        assert evaluation.span == sum(cost[2] for cost in expected)
        assert evaluation.runs == sum(cost[3] for cost in expected)


@given(
    prices=st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(0, 5)).filter(lambda p: p != (None, None)),
    seed=st.integers(0, 10**6),
)
@example(prices=(0, None), seed=0)
@example(prices=(None, 0), seed=0)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_custom_prices_mean_what_the_formula_says(prices, seed):
    """Any alpha and gamma, either of them infinite, several blocks, blocks read twice, large channels."""
    rng = np.random.default_rng(seed)
    problem = with_sizes(random_concat(3, 5, 4, pinned=0.3, keep=0.4, seed=seed), rng)
    order = random_order(problem, rng)
    evaluation = evaluate(problem, order, Objective("custom", alpha=prices[0], gamma=prices[1]))
    found = [(a.mode, a.start, a.span, a.runs, a.cost) for a in evaluation.accesses]
    assert found == naive_costs(problem, order, "custom", prices)


@pytest.mark.parametrize("objective", TABLELESS)
def test_the_largest_channels_do_not_overflow(objective):
    """Costs are whole numbers of 64 bits; the largest channel size allowed leaves room for them."""
    kept = np.array([1, 0, 1, 0, 0, 0, 1], dtype=bool)
    problem = Problem((Block("x", 7, removable=False),), (Access("a", (0,), kept, 2**24),))
    expected = naive_costs(problem, Order.identity(problem), objective)[0]
    cost = evaluate(problem, Order.identity(problem), objective).accesses[0]
    assert (cost.mode, cost.cost) == (expected[0], expected[4])


@pytest.mark.parametrize("objective", TABLELESS)
def test_a_batch_is_many_single_evaluations(objective):
    rng = np.random.default_rng(1)
    problem = random_concat(3, 6, 5, pinned=0.3, seed=2)
    orders = [random_order(problem, rng) for _ in range(20)]
    batch = [np.array([order[b] for order in orders]) for b in range(len(problem.blocks))]
    expected = [evaluate(problem, order, objective).value for order in orders]
    assert evaluate_batch(problem, batch, objective).tolist() == expected


def test_a_run_may_cross_a_block_boundary_and_a_block_may_be_read_twice():
    problem = Problem((Block("x", 3),), (Access("a", (0, 0), np.array([0, 0, 1, 1, 1, 0])),))
    cost = evaluate(problem, Order([[0, 1, 2]]), "runs").accesses[0]
    assert (cost.runs, cost.span, cost.mode) == (1, 3, VIEW)
    assert evaluate(problem, Order([[2, 0, 1]]), "runs").value == 2


def test_a_tie_between_reading_over_and_copying_is_read_over():
    problem = Problem((Block("x", 4),), (Access("a", (0,), np.array([1, 0, 0, 0])), Access("b", (0,), np.ones(4))))
    two = Problem((Block("x", 4),), (Access("a", (0,), np.array([1, 0, 0, 1])), Access("b", (0,), np.ones(4))))
    assert evaluate(problem, Order.identity(problem), "traffic").accesses[0].mode == VIEW
    tie = Objective("tie", alpha=1, gamma=1)
    assert evaluate(two, Order.identity(two), tie).accesses[0].mode == OVER_READ
    assert evaluate(two, Order.identity(two), tie).value == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective("o"), "give alpha, gamma or both"),
        (lambda: Objective("o", alpha=1, counts_runs=True), "give alpha, gamma or both"),
        (lambda: Objective("o", alpha=-1), "'o': alpha is -1; give a number from 0"),
        (lambda: Objective("o", gamma=-1), "'o': gamma is -1; give a number from 0"),
        (lambda: Objective("o", alpha=0.5), "'o': alpha is 0.5; give a whole number"),
        (lambda: Objective("o", alpha=1, gamma=True), "'o': gamma is True; give a whole number"),
        (lambda: Objective("o", gamma=np.bool_(True)), "give a whole number"),
        (lambda: Objective("o", alpha=2**62), r"give a number from 0 to 2\^52"),
        (lambda: Objective("o", gamma=10**30), r"give a number from 0 to 2\^52"),
    ],
)
def test_objectives_without_meaning_are_refused(make, message):
    with pytest.raises(ProblemError, match=message):
        make()


def test_prices_of_numpy_are_plain_numbers_and_nothing_may_be_free():
    objective = Objective("o", alpha=np.int32(2**30), gamma=np.uint8(0))
    assert type(objective.alpha) is type(objective.gamma) is int
    assert objective == Objective("o", alpha=2**30, gamma=0)
    problem = Problem(
        (Block("x", 3),), (Access("a", (0,), np.array([1, 0, 1])), Access("b", (0,), np.array([0, 1, 0])))
    )
    order = Order.identity(problem)
    assert evaluate(problem, order, objective).value == 0
    assert evaluate(problem, order, Objective("o", alpha=0)).value == 0
    assert evaluate(problem, order, Objective("o", alpha=np.int32(2**30))).value == 2**30


def test_prices_too_high_for_a_problem_are_refused_and_the_highest_are_exact():
    """Access a may over-read two channels of 8 elements and copies two; b over-reads three and copies one."""
    kept = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    accesses = (Access("a", (0,), kept[0], 8), Access("b", (0,), kept[1]), Access("c", (0,), kept[2]))
    problem = Problem((Block("x", 4),), accesses)
    over_read, copied = 8 * 2 + 3 + 3, 8 * 2 + 1 + 1
    assert problem.most_elements == (over_read, copied)
    order = Order.identity(problem)
    most = Objective("o", alpha=2**52 // over_read)
    assert evaluate(problem, order, most).value == 8 * (2**52 // over_read)
    for prices in ({"alpha": 2**52 // over_read + 1}, {"alpha": 2**47, "gamma": 2**48}, {"gamma": 2**52}):
        too_high = Objective("o", **prices)
        for ask in (evaluate, lambda *given: evaluate_batch(problem, [order[0][np.newaxis]], given[2])):
            with pytest.raises(ProblemError, match=r"'o': .* could cost \d+ together, .* scale the prices down"):
                ask(problem, order, too_high)


def test_unknown_objectives_are_refused_with_those_there_are():
    problem = random_concat(1, 4, 2)
    with pytest.raises(ProblemError, match="choose one of copies, runs, span, traffic"):
        evaluate(problem, Order.identity(problem), "speed")
