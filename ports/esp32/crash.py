"""Keeps the end of a traceback in NVS, for the bridge to be told after the restart. Borrowed."""

import io
import sys

from micropython import const

from motelet import borrow

SIZE_MAX = const(600)  # characters: the end, where the exception was raised


def save(error):
    """Keep the traceback of `error`. Flash is written only when it is another than the one that is there."""
    text = io.StringIO()
    sys.print_exception(error, text)
    trace = text.getvalue().strip()[-SIZE_MAX:].encode()
    settings = borrow("ports.esp32.settings")
    try:
        if settings.get("crash", SIZE_MAX) != trace:
            settings.put("crash", trace)
    except OSError as full:
        print("motelet: traceback not kept:", full)
