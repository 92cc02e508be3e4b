"""Named mailboxes: how the modules talk to each other without knowing each other (KubeEdge's beehive).

A mailbox is a bounded ring, allocated once. What happens when it is full is chosen by its owner:
the sender is refused and tries again (back-pressure), or the oldest message makes room and is counted.
"""

from micropython import const

_FIELDS = const(4)


class Mailbox:
    """A ring of `size` messages (kind, a, b, c).

    `task` is woken by each message; its owner sets it, None is nobody. Setting `sender` to a task has
    that task woken once, when there is room again after a refusal; several may wait so, each sets it
    when it was refused. `dropped` counts the messages a ring made with `drop=True` has lost.
    ValueError when `size` is less than 1.
    """

    def __init__(self, size, drop=False):
        if size < 1:
            raise ValueError("a mailbox holds at least one message")
        self.task = None
        self.dropped = 0
        self.kind = self.a = self.b = self.c = None
        self._drop = drop
        self._slots = [None] * (size * _FIELDS)
        self._first = 0  # index of the oldest message in _slots
        self._count = 0
        self._refused = False
        self._senders = []

    def __len__(self):
        return self._count

    def full(self):
        """True when the next `put` would be refused; it counts as a refusal then."""
        self._refused = not self._drop and self._count * _FIELDS == len(self._slots)
        return self._refused

    def put(self, kind, a=None, b=None, c=None):
        """Append a message and wake the owner. False when the ring is full and drops nothing.

        Refused messages are not kept: the sender waits to be woken and puts again.
        """
        slots = self._slots
        if self._count * _FIELDS == len(slots):
            if not self._drop:
                self._refused = True
                return False
            self.dropped += 1
            self._first = (self._first + _FIELDS) % len(slots)
            self._count -= 1
        at = (self._first + self._count * _FIELDS) % len(slots)
        slots[at] = kind
        slots[at + 1] = a
        slots[at + 2] = b
        slots[at + 3] = c
        self._count += 1
        if self.task is not None:
            self.task.wake()
        return True

    def take(self):
        """Move the oldest message into `kind`, `a`, `b`, `c`. False, and those None, when there is none."""
        if self._count == 0:
            self.kind = self.a = self.b = self.c = None
            return False
        slots = self._slots
        at = self._first
        self.kind = slots[at]
        self.a = slots[at + 1]
        self.b = slots[at + 2]
        self.c = slots[at + 3]
        # A slot that kept its message would keep the message's memory until the ring comes round.
        slots[at] = slots[at + 1] = slots[at + 2] = slots[at + 3] = None
        self._first = (at + _FIELDS) % len(slots)
        self._count -= 1
        if self._refused:
            self._refused = False
            while self._senders:
                self._senders.pop().wake()
        return True

    def _wait(self, task):
        if task not in self._senders:
            self._senders.append(task)

    sender = property(None, _wait)


class Bus(dict):
    """The mailboxes of one gateway by name; KeyError names the one that is missing."""

    def mailbox(self, name, size, drop=False):
        """Make the mailbox `name` and return it. ValueError when there is one already."""
        if name in self:
            raise ValueError("mailbox %s exists" % name)
        self[name] = mailbox = Mailbox(size, drop)
        return mailbox
