"""The messages between a gateway and an application that runs in a process of its own; bytes in, values out.

They go both ways over one socket pair. A message is a head, an array in JSON, then perhaps one string of
bytes:

    number: u32, size of the array: u16, size of the bytes: u32, big-endian; the array; the bytes

Where the array has a {} the bytes belong. JSON, because MicroPython has it in C, for no heap. A message
of the application with a number other than 0 is a request, and the answer has the same number:

    [name, arguments..]          -> ["ok", value] or ["error", class, arguments..]
    names: those of `edged.context` ("receive" asks for one message, which comes when there is one), and stat,
    list, file, save and remove for the files of its volumes

Without a number, to the application: ["start", container] once (protocol.cddl; mounts are paths only),
["stop"], ["message", topic, bytes], ["call", number, function, arguments..]; from it: ["called", number,
good] and ["oom"].
"""

import json
import struct

_HEADER_SIZE = 10
_FORMAT = ">IHI"
ARRAY_SIZE_MAX = 16384  # of an array; the largest is a container's environment
BYTES_SIZE_MAX = 524288  # a file of a volume
REQUEST_SIZE_MAX = 8192  # bytes that an application may send at once: a file of an emptyDir is one


def encode(number, values):
    """-> the message [values], one of which may be bytes. TypeError for what cannot be sent, ValueError."""
    data = b""
    values = list(values)
    for at in range(len(values)):
        value = values[at]
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(data):
                raise TypeError("more than one argument of bytes")
            data, values[at] = value, {}
        elif isinstance(value, float):
            if value - value != 0:
                raise ValueError("%s is not finite" % value)
        elif not (value is None or isinstance(value, (bool, int, str, list, dict))):
            raise TypeError("%s cannot be passed on" % type(value).__name__)
    array = json.dumps(values).encode()
    if len(array) > ARRAY_SIZE_MAX or len(data) > BYTES_SIZE_MAX:
        raise ValueError("too large")
    return struct.pack(_FORMAT, number, len(array), len(data)) + array + bytes(data)


class Receiver:
    """Puts messages together: fill `space()`, then `filled(n)` gives a message when it is whole.

    `array_max`, `bytes_max`: what a peer may send; more, or what makes no sense, is a ValueError.
    """

    def __init__(self, array_max=ARRAY_SIZE_MAX, bytes_max=BYTES_SIZE_MAX):
        self._max = (array_max, bytes_max)
        self._header = bytearray(_HEADER_SIZE)
        self._begin()

    def _begin(self):
        self._stage = 0
        self._array = None
        self._buf = memoryview(self._header)
        self._left = 0  # bytes to be passed over, for which there was no memory
        self._at = 0

    def space(self):
        """-> where the next bytes go, at least one."""
        if self._left:
            return self._buf[: min(self._left, len(self._buf))]
        return self._buf[self._at :]

    def filled(self, n):
        """n bytes are there. -> (number, values) when that makes a message, otherwise None.

        values None: there was no memory for it.
        """
        if self._left:
            self._left -= n
            return None if self._left else self._end(None)
        self._at += n
        while self._at == len(self._buf):
            if self._stage == 0:
                self._number, size, self._size = struct.unpack(_FORMAT, self._header)
                if size > self._max[0] or self._size > self._max[1] or size < 2:
                    raise ValueError("a message of %d and %d bytes" % (size, self._size))
                if not self._room(size, size + self._size):
                    return None
            elif self._stage == 1:
                self._array = self._buf
                if not self._size:
                    return self._end(b"")
                if not self._room(self._size, self._size):
                    return None
            else:
                return self._end(self._buf)
            self._stage += 1
        return None

    def _room(self, size, left):
        self._at = 0
        try:
            self._buf = memoryview(bytearray(size))
        except MemoryError:
            self._buf = memoryview(self._header)
            self._left = left
            return False
        return True

    def _end(self, data):
        number, array = self._number, self._array
        self._begin()
        if data is None:
            return number, None
        values = json.loads(bytes(array))
        if not isinstance(values, list) or not values or not isinstance(values[0], str):
            raise ValueError("no message")
        for at in range(len(values)):
            if values[at] == {}:
                values[at] = bytes(data)
        return number, values
