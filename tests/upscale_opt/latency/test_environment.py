"""Where figures are measured, and how much of the processors' time the host of a virtual machine takes."""

import os
import time

import pytest

from upscale_opt.latency import environment
from upscale_opt.latency.environment import StolenTime


def counters(path, stolen):
    path.write_text(f"cpu  100 0 20 3000 5 0 1 {stolen} 0 0\ncpu0 50 0 10 1500 2 0 1 7 0 0\n")


def test_the_share_is_of_all_processors_since_it_was_made(tmp_path, monkeypatch):
    now = [10.0]
    monkeypatch.setattr(environment, "COUNTERS", tmp_path / "stat")
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    ticks = os.sysconf("SC_CLK_TCK")
    counters(tmp_path / "stat", 1000)
    stolen = StolenTime()
    assert stolen.share() is None  # no time has passed
    now[0] += 5
    counters(tmp_path / "stat", 1000 + 3 * ticks)
    assert stolen.share() == pytest.approx(3 / (5 * 4))
    counters(tmp_path / "stat", 1000 + 100 * ticks)
    assert stolen.share() == 1
    counters(tmp_path / "stat", 900)  # a machine that was moved starts anew
    assert stolen.share() == 0


@pytest.mark.parametrize("text", [None, "", "cpu 1 2 3", "cpu a b c d e f g h"])
def test_systems_that_do_not_tell_have_no_share(tmp_path, monkeypatch, text):
    monkeypatch.setattr(environment, "COUNTERS", tmp_path / "stat")
    if text is not None:
        (tmp_path / "stat").write_text(text)
    stolen = StolenTime()
    time.sleep(0.001)
    assert stolen.share() is None
