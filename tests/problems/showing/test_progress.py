"""Tests of progress: where it is shown, when, and how calls inside each other share one line."""

import io
import sys
import threading
import time
import types

import pytest

from problems.showing import progress as showing
from problems.showing.progress import ProgressBar, tell
from problems.showing.stages import Stage


class Stream(io.StringIO):
    """Standard error, as a terminal or not."""

    encoding = "utf-8"

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def shown(self):
        """What a terminal shows in the end, and every line it showed before."""
        return [part.strip() for part in self.getvalue().replace("\n", "\r").split("\r") if part.strip()]


@pytest.fixture
def at_once(monkeypatch):
    """Show everything at once, on a clock that stands still; the thread looks every hundredth of a second."""
    monkeypatch.setattr(showing, "time", types.SimpleNamespace(perf_counter=lambda: 0.0, sleep=time.sleep))
    for name in ("SECONDS_BEFORE", "SECONDS_BETWEEN_LINES", "SECONDS_BETWEEN_UPDATES"):
        monkeypatch.setattr(showing, name, 0.0)
    monkeypatch.setattr(showing, "SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.fixture
def stream(monkeypatch, request):
    own = Stream(request.param)
    monkeypatch.setattr(showing, "sys", types.SimpleNamespace(stderr=own, stdout=own, modules=sys.modules))
    return own


terminal = pytest.mark.parametrize("stream", [True], indirect=True)
pipe = pytest.mark.parametrize("stream", [False], indirect=True)


@terminal
@pytest.mark.parametrize("progress", [None, True])
def test_a_terminal_has_one_line_which_goes_at_the_end(at_once, stream, progress):
    for name in (bar := ProgressBar("solve", ["a", "b"], unit="run", progress=progress)):
        bar.note(name)
    assert stream.shown()[0].startswith("██████░░░░░░ solve: 1 of 2 runs, 0 s") and "(a)" in stream.shown()[0]
    assert stream.getvalue().endswith(" \r") and "\n" not in stream.getvalue()


@terminal
def test_short_calls_show_nothing(stream):
    list(ProgressBar("solve", range(3)))
    assert stream.getvalue() == ""


@terminal
def test_no_line_is_wider_than_the_terminal(at_once, stream, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    with ProgressBar("solve", total=3) as bar:
        bar.note("a very long remark " * 9)
        bar.advance()
    assert stream.shown() and all(len(line) < 40 for line in stream.shown())


@pipe
def test_without_terminal_only_true_shows_and_in_lines(at_once, stream):
    list(ProgressBar("solve", range(2)))
    assert stream.getvalue() == ""
    list(ProgressBar("solve", range(2), progress=True))
    assert stream.getvalue() == "solve: 1 of 2 steps, 0 s\nsolve: 2 of 2 steps, 0 s\n"


@pipe
def test_lines_come_every_ten_seconds_over_all_bars(stream, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(showing.time, "perf_counter", lambda: 0.1 * next(clock))
    with ProgressBar("compare", progress=True):
        for _ in range(5):
            list(ProgressBar("solve", range(40), measures=True))
        shown = 0.1 * next(clock)
    assert shown / 10 - 2 <= len(stream.shown()) <= shown / 10
    assert all(line.startswith("compare > solve: ") for line in stream.shown())


@pipe
def test_a_step_that_takes_long_is_shown_too_unless_it_measures(at_once, stream):
    def waits(measures):
        before = len(stream.getvalue())
        with ProgressBar("export", progress=True), ProgressBar("verify", total=3, measures=measures):
            end = time.perf_counter() + (0.05 if measures else 5)
            while len(stream.getvalue()) == before and time.perf_counter() < end:
                time.sleep(0.005)
        return stream.getvalue()[before:]

    assert waits(False).startswith("export > verify: 0 of 3 steps, 0 s\n") and waits(True) == ""


@terminal
def test_false_silences_what_is_inside_and_not_what_is_around(at_once, stream):
    with ProgressBar("compare", progress=False):
        list(ProgressBar("solve", range(3)))
        tell("news")
    assert stream.getvalue() == ""
    with ProgressBar("compare", total=2) as outer:
        list(ProgressBar("solve", range(3), progress=False))
        outer.advance()
    assert all("compare: 1 of 2" in line or "compare: 0 of 2" in line for line in stream.shown())


@terminal
def test_a_function_gets_every_stage_also_of_the_calls_inside(at_once, stream):
    told = []
    for _ in ProgressBar("copies", range(2), unit="copy", progress=told.append):
        list(ProgressBar("train", range(1)))
    assert [str(own) for own in told[:3]] == [
        "copies: 0 of 2 copies, 0 s",
        "copies 1 of 2 > train: 0 of 1 step, 0 s",
        "copies 1 of 2 > train: 1 of 1 step, 0 s",
    ]
    assert isinstance(told[0], Stage) and stream.getvalue() == ""

    def stop(stage):
        raise ValueError(stage.what)

    with pytest.raises(ValueError, match="solve"):
        ProgressBar("solve", progress=stop)
    assert showing._SCREEN.innermost(threading.get_ident()) is None


@terminal
def test_news_stands_above_the_line(at_once, stream):
    with ProgressBar("solve", total=2) as bar:
        bar.advance()
        tell("turn 1: 3.1 ms")
        bar.advance()
    assert "turn 1: 3.1 ms\n" in stream.getvalue() and len(stream.shown()) >= 3


@terminal
def test_another_thread_neither_inherits_nor_disturbs(at_once, stream):
    with ProgressBar("quiet", progress=False):
        thread = threading.Thread(target=lambda: list(ProgressBar("loud", range(2))))
        thread.start()
        thread.join()
    assert stream.shown() and all("loud: " in line for line in stream.shown())


@terminal
def test_a_notebook_has_one_display_which_is_empty_at_the_end(at_once, stream, monkeypatch):
    shown = []

    class Handle:
        def update(self, content, raw):
            shown.append(content["text/html"])

    def display(content, raw, display_id):
        shown.append(content["text/html"])
        return Handle()

    package = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    package.display = types.ModuleType("IPython.display")
    package.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", package.display)
    list(ProgressBar("<solve>", range(2)))
    assert shown[0].startswith('<div><progress value="1" max="2"></progress> &lt;solve&gt;: 1 of 2 steps')
    assert shown[-1] == "" and stream.getvalue() == ""


@terminal
def test_a_stream_that_was_closed_does_not_end_the_work(at_once, stream):
    stream.close()
    stream.isatty = lambda: True
    assert list(ProgressBar("solve", range(3))) == [0, 1, 2]


def test_processes_of_a_pool_are_silent_and_a_fork_forgets():
    with ProgressBar("train", progress=False):
        showing._SCREEN.forget()
        assert showing._SCREEN.innermost(threading.get_ident()) is None


def test_words():
    assert str(Stage("read", 3, None, "batch", 3700.0)) == "read: 3 batches, 1:01 h"
    assert str(Stage("trace", seconds=61.0)) == "trace: 1:01 min"


def test_a_bar_that_an_error_left_open_goes_with_the_one_around_it():
    """Whoever keeps the error, such as a notebook, keeps the loop and its bar."""
    told = []
    with pytest.raises(ZeroDivisionError) as kept, ProgressBar("outer", progress=told.append):
        for _ in ProgressBar("inner", [1, 2]):
            raise ZeroDivisionError
    assert kept.value.__traceback__ is not None
    with ProgressBar("next", progress=told.append):
        assert str(told[-1]).startswith("next: ")
    assert not showing._SCREEN._bars
