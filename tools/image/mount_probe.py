"""Runs on MicroPython: mounts a file system image, imports motelet from it, prints what is in it, as JSON.

argv: "littlefs" or "romfs", the image's file.
"""

import hashlib
import json
import os
import sys
from binascii import hexlify

import vfs

BLOCK = 4096


class Ram:
    """A block device of MicroPython on a bytearray."""

    def __init__(self, data):
        self.data = data

    def readblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        self.data[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        return len(self.data) // BLOCK if op == 4 else BLOCK if op == 5 else 0


def digests(folder):
    found = {}
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            found.update(digests(path))
        else:
            with open(path, "rb") as file:
                found[path[len("/image/") :]] = hexlify(hashlib.sha256(file.read()).digest()).decode()
    return found


with open(sys.argv[2], "rb") as image:
    content = image.read()
if sys.argv[1] == "littlefs":
    system = vfs.VfsLfs2(Ram(bytearray(content)), readsize=32, progsize=32, lookahead=32)
else:
    system = vfs.VfsRom(memoryview(content))
vfs.mount(system, "/image")
sys.path[:] = ["/image/lib", ".frozen"]
import motelet  # noqa: E402
import motelet.gateway  # noqa: E402

print(json.dumps({"files": digests("/image"), "version": motelet.__version__}))
