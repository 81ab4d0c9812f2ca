"""Tests of what is found in every access of an export: copies that hide behind free read modes, and no others."""

import json
import subprocess
import sys

import networks
import numpy as np
import pytest
import torch
from command_line import NETS, SHAPE, upscale_opt
from torch import nn

from upscale_opt import (
    AccessProfile,
    CopyFound,
    ModelError,
    access_table,
    effective_masks,
    export,
    extract,
    profile_accesses,
    trace,
)
from upscale_opt.latency.access_nodes import nodes_of_accesses
from upscale_opt.latency.access_profiles import profile_accesses_interleaved
from upscale_opt.planning.plans import Plan, baseline_plan

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Branches(nn.Module):
    """Three convolutions, one behind work of its own, read one tensor; all its consumers but one may select."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first = nn.Conv2d(16, 8, 3, padding=1)
        self.second = nn.Conv2d(16, 8, 1)
        self.bn = nn.BatchNorm2d(16)
        self.third = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return self.first(x) + self.second(x) + self.third(torch.relu(self.bn(x)))


def exported(kept, modes, *, batch=1, memory_format="contiguous"):
    """The export of `Branches` in the original order, with the given channels and modes; and its input."""
    torch.manual_seed(0)
    model = Branches().eval()
    x = torch.randn(batch, 3, 8, 8)
    masks = {f"{name}.weight": np.isin(np.arange(16), list(channels)) for name, channels in kept.items()}
    graph = trace(model, x)
    settled = effective_masks(graph, masks).masks
    problems = extract(graph, settled).values()
    orders = {
        block.name: np.asarray(stored)
        for problem in problems
        for block, stored in zip(problem.blocks, problem.stored, strict=True)
    }
    reads = {access.name: "view" for problem in problems for access in problem.accesses}
    plan = Plan(settled, orders, reads | modes)
    result = export(model, x, plan)
    result.module.to(memory_format=FORMATS[memory_format])
    return result, x.contiguous(memory_format=FORMATS[memory_format])


def profiles(*arguments, **options):
    found = profile_accesses(*exported(*arguments, **options), repeats=2)
    return {own.name: own for own in found}


SLICE = {"first": range(4, 12)}


def test_an_access_widened_to_all_that_is_stored_selects_nothing():
    """What stands in front of it then serves others, too."""
    result, x = exported(SLICE, {"first": "over-read"})
    narrow = {own.name: own for own in nodes_of_accesses(result)}["first"]
    plan = result.plan.with_readings(["first"], width=16)
    model = Branches().eval()
    wide = {own.name: own for own in nodes_of_accesses(export(model, x, plan, verify=False))}["first"]
    assert len(narrow.selection) == 1 and narrow.selection[0] != "stem"
    assert (wide.kept, wide.stored, wide.selection, wide.prologue) == (8, 16, (), ())


@pytest.mark.parametrize("mode", ["pieces", "over-read"])
def test_a_range_that_spans_all_selects_only_in_pieces(mode):
    result, _ = exported({"first": [0, 1, 2, 13, 14, 15]}, {"first": mode})
    (own,) = (own for own in nodes_of_accesses(result) if own.name == "first")
    assert len(own.selection) == (3 if mode == "pieces" else 0)  # two slices and their concat


@pytest.mark.parametrize(
    ("batch", "memory_format", "copied"),
    [(1, "contiguous", False), (4, "contiguous", True), (1, "channels_last", True), (4, "channels_last", True)],
)
def test_a_slice_is_copied_but_for_one_contiguous_sample(batch, memory_format, copied):
    """A convolution makes its input contiguous: a copy as large as the input, named in the consumer that has it."""
    found = profiles(SLICE, {}, batch=batch, memory_format=memory_format)
    own = found["first"]
    assert (own.mode, own.kept, own.stored, own.input_bytes) == ("view", 8, 16, batch * 8 * 64 * 4)
    assert own.is_hidden_copy is copied
    assert [(copy.operator, copy.count, copy.bytes) for copy in own.copies] == (
        [("aten::contiguous", 1, own.input_bytes)] if copied else []
    )
    others = [found[name] for name in ("stem", "second", "third")]
    assert all(other.mode == "full" and not other.copies and not other.is_hidden_copy for other in others)


def test_an_over_read_is_copied_with_what_nobody_wants():
    own = profiles({"first": (2, 9)}, {"first": "over-read"}, batch=2)["first"]
    assert (own.mode, own.kept, own.is_hidden_copy) == ("over-read", 2, True)
    assert own.copied_bytes == own.input_bytes == 2 * 8 * 64 * 4


@pytest.mark.parametrize(("mode", "operator"), [("copy", "aten::index_select"), ("pieces", "aten::cat")])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_copy_that_was_planned_is_found_but_not_hidden(mode, operator, memory_format):
    """And nothing is copied again inside the consumer: the selection hands it what it can read."""
    own = profiles({"first": range(0, 16, 2)}, {"first": mode}, batch=2, memory_format=memory_format)["first"]
    assert (own.mode, own.is_hidden_copy) == (mode, False)
    assert [(copy.operator, copy.count, copy.bytes) for copy in own.copies] == [(operator, 1, own.input_bytes)]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_is_found_where_nothing_is_selected(batch, memory_format):
    found = profiles({}, {}, batch=batch, memory_format=memory_format)
    assert list(found) == ["stem", "first", "second", "third"]
    assert all(own.mode == "full" and not own.copies for own in found.values())


def test_copies_of_contiguous_inputs_are_not_counted():
    """A channels_last weight has its consumer convert any contiguous input: not the selection's doing."""
    result, x = exported({}, {}, batch=2, memory_format="channels_last")
    with torch.profiler.profile() as profiler:
        result(x.contiguous())
    assert "aten::contiguous" in {event.name for event in profiler.events()}
    found = {own.name: own for own in profile_accesses(result, x.contiguous(), repeats=1)}
    assert not found["stem"].copies


