"""Applications of a Linux gateway (CPython), each in a process of its own: what `edged.apps` is on a board.

The process has nothing of the gateway but one end of a socket pair (podpipe.py) and a pipe to print to.
What it asks for is answered by the services that applications on a board have. Its memory is its own: one
that hogs it, never yields or breaks its interpreter ends alone. process.py is the other end.
"""

import os
import signal
import socket
import subprocess
import sys

from motelet import borrow
from motelet.loop import READ, WRITE
from motelet.ports.processes import podpipe
from motelet.ports.unix.cpython import Serial, Stream

PROCESSES_MAX = 16
MEMORY_MIN = 64 * 1024
"""Bytes of heap for who asks for less: a third is MicroPython's own, and objects are twice a board's."""
MEMORY_DEFAULT = 1024 * 1024
"""Bytes of heap for who has no limit."""
PYTHON_MEMORY_MIN = 16 * 1024 * 1024
"""The same where applications run on CPython."""
ANSWERS_SIZE_MAX = 2 * 1024 * 1024
"""Bytes that may wait for an application that does not read what it asked for."""
PRINTED_PER_S = 64 * 1024
"""Bytes a second that are read of what an application prints; it waits while that is used up."""
_CHUNK = 4096
_LINE_SIZE_MAX = 256
_TAIL_SIZE = 200
_ENDING_MS = 10
_ENDINGS_MAX = 500
_LAST_CHUNKS_MAX = 64  # of what was printed before the end
_KILLED = 137
_TERMINATED = 143
_HERE = os.path.dirname(os.path.abspath(__file__))
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "TZ", "LANG")
_ASKED = ("publish", "subscribe", "read", "desired", "write", "report", "state", "get", "put")


class Process:
    """One application: `container.run`. What asks for services is this, as an App is on a board."""

    def __init__(self, container, slot, child, sock):
        self.container = container
        self.slot = slot
        self.child = child
        self.control = Stream(sock)
        self.printed = Serial(child.stdout.fileno())
        self.receiver = podpipe.Receiver(podpipe.REQUEST_SIZE_MAX, podpipe.REQUEST_SIZE_MAX)
        self.prints = True  # until it closes what it prints to
        self.out = bytearray()
        self.line = bytearray()
        self.tail = b""
        self.calls = {}  # number -> who wants to know what came of it
        self.numbers = 0
        self.wanted = 0  # messages it waits for
        self.reason = ""
        self.message = ""
        self.task = None

    def set(self):
        """topics: there is a message for it."""
        self.task.wake()

    def send(self, number, values):
        self.out += podpipe.encode(number, values)
        if self.task is not None:
            self.task.wake()

    def has_ended(self):
        """Whether it has, while its number is still its own."""
        if not hasattr(os, "waitid"):  # macOS, before CPython 3.13
            return self.child.poll() is not None
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.child.pid, options) is not None

    def kill(self, reason="", message=""):
        """End it, and whatever it has started; why is what came first."""
        if not self.reason:
            self.reason, self.message = reason, message
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended meanwhile


