"""What an application's own process does on MicroPython: its socket, and its volumes as the only files."""

import asyncio
import select
import sys

import vfs


class Stream:
    """The socket `fd`, which does not block: the gateway has seen to that."""

    def __init__(self, fd):
        self.file = open(fd, "r+b")
        self._poll = select.poll()
        self._poll.register(self.file, select.POLLIN)
        self.readinto = self.file.readinto
        self.write = self.file.write

    def wait(self, write):
        """Until it can be written or read."""
        self._poll.modify(self.file, select.POLLOUT if write else select.POLLIN)
        self._poll.poll()


async def listen(gateway):
    """The task that takes what the gateway sends."""
    from asyncio import core

    while True:
        yield core._io_queue.queue_read(gateway.stream.file)
        gateway.take()


run = asyncio.run  # the application's other tasks end with `main`


def prepare(gateway, volumes, memory):
    """Leave the application its volumes, and of the computer's files nothing."""
    vfs.umount("/")
    vfs.mount(volumes, "/")


def trace(error):
    """Print the traceback."""
    sys.print_exception(error)
