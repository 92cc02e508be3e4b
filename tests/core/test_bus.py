"""Mailboxes: order, back-pressure, counted drops, and no memory held or made."""

import gc

from motelet.bus import Bus, Mailbox
from tests_util import IS_MICROPYTHON, allocates_nothing, raises


class Woken:
    """Stands in for a task: counts how often it was woken."""

    def __init__(self):
        self.times = 0

    def wake(self):
        self.times += 1


def message(mailbox):
    return mailbox.kind, mailbox.a, mailbox.b, mailbox.c


def test_messages_come_out_in_the_order_they_went_in():
    mailbox = Mailbox(3)
    for n in range(10):
        assert mailbox.put("kind", n) and mailbox.put("kind", n, "b", "c")
        assert len(mailbox) == 2
        assert mailbox.take() and message(mailbox) == ("kind", n, None, None)
        assert mailbox.take() and message(mailbox) == ("kind", n, "b", "c")
    assert len(mailbox) == 0 and mailbox.dropped == 0


def test_an_empty_mailbox_says_so_and_holds_nothing():
    mailbox = Mailbox(1)
    assert not mailbox.take() and message(mailbox) == (None, None, None, None)
    mailbox.put(1, 2, 3, 4)
    assert mailbox.take() and message(mailbox) == (1, 2, 3, 4)
    assert not mailbox.take() and message(mailbox) == (None, None, None, None)


def test_a_full_mailbox_refuses_and_wakes_the_sender_once_when_there_is_room():
    mailbox = Mailbox(2)
    sender = mailbox.sender = Woken()
    assert mailbox.put(1) and mailbox.put(2)
    mailbox.take()
    assert sender.times == 0  # nobody had been refused
    assert mailbox.put(3) and not mailbox.put(4) and not mailbox.put(4)
    mailbox.sender = sender
    assert len(mailbox) == 2 and mailbox.dropped == 0
    mailbox.take()
    mailbox.take()
    assert mailbox.kind == 3 and sender.times == 1
    assert mailbox.put(5) and mailbox.put(6) and not mailbox.put(7) and mailbox.take()
    assert sender.times == 1  # it did not ask again


def test_each_of_several_senders_is_woken():
    mailbox = Mailbox(1)
    senders = [Woken(), Woken(), Woken()]
    mailbox.put(0)
    for sender in senders[:2]:
        assert not mailbox.put(1)
        mailbox.sender = sender
    assert mailbox.full()
    mailbox.sender = senders[2]
    mailbox.take()
    assert [sender.times for sender in senders] == [1, 1, 1]


def test_a_look_at_a_full_mailbox_counts_as_a_refusal():
    mailbox = Mailbox(1)
    sender = mailbox.sender = Woken()
    assert not mailbox.full() and mailbox.put(0) and mailbox.full()
    mailbox.take()
    assert sender.times == 1 and not mailbox.full()
    dropping = Mailbox(1, drop=True)
    assert dropping.put(0) and not dropping.full()


def test_a_refusal_nobody_waits_for_is_no_error():
    mailbox = Mailbox(1)
    assert mailbox.put(1) and not mailbox.put(2) and mailbox.take() and mailbox.put(2)


def test_a_dropping_mailbox_loses_the_oldest_and_counts_it():
    mailbox = Mailbox(3, drop=True)
    for n in range(10):
        assert mailbox.put(n, n)
    assert mailbox.dropped == 7 and len(mailbox) == 3
    taken = []
    while mailbox.take():
        taken.append((mailbox.kind, mailbox.a))
    assert taken == [(7, 7), (8, 8), (9, 9)]


def test_the_owner_is_woken_by_each_message():
    mailbox = Mailbox(1)
    mailbox.put(0)
    mailbox.take()
    mailbox.task = Woken()
    mailbox.put(1)
    assert mailbox.task.times == 1
    mailbox.put(2)  # refused: nothing new to see
    assert mailbox.task.times == 1


def test_a_taken_message_is_not_kept():
    mailbox = Mailbox(8)
    gc.collect()
    before = gc.mem_alloc() if IS_MICROPYTHON else 0
    for _ in range(8):
        mailbox.put(0, bytearray(4000))
        mailbox.take()
    mailbox.take()
    gc.collect()
    # The collector looks at the C stack too, where one or two of the eight may have left a trace.
    assert not IS_MICROPYTHON or gc.mem_alloc() < before + 3 * 4000


def test_a_mailbox_holds_at_least_one_message():
    raises(ValueError, Mailbox, 0)
    raises(ValueError, Mailbox, -1)


def test_a_bus_knows_its_mailboxes_by_name():
    bus = Bus()
    twin = bus.mailbox("devicetwin", 4)
    events = bus.mailbox("eventbus", 1, drop=True)
    assert bus["devicetwin"] is twin and bus["eventbus"] is events
    assert events.put(1) and events.put(2) and events.dropped == 1
    raises(ValueError, bus.mailbox, "devicetwin", 4)
    assert raises(KeyError, lambda: bus["mapper"]).args[0] == "mapper"


def test_put_and_take_allocate_nothing():
    mailbox = Mailbox(4)
    dropping = Mailbox(4, drop=True)
    full = Mailbox(1)
    sender = Woken()

    def exchange(rounds):
        for n in range(rounds):
            full.put(0)
            full.put(0)
            full.sender = sender
            full.take()
            mailbox.put(n, mailbox)
            mailbox.put(n, "text", n, None)
            mailbox.take()
            mailbox.take()
            mailbox.take()
            dropping.put(n)

    exchange(1)
    assert allocates_nothing(exchange, 1000)
    assert dropping.dropped >= 996 and len(mailbox) == 0 and sender.times > 1000
