"""A run computes what the store lacks, and nothing twice, also beside others."""

from dataclasses import replace

import pytest
from command_line import NETS

from upscale_opt.errors import SweepError
from upscale_opt.sweeps import computing, locks, running
from upscale_opt.sweeps.addresses import Addresses
from upscale_opt.sweeps.cells import ACCURACY, LATENCY, ORDERS, Axes, Condition, Masking, Model, Training, cells_of
from upscale_opt.sweeps.computing import Task, compute
from upscale_opt.sweeps.engines.serial import Serial
from upscale_opt.sweeps.owners import Owner, this_process
from upscale_opt.sweeps.rows import DONE, FAILED, Row
from upscale_opt.sweeps.running import part_of, run
from upscale_opt.sweeps.stores import open_store

AXES = Axes((Model("a"), Model("b")), amounts=("0.25", "0.5"))
CELLS = cells_of(AXES)
SMALL = Axes((Model(f"{NETS}:Residual", input_shape=(1, 3, 8, 8)),), time_limit=1.0)


@pytest.fixture(autouse=True)
def _own_lock(tmp_path, monkeypatch):
    monkeypatch.setenv(locks.DIRECTORY, str(tmp_path / "locks"))


@pytest.fixture
def computed(monkeypatch):
    """Cells that were computed; those of model b fail."""
    found = []

    def fake(task):
        found.append(task.cell)
        status = FAILED if task.cell.model.name == "b" else DONE
        return Row(task.address, status, task.cell.to_dict(), task.attempt, "" if status == DONE else "it is b")

    monkeypatch.setattr(running, "compute", fake)
    return found


@pytest.fixture(params=["s.sqlite", "s.jsonl"])
def store(request, tmp_path):
    with open_store(tmp_path / request.param) as opened:
        yield opened


def test_what_is_known_is_not_computed_again(store, computed, capsys):
    first = run(CELLS[:3], store, Serial())
    assert (first.done, first.failed, first.known) == (3, 0, 0)
    second = run(CELLS, store, Serial())
    assert (second.done, second.failed, second.known) == (1, 4, 3)
    assert computed == CELLS and "failed: orders b" in capsys.readouterr().err
    third = run(CELLS, store, Serial())
    assert (third.done, third.failed, third.known, third.failed_before) == (0, 0, 8, 4)
    again = run(CELLS, store, Serial(), retry_failed=True)
    assert (again.failed, again.known) == (4, 4) and len(computed) == 12
    assert len(list(store.rows())) == 8


def test_cells_that_others_compute_are_awaited(tmp_path, computed, monkeypatch):
    addresses = [Addresses().of(cell) for cell in CELLS[:2]]
    other = Owner("another machine", "7/7")
    with open_store(tmp_path / "s.sqlite") as store, open_store(tmp_path / "s.sqlite") as second:
        second.claim(addresses[0], other)
        second.claim(addresses[1], Owner(this_process().host, "1/other"))  # it has ended

        def meanwhile(seconds):
            second.append(Row(addresses[0], DONE, CELLS[0].to_dict()))

        monkeypatch.setattr(running.time, "sleep", meanwhile)
        summary = run(CELLS[:3], store, Serial())
        assert (summary.done, summary.others) == (2, 1) and computed == CELLS[1:3]
        assert len(store.known()) == 3


def test_parts_are_all_cells_once():
    parts = [part_of(CELLS, number, 3) for number in (1, 2, 3)]
    assert sorted(str(cell) for part in parts for cell in part) == sorted(map(str, CELLS)) and all(parts)
    with pytest.raises(SweepError, match="there is no part 4 of 3"):
        part_of(CELLS, 4, 3)


def tasks_of(axes):
    return [Task(Addresses().of(cell), 1, cell) for cell in cells_of(axes)]


@pytest.mark.slow
def test_a_cell_has_value_bound_and_costs():
    greedy, auto = (compute(task) for task in tasks_of(SMALL))
    assert greedy.done and auto.done, (greedy.reason, auto.reason)
    assert auto.figures["bound"] <= auto.figures["value"] <= greedy.figures["value"]
    assert auto.figures["value"] == auto.figures["copied_channels"] and auto.figures["relative_error"] < 1e-9
    assert auto.costs["peak_bytes"] > 0 and auto.environment["processor"]
    assert compute(tasks_of(SMALL)[1]).result() == auto.result()


def test_a_cell_that_fails_is_a_row_with_its_reason():
    row = compute(tasks_of(replace(SMALL, models=(Model(f"{NETS}:Nothing"),)))[0])
    assert row.status == FAILED and "has no factory 'Nothing'" in row.reason and not row.figures


def test_a_file_that_changes_meanwhile_makes_its_cells_fail(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS.read_text())
    task = tasks_of(replace(SMALL, models=(Model(f"{path}:Residual", input_shape=(1, 3, 8, 8)),)))[0]
    path.write_text(path.read_text() + "\n# changed\n")
    assert "the cell is not what was asked for" in compute(task).reason


@pytest.mark.slow
def test_accuracies_before_and_after_fine_tuning(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(),"
        " nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))\n"
    )
    axes = Axes(
        (Model(f"{path}:net"),),
        measure=(ACCURACY, ORDERS),
        methods=("greedy",),
        data="digits",
        training=Training(epochs=1, batch_size=256),
        masks=(Masking("hrank", data="digits", images=16),),
    )
    task = tasks_of(replace(axes, measure=(ACCURACY,)))[0]
    row, again = compute(task), compute(task)
    assert row.done, row.reason
    assert 0 < row.figures["tuned_top1"] <= 1 and row.figures["images"] == 500 and row.figures["epochs"] == 1
    assert row.result() == again.result()  # the network that is kept was not trained


@pytest.mark.slow
def test_latencies_are_measured_alone_and_in_turn(monkeypatch):
    held = []

    def measured(models, *given, **how):
        held.append(list(models))
        return original(models, *given, **how)

    from upscale_opt.sweeps import figures

    original = figures.profile_interleaved
    monkeypatch.setattr(figures, "profile_interleaved", measured)
    axes = replace(SMALL, measure=(LATENCY,), methods=("auto",), repeats=2, conditions=(Condition(batch=2, threads=1),))
    row = compute(tasks_of(axes)[0])
    assert row.done, row.reason
    assert held == [["unpruned", "baseline", "latency", "floor"]]
    assert row.figures["latency_ms"] > 0 and row.figures["ratio_to_unpruned"] > 0 and row.figures["repeats"] == 2


def test_sources_have_a_digest():
    assert len(computing.sources_digest()) == 12
