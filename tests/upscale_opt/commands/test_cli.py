"""Tests of the command line: documents, exit codes, one-sentence errors, nothing half-written."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from command_line import NETS, ROOT, SHAPE, upscale_opt, upscale_opt_process

import solvers
from problems import evaluate, write_instance
from problems.checker.checking import main as check_proofs
from problems.generators import grouped_masks, random_masks, with_tables
from problems.order_files import read_order
from upscale_opt.__main__ import main
from upscale_opt.commands.cli import app


def test_solve_writes_table_document_plan_and_export(tmp_path):
    """Everything `solve` can write, checked against the documented format; then export from the plan."""
    plan, document, directory = tmp_path / "plan.json", tmp_path / "out.json", tmp_path / "export"
    model = ("--model", f"{NETS}:Residual", *SHAPE)
    outputs = ("--save-plan", plan, "--json", document, "--export", directory)
    result = upscale_opt_process("solve", *model, "--objective", "copies", "--segments", *outputs)
    assert result.returncode == 0, result.stderr
    assert "greedy" in result.stdout and "auto" in result.stdout and "stem" in result.stdout
    found = json.loads(document.read_text())
    assert {"model", "amount", "objective", "environment", "segments", "totals", "trace_seconds", "verified"} <= set(
        found
    )
    assert list(found["totals"]) == ["greedy", "auto"] == list(found["verified"])
    assert set(found["totals"]["greedy"]) == {
        *("objective", "bound", "views", "over_reads", "pieces", "copies", "copied_channels", "seconds"),
    }
    assert found["costs"] is None and found["cost_model"] is None
    segment = next(segment for segment in found["segments"] if segment["name"] == "stem")
    assert (segment["channels"], segment["accesses"]) == (16, 4)
    assert list(segment["solvers"]["auto"]) == [
        *("objective", "bound", "gap", "status", "seconds", "views", "over_reads", "pieces", "copies"),
        *("copied_channels", "span", "runs", "reads"),
    ]
    assert set(segment["solvers"]["auto"]["reads"].values()) <= {"view", "copy"}
    assert segment["solvers"]["auto"]["status"] == "OPTIMAL"
    assert max(found["verified"].values()) <= 1e-9
    assert found["gradients"].keys() == found["verified"].keys() and max(found["gradients"].values()) <= 1e-9
    assert sorted(path.name for path in directory.iterdir()) == ["model.safetensors", "plan.json"]

    again = upscale_opt("export", "--plan", plan, "--verify", "--json", document)
    assert again.returncode == 0, again.stderr
    assert json.loads(document.read_text())["verified"]["plan"] <= 1e-9


def test_export_profile_compare_and_show(tmp_path):
    model = ("--model", f"{NETS}:Inverted", *SHAPE)
    exported = upscale_opt("export", *model, "--solver", "greedy", "--export", tmp_path / "e")
    assert exported.returncode == 0, exported.stderr
    profiled = upscale_opt("profile", "--plan", tmp_path / "e" / "plan.json", "--json", tmp_path / "p.json")
    assert profiled.returncode == 0, profiled.stderr
    assert list(json.loads((tmp_path / "p.json").read_text())["latency"]) == [
        "unpruned",
        "baseline",
        "planned",
        "floor",
    ]
    compared = upscale_opt("compare", *model, "--json", tmp_path / "c.json")
    assert compared.returncode == 0, compared.stderr
    assert list(json.loads((tmp_path / "c.json").read_text())["latency"]) == [
        "unpruned",
        "baseline",
        "greedy",
        "auto",
        "floor",
    ]
    assert "to floor" in profiled.stdout and "to floor" in compared.stdout
    shown = upscale_opt("show", *model, "--out", tmp_path / "pictures")
    assert shown.returncode == 0, shown.stderr
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == ["expand.png", "stem.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_instances_are_solved_and_shown(tmp_path):
    write_instance(random_masks(24, 4), tmp_path / "a.json")
    solved = upscale_opt("solve", "--instance", tmp_path / "a.json", "--objective", "span", "--json", tmp_path / "o")
    assert solved.returncode == 0, solved.stderr
    found = json.loads((tmp_path / "o").read_text())
    assert found["model"] is None and found["segments"][0]["accesses"] == 4
    shown = upscale_opt("show", "--instance", tmp_path / "a.json", "--out", tmp_path)
    assert shown.returncode == 0 and shown.stdout.strip().endswith(".png")


def test_matrices_are_solved_as_instances(tmp_path):
    (tmp_path / "m.txt").write_text("3 4\n2 1 3\n2 2 4\n2 1 4\n")
    command = ("solve", "--objective", "runs", "--json", tmp_path / "o", "--instance")
    solved = upscale_opt(*command, tmp_path / "m.txt")
    assert solved.returncode == 0, solved.stderr
    (segment,) = json.loads((tmp_path / "o").read_text())["segments"]
    assert segment["name"] == "m" and segment["solvers"]["auto"]["objective"] == 3
    (tmp_path / "m.txt").write_text("3 4\n2 1 3\n")
    refused = upscale_opt(*command, tmp_path / "m.txt")
    assert refused.returncode == 2 and "ends before row 2" in refused.stderr and "Traceback" not in refused.stderr


def _latency_of(found, solver):
    """Check what a latency document says of one solver; returns its modes over all segments."""
    entries = [segment["solvers"][solver] for segment in found["segments"]]
    modes = [mode for entry in entries for mode in entry["reads"].values()]
    total = found["totals"][solver]
    for key, mode in (("views", "view"), ("over_reads", "over-read"), ("pieces", "pieces"), ("copies", "copy")):
        assert total[key] == modes.count(mode) == sum(entry[key] for entry in entries)
    assert total["objective"] == sum(entry["objective"] for entry in entries)
    assert all(entry["bound"] is None or entry["bound"] <= entry["objective"] for entry in entries)
    return modes


def test_latency_of_a_model_is_solved_reported_and_verified(tmp_path):
    """Nanoseconds per segment and in all, what every access does, and that nothing was measured."""
    model = ("--model", f"{NETS}:Residual", *SHAPE, "--objective", "latency")
    outputs = ("--json", tmp_path / "o.json", "--save-plan", tmp_path / "p.json")
    solved = upscale_opt("solve", *model, "--segments", "--no-measure", *outputs)
    assert solved.returncode == 0, solved.stderr
    assert "costs: analytic (estimated from shapes; nothing was measured here)" in solved.stdout
    assert all(heading in solved.stdout for heading in (" ns ", "views", "over-reads", "pieces", "copies", "gap"))
    found = json.loads((tmp_path / "o.json").read_text())
    assert (found["objective"], found["costs"]) == ("latency", "analytic")
    assert "2000 ns a launch" in found["cost_model"]
    assert len(_latency_of(found, "greedy")) == len(_latency_of(found, "auto")) == 9
    assert found["totals"]["auto"]["objective"] <= found["totals"]["greedy"]["objective"]
    assert max(found["verified"].values()) <= 1e-9
    again = upscale_opt("export", "--plan", tmp_path / "p.json")
    assert again.returncode == 0 and "verified" in again.stdout


def test_latency_with_pieces_is_exported_and_loaded_again(tmp_path, monkeypatch, capsys):
    """On a device where joining is free: pieces in the report, the plan and the export, all verified."""
    from upscale_opt import AnalyticCosts

    joins = AnalyticCosts(piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
    monkeypatch.setattr(AnalyticCosts, "for_device", classmethod(lambda cls, kind: joins))
    model = ["--model", f"{NETS}:Residual", *SHAPE, "--objective", "latency", "--json", str(tmp_path / "o.json")]
    for command in (
        ["solve", *model, "--no-measure", "--export", str(tmp_path / "e")],
        ["export", "--plan", str(tmp_path / "e" / "plan.json")],
        ["show", *model[:-2], "--out", str(tmp_path / "pictures")],
    ):
        monkeypatch.setattr(sys, "argv", ["upscale-opt", *command])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "o.json").read_text())
    assert "pieces" in _latency_of(found, "auto") and max(found["verified"].values()) <= 1e-9
    assert "pieces" in json.loads((tmp_path / "e" / "plan.json").read_text())["reads"].values()
    assert (tmp_path / "pictures" / "stem.png").exists()


def test_an_instance_with_tables_that_are_not_concave_says_how_far_the_bound_is(tmp_path):
    """Value, bound and gap in nanoseconds, whatever the ticks; the value is what evaluating the order gives."""
    problem = with_tables(random_masks(40, 5), concave=False)
    assert problem.ticks > 1 and not all(access.table.read.is_concave for access in problem.accesses)
    write_instance(problem, tmp_path / "a.json")
    solved = upscale_opt(
        *("solve", "--instance", tmp_path / "a.json", "--objective", "latency", "--json", tmp_path / "o.json"),
        *("--time-limit", "2"),
    )
    assert solved.returncode == 0, solved.stderr
    assert "latency us" in solved.stdout and "costs: instance (the cost tables of the file)" in solved.stdout
    found = json.loads((tmp_path / "o.json").read_text())
    assert (found["costs"], found["cost_model"]) == ("instance", None)
    entry = found["segments"][0]["solvers"]["auto"]
    _latency_of(found, "auto")
    worst = sum(access.table.read.costs[-1] for access in problem.accesses)
    least = sum(access.table.read.costs[0] for access in problem.accesses)
    assert least <= entry["bound"] <= entry["objective"] <= worst
    assert entry["gap"] == pytest.approx((entry["objective"] - entry["bound"]) / entry["objective"])
    assert f"{100 * entry['gap']:.1f} %" in solved.stdout


def test_proofs_are_printed_and_checked(tmp_path):
    """An instance: the words, a single file, a directory; the checker, another program, verifies what was written."""
    instance = tmp_path / "a.json"
    write_instance(random_masks(24, 4), instance)
    command = ("solve", "--instance", instance, "--proof", "--save-proof")
    solved = upscale_opt(*command, tmp_path / "p.json", "--objective", "copies")
    assert solved.returncode == 0, solved.stderr
    assert "every order has copies >= " in solved.stdout and ": optimal" in solved.stdout
    assert "  at most 2 of access0, access1, access2 and access3 can be views: " in solved.stdout
    into_directory = upscale_opt(*command, tmp_path / "d", "--objective", "span")
    assert into_directory.returncode == 0, into_directory.stderr
    stem = json.loads(instance.read_text())["name"]
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        *(f"{stem}.json", f"{stem}.proof.json", f"{stem}.order.json"),
    }
    directory = tmp_path / "d"
    for arguments in (
        (instance, "--proof", tmp_path / "p.json"),
        (
            *(directory / f"{stem}.json", "--order", directory / f"{stem}.order.json"),
            *("--proof", directory / f"{stem}.proof.json"),
        ),
    ):
        checked = subprocess.run(
            [sys.executable, "-m", "problems.checking", *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert checked.stdout.splitlines()[-1].partition(":")[0] in ("verified", "on trust")


def test_a_models_proofs_fill_a_directory(tmp_path):
    """One proof a segment, each with its instance, all verified by the checker."""
    model = ("--model", f"{NETS}:Residual", *SHAPE)
    how = ("--objective", "copies", "--no-verify", "--no-measure")
    solved = upscale_opt("solve", *model, "--proof", "--save-proof", tmp_path / "d", *how)
    assert solved.returncode == 0, solved.stderr
    assert "stem: every order has copies >= " in solved.stdout
    proofs = sorted((tmp_path / "d").glob("*.proof.json"))
    assert "stem.proof.json" in [path.name for path in proofs]
    for path in proofs:
        stem = path.name.removesuffix(".proof.json")
        names = [str(tmp_path / "d" / f"{stem}{ending}.json") for ending in ("", ".order", ".proof")]
        assert check_proofs([names[0], "--order", names[1], "--proof", names[2]]) == 0


def _bad_inputs(tmp_path):
    """Every kind of bad input: arguments, and what the one sentence must contain."""
    newer = tmp_path / "newer.json"
    newer.write_text('{"format": "upscale_opt.instance", "version": 99}')
    (tmp_path / "newer_plan.json").write_text('{"format": "upscale_opt.plan", "version": 99}')
    (tmp_path / "corrupt.json").write_text("{")
    write_instance(random_masks(8, 2), tmp_path / "untimed.json")
    (tmp_path / "garbage.pt").write_bytes(b"garbage")
    (tmp_path / "short.json").write_text('{"down.weight": [true, false]}')
    (tmp_path / "absent.json").write_text('{"nowhere.weight": [0]}')
    net = ("--model", f"{NETS}:Residual", *SHAPE)
    return [
        (("solve", "--model", "resnet5O"), "did you mean"),
        (("solve", *net, "--weights", tmp_path / "garbage.pt"), "weights_only=True"),
        (("solve", *net, "--weights", tmp_path / "nothing.pt"), "cannot read the checkpoint"),
        (("solve", *net, "--masks", tmp_path / "short.json"), "down.weight"),
        (("solve", *net, "--masks", tmp_path / "absent.json"), "nowhere.weight"),
        (("solve", *net, "--amount", "1"), "outside [0, 1)"),
        (("solve", *net, "--amount", "-0.5"), "outside [0, 1)"),
        (("solve", "--model", f"{NETS}:Residual", "--input-shape", "1,4,8,8"), "give inputs that it accepts"),
        (("solve", "--model", f"{NETS}:Residual", "--input-shape", "1,3,eight"), "write it like 1,3,224,224"),
        (("solve", "--instance", tmp_path / "corrupt.json"), "not valid JSON"),
        (("solve", "--instance", newer), "newer"),
        (("export", "--plan", tmp_path / "corrupt.json"), "not valid JSON"),
        (("export", "--plan", tmp_path / "newer_plan.json"), "newer"),
        (("solve", *net, "--json", tmp_path / "no" / "such" / "directory.json"), "cannot write"),
        (("solve", *net, "--save-plan", tmp_path), "is a directory"),
        (("solve", *net, "--export", tmp_path / "garbage.pt"), "cannot write"),
        (("solve", *net, "--save-proof", tmp_path / "p.json"), "name a directory"),
        (("solve", *net, "--save-proof", tmp_path / "garbage.pt"), "cannot write"),
        (("solve", *net, "--solver", "oracle"), "there is no solver 'oracle'"),
        (("solve", *net, "--objective", "beauty"), "there is no objective 'beauty'"),
        (("solve", *net, "--time-limit", "0"), "above 0"),
        (("solve", *net, "--device", "abacus"), "there is no device"),
        (("solve",), "either --model or --instance"),
        (("solve", "--instance", tmp_path / "untimed.json", "--objective", "latency"), "has no cost table"),
    ]


@pytest.mark.parametrize("case", range(24))
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, case, monkeypatch, capsys):
    arguments, message = _bad_inputs(tmp_path)[case]
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(sys, "argv", ["upscale-opt", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 2, captured.err
    assert message in captured.err and "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_failed_verification_is_exit_code_1(monkeypatch, capsys):
    """A rewriting that forgets to reorder one weight: found, named, exit code 1."""
    from upscale_opt.rewriting import read_rewriting

    honest = read_rewriting.ReadRewriter._slice_weight

    def wrong(self, read, columns):
        honest(self, read, columns[::-1].copy() if read.name == "down" else columns)

    monkeypatch.setattr(read_rewriting.ReadRewriter, "_slice_weight", wrong)
    monkeypatch.setattr(sys, "argv", ["upscale-opt", "solve", "--model", f"{NETS}:Residual", *SHAPE])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 1 and "first module that differs is down" in captured.err


def test_an_emptied_consumer_keeps_its_best_channel_and_says_so(tmp_path):
    (tmp_path / "masks.json").write_text('{"down": []}')
    model = ("--model", f"{NETS}:Residual", *SHAPE, "--solver", "greedy")
    result = upscale_opt("export", *model, "--masks", tmp_path / "masks.json", "--json", tmp_path / "out.json")
    assert result.returncode == 0, result.stderr
    assert "down.weight keeps nothing" in result.stderr
    assert "down.weight keeps nothing" in json.loads((tmp_path / "out.json").read_text())["messages"][0]


def test_masks_may_be_pairs_of_a_weight_and_a_pruned_channel(tmp_path, monkeypatch):
    (tmp_path / "pairs.json").write_text('[["down.weight", 0], ["down", 5]]')
    out = tmp_path / "out.json"
    given = ("--masks", tmp_path / "pairs.json", "--solver", "greedy", "--no-verify", "--no-measure", "--json", out)
    monkeypatch.setattr(sys, "argv", ["upscale-opt", "solve", "--model", f"{NETS}:Residual", *SHAPE, *map(str, given)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    kept = {own["weight"]: (own["inputs"], own["kept"]) for own in json.loads(out.read_text())["masks"]}
    assert kept["down.weight"] == (kept["down.weight"][0], kept["down.weight"][0] - 2)


@pytest.mark.parametrize("option", ["--proof", "--save-proof"])
def test_a_proof_of_an_instance_whose_groups_may_change_places_is_refused(option, tmp_path, monkeypatch, capsys):
    """One sentence, before anything is solved or written."""
    write_instance(grouped_masks(4, 3, 4, seed=2), tmp_path / "groups.json")
    arguments = ["--proof"] if option == "--proof" else [option, str(tmp_path / "proof.json")]
    monkeypatch.setattr(sys, "argv", ["upscale-opt", "solve", "--instance", str(tmp_path / "groups.json"), *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 2 and not (tmp_path / "proof.json").exists() and captured.out == ""
    assert "units of blocks that may change places" in captured.err and len(captured.err.splitlines()) == 1


def interrupted(arguments, seconds):
    """The command, stopped by Ctrl-C after so many seconds; exit code and standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "upscale_opt", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_solved(tmp_path):
    """Ctrl-C during a long search: exit code 130, and a document with the best orders so far, better than greedy's.

    On a busy machine the search may not have begun after a few seconds; then it is given more.
    """
    problem = random_masks(400, 24)
    write_instance(problem, tmp_path / "hard.json")
    document = tmp_path / "out.json"
    arguments = ("solve", "--instance", tmp_path / "hard.json", "--objective", "span", "--time-limit", "600")
    for seconds in (8, 30, 120):
        code, errors = interrupted((*arguments, "--json", document), seconds)
        if document.exists() and (segments := json.loads(document.read_text())["segments"]):
            values = [entry["objective"] for entry in segments[0]["solvers"].values()]
            if len(values) == 2 and values[1] < values[0]:
                break
    assert code == 130, errors
    assert "Traceback" not in errors and "the best orders so far are in" in errors
    found = json.loads(document.read_text())
    assert found["interrupted"]
    (segment,) = found["segments"]
    for name, entry in segment["solvers"].items():
        (tmp_path / "order.json").write_text(json.dumps({"orders": entry["orders"]}))
        order = read_order(tmp_path / "order.json", problem)
        assert evaluate(problem, order, "span").value == entry["objective"] == found["totals"][name]["objective"]
        assert entry["bound"] <= entry["objective"] and entry.get("interrupted", False) == (name == "auto")
    assert list(segment["solvers"]) == ["greedy", "auto"]
    assert segment["solvers"]["auto"]["objective"] < segment["solvers"]["greedy"]["objective"]


