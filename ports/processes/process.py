"""An application in a process of its own: MicroPython whose heap is the container's, or CPython in its place.

Run as a script, in an interpreter that knows nothing of motelet: `process.py DESCRIPTOR FOLDER MEMORY`.
The socket leads to the gateway (podpipe.py), the folder has `context.py`: what the application gets is
the same as on a board. Its files are asked for over the socket too, so that nothing of it, Secrets among
it, lies on a disk.

Its end is the exit status: 0, what it gave SystemExit, 1 after an exception, 143 cancelled, 137 out of
memory. When the gateway goes, so does this.
"""

import asyncio
import io
import sys

import podpipe

_EACCES = 13  # MicroPython has few names of them
_ENOSPC = 28
_TERMINATED = 143
_KILLED = 137
_ASKED_OF_THE_GATEWAY = (
    "publish", "subscribe", "read", "desired", "write", "report", "state", "get", "put",
)  # fmt: skip
_ERRORS = {each.__name__: each for each in (KeyError, OSError, TypeError, ValueError)}
_OUT_OF_MEMORY = podpipe.encode(0, ["oom"])  # made while there is memory


def result(values):
    """-> the value of an answer. Raises what the gateway says went wrong."""
    if values is None:
        raise MemoryError("no memory for the answer")
    if values[0] == "ok":
        return values[1]
    kind = _ERRORS.get(values[1])
    if kind is None:
        raise RuntimeError("%s: %s" % (values[1], values[2:]))
    if kind is OSError and len(values) == 3:
        raise OSError(values[2], "refused by the gateway")  # CPython knows the number of two arguments only
    raise kind(*values[2:])


class Gateway:
    """The services of the gateway as `Context` wants them. `stream`: `readinto` and `write`, which may give
    None, and `wait(write)`, which waits for the one or the other."""

    container = None

    def __init__(self, stream):
        self.stream = stream
        self.main = self.module = self.spec = None
        self._receiver = podpipe.Receiver()
        self._number = 0
        self._waiting = {}  # number -> Event
        self._answers = {}
        self._messages = []
        self._arrived = None
        self._receiving = False

    def __getattr__(self, name):
        if name not in _ASKED_OF_THE_GATEWAY:
            raise AttributeError(name)
        return lambda _, *values: self._ask(name, values)

    # -- what Context asks of it --------------------------------------------------------------

    def log(self, _, text):
        print(text)

    def path(self, _, path):
        return path if path.startswith("/") else "/" + path

    async def receive(self, _):
        if self._arrived is None:
            self._arrived = asyncio.Event()
        while not self._messages:
            self._arrived.clear()
            # One that gave up waiting has left its request behind: the message is the next one's.
            if not self._receiving:
                self._receiving = True
                try:
                    await self._ask("receive", ())
                except BaseException:
                    self._receiving = False
                    raise
            await self._arrived.wait()
        return self._messages.pop(0)

    # -- asking -------------------------------------------------------------------------------

    def send(self, number, values):
        """Send a message, all of it."""
        self.send_bytes(podpipe.encode(number, values))

    def send_bytes(self, data):
        view = memoryview(data)
        while len(view):
            count = self.stream.write(view)
            if count:
                view = view[count:]
            else:
                self.stream.wait(True)

    async def _ask(self, name, values):
        # First of all: importing asyncio's part for it may take what is an answer already.
        event = asyncio.Event()
        number = self._number = self._number + 1
        self._waiting[number] = event
        try:
            self.send(number, [name] + list(values))
            await event.wait()
            return result(self._answers[number])
        finally:
            del self._waiting[number]
            self._answers.pop(number, None)

    def ask_now(self, name, *values):
        """The same for what cannot wait in asyncio: a file."""
        number = self._number = self._number + 1
        self.send(number, [name] + list(values))
        self._answers[number] = _PENDING
        while self._answers[number] is _PENDING:
            self.stream.wait(False)
            self.take()
        return result(self._answers.pop(number))

    # -- what comes ---------------------------------------------------------------------------

    def take(self):
        """Take what has come. SystemExit when the gateway is gone."""
        while True:
            count = self.stream.readinto(self._receiver.space())
            if count is None:
                return
            if count == 0:
                raise SystemExit(_KILLED)
            message = self._receiver.filled(count)
            if message is not None:
                self._take(*message)

    def _take(self, number, values):
        if number:
            if number in self._waiting:
                self._answers[number] = values
                self._waiting[number].set()
            elif number in self._answers:
                self._answers[number] = values
        elif values is None:
            self._receiving = False  # a message for which there was no memory
            self._arrived.set()
        elif values[0] == "message":
            self._receiving = False
            self._messages.append((values[1], values[2]))
            self._arrived.set()
        elif values[0] == "start":
            self.spec = values[1]
        else:
            # Not at once: this may be within the task that it is about.
            asyncio.create_task(self._stop() if values[0] == "stop" else self._call(*values[1:]))

    async def _stop(self):
        self.main.cancel()

    async def _call(self, number, function, *arguments):
        try:
            found = getattr(self.module, function)(*arguments)
            if hasattr(found, "send"):
                found = await found
            good = found is not False
        except Exception as error:
            print("probe %s: %s" % (function, error))
            good = False
        self.send(0, ["called", number, good])


