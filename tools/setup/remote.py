"""Talks to MicroPython on a board through mpremote's own transport, and goes on after a pulled cable.

In one process, so that what is said is on no command line.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport
from serial import SerialException

from motelet.tools.cli import UserError
from motelet.tools.setup import ports

TRIES = 20  # broken connections in one run, before it is given up
CHUNK = 1536  # bytes of a value in one line; a board has little room for a program
_PAUSE_S = 0.5
T = TypeVar("T")


class BoardError(UserError):
    """The board refused; the text is the end of its own traceback."""


class Remote:
    """The MicroPython on `port`, its gateway stopped: `close` restarts the board."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._transport: Any = None

    def call(self, function: Callable[[], T]) -> T:
        """What `function` gives, which uses `exec`; after a broken connection it is called again."""
        for _ in range(TRIES):
            try:
                if self._transport is None:
                    ports.wait(self.port)
                    self._transport = SerialTransport(self.port, baudrate=115200, timeout=10)
                    self._transport.enter_raw_repl(soft_reset=True)
                return function()
            except (TransportError, SerialException, OSError) as error:
                if isinstance(error, BoardError):
                    raise
                print(f"the connection broke: {error}", file=sys.stderr)
                self._drop()
                time.sleep(_PAUSE_S)
        raise UserError(f"{self.port}: gave up after {TRIES} broken connections")

    def exec(self, code: str) -> str:
        """Run `code` on the board; -> what it printed. BoardError if it raised."""
        output, error = self._transport.exec_raw(code)
        if error:
            lines = error.decode(errors="replace").strip().splitlines()
            raise BoardError(f"the board says: {lines[-1] if lines else 'nothing'}")
        return bytes(output).decode().strip()

    def send(self, name: str, value: bytes) -> None:
        """Have the bytearray `name` on the board hold `value`."""
        self.exec(f"from binascii import a2b_base64 as _b\n{name} = bytearray()")
        for at in range(0, len(value), CHUNK):
            text = base64.b64encode(value[at : at + CHUNK]).decode()
            self.exec(f"{name} += _b('{text}')")

    def close(self) -> None:
        """Restart the board, and let go of the port."""
        if self._transport is not None:
            try:
                self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
                time.sleep(0.1)
            except (TransportError, SerialException, OSError) as error:
                print(f"the board could not be restarted, press its button: {error}", file=sys.stderr)
        self._drop()

    def _drop(self) -> None:
        if self._transport is not None:
            try:
                self._transport.close()
            except (SerialException, OSError):
                pass  # there is nothing left to close
            self._transport = None
