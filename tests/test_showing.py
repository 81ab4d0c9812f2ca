"""Every public object has a short representation, and what notebooks show is well-formed and small.

Objects of all public classes are found by a walk from a few examples, small and wide. A new public class needs an
example here.
"""

import contextlib
import dataclasses
import inspect
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import problems
import solvers
import upscale_opt
from problems.generators import grouped_masks, random_concat, random_masks, with_tables
from problems.showing.html import card, element, table
from problems.showing.pictures import Bar, Strip, bars, strips
from problems.showing.reprs import short, shown
from problems.widths.generators import random_widths, residual_network
from problems.windows.generators import random_windows
from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.learning.evaluation import Accuracy
from upscale_opt.learning.fidelity import Fidelity
from upscale_opt.widths.corrections import Correction
from upscale_opt.widths.results import Round, Size

MOST, MOST_HTML = 2000, 300_000
FLOORS = (problems, solvers, upscale_opt)
SHOWN = ("Allocation", "Comparison", "Exported", "Graph", "MaskedGraph", "MaskedModel", "OrderCheck", "Plan", "Problem",
         "PruningMasks", "Result", "Speedup", "SpeedupAllocation", "WidthResult", "WindowResult")  # fmt: skip
"""Classes whose pictures notebooks show."""


def public_classes():
    found = {}
    for floor in FLOORS:
        for name in floor.__all__:
            own = getattr(floor, name)
            if inspect.isclass(own) and not issubclass(own, (BaseException, Enum)) and not _is_protocol(own):
                found[f"{floor.__name__}.{name}"] = own
    return found


def _is_protocol(own):
    return getattr(own, "_is_protocol", False)


