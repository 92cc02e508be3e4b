"""Structured log lines: `<level> <module> <text> key=value ...`, one event a line whatever the values are.

Nothing here knows a secret from another value: callers name the fields they log, and none of them
names a key, a token or a Secret's data.
"""

from micropython import const

from motelet import borrow

LEVELS = ("debug", "info", "warning", "error")
LINE_SIZE_MAX = const(512)  # characters; the rest of a longer line is cut off and marked


class Log:
    """Writes lines of at least `level` (one of LEVELS) to `sink(line)`. ValueError for another level.

    Text and values may come from anywhere: what could begin a line of its own, drive a terminal or hide is
    written as an escape, and a value that would not read back as one is quoted. `lost` counts the lines the
    sink refused with OSError: a log that cannot be written is no reason to stop a gateway.
    """

    def __init__(self, sink, level):
        if level not in LEVELS:
            raise ValueError("log level %s is none of %s" % (level, ", ".join(LEVELS)))
        self.lost = 0
        self._sink = sink
        self._levels = LEVELS[LEVELS.index(level) :]

    def debug(self, module, text, *pairs):
        self._write("debug", module, text, pairs)

    def info(self, module, text, *pairs):
        self._write("info", module, text, pairs)

    def warning(self, module, text, *pairs):
        self._write("warning", module, text, pairs)

    def error(self, module, text, *pairs):
        self._write("error", module, text, pairs)

    def _write(self, level, module, text, pairs):
        if level not in self._levels:
            return
        line = level + " " + module + " " + _plain(text)
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
    # At most LINE_SIZE_MAX + 1 characters of `text`, with escapes for all but what is safe to show.
    text = text[: LINE_SIZE_MAX + 1]
    for char in text:
        if not " " <= char <= "~" or char == "\\":
            return borrow("logtext").escaped(text)
    return text
