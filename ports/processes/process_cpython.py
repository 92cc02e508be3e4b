"""What an application's own process does on CPython, where there is no MicroPython for the computer.

Memory is bounded by the system (RLIMIT_DATA: what there is once the interpreter runs, and the container's
limit), and some of what MicroPython has is made up for: `asyncio.sleep_ms`, `time.ticks_ms`, .. The volumes
are seen by `open`, `os.listdir`, `os.remove` and `import`; other files of the computer are not hidden.
"""

import asyncio
import builtins
import importlib.abc
import importlib.util
import os
import resource
import select
import sys
import time
import traceback
import types

_PERIOD = 1 << 30


class Stream:
    """The socket `fd`, which does not block: the gateway has seen to that."""

    def __init__(self, fd):
        self.fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def readinto(self, buf):
        try:
            return os.readv(self.fd, [buf])
        except BlockingIOError:
            return None

    def write(self, data):
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return None

    def wait(self, write):
        """Until it can be written or read."""
        self._poll.modify(self.fd, select.POLLOUT if write else select.POLLIN)
        self._poll.poll()


def run(program):
    """Run `program`, and with it end all of the application's tasks, willing or not."""
    code = asyncio.new_event_loop().run_until_complete(program)
    sys.stdout.flush()
    os._exit(code)


async def listen(gateway):
    """The task that takes what the gateway sends."""
    come = asyncio.Event()
    asyncio.get_running_loop().add_reader(gateway.stream.fd, come.set)
    while True:
        await come.wait()
        come.clear()
        gateway.take()


def prepare(gateway, volumes, memory):
    """Have the application find its volumes and what MicroPython has, and bound its memory."""
    for module, name, function in (
        (asyncio, "sleep_ms", lambda ms: asyncio.sleep(ms / 1000)),
        (asyncio, "wait_for_ms", lambda awaitable, ms: asyncio.wait_for(awaitable, ms / 1000)),
        (time, "sleep_ms", lambda ms: time.sleep(ms / 1000)),
        (time, "ticks_ms", lambda: time.monotonic_ns() // 1000000 % _PERIOD),
        (time, "ticks_us", lambda: time.monotonic_ns() // 1000 % _PERIOD),
        (time, "ticks_add", lambda ticks, delta: (ticks + delta) % _PERIOD),
        (time, "ticks_diff", lambda a, b: (a - b + _PERIOD // 2) % _PERIOD - _PERIOD // 2),
    ):
        setattr(module, name, function)
    micropython = sys.modules["micropython"] = types.ModuleType("micropython")
    micropython.const = lambda value: value
    _Files(gateway, volumes).install()
    if sys.platform == "linux":
        # The sixth number of statm is pages of data, what RLIMIT_DATA counts.
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))


class _Files(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has `open`, `os` and `import` look into the volumes first."""

    def __init__(self, gateway, volumes):
        self._gateway = gateway
        self._volumes = volumes
        self._open = builtins.open

    def install(self):
        builtins.open = self.open
        os.listdir = self._either(os.listdir, lambda path: [each[0] for each in self._volumes.ilistdir(path)])
        os.remove = self._either(os.remove, self._volumes.remove)
        sys.meta_path.insert(0, self)

    def _ours(self, path):
        mounts = self._gateway.spec["mounts"] if self._gateway.spec is not None else ()
        return isinstance(path, str) and any(path == each or path.startswith(each + "/") for each in mounts)

    def _either(self, theirs, ours):
        return lambda path=".", **options: ours(path) if self._ours(path) else theirs(path, **options)

    def open(self, path, mode="r", *arguments, **options):
        if self._ours(path):
            return self._volumes.open(path, mode)
        return self._open(path, mode, *arguments, **options)

    def find_spec(self, name, path, target=None):
        for folder in sys.path if path is None else path:
            for inner, package in (("/__init__.py", True), (".py", False)):
                file = "%s/%s%s" % (folder, name.rpartition(".")[2], inner)
                if self._ours(file) and self._there(file):
                    found = importlib.util.spec_from_loader(name, self, origin=file, is_package=package)
                    if package:
                        found.submodule_search_locations.append(file.rpartition("/")[0])
                    return found
        return None

    def _there(self, file):
        try:
            self._volumes.stat(file)
        except OSError:
            return False
        return True

    def exec_module(self, module):
        with self._volumes.open(module.__spec__.origin, "r") as file:
            exec(compile(file.read(), module.__spec__.origin, "exec"), module.__dict__)


def trace(error):
    """Print the traceback."""
    traceback.print_exception(error)
