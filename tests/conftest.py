"""Ctrl-C reaches the tests, and the processes they start, also where the shell that started them ignores it."""

import os
import signal

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process per core: threads of torch beyond that would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
