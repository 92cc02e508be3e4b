"""The volumes of containers as a file system of MicroPython, which reads what MetaManager holds on flash.

Mounted once, at `/pods`; `/pods/<number of the container>` is the container's root. Nothing is copied to
be there, and nothing is kept in RAM: a file that is opened is found anew. ConfigMaps, Secrets and packages
can be read only; an emptyDir is below the pod's own key in the store.
"""

import io

from micropython import const

from motelet import borrow
from motelet.kvlog import StoreError

_ENOENT = const(2)
_EAGAIN = const(11)
_EACCES = const(13)
_ENOSPC = const(28)
_CLOSE = const(4)  # MP_STREAM_CLOSE
_EINVAL = const(-22)
_DIRECTORY = const(0x4000)
_REGULAR = const(0x8000)
FILE_SIZE_MAX = const(4096)  # bytes of a file in an emptyDir
VOLUME_SIZE_MAX = const(16384)  # bytes of all files of an emptyDir


class Files:
    """What `vfs.mount` takes. `apps` finds the container of a number, `store` is MetaManager's."""

    def __init__(self, apps, store):
        self._apps = apps
        self._store = store

    def mount(self, readonly, mkfs):
        """Nothing has to be done for it."""

    def umount(self):
        """Nothing has to be done for it."""

    def chdir(self, path):
        raise OSError(_EACCES)  # one directory for all pods would be nobody's

    def _find(self, path):
        # -> (key of an emptyDir's file or None, source of the file or None, files {path: source}, path in the
        # volume). OSError.
        number, _, path = path.strip("/").partition("/")
        app = (
            self._apps.slots[int(number)]
            if number.isdigit() and int(number) < len(self._apps.slots)
            else None
        )
        path = "/" + path
        if app is None or ".." in path.split("/"):
            raise OSError(_ENOENT)
        looking = borrow("edged.spec")
        container = app.container
        spec = looking.container(self._store, container.pod, container.name)
        found = looking.find(spec, path) if spec is not None else None
        if found is None:
            raise OSError(_ENOENT)
        volume, within, files = found
        if "" in files:  # an emptyDir
            base = "%s/%s/" % (borrow("edged.kept").key(container.pod), volume)
            files = {each[len(base) :]: each for each in self._store.keys(base)}
            return base + within, files.get(within), files, within
        return None, files.get(within), files, within

    def stat(self, path):
        _, source, files, within = self._find(path)
        kind = _REGULAR
        if source is None:
            kind = _DIRECTORY
            if within and not [each for each in files if each.startswith(within + "/")]:
                raise OSError(_ENOENT)
        return (kind, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def ilistdir(self, path):
        _, _, files, within = self._find(path)
        names = {}
        for each in files:
            if not within or each.startswith(within + "/"):
                rest = each[len(within) + 1 if within else 0 :]
                name, more, _ = rest.partition("/")
                names[name] = _DIRECTORY if more else _REGULAR
        return iter([(name, names[name], 0) for name in names])

    def remove(self, path):
        key, source, _, _ = self._find(path)
        if key is None or source is None:
            raise OSError(_EACCES if key is None else _ENOENT)
        self._store.delete(key)

    def open(self, path, mode):
        key, source, files, within = self._find(path)
        text = "b" not in mode
        if "w" in mode:
            if key is None or not within:
                raise OSError(_EACCES)
            used = sum([self._store.length(each) or 0 for each in files.values() if each != source])
            return Fresh(self._store, key, used)
        if source is None:
            raise OSError(_ENOENT)
        if isinstance(source, str):
            return Stored(self._store, source, 0, self._store.length(source), text)
        if isinstance(source, list):
            at, size = borrow("edged.place").of(self._store, source[0], source[1])
            return Stored(self._store, source[0], at, size, text)
        return io.StringIO(str(source, "utf-8")) if text else io.BytesIO(source)


class _File(io.IOBase):
    # What a stream made in Python has to bring along itself.

    def ioctl(self, request, argument):
        if request != _CLOSE:
            return _EINVAL
        self.close()
        return 0

    def close(self):
        """Nothing has to be done for it."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Stored(_File):
    """`size` bytes of a value in the store from `start` on, read as they are asked for."""

    def __init__(self, store, key, start, size, text):
        self._store = store
        self._key = key
        self._at = start
        self._end = start + size
        self._text = text

    def readinto(self, buf):
        count = min(len(buf), self._end - self._at)
        if count <= 0:
            return 0
        count = self._store.readinto(self._key, self._at, memoryview(buf)[:count])
        self._at += count
        return count

    def read(self, size=-1):
        left = self._end - self._at
        data = bytearray(left if size < 0 else min(size, left))
        self.readinto(data)
        return str(data, "utf-8") if self._text else bytes(data)

    def readline(self):
        """A line, with its end; empty at the end of the file."""
        line = bytearray()
        one = bytearray(1)
        while self.readinto(one):
            line.extend(one)
            if one[0] == 10:
                break
        return str(line, "utf-8") if self._text else bytes(line)


class Fresh(_File):
    """A file of an emptyDir that is written: it is there, whole, once it is closed."""

    def __init__(self, store, key, used):
        self._store = store
        self._key = key
        self._room = min(FILE_SIZE_MAX, VOLUME_SIZE_MAX - used)
        self._data = bytearray()

    def write(self, data):
        if isinstance(data, str):
            data = data.encode()
        if len(self._data) + len(data) > self._room:
            self._key = None  # what is there of it is not the file
            raise OSError(_ENOSPC)
        self._data.extend(data)
        return len(data)

    def close(self):
        if self._key:
            try:
                self._store.put(self._key, self._data)
            except StoreError as error:
                if error.code == "busy":
                    raise OSError(_EAGAIN)  # it may be closed again, when others had their turn
                self._key = None
                raise OSError(_ENOSPC)
            self._key = None