def test_an_interrupted_model_keeps_its_finished_segments(tmp_path, monkeypatch, capsys):
    calls = []
    honest = solvers.solve

    def stops_at_seven(problem, **options):
        calls.append(problem.name)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return honest(problem, **options)

    monkeypatch.setattr(solvers, "solve", stops_at_seven)
    document = tmp_path / "out.json"
    arguments = ["solve", "--model", f"{NETS}:Residual", *SHAPE, "--json", str(document)]
    monkeypatch.setattr(sys, "argv", ["upscale-opt", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert "interrupted after 3 of 7 segments" in capsys.readouterr().err
    found = json.loads(document.read_text())
    assert [segment["name"] for segment in found["segments"]] == ["x", "stem", "blocks.0.conv1"]


def test_an_interrupted_model_keeps_the_best_order_of_the_segment_at_hand(tmp_path, monkeypatch, capsys):
    """Ctrl-C inside the second segment's search: the first is whole, the second has greedy's order and one so far."""
    honest = solvers.solve
    calls = []

    def stop(progress):
        raise KeyboardInterrupt

    def stops_at_four(problem, **settings):
        calls.append(problem.name)
        return honest(problem, **settings | {"progress": stop if len(calls) == 4 else None})

    monkeypatch.setattr(solvers, "solve", stops_at_four)
    document = tmp_path / "out.json"
    arguments = ["solve", "--model", f"{NETS}:Residual", *SHAPE, "--objective", "span", "--json", str(document)]
    monkeypatch.setattr(sys, "argv", ["upscale-opt", *arguments])
    with pytest.raises(SystemExit) as stop_:
        main()
    assert stop_.value.code == 130
    assert (
        "interrupted after 1 of 7 segments; they and the best orders so far of the next one" in capsys.readouterr().err
    )
    found = json.loads(document.read_text())
    assert [segment["name"] for segment in found["segments"]] == calls[::2][:2]
    for k, segment in enumerate(found["segments"]):
        assert list(segment["solvers"]) == ["greedy", "auto"]
        for name, entry in segment["solvers"].items():
            assert entry.get("interrupted", False) == (k == 1 and name == "auto")
            assert sum(map(len, entry["orders"].values())) > 0


PLANNED = {
    "--amount": "0.3",
    "--masks": "masks.json",
    "--output-masks": "masks.json",
    "--mode": "output",
    "--ignore": "stem",
    "--round-to": "2",
    "--min-channels": "2",
    "--solver": "auto",
    "--objective": "span",
    "--time-limit": "3",
    "--batch": "2",
    "--memory-format": "channels_last",
    "--backend": "eager",
    "--tables": "tables",
    "--seed": "0",
    "--input-shape": "1,3,8,8",
}


def refused(outcome, option):
    """Whether an outcome is one sentence, exit code 2, that names an option."""
    code, out, err = outcome
    return code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("error: ") and option in err


def test_options_that_say_nothing_beside_a_plan_are_refused_by_name(run, tmp_path):
    """All of `export` that a plan decides, whether the value makes sense, is the default, or is nonsense."""
    plan = tmp_path / "plan.json"
    assert run("export", "--model", f"{NETS}:Residual", *SHAPE, "--solver", "greedy", "--export", tmp_path)[0] == 0
    for option, value in PLANNED.items():
        assert refused(run("export", "--plan", plan, option, value), f"leave out {option}"), option
    assert refused(run("export", "--plan", plan, "--amount", "much", "--solver", "oracle"), "--amount and --solver")
    for option in ("--seed", "--input-shape"):
        assert refused(run("profile", "--plan", plan, option, PLANNED[option]), f"leave out {option}")
    code, out, err = run("export", "--plan", plan, "--no-verify", "--device", "cpu", "--export", tmp_path / "out")
    assert code == 0 and "written to" in out, err


@pytest.mark.parametrize("command", ["solve", "show"])
def test_options_on_a_model_are_refused_beside_an_instance(command, run, tmp_path):
    write_instance(random_masks(8, 2), tmp_path / "a.json")
    names = {
        "--amount": "0.3",
        "--weights": "DEFAULT",
        "--masks": "m.json",
        "--input-shape": "1,3,8,8",
        "--device": "cpu",
    }
    names |= {"--export": "e", "--save-plan": "p", "--format": "pt2", "--batch": "2"} if command == "solve" else {}
    for option, value in names.items():
        outcome = run(command, "--instance", tmp_path / "a.json", option, value)
        assert refused(outcome, f"leave out {option}"), option
    if command == "solve":
        assert refused(run("solve", "--instance", tmp_path / "a.json", "--no-verify"), "--no-verify")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("solve", "--model", "m", "--masks", "m.json", "--amount", "0.5"), "--amount"),
        (("profile", "--model", "m", "--no-verify"), "--no-verify"),
        (("prune", "--out", "o", "--objective", "span"), "--objective"),
        (("prune", "--out", "o", "--images", "9"), "--images"),
        (("prune", "--out", "o", "--data", "digits", "--input-shape", "1,1,8,8"), "--input-shape"),
        (("train", "--method", "none", "--amount", "0.3"), "--amount"),
        (("train", "--gamma", "2"), "--gamma"),
        (("train", "--method", "cgap", "--processes", "2"), "--processes"),
        (("train", "--method", "bip", "--partitions", "2"), "--partitions"),
        (("train", "--finetune-epochs", "2"), "--finetune-epochs"),
        (("train", "--masks", "m.json", "--scope", "global"), "--scope"),
        (("train", "--plan", "p.json", "--out", "o", "--ignore", "stem"), "--ignore"),
        (("allocate", "--model", "m", "--speedup", "2", "--workers", "2"), "--workers"),
    ],
)
def test_options_that_have_no_effect_are_refused_by_name(arguments, option, run):
    assert refused(run(*arguments), f"leave out {option}")


