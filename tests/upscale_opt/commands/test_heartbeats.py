"""Tests of the sign of life: it comes when nothing else is written, it says what is done, and it ends."""

import io
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

from upscale_opt.commands.heartbeats import doing, heartbeat


def _work(seconds, work):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        with heartbeat("solve", seconds=seconds):
            work()
        assert sys.stdout is out and sys.stderr is err
    return out.getvalue(), err.getvalue()


def _wait_for_line(err, text):
    end = time.monotonic() + 20
    while text not in err.getvalue() and time.monotonic() < end:
        time.sleep(0.005)


def test_silence_is_broken_by_a_line_that_says_what_is_done():
    def work():
        doing("exporting")
        _wait_for_line(sys.stderr, "exporting")

    out, err = _work(0.01, work)
    assert out == "" and err.splitlines()[0].startswith("solve, exporting: still at work after ")


def test_who_speaks_is_not_interrupted():
    def work():
        for _ in range(5):
            print("figures")

    assert _work(30, work) == ("figures\n" * 5, "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_it_ends_with_the_command(error):
    def work():
        raise error

    with pytest.raises(error):
        _work(30, work)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
    doing("nothing, outside of commands")
