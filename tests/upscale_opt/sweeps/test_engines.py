"""Engines give a result for every task, whatever happens to their processes."""

import importlib.util
import os
import time

import pytest

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.engines.choice import engine_named
from upscale_opt.sweeps.engines.processes import Processes
from upscale_opt.sweeps.engines.serial import Serial

INSTALLED = {
    name: importlib.util.find_spec(package) is not None
    for name, package in (("joblib", "joblib"), ("ray", "ray"), ("dask", "distributed"), ("slurm", "submitit"))
}


def lost(task, reason):
    return f"{task}: {reason}"


def results(engine, tasks, compute):
    with engine:
        return sorted(engine.results(iter(tasks), compute, lost), key=str)


def test_in_this_process():
    assert results(Serial(), [-1, 2], abs) == [1, 2]


def test_processes_give_all_results_and_end():
    engine = Processes(2)
    assert results(engine, range(-9, 0), abs) == list(range(1, 10))
    assert engine._workers == []


@pytest.mark.slow
def test_a_task_that_kills_its_processes_is_lost_and_no_other():
    found = results(Processes(2), [*range(-5, 0), 77], _exit_at_77)
    assert found[:5] == [1, 2, 3, 4, 5]
    assert found[5] == "77: its process ended 3 times, at last with exit code 3"


@pytest.mark.slow
def test_a_process_that_has_grown_is_replaced():
    engine = Processes(1, memory_limit=1)
    assert len(set(results(engine, range(3), _process))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", "ray", "dask", "slurm:local"])
def test_existing_engines_give_all_results(name, tmp_path, monkeypatch):
    if not INSTALLED[name.partition(":")[0]]:
        pytest.skip(f"{name} is not installed here")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(os.getcwd()), os.environ.get("PYTHONPATH", "")]))
    assert results(engine_named(name, 2, tmp_path / "jobs"), range(-9, 0), abs) == list(range(1, 10))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("threads", "there is no engine 'threads'; choose from serial"),
        ("serial:1", "there is no engine 'serial:1'"),
        ("joblib:threading", "has no backend 'threading' here; choose from loky"),
    ],
)
def test_engines_that_do_not_exist(name, said, tmp_path):
    with pytest.raises(SweepError, match=said):
        engine_named(name, 1, tmp_path)


@pytest.mark.parametrize(("name", "package", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")])
def test_a_missing_package_is_named_with_its_extra(name, package, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(SweepError, match=rf"the engine {name} needs {package}; run: pip install -e '\.\[{extra}\]'"):
        engine_named(name, 1, tmp_path)


def _exit_at_77(task):
    if task == 77:
        os._exit(3)
    return abs(task)


def _process(task):
    time.sleep(0.01)
    return os.getpid()
