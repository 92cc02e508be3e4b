"""What somebody types: a line REPL, and the raw REPL that mpremote speaks. Borrowed by `repl`.

The raw REPL is MicroPython's: Ctrl-A enters it, a program ends with Ctrl-D, the answer is OK, what it
printed, 04, its traceback, 04 and a prompt. Ctrl-D without a program is a soft reset, which mpremote
expects to find itself in the raw REPL after. Raw paste is declined.
"""

import sys

from micropython import const

import motelet

PROGRAM_MAX = const(16384)  # bytes of a program or of a line
_CANCELS = const(3)  # so many Ctrl-C in a row leave the gateway; mpremote sends one
_RAW = "raw REPL; CTRL-B to exit\r\n>"
_HELLO = "motelet's REPL: the gateway runs on. from motelet import debug; Ctrl-C three times stops it\r\n>>> "
_CTRL_A = const(1)
_CTRL_B = const(2)
_CTRL_C = const(3)
_CTRL_D = const(4)
_CTRL_E = const(5)
_RETURN = const(13)


class Session:
    """`repl` reads the bytes, see `Repl`; each is given to `feed`."""

    def __init__(self, repl):
        self._repl = repl
        self._text = bytearray()
        self._raw = False
        self._cancels = 0
        self._scope = {"__name__": "__main__", "motelet": motelet}

    def idle(self):
        """Whether nothing is under way that a next byte would go on with."""
        return not self._raw and not self._text and not self._cancels and len(self._scope) < 3

    def feed(self, byte):
        """Act on one byte. Ends in KeyboardInterrupt or SystemExit when the gateway is to stop."""
        if byte == _CTRL_C:
            self._cancels += 1
        elif byte != _RETURN:
            self._cancels = 0
        if byte == _CTRL_A:
            self._enter(True, _RAW)
        elif byte == _CTRL_B:
            self._enter(False, "\r\n" + _HELLO)
        elif byte == _CTRL_C:
            if self._cancels >= _CANCELS:
                raise KeyboardInterrupt
            self._text = bytearray()
            _write("\r\n>" if self._raw else "\r\n>>> ")
        elif self._raw:
            self._raw_byte(byte)
        else:
            self._line_byte(byte)

    def raw(self):
        """Serve in the raw REPL alone, without a gateway, until Ctrl-B."""
        self._enter(True, _RAW)
        while self._raw:
            byte = self._repl.read(-1)
            if byte == -2:
                return
            if byte >= 0 and byte != _CTRL_B:
                self._cancels = 0
                self.feed(byte)
            elif byte == _CTRL_B:
                self._raw = False

    def _enter(self, raw, greeting):
        self._text = bytearray()
        self._raw = raw
        self._repl.quiet(raw)  # a line of the log would be taken for an answer
        _write(greeting)

    def _raw_byte(self, byte):
        text = self._text
        if byte == _CTRL_D:
            self._text = bytearray()
            if not text:
                self._repl.restart()
            if len(text) > PROGRAM_MAX:
                _write("OK\x04program of more than %d bytes\r\n\x04>" % PROGRAM_MAX)
            else:
                self._run_raw(text)
        elif byte == _CTRL_A + 0 and not text:
            _write(_RAW)
        elif len(text) == 1 and text[0] == _CTRL_E and byte == 65:  # Ctrl-E A Ctrl-A asks for raw paste
            self._text = bytearray()
            self._repl.read(100)
            _write("R\x00")
        elif len(text) <= PROGRAM_MAX:
            text.append(byte)

    def _run_raw(self, text):
        _write("OK")
        error = self._execute(text, "exec")
        _write("\x04")
        if error is not None:
            sys.print_exception(error, sys.stdout)
        _write("\x04>")

    def _line_byte(self, byte):
        text = self._text
        if byte == _RETURN:
            _write("\r\n")
            # ":" begins a block, a blank line ends it.
            if text and text[-1] != 10 and (text[-1] == 58 or text.find(b"\n") >= 0):
                text.append(10)
                _write("... ")
                return
            self._text = bytearray()
            if text.strip():
                self._run_line(text)
            _write(">>> ")
        elif byte in (8, 127):
            if text and text[-1] != 10:
                self._text = text[:-1]
                _write("\b \b")
        elif byte == _CTRL_D and not text:
            raise SystemExit
        elif (byte >= 32 or byte == 9) and len(text) < PROGRAM_MAX:
            text.append(byte)
            _write(chr(byte))

    def _run_line(self, text):
        error = self._execute(text, "single")
        if error is not None:
            sys.print_exception(error, sys.stdout)

    def _execute(self, text, kind):
        # -> what it raised, None if nothing. SystemExit goes on: it is a soft reset.
        interrupts = self._repl.interrupts
        interrupts(True)
        try:
            exec(compile(bytes(text).decode(), "<stdin>", kind), self._scope)
        except (Exception, KeyboardInterrupt) as error:
            return error
        finally:
            interrupts(False)
        return None


def _write(text):
    sys.stdout.write(text)