def numeric_options():
    """Command and option of everything that takes numbers."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        for parameter in inspect.signature(command.callback).parameters.values():
            kinds, *rest = get_args(parameter.annotation) or (None,)
            if {int, float} & {kinds, *get_args(kinds)}:
                given = [own for own in rest[0].param_decls or () if own.startswith("--")]
                yield name, (given or [f"--{parameter.name.replace('_', '-')}"])[0]


def test_the_numeric_options_are_found():
    found = set(numeric_options())
    assert {("solve", "--seed"), ("check", "--repeats"), ("train", "--lr"), ("allocate", "--speedup")} <= found
    assert len(found) > 50


LATER = ("--min-channels", "--trials", "--images")
"""Options that the library looks at, in words of its own."""


@pytest.mark.parametrize(("command", "option"), sorted(set(numeric_options())))
def test_numbers_that_make_no_sense_are_one_sentence(command, option, run):
    """In every command, before anything is built: exit code 2, no traceback, the option by name."""
    for value in ("-1", "nan", "1e400", "many", "99999999999999999999999999"):
        code, out, err = run(command, option, value)
        if option in LATER and value.lstrip("-").isdecimal():
            assert code == 2 and out == "" and len(err.splitlines()) == 1, (value, err)
        elif not (value.startswith("9") and {float} & _kinds(command, option)):
            assert refused((code, out, err), option), (value, err)


def _kinds(command, option):
    """The types of an option."""
    own = next(c for c in app.registered_commands if (c.name or c.callback.__name__) == command)
    for parameter in inspect.signature(own.callback).parameters.values():
        kinds, *rest = get_args(parameter.annotation) or (None,)
        names = [f"--{parameter.name.replace('_', '-')}", *(rest[0].param_decls or () if rest else ())]
        if option in names:
            return {kinds, *get_args(kinds)}
    raise AssertionError(option)


@pytest.mark.parametrize(
    "arguments",
    [
        ("solve", "--nonsense"),
        ("solve", "--seed"),
        ("solve", "extra"),
        ("dance",),
        ("solve", "--model", "m", "--json", "a" * 5000),
        ("calibrate", "--model", "m", "--tables", "a" * 5000),
        ("evaluate", "--data", "a" * 5000),
        ("solve", "--model", f"{NETS}:Residual", "--input-shape", "1,3,99999999999,8"),
        ("solve", "--model", f"{NETS}:Residual", "--input-shape", "2000000000,3,20000,20000"),
    ],
)
def test_a_command_line_that_is_none_is_one_sentence(arguments, run):
    assert refused(run(*arguments), "")


def test_help_names_every_command():
    result = upscale_opt_process("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("solve", "compare", "export", "profile", "show"))


@pytest.mark.slow
def test_latency_is_calibrated_solved_for_and_checked(tmp_path):
    """Three commands on one set of tables; the second says that its costs are measured."""
    model = ("--model", f"{NETS}:Residual", *SHAPE, "--batch", "2", "--memory-format", "channels_last")
    tables = ("--tables", tmp_path / "tables")
    before = upscale_opt("solve", *model, *tables, "--objective", "latency", "--no-measure")
    assert before.returncode == 0 and "costs: analytic" in before.stdout, before.stderr
    calibrated = upscale_opt("calibrate", *model, *tables, "--json", tmp_path / "tables.json")
    assert calibrated.returncode == 0, calibrated.stderr
    document = json.loads((tmp_path / "tables.json").read_text())
    assert Path(document["file"]).exists() and document["timings"]["timed"] > document["timings"]["search"] >= 0
    assert f"{sum(document['timings'].values())} timings made now" in calibrated.stdout
    solved = upscale_opt("solve", *model, *tables, "--no-measure", "--json", tmp_path / "solved.json")
    assert solved.returncode == 0 and "costs: measured" in solved.stdout, solved.stderr
    assert json.loads((tmp_path / "solved.json").read_text())["costs"] == "measured"
    outputs = ("--out", tmp_path / "scatter.png", "--json", tmp_path / "checked.json")
    checked = upscale_opt("check", *model, *tables, "--repeats", "2", "--time-limit", "1", *outputs)
    assert checked.returncode == 0, checked.stderr
    assert "exact latency" in checked.stdout and "per access" in checked.stdout
    document = json.loads((tmp_path / "checked.json").read_text())
    assert len(document["orders"]) == 11 and len(document["worst_accesses"]) == 10
    assert (tmp_path / "scatter.png").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--backend", "magic"), "there is no backend 'magic'"),
        (("--backend", "cuda-graph"), "needs a CUDA device"),
        (("--memory-format", "sideways"), "there is no memory format"),
        (("--batch", "0"), "--batch is 0"),
    ],
)
def test_measuring_that_makes_no_sense_is_refused_before_any_work(options, complaint, tmp_path):
    for command in ("compare", "calibrate", "check"):
        result = upscale_opt(command, "--model", f"{NETS}:Residual", *SHAPE, *options, "--json", tmp_path / "out.json")
        assert result.returncode == 2 and complaint in result.stderr and "Traceback" not in result.stderr
        assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("dtype", "complaint"), [("int8", "there is no dtype 'int8'"), ("tf32", "tf32 needs a CUDA device")]
)
def test_a_dtype_that_is_not_there_is_refused_before_any_work(dtype, complaint, tmp_path):
    for command in ("compare", "calibrate", "check", "solve", "profile"):
        out = tmp_path / "out.json"
        result = upscale_opt(command, "--model", f"{NETS}:Residual", *SHAPE, "--dtype", dtype, "--json", out)
        assert result.returncode == 2 and complaint in result.stderr and "Traceback" not in result.stderr
        assert not out.exists()


def test_half_precision_is_calibrated_checked_and_verified_in_float64(tmp_path):
    model = ("--model", f"{NETS}:Residual", *SHAPE, "--dtype", "bfloat16")
    tables = ("--tables", tmp_path / "tables")
    calibrated = upscale_opt("calibrate", *model, *tables, "--json", tmp_path / "tables.json")
    assert calibrated.returncode == 0 and "bfloat16" in calibrated.stdout, calibrated.stderr
    assert json.loads((tmp_path / "tables.json").read_text())["conditions"]["dtype"] == "bfloat16"
    told = ("--json", tmp_path / "compared.json")
    compared = upscale_opt("compare", *model, *tables, "--objective", "latency", "--repeats", "2", *told)
    assert compared.returncode == 0 and "costs: measured" in compared.stdout, compared.stderr
    assert "verified against the masked model in float64" in compared.stdout
    assert json.loads((tmp_path / "compared.json").read_text())["conditions"]["dtype"] == "bfloat16"
    profiled = upscale_opt("profile", *model, "--json", tmp_path / "profile.json")
    assert profiled.returncode == 0, profiled.stderr
    assert json.loads((tmp_path / "profile.json").read_text())["dtype"] == "bfloat16"


def test_an_instance_is_solved_with_rules_workers_and_a_log(tmp_path):
    write_instance(random_masks(60, 12, seed=1), tmp_path / "a.json")
    command = ("solve", "--instance", tmp_path / "a.json", "--objective", "span", "--json", tmp_path / "o.json")
    done = upscale_opt(*command, "--gap", "0.9", "--workers", "2", "--log", "--work-limit", "5", "--target", "0")
    assert done.returncode == 0, done.stderr
    assert "Starting the search" in done.stdout and "stop_reason: " in done.stdout and "#1 " in done.stdout
    for options, message in ((("--workers", "0"), "--workers is 0"), (("--gap", "-1"), "--gap is -1")):
        refused = upscale_opt(*command, *options)
        assert refused.returncode == 2 and message in refused.stderr
