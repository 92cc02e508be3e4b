"""The upward half of a session: which of the board's numbered messages are durable, and what to tell it.

An acknowledgement is cumulative, so it waits for the slowest message before it; a refusal goes out
at once and always before an acknowledgement that covers its number.
"""

from collections import deque

import cbor2

from cloud_bridge.cloudhub.messages import MessageError
from cloud_bridge.resources import Refusal
from motelet import protocol


class Intake:
    """Counts messages that arrive and are settled; at most `window` of them are open at a time."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._seq = 0
        self._open: dict[int, None] = {}
        self._acked = 0
        self._nacks: deque[bytes] = deque()

    def arrive(self, seq: int) -> None:
        """`seq` has arrived. Raises MessageError when it is not the next number or beyond the window."""
        if seq != self._seq + 1:
            raise MessageError(f"message {seq} after {self._seq}")
        if len(self._open) + len(self._nacks) >= self._window:
            raise MessageError(f"more than {self._window} messages that were not acknowledged")
        self._seq = seq
        self._open[seq] = None

    def settle(self, seq: int, refusal: Refusal | None) -> None:
        """The backend holds `seq`, or refuses it. Raises ValueError when `seq` is not open."""
        if seq not in self._open:
            raise ValueError(f"message {seq} is not open")
        del self._open[seq]
        if refusal is not None:
            reason = _cut(refusal.reason, protocol.REASON_SIZE_MAX)
            self._nacks.append(cbor2.dumps([protocol.NACK, seq, refusal.code, reason]))

    def next_message(self) -> bytes | None:
        """The next refusal, or else the acknowledgement that is due; None when there is nothing to say."""
        if self._nacks:
            return self._nacks.popleft()
        settled = next(iter(self._open)) - 1 if self._open else self._seq
        if settled == self._acked:
            return None
        self._acked = settled
        return cbor2.dumps([protocol.ACK, settled])


def _cut(text: str, size_max: int) -> str:
    """The beginning of `text` that is at most `size_max` bytes of UTF-8."""
    return text.encode(errors="replace")[:size_max].decode(errors="ignore")
