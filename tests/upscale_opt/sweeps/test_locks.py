"""The lock of the machine: many compute, one measures, and who waits to measure is not overtaken."""

import threading

import pytest

from upscale_opt.errors import SweepError
from upscale_opt.sweeps import locks

PATIENCE = 20.0
SHORT = 0.1


@pytest.fixture(autouse=True)
def _own_lock(tmp_path, monkeypatch):
    monkeypatch.setenv(locks.DIRECTORY, str(tmp_path / "locks"))


def holder(kind, log, name, started, end):
    def hold():
        with kind():
            log.append(name)
            started.set()
            assert end.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    return thread


def test_several_compute_at_once():
    with locks.computing(), locks.computing():
        pass


def test_a_measurement_waits_for_all_and_keeps_later_ones_out():
    log = []
    events = {name: (threading.Event(), threading.Event()) for name in "abmc"}
    first = [holder(locks.computing, log, name, *events[name]) for name in "ab"]
    assert all(events[name][0].wait(PATIENCE) for name in "ab")
    measurement = holder(locks.measuring, log, "m", *events["m"])
    assert not events["m"][0].wait(SHORT)
    later = holder(locks.computing, log, "c", *events["c"])  # it could share with a and b, but m was first
    assert not events["c"][0].wait(SHORT)
    for name in "ab":
        events[name][1].set()
    assert events["m"][0].wait(PATIENCE) and not events["c"][0].wait(SHORT)
    events["m"][1].set()
    assert events["c"][0].wait(PATIENCE)
    events["c"][1].set()
    for thread in (*first, measurement, later):
        thread.join(PATIENCE)
    assert log[2:] == ["m", "c"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(locks.DIRECTORY, str(tmp_path / "file" / "locks"))
    with (
        pytest.raises(SweepError, match=f"cannot open the lock .*; set {locks.DIRECTORY} to a directory"),
        locks.computing(),
    ):
        pass
