"""Structured log lines: `<level> <module> <text> key=value ...`, one event a line whatever the values are.

Nothing here knows a secret from another value: callers name the fields they log, and none of them
names a key, a token or a Secret's data.
"""

import io
import sys

from micropython import const

LEVELS = ("debug", "info", "warning", "error")
LINE_SIZE_MAX = const(512)  # characters; the rest of a longer line is cut off and marked
_TRACE_SIZE_MAX = const(300)


class Log:
    """Writes lines of at least `level` (one of LEVELS) to `sink(line)`. ValueError for another level.

    With a `clock` each line begins with its `ticks_ms()`. Text and values may come from anywhere: what
    could begin a line of its own, drive a terminal or hide is written as an escape, and a value that
    would not read back as one is quoted. `lost` counts the lines the sink refused with OSError: a log
    that cannot be written is no reason to stop a gateway.
    """

    def __init__(self, sink, level, clock=None):
        if level not in LEVELS:
            raise ValueError("log level %s is none of %s" % (level, ", ".join(LEVELS)))
        self.lost = 0
        self._sink = sink
        self._level = LEVELS.index(level)
        self._clock = clock

    def debug(self, module, text, *pairs):
        self._write(0, module, text, pairs)

    def info(self, module, text, *pairs):
        self._write(1, module, text, pairs)

    def warning(self, module, text, *pairs):
        self._write(2, module, text, pairs)

    def error(self, module, text, *pairs):
        self._write(3, module, text, pairs)

    def exception(self, module, error):
        """An unexpected exception with the end of its traceback, where it was raised."""
        if hasattr(sys, "print_exception"):
            trace = io.StringIO()
            sys.print_exception(error, trace)
            trace = trace.getvalue()
        else:
            from traceback import format_exception

            trace = "".join(format_exception(error))
        trace = trace[-_TRACE_SIZE_MAX:]
        self._write(3, module, "failed", ("type", type(error).__name__, "error", error, "trace", trace))

    def _write(self, level, module, text, pairs):
        if level < self._level:
            return
        line = LEVELS[level] + " " + module + " " + _plain(text)
        if self._clock is not None:
            line = str(self._clock.ticks_ms()) + " " + line
        for i in range(0, len(pairs), 2):
            # A key without its value is a slip of the caller: to be seen, not to fail on.
            value = _plain(str(pairs[i + 1])) if i + 1 < len(pairs) else "?"
            if not value or " " in value or '"' in value or "=" in value:
                value = '"' + value.replace('"', '\\"') + '"'
            line += " " + pairs[i] + "=" + value
        try:
            self._sink(line if len(line) <= LINE_SIZE_MAX else line[:LINE_SIZE_MAX] + "...")
        except OSError:
            self.lost += 1


def _plain(text):
    """At most LINE_SIZE_MAX + 1 characters of `text`, with escapes for all but what is safe to show."""
    text = text[: LINE_SIZE_MAX + 1]
    for char in text:
        if not _shown(char):
            return "".join([c if _shown(c) else _escape(ord(c)) for c in text])
    return text


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
