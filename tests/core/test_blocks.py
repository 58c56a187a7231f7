"""Memory that was freed goes back to the system."""

import ctypes
import platform

import numpy as np
import pytest

from flain_core.blocks import give_back_freed


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_another_c_library_is_left_alone(error, monkeypatch):
    def raises(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", raises)
    give_back_freed()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_what_was_freed_is_given_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    # Too small to be given back at once, and what lies last stays in use.
    arrays = [np.ones(8_000) for _ in range(1_000)]
    del arrays[:-1]
    before = resident()
    give_back_freed()
    assert resident() < before - 30e6
