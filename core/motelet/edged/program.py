"""Loads an application, and tells how it failed. Borrowed."""

import io
import sys
from asyncio import core

_TRACE_SIZE_MAX = 200


def load(spec, root):
    """-> (module, its `main`) of what the command names. Raises what importing it raises.

    Found in the working directory, in what is mounted, and among the frozen modules. It and what it
    imports of its own are not in sys.modules afterwards: another application, or the next run, gets its own.
    """
    name, _, function = spec["command"][0].partition(":")
    paths = [root + mount for mount in spec["mounts"]]
    if spec.get("workingDir"):
        paths.insert(0, root + spec["workingDir"])
    _forget(root)
    sys.path[:0] = paths
    try:
        module = __import__(name, None, None, ("main",))
    finally:
        _forget(root)
    return module, getattr(module, function or "main")


def _forget(root):
    """What `load` makes the interpreter know, also what a run of it left that was interrupted."""
    root = root[: root.rfind("/") + 1]
    sys.path[:] = [each for each in sys.path if not each.startswith(root)]
    for each in list(sys.modules):
        if getattr(sys.modules[each], "__file__", "").startswith(root):
            sys.modules[each] = None  # a deleted entry keeps its value
            del sys.modules[each]


def trace(error):
    """-> the end of the traceback of `error`."""
    out = io.StringIO()
    sys.print_exception(error, out)
    return out.getvalue()[-_TRACE_SIZE_MAX:].strip()


async def call(apps, app, command, done):
    """Call a function of the application, as one of its tasks; `done(good)` says what came of it."""
    try:
        result = getattr(app.module, command[0])(*command[1:])
        if hasattr(result, "send"):
            result = await result
        good = result is not False
    except Exception as error:
        apps.services.log(app.container, "probe %s: %s" % (command[0], error))
        good = False
    if app.container.run is app:
        app.tasks.remove(core.cur_task)
        done(good)
