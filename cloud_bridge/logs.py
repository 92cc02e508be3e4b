"""Structured logs: one line an event, ``key=value`` (logfmt) or JSON, on stderr.

Values come from boards and files, so nothing in them may start a line of its own or drive a
terminal: what is not printable is escaped, and every value has a length. Contents of objects and
of messages are never logged, for some are secrets.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import TextIO

VALUE_SIZE_MAX = 1024
"""Characters of a value in a line; the rest is cut."""
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("logfmt", "json")

_BARE = re.compile(r"[\w./:@+,*~<>\[\]()-]+\Z", re.ASCII)


class Log:
    """Logs for one part of the bridge; `module` is its name. Every pair is ``key=value``."""

    def __init__(self, module: str) -> None:
        self._logger = logging.getLogger(f"cloud_bridge.{module}")
        self._module = module

    def debug(self, text: str, **pairs: object) -> None:
        """What only somebody who looks for a fault wants to read."""
        self._write(logging.DEBUG, text, pairs)

    def info(self, text: str, **pairs: object) -> None:
        """What an operator wants to find in the log afterwards."""
        self._write(logging.INFO, text, pairs)

    def warning(self, text: str, **pairs: object) -> None:
        """What was refused or is not as it should be, but harms only itself."""
        self._write(logging.WARNING, text, pairs)

    def error(self, text: str, **pairs: object) -> None:
        """What somebody has to put right."""
        self._write(logging.ERROR, text, pairs)

    def _write(self, level: int, text: str, pairs: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, text, extra={"module_name": self._module, "pairs": pairs})


class _Formatter(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "module": getattr(record, "module_name", record.name),
            "text": record.getMessage(),
        }
        pairs: dict[str, object] = getattr(record, "pairs", {})
        fields |= {key: str(value) for key, value in pairs.items()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return {key: value[:VALUE_SIZE_MAX] for key, value in fields.items()}


class Logfmt(_Formatter):
    """``time=.. level=.. module=.. text=".." key=value``"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in self.fields(record).items())


class Json(_Formatter):
    """One JSON object a line, every value a string."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record))


def _quoted(value: str) -> str:
    return value if _BARE.match(value) else json.dumps(value).replace("\x7f", "\\u007f")


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the logs of the bridge, and warnings of libraries, to `stream` (stderr). See LEVELS, FORMATS."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json() if form == "json" else Logfmt())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("cloud_bridge").setLevel(level.upper())
    # A board that goes away in the middle of a handshake is its own affair and is logged by the server.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
