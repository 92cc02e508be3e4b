"""Runs calls that block in a thread, one at a time, and wakes the loop when one has come back."""

import errno
import socket
import threading

from motelet.loop import READ
from motelet.ports.unix.cpython import Stream


class Worker:
    """One thread for the calls of one bus. `busy`: a call is under way whose result is to be fetched.

    A call that does not come back is given up after its time; until it does come back every other one fails,
    so that there is never more than one thread.
    """

    def __init__(self, loop):
        self.busy = False
        self._loop = loop
        self._clock = loop.clock
        self._thread = None
        self._outcome = None
        self._deadline = 0
        self._stream = self._far = None

    def call(self, task, timeout_ms, function, *args):
        """-> what function(*args) returned, once it has; None before, and `task` is woken then.

        To be called again until there is a result. Raises what it raised; OSError when it takes longer than
        timeout_ms.
        """
        if not self.busy:
            self._start(task, timeout_ms, function, args)
            return None
        if self._outcome is None:
            if self._clock.ticks_diff(self._deadline, self._clock.ticks_ms()) > 0:
                return None
            self.busy = False
            raise OSError(errno.ETIMEDOUT, f"no answer within {timeout_ms} ms")
        self.busy = False
        self._stream.readinto(bytearray(8))
        result, error = self._outcome
        if error is not None:
            raise error
        return result

    def close(self):
        """Forget what is under way; a thread that is stuck ends by itself."""
        self.busy = False
        if self._stream is not None:
            self._loop.unwatch(self._stream)
            self._stream.close()
            self._far.close()
            self._stream = None

    def _start(self, task, timeout_ms, function, args):
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(0.05)  # it may be about to end
            if self._thread.is_alive():
                raise OSError(errno.EBUSY, "an earlier call has not come back")
        if self._stream is None:
            near, self._far = socket.socketpair()
            near.setblocking(False)
            self._stream = Stream(near)
        self._loop.watch(self._stream, READ, task)
        self._outcome = None
        self._deadline = self._clock.ticks_add(self._clock.ticks_ms(), timeout_ms)
        self.busy = True
        self._thread = threading.Thread(target=self._run, args=(self._far, function, args), daemon=True)
        self._thread.start()

    def _run(self, far, function, args):
        outcome = None
        try:
            outcome = function(*args), None
        except Exception as error:  # whatever it is, the loop's thread is to see it
            outcome = None, error
        if far is self._far:
            self._outcome = outcome
            try:
                far.send(b"!")
            except OSError:
                return  # closed meanwhile: nobody waits