def wide():
    """A network with a residual stream that many consumers read."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1, self.conv2, self.conv3 = (nn.Conv2d(width, width, 1) for _ in range(3))

        def forward(self, x):
            return torch.relu(x + self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x))))))

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 64, 1), *(Block(64) for _ in range(8))).eval()


def examples():
    """What everything else is found from."""
    order = random_masks(64, 5, seed=1)
    yield from (order, random_masks(2048, 60), random_concat(3, 16, 4), with_tables(order), grouped_masks(4, 4, 4))
    for problem, objective in ((order, "span"), (with_tables(order), "latency"), (random_masks(512, 60), "copies")):
        yield solvers.solve(problem, solver="greedy", objective=objective, proof=objective == "span")
    yield problems.Potentials("x", tuple(range(900)), tuple(range(900)))
    yield problems.Obstruction("x", (0, 1, 2), (tuple(map(str, range(900))),) * 3, Fraction(1, 3))
    yield from (problems.Reader(0, 0, 0), problems.Access("a <b>", (0,), np.ones(4096, bool)))
    yield from (order.classes, problems.objective_named("span"))
    widths = random_widths()
    chosen_widths = solvers.choose_widths(widths, "lagrangian", time_limit=2)
    yield from (widths, residual_network(), chosen_widths, widths.evaluate(chosen_widths.choice))
    windows = random_windows(40, 5, seed=0)
    chosen = solvers.choose_windows(windows, time_limit=1)
    told: list[object] = []
    matrix = [[5, 4, 1, 0], [1, 5, 4, 0], [4, 1, 5, 0]]
    joint = solvers.choose_jointly(problems.JointProblem.from_importance(matrix, widths=2), progress=told.append)
    yield from (joint, joint.problem, joint.solution, solvers.joint_bound(joint.problem), *told)
    yield from (windows, chosen, problems.evaluate_windows(windows, chosen.windows))
    grid = tuple(i / 5 for i in range(5))
    layers = tuple(problems.LayerTimes(f"layer{i}.conv", grid, tuple(2 - s for s in grid)) for i in range(60))
    timings = problems.TimingTable(layers, 200.0)
    allocation = problems.allocation_problem(timings, 1.3)
    yield from (timings, allocation, solvers.allocate(allocation), allocation.evaluate((0,) * 60))
    rng = np.random.default_rng(0)
    yield solvers.search_allocation(allocation, lambda levels: 1.0, rng, num_random=1, patience=1, num_buckets=100)
    yield from (solvers.SearchProgress(1, 1, 1, 1.0), solvers.WindowProgress(1.0, 2.0, None))
    yield solvers.Progress(1.0, 3, 2, problems.Order.identity(random_masks(2048, 60)))
    yield solvers.WidthProgress(3, 2, tuple(range(500)))
    yield solvers.Finding(problems.Order.identity(order), stats={f"step {i}": list(range(99)) for i in range(99)})
    standing = solvers.Standing(1.0, 2.0, 9, 8, 0.5, 0.5)
    rules = (solvers.TimeLimit(60.5), solvers.GapLimit(0.05), solvers.TargetValue(10**30))
    yield from (standing, solvers.AllOf(rules), solvers.AnyOf(rules), problems.ProblemBuilder("x" * 5000))
    yield solvers.WrittenModel(Fraction(1, 3), Fraction(10**400, 7), 10**6, 10**6)
    yield solvers.Task(order, problems.objective_named("span"), problems.Order.identity(order), 0.0, 1.0)
    yield from built()
    yield from simple()
    yield from networks(timings, allocation)


def built():
    """What solves and problems are made with."""
    rules = tuple(solvers.GapLimit(1 / (k + 1)) for k in range(200))
    yield from (solvers.AnyOf(rules), solvers.AllOf(rules), solvers.Standing(1.0, 0.5, 3, 2, 0.5, 0.2))
    yield solvers.WrittenModel(Fraction(10**300 + 1, 3), Fraction(1, 7), 10**6, 10**6)
    rows = [[1, 0, 1], [0, 1, 1]]
    first = problems.FixedPlace(0, 2, -1)
    yield problems.Problem.from_matrix(rows, weights=[1, 3], constraints=[first, problems.Precedence(0, 1, 0)])
    yield solvers.solve_lexicographic(random_masks(16, 3), ["copies", "span"], solver="greedy", time_limit=1)
    builder = problems.ProblemBuilder("many blocks")
    for k in range(500):
        builder.block(f"block {k}", 2).access(f"access {k}", {f"block {k}": [1, 0]})
    yield builder


def simple():
    """Settings of solvers: what can be made of nothing, or of a number."""
    for kind in (own for name, own in public_classes().items() if name.startswith("solvers.")):
        for given in ((), (1,), (0.5,)):
            with contextlib.suppress(TypeError, ValueError):
                yield kind(*given)
                break


def networks(timings, allocation):
    """Examples of the upper floor."""
    model, x = wide(), torch.zeros(1, 3, 2, 2)
    masked = upscale_opt.prune(model, x, 0.5)
    comparison = masked.compare(["greedy"], measure=False, verify=False)
    latency = upscale_opt.Profile((0.01, 0.02) * 500, "cpu", "eager", None, {"machine": "m" * 500})
    variants = ("unpruned", *comparison.exports, "floor")
    comparison = dataclasses.replace(comparison, latencies=dict.fromkeys(variants, latency))
    exported = comparison.exports["greedy"]
    yield from (masked, comparison, upscale_opt.effective_masks(masked.graph, masked.masks), exported)
    yield upscale_opt.Verification(1.0, 1.0, None, message="differs " * 500)
    yield upscale_opt.AccessProfile(
        "a", "view", 3, 4, 9, 1e-6, 0.0, 0.0, (upscale_opt.CopyFound("copy", 1, 1e-6, 9),) * 50
    )
    yield from (upscale_opt.AnalyticCosts(), upscale_opt.Workload(1, 1, 1, 1, 4), upscale_opt.Effort())
    yield from (upscale_opt.ModelReference("resnet18"), upscale_opt.IMPORTANCES["taylor"])
    tables = CostTables.load("nowhere", conditions_of((x,), backend="eager"))
    yield from (tables, upscale_opt.MeasuredCosts(tables, upscale_opt.AnalyticCosts()))
    yield upscale_opt.Skipped("a.b", "Odd", "it is odd", "leave it out")
    yield upscale_opt.MatrixConv2d(4, 4, 1)
    nn.utils.prune.ln_structured(model[3].conv1, "weight", amount=0.5, n=2, dim=0)
    yield upscale_opt.masks_from_pruning(model)
    profiles = dict.fromkeys(("floor", *map(str, range(40))), comparison.latencies["greedy"])
    names = tuple(map(str, range(40)))
    yield OrderCheck(names, (1.0,) * 40, (1.5,) * 40, 0.1, 0.5, {}, profiles, dict.fromkeys(names, exported.plan))
    fidelity = Fidelity(100, 0.1, 0.01, 0.9, 0.01, Accuracy(0.5, None, 1.0, 100), Accuracy(0.6, None, 1.0, 100))
    turn = Round(2.0, 2.0, 1.9, 0.1, None, {block.name: block.size // 2 for block in masked.graph.blocks})
    yield upscale_opt.Speedup(
        2.0, False, exported, "joint", (turn,) * 4, turn, 1.9, 0.02, 0.01, "here", Correction(1.0, 0.0, (), (), 0.0),
        fidelity, fidelity, fidelity, Size(10, 10, 40), Size(5, 5, 20), notes=("a note & more",),
    )  # fmt: skip
    found = solvers.allocate(allocation)
    yield upscale_opt.SpeedupAllocation(
        1.3, found.profile, masked.masks, {}, timings, allocation, (), found, 0.5, 0.6, 0.4, (1.0,) * 60, 0.5,
        exported=exported,
    )  # fmt: skip


def walk(roots):
    """All objects of our own classes that are reached from some, by identity."""
    seen, waiting = {}, list(roots)
    while waiting:
        own = waiting.pop()
        if id(own) in seen:
            continue
        if isinstance(own, Mapping):
            waiting += list(own.values())[:200]
        elif isinstance(own, (list, tuple)) and len(own) < 5000:
            waiting += own
        elif type(own).__module__.partition(".")[0] in ("problems", "solvers", "upscale_opt"):
            seen[id(own)] = own
            if dataclasses.is_dataclass(own):
                waiting += [getattr(own, field.name) for field in dataclasses.fields(own)]
    return list(seen.values())


@pytest.fixture(scope="module")
def objects():
    return walk(examples())


def test_there_is_an_example_of_every_public_class(objects):
    kinds = {type(own) for own in objects}
    assert [name for name, own in public_classes().items() if own not in kinds] == []


def test_representations_are_short(objects):
    public = set(public_classes().values())
    for own in objects:
        if type(own) in public:
            assert len(repr(own)) <= MOST, (type(own), repr(own)[:500])
            assert "\n" not in repr(own) or isinstance(own, nn.Module), repr(own)[:500]


def test_public_constants_are_short():
    for floor in FLOORS:
        for name in floor.__all__:
            assert len(repr(getattr(floor, name))) <= MOST, f"{floor.__name__}.{name}"


def test_cards_of_notebooks_are_well_formed_and_small(objects):
    public, found = set(public_classes().values()), set()
    for own in objects:
        if type(own) in public and hasattr(own, "_repr_html_"):
            markup = own._repr_html_()
            root = ElementTree.fromstring(markup)
            assert len(markup) <= MOST_HTML, (type(own), len(markup))
            assert not {part.tag.rpartition("}")[2] for part in root.iter()} & {"script", "link", "img", "style"}
            assert "http" not in markup.replace("http://www.w3.org/2000/svg", "")
            found.add(type(own).__name__)
            if type(own).__name__ in SHOWN:
                assert "<svg" in markup, type(own)
    assert set(SHOWN) <= found


def test_names_are_escaped():
    bad = "<script>alert('&')</script>\x00"
    pictures = bars([Bar(bad, 1.0, bad)]), strips([Strip(bad, np.zeros(3, int))], ("red",))
    markup = card(bad, table((bad,), [(bad, 3, None, 0.5)]), *pictures)
    assert "<script>" not in markup and len(ElementTree.fromstring(markup)) == 4
    assert element("a", "x", title='"') == '<a title="&quot;">x</a>'


def test_pictures_of_much_stay_small():
    rng = np.random.default_rng(0)
    rows = [Strip(str(i), rng.integers(-1, 3, 5000), "x") for i in range(200)]
    markup = strips(rows, ("red", "green", "blue"))
    assert len(markup) < MOST_HTML and "and 160 more" in markup
    assert "and 160 more" in bars([Bar(str(i), i) for i in range(200)])


def test_strips_draw_each_channel_where_it_is():
    drawn = strips([Strip("a", np.array([0, 0, 1, -1]))], ("red", "green"), 4)
    assert 'd="M190 3h170v12h-170z" fill="red"' in drawn and 'd="M360 3h85v12h-85z" fill="green"' in drawn


def test_a_result_with_its_problem_is_drawn_channel_by_channel():
    from problems.showing.cards import evaluation_parts

    problem = problems.Problem(
        (problems.Block("x", 4),), (problems.Access("a", (0,), [1, 0, 1, 0]), problems.Access("b", (0,), [0, 1, 1, 1]))
    )
    order = problems.Order.identity(problem)
    picture, *_ = evaluation_parts(problems.evaluate(problem, order, "span"), problem, order)
    paths = [part.get("d") for part in ElementTree.fromstring(picture) if part.tag.endswith("path")]
    assert len(paths) == 3  # a: kept, and read although not kept; b: a view
    assert [path.count("M") for path in paths] == [2, 1, 1]


def test_the_card_of_a_result_draws_every_channel_and_says_why_the_solve_ended():
    result = solvers.solve(random_masks(64, 5, seed=1), solver="greedy", objective="span")
    markup = result._repr_html_()
    assert "shares are drawn" not in markup and f">{result.stop_reason}</td>" in markup


def test_values_are_abbreviated():
    assert short(list(range(9))) == "<9 int>" and short({1, 2}) == "{1, 2}" and short((1,)) == "(1,)"
    assert short({str(i): np.ones(3) for i in range(9)}) == "<9 ndarray by str>"
    assert len(short("x" * 9999)) < 130 and short(np.array([1, 2])) == "array([1, 2])"

    @shown
    @dataclasses.dataclass(frozen=True)
    class Many:
        values: tuple

        def __str__(self):
            return "many words\nand more"

    assert repr(Many(())) == "<Many words>" and Many(())._repr_html_().count("words") == 1