class Processes:
    """The runner for `edged`; `services` is what applications use, `settings` the configuration's edged."""

    def __init__(self, edged, services, settings):
        self.edged = edged
        self.services = services
        self.slots = [None] * PROCESSES_MAX
        self._python = settings["mpy"] == 0
        self._files = borrow("edged.files").Files(self, edged.store)
        self._context = os.path.dirname(os.path.abspath(borrow("edged.context").__file__))
        edged.loop.streams_max += 2 * PROCESSES_MAX
        if self._python:
            edged.log.warning("edged", "no MicroPython here, applications run on CPython")

    # -- for edged ----------------------------------------------------------------------------

    def start(self, container, spec):
        """Have the application run. OSError when there is no room for one more."""
        if None not in self.slots:
            raise OSError("more than %d containers" % PROCESSES_MAX)
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            try:
                child = self._spawn(theirs.fileno(), spec.get("memory") or 0)
            except OSError:
                ours.close()
                raise
        os.set_blocking(child.stdout.fileno(), False)
        slot = self.slots.index(None)
        process = container.run = self.slots[slot] = Process(container, slot, child, ours)
        kept = {name: spec[name] for name in ("env", "command", "workingDir") if name in spec}
        process.send(0, ["start", dict(kept, mounts=list(spec["mounts"]))])
        process.task = self.edged.loop.spawn("application", lambda task: self._serve(task, process))

    def _spawn(self, descriptor, memory):
        least, usual = (PYTHON_MEMORY_MIN,) * 2 if self._python else (MEMORY_MIN, MEMORY_DEFAULT)
        command = [sys.executable, "-P", "-u", os.path.join(_HERE, "launch.py"), str(os.getpid())]
        command += [str(max(memory, least) if memory else usual), str(descriptor), self._context]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["MICROPYPATH"] = ".frozen"
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=[descriptor],
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    def stop(self, container):
        """Have it cancelled."""
        container.run.send(0, ["stop"])

    def kill(self, container):
        """End it at once; `edged.exited` follows."""
        container.run.kill("Error", "killed when its grace period was over")

    def call(self, container, command, done):
        """Call a function of the application, command[0] with the rest; `done(good)` says what came of it."""
        process = container.run
        process.numbers += 1
        process.calls.clear()  # a probe that gave no answer in time waits for none
        process.calls[process.numbers] = done
        process.send(0, ["call", process.numbers] + command)

    def shed(self):
        """What applications take is not the gateway's memory: nothing is gained by ending one."""

    # -- the task of a process ----------------------------------------------------------------

    def _serve(self, task, process):
        if self.slots[process.slot] is not process:
            return  # it failed before, and that was its end
        loop = self.edged.loop
        spent, since = 0, loop.clock.ticks_ms()
        try:
            while self._talk(process):
                passed = loop.clock.ticks_diff(loop.clock.ticks_ms(), since)
                if passed >= 1000:
                    spent, since, passed = 0, loop.clock.ticks_ms(), 0
                if process.prints and spent < PRINTED_PER_S:
                    spent += self._print(process)
                if process.prints and spent < PRINTED_PER_S:
                    loop.watch(process.printed, READ, task)
                else:
                    loop.unwatch(process.printed)
                    task.sleep(1000 - passed)
                loop.watch(process.control, READ | WRITE if process.out else READ, task)
                yield
            loop.unwatch(process.control)
            loop.unwatch(process.printed)
            # Its end of the socket is closed, so it has ended or is about to; if not it is made to.
            for _ in range(_ENDINGS_MAX):
                if process.has_ended():
                    break
                task.sleep(_ENDING_MS)
                yield
            process.kill()
            for _ in range(_LAST_CHUNKS_MAX):
                if not self._print(process):
                    break
        finally:
            self._end(process)

    def _end(self, process):
        loop = self.edged.loop
        loop.unwatch(process.control)
        loop.unwatch(process.printed)
        process.kill()  # with what it may have left behind
        process.child.wait()
        process.control.close()
        process.child.stdout.close()
        self.slots[process.slot] = None
        if process.line:
            self.services.log(process.container, process.line.decode(errors="replace"))
        self.services.ended(process)
        code, reason, message = _outcome(process)
        if process.container.run is process:
            self.edged.exited(process.container, code, reason, message)

    def _print(self, process):
        """Put what it printed into its log. -> bytes."""
        data = bytearray(_CHUNK)
        count = process.printed.readinto(data)
        process.prints = count != 0
        count = count or 0
        process.tail = (process.tail + data[:count])[-_TAIL_SIZE:]
        lines = (process.line + data[:count]).split(b"\n")
        process.line = lines.pop()
        if len(process.line) > _LINE_SIZE_MAX:
            lines.append(process.line)
            process.line = bytearray()
        for line in lines:
            self.services.log(process.container, line.decode(errors="replace"))
        return count

    def _talk(self, process):
        """Send what there is to send, and answer what has come. -> whether the socket is still open."""
        try:
            if process.out:
                del process.out[: process.control.write(process.out, 0, len(process.out)) or 0]
            count = process.control.readinto(process.receiver.space())
            if count == 0:
                return False
            message = process.receiver.filled(count) if count else None
            while message is None and count:
                count = process.control.readinto(process.receiver.space())
                message = process.receiver.filled(count) if count else None
            if message is not None:
                self._take(process, *message)
                process.task.wake()  # perhaps there is another
            self._deliver(process)
            if len(process.out) > ANSWERS_SIZE_MAX:
                raise ValueError("it does not read what it asked for")
        except (ValueError, RecursionError) as error:
            process.kill("Error", "no sense in what it sent: %s" % error)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    # -- what it asks -------------------------------------------------------------------------

    def _take(self, process, number, values):
        name = values[0]
        if number:
            try:
                answer = ["ok", self._answer(process, name, values[1:])]
            except Exception as error:  # whatever went wrong is the application's to know
                arguments = [each for each in error.args if isinstance(each, (str, int))]
                kind = "OSError" if isinstance(error, OSError) else type(error).__name__
                answer = ["error", kind] + arguments[:1]
            process.send(number, answer)
        elif name == "called" and len(values) == 3:
            done = process.calls.pop(values[1], None) if isinstance(values[1], int) else None
            if done is not None:
                done(values[2] is True)
        elif name == "oom":
            process.reason = "OOMKilled"
        else:
            raise ValueError("message %s" % name)

    def _answer(self, process, name, arguments):
        """-> what the request gives. Raises what it raises."""
        if name == "receive":
            self.services.readers[process]  # KeyError for who subscribed to nothing
            process.wanted += 1
            return None
        if name in _ASKED:
            for each in arguments:
                _check(each)
            return _value(getattr(self.services, name)(process, *arguments))
        return self._file(name, "/%d%s" % (process.slot, arguments[0]), *arguments[1:])

    def _file(self, name, path, data=None):
        files = self._files
        if name == "stat":
            return files.stat(path)[0]
        if name == "list":
            return [[each[0], each[1]] for each in files.ilistdir(path)]
        if name == "remove":
            return files.remove(path)
        if name == "file":
            return bytes(files.open(path, "rb").read())
        if name != "save" or not isinstance(data, bytes):
            raise ValueError("no request %s" % name)
        file = files.open(path, "wb")
        file.write(data)
        file.close()
        return None

    def _deliver(self, process):
        """Send the messages that it waits for."""
        reader = self.services.readers.get(process)
        while process.wanted and reader is not None and reader[2]:
            process.wanted -= 1
            process.send(0, ["message"] + list(reader[2].pop(0)))


def _check(value):
    """TypeError and ValueError for what no property and no argument can be."""
    if not (value is None or isinstance(value, (str, int, float, bytes))):
        raise TypeError("expected a text, a number or bytes")
    if isinstance(value, (int, float)) and not abs(value) < 1 << 63:
        raise ValueError("%s is no number for a property" % value)


def _value(program):
    """-> what the services' coroutine gives; none of those that are asked waits for anything."""
    try:
        while True:
            program.send(None)
    except StopIteration as done:
        return done.value


def _outcome(process):
    """-> (exit code, reason, message) of a process that has ended."""
    code = process.child.returncode
    if code < 0:
        code = 128 - code
    if code == 0:
        return 0, "Completed", ""
    tail = "" if code == _TERMINATED else process.tail.decode(errors="replace").strip()
    return code, process.reason or "Error", process.message or tail
