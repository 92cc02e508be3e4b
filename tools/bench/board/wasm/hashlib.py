"""MicroPython for WebAssembly has no SHA-1, which a WebSocket handshake needs; the host lends it one.

Shadows the built-in module of this name, as MicroPython allows, and takes the rest from it.
"""

from js import motelet_sha1
from uctypes import addressof
from uhashlib import sha256

__all__ = ("sha1", "sha256")


class sha1:  # noqa: N801 - its name in the standard library
    def __init__(self, data):
        self._data = data

    def digest(self):
        out = bytearray(20)
        motelet_sha1(addressof(self._data), len(self._data), addressof(out))
        return bytes(out)