LOG = """
import torch
from torch.nn import functional
for batch in (1, 4):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        for kernel in (1, 3):
            weight = torch.zeros(64, 64, kernel, kernel).contiguous(memory_format=memory_format)
            part = torch.zeros(batch, 80, 28, 28).contiguous(memory_format=memory_format).narrow(1, 5, 64)
            for x in (part, part.clone()):
                print("CASE", flush=True)
                with torch.inference_mode(), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                    functional.conv2d(x, weight)
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_one_dnn_hides_no_copy():
    """What the profiler cannot see: oneDNN runs the same primitives for a slice as for its contiguous copy."""
    log = subprocess.run([sys.executable, "-c", LOG], capture_output=True, text=True, check=True).stdout
    lines = [line.rpartition(",")[0] if ",exec," in line else line for line in log.splitlines()]
    kept = [line for line in lines if ",exec," in line or line == "CASE"]
    cases = [case.splitlines() for case in "\n".join(kept).split("CASE")[1:]]
    assert len(cases) == 16 and any(len(case) > 1 for case in cases)
    assert cases[::2] == cases[1::2]


def test_work_in_front_belongs_to_the_only_access_that_uses_it():
    result, x = exported({"third": range(4, 12), "first": range(0, 16, 2)}, {"first": "copy"})
    nodes = {own.name: own for own in nodes_of_accesses(result)}
    assert nodes["third"].prologue == ("bn", "relu") and len(nodes["third"].selection) == 1
    assert nodes["first"].prologue == () and len(nodes["first"].selection) == 1
    assert nodes["second"].prologue == nodes["second"].selection == ()
    found = {own.name: own for own in profile_accesses(result, x, repeats=2)}
    assert found["third"].prologue_seconds > 0 == found["first"].prologue_seconds


@pytest.mark.parametrize("early", [True, False])
def test_every_node_of_a_dense_network_belongs_to_an_access(early):
    """The concats, too, whether channels are selected inside them or behind what follows."""
    model, inputs = networks.make(networks.Dense)
    graph = trace(model, inputs)
    reads = [read.name for read in graph.reads]
    sizes = {name: graph.module.get_parameter(f"{name}.weight").shape[1] for name in reads}
    masks = effective_masks(graph, {name: np.arange(size) % 2 == 0 for name, size in sizes.items()}).masks
    plan = baseline_plan(extract(graph, masks), masks)
    plan = plan.with_readings(late=True).with_readings(reads if early else (), late=False)
    result = export(model, inputs, plan)
    accesses = nodes_of_accesses(result)
    owned = [node for own in accesses for node in (own.consumer, *own.selection, *own.prologue)]
    others = [node.name for node in result.module.graph.nodes if node.name not in owned]
    assert len(owned) == len(set(owned)) and sum("cat" in node for node in owned) == 4
    assert not [node for node in others if node.startswith(("cat", "norms", "convs", "relu", "last"))]


def test_pieces_are_selected_by_slices_and_their_concatenation():
    result, _ = exported({"third": (0, 1, 8, 9)}, {"third": "pieces"})
    third = next(own for own in nodes_of_accesses(result) if own.name == "third")
    assert len(third.selection) == 3 and third.prologue == ("bn", "relu")


@pytest.mark.parametrize("network", [networks.Dense, networks.Inverted, networks.Flattened, networks.Shared])
def test_every_read_of_a_network_is_profiled(network, planned):
    model, inputs = networks.make(network)
    graph, _, _, plan = planned(model, inputs)
    found = profile_accesses(export(model, inputs, plan, graph=graph, verify=False), inputs, repeats=1)
    assert {own.name for own in found} == {read.name for read in graph.reads}
    for own in found:
        assert own.mode == "full" or own.mode == plan.readings[own.name].mode
        if own.mode in ("copy", "pieces"):
            assert own.copies and not own.is_hidden_copy


def access(name, seconds=1e-3, *, mode="view", copied=0):
    copies = (CopyFound("aten::contiguous", 1, seconds / 2, copied),) if copied else ()
    return AccessProfile(name, mode, 8, 16, 4096, seconds, 1e-6, 0.0, copies)


def test_the_table_has_the_worst_accesses_first_and_counts_the_rest():
    found = [access(f"conv{i}") for i in range(20)]
    found += [access("slow", 2e-3, mode="copy", copied=4096), access("hidden", copied=4096), access("small", copied=64)]
    lines = access_table(found).splitlines()
    rule = next(line for line in lines if set(line.strip()) == {"-"})
    table = lines[lines.index(rule) + 1 :]
    rows = [line.split()[0] for line in table[: table.index("")]]
    assert rows[:3] == ["hidden", "slow", "small"] and len(rows) == 15
    assert sum("hidden copy" in line for line in lines) == 1
    assert lines[-1] == "accesses: 23, with hidden copies: 1, 4 KiB a pass; 8 not shown"


def test_profiles_become_plain_values():
    document = json.loads(json.dumps(access("a", copied=4096).to_dict()))
    assert document["is_hidden_copy"] is True and document["input_bytes"] == 4096
    assert document["copies"] == [{"operator": "aten::contiguous", "count": 1, "seconds": 5e-4, "bytes": 4096}]


def test_what_cannot_be_profiled_is_refused():
    result, x = exported({}, {})
    with pytest.raises(ModelError, match="repeats is 0; give a whole number of at least 1"):
        profile_accesses(result, x, repeats=0)
    with pytest.raises(ModelError, match="does not run on the example inputs"):
        profile_accesses(result, torch.zeros(1, 5, 8, 8))


def test_the_command_line_profiles_accesses_batches_and_formats(tmp_path):
    plan, document = tmp_path / "plan.json", tmp_path / "p.json"
    solved = upscale_opt("solve", "--model", f"{NETS}:Residual", *SHAPE, "--solver", "greedy", "--save-plan", plan)
    assert solved.returncode == 0, solved.stderr
    options = ("--batch", 4, "--memory-format", "channels_last", "--accesses", "--json", document)
    profiled = upscale_opt("profile", "--plan", plan, *options)
    assert profiled.returncode == 0, profiled.stderr
    assert "hidden copy" in profiled.stdout and "KINETO" not in profiled.stderr and "USDT" not in profiled.stderr
    found = json.loads(document.read_text())
    assert found["input_shape"] == [4, 3, 8, 8] and found["memory_format"] == "channels_last"
    assert list(found["latency"]) == ["unpruned", "baseline", "planned", "floor"]
    views = [own for own in found["accesses"] if own["mode"] == "view"]
    assert views and all(own["is_hidden_copy"] for own in views if "conv" in own["name"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--accesses",), "add --plan"),
        (("--memory-format", "nhwc"), "choose from contiguous, channels_last"),
        (("--batch", 0), "--batch is 0"),
        (("--memory-format", "channels_last", "--input-shape", "1,8"), "4 dimensions"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(options, message):
    refused = upscale_opt("profile", "--model", f"{NETS}:Residual", *options)
    assert refused.returncode == 2 and message in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_passes_of_several_exports_take_turns(monkeypatch):
    from upscale_opt.latency import access_profiles

    made = {name: exported({name: range(8)}, {name: "copy"}) for name in ("first", "second")}
    honest, turns = access_profiles.profiled_pass, []

    def noting(runner, *given, **options):
        turns.append(next(name for name, own in made.items() if own[0].module is runner.module))
        return honest(runner, *given, **options)

    monkeypatch.setattr(access_profiles, "profiled_pass", noting)
    exports, x = {name: own[0] for name, own in made.items()}, made["first"][1]
    found = profile_accesses_interleaved(exports, x, repeats=2)
    assert turns == 3 * ["first", "second"]
    assert {name: [p.name for p in own if p.mode == "copy"] for name, own in found.items()} == {
        "first": ["first"],
        "second": ["second"],
    }
