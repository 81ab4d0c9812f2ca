"""Ctrl-C reaches the tests, and the processes they start, also where the shell that started them ignores it."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