_PENDING = ()


class Volumes:
    """The volumes of the container, as `vfs.mount` takes a file system; a file is read at once."""

    def __init__(self, gateway):
        self._ask = gateway.ask_now

    def mount(self, readonly, mkfs):
        """Nothing has to be done for it."""

    def umount(self):
        """Nothing has to be done for it."""

    def chdir(self, path):
        raise OSError(_EACCES, "read only")

    def stat(self, path):
        return (self._ask("stat", path), 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def ilistdir(self, path):
        return iter([(name, kind, 0) for name, kind in self._ask("list", path)])

    def remove(self, path):
        self._ask("remove", path)

    def open(self, path, mode):
        text = "b" not in mode
        if "w" in mode:
            self._ask("save", path, b"")  # whether it can be
            return Fresh(self._ask, path)
        data = self._ask("file", path)
        return io.StringIO(str(data, "utf-8")) if text else io.BytesIO(data)


class Fresh(io.IOBase):
    """A file that is written: it is there, whole, once it is closed. OSError when there is no room."""

    def __init__(self, ask, path):
        self._ask = ask
        self._path = path
        self._data = bytearray()

    def write(self, data):
        if isinstance(data, str):
            data = data.encode()
        if self._path is None or len(self._data) + len(data) > podpipe.REQUEST_SIZE_MAX // 2:
            self._path = None  # what is there of it is not the file
            raise OSError(_ENOSPC, "no room")
        self._data.extend(data)
        return len(data)

    def close(self):
        path, self._path = self._path, None
        if path is not None:
            self._ask("save", path, bytes(self._data))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def load(spec):
    """-> (module, its `main`) of what the command names. Raises what importing it raises."""
    name, _, function = spec["command"][0].partition(":")
    sys.path[:0] = ([spec["workingDir"]] if spec.get("workingDir") else []) + spec["mounts"]
    module = __import__(name, None, None, ("main",))
    return module, getattr(module, function or "main")


async def serve(gateway, platform, context_class):
    """Run the application. -> exit status."""
    gateway.main = asyncio.current_task()
    while gateway.spec is None:
        gateway.stream.wait(False)
        gateway.take()
    asyncio.create_task(platform.listen(gateway))
    try:
        context = context_class(gateway, gateway, gateway.spec)
        gateway.module, main = load(gateway.spec)
        try:
            program = main(context)
        except TypeError:
            program = main()
        await program
    except asyncio.CancelledError:
        return _TERMINATED
    except MemoryError as error:
        gateway.send_bytes(_OUT_OF_MEMORY)
        platform.trace(error)
        return _KILLED
    except SystemExit as error:
        code = error.args[0] if error.args else 0
        return code if isinstance(code, int) else 1
    except BaseException as error:
        platform.trace(error)
        return 1
    return 0


def run(argv):
    """-> exit status."""
    # What is beside this file is not for the application to import.
    if sys.implementation.name == "micropython":
        import process_native as platform
    else:
        import process_cpython as platform
    sys.path[0] = argv[2]
    from context import Context

    del sys.path[0]
    gateway = Gateway(platform.Stream(int(argv[1])))
    platform.prepare(gateway, Volumes(gateway), int(argv[3]))
    return platform.run(serve(gateway, platform, Context))


if __name__ == "__main__":
    sys.exit(run(sys.argv))
