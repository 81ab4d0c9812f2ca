"""Memory stays with the process while latencies are measured, and the C library is as before afterwards."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from upscale_opt.latency import retained_memory as module
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.retained_memory import memory_kind, retained_memory, return_memory


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the C library."""
    made = []
    libc = SimpleNamespace(
        mallopt=lambda name, value: made.append((name, value)), malloc_trim=lambda pad: made.append("trim")
    )
    monkeypatch.setattr(module, "_glibc", lambda: libc)
    return made


def test_settings_hold_until_the_outermost_block_ends(calls):
    with retained_memory():
        assert calls == [(-4, 0), (-1, 2**31 - 1)]
        with retained_memory():
            pass
        assert len(calls) == 2
    assert calls[2:] == [(-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20), "trim"]


def test_memory_may_go_back_to_the_system_but_not_inside_a_block(calls):
    return_memory()
    assert calls == [(-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20), "trim"]
    with retained_memory():
        calls.clear()
        return_memory()
        assert not calls


def test_an_error_ends_the_block_too(calls):
    with pytest.raises(ValueError, match="no"), retained_memory():
        raise ValueError("no")
    assert calls[-1] == "trim"


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(module, "_glibc", lambda: None)
    with retained_memory():
        assert memory_kind("cpu") == ""


def test_tables_know_how_memory_was_kept(calls):
    assert memory_kind("cpu") == "retained" and memory_kind("cuda") == ""
    assert "retained memory" in str(conditions_of((torch.zeros(1, 3, 4, 4),)))


def test_large_blocks_come_from_the_same_place_again():
    """With glibc: what was freed is handed out again, where it would have been fetched from the system."""
    if memory_kind("cpu") != "retained":
        pytest.skip("this system has another C library than glibc")
    size = 48 * 2**20
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    with retained_memory():
        first = libc.malloc(size)
        libc.free(first)
        second = libc.malloc(size)
        libc.free(second)
    assert first == second
