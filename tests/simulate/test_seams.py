"""An error once at a call of flash, streams or memory: nothing promised is lost, and all comes right."""

import pytest

from motelet import devicetwin
from motelet.tools.simulate.seams import everywhere

STEP = 9
"""Of the calls; `make torture` takes every one."""


@pytest.mark.slow
def test_an_error_at_any_call_is_survived():
    found = list(everywhere(STEP))
    assert [each for each in found if each is not None] == []
    assert len(found) > 80


@pytest.mark.planted
def test_a_device_forgotten_for_want_of_memory_is_found(monkeypatch):
    monkeypatch.setattr(devicetwin, "_TRIES", 1)
    assert any(everywhere(start=90))  # before that no device has come
