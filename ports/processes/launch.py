"""Starts an application's process: `launch.py PARENT MEMORY DESCRIPTOR FOLDER`, under CPython.

Here is what can only be said from within the new process: that it dies with the gateway, whatever it
does; that nothing it starts has the socket; how many files it may have open; that it starts no processes.
The MicroPython of PyPI is a library within CPython, so that all of this holds for it. The real one's heap
is MEMORY bytes.
"""

import ctypes
import importlib.util
import os
import resource
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
FILES_MAX = 64
_HERE = os.path.dirname(os.path.abspath(__file__))


def fence(parent, descriptor, processes):
    """Bind this process to `parent`, and bound what it may have."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(137)  # it was gone before
    os.set_inheritable(descriptor, False)
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, FILES_MAX)):
        resource.setrlimit(kind, (most, most))
    if not processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def main(argv):
    """-> exit status of the application; CPython's leaves by SystemExit."""
    parent, memory, descriptor, folder = argv[1:]
    script = os.path.join(_HERE, "process.py")
    arguments = [script, descriptor, folder, memory]
    if importlib.util.find_spec("micropython_unix") is not None:
        import micropython_unix

        fence(int(parent), int(descriptor), False)
        sys.argv[:] = ["micropython", "-X", "heapsize=" + memory] + arguments
        return micropython_unix.main()
    fence(int(parent), int(descriptor), True)  # to CPython a thread is a process too
    sys.argv[:] = arguments
    sys.path.insert(0, _HERE)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
