"""What the log writes seldom: characters that are not safe to show, and tracebacks.

A board borrows this module (`motelet.borrow`).
"""

import io
import sys

from micropython import const

_TRACE_SIZE_MAX = const(300)  # characters: the end, where the exception was raised


def exception(log, module, error):
    """Log an unexpected exception with the end of its traceback, where it was raised."""
    if hasattr(sys, "print_exception"):
        trace = io.StringIO()
        sys.print_exception(error, trace)
        trace = trace.getvalue()
    else:
        from traceback import format_exception

        trace = "".join(format_exception(error))
    trace = trace[-_TRACE_SIZE_MAX:]
    log.error(module, "failed", "type", type(error).__name__, "error", error, "trace", trace)


def escaped(text):
    """-> `text` with escapes for all but what is safe to show, letters of all languages among it."""
    return "".join([char if _shown(char) else _escape(ord(char)) for char in text])


def _shown(char):
    # Not: controls, the escape character, U+2000 to U+206F (separators of lines, marks that turn or
    # hide text) and surrogates, which have no UTF-8.
    return (
        " " <= char <= "~"
        and char != "\\"
        or "\xa0" <= char < "\u2000"
        or "\u2070" <= char < "\ud800"
        or char >= "\ue000"
    )


def _escape(code):
    return "\\x%02x" % code if code < 256 else "\\u%04x" % code
