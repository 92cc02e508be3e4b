"""Every test file here is collected for CPython and for MicroPython."""

from two_interpreters import pytest_pycollect_makemodule

__all__ = ["pytest_pycollect_makemodule"]
