"""What applications keep while the store makes room: a value waits for it, a file says so."""

from busy_store import Busy
from link_world import DictStore

from motelet.edged import files, services
from motelet.edged.services import PUT_TRIES, Services
from tests_util import raises

_EAGAIN = 11
_KEY = ".pod/default/p/=/k"


class App:
    """As much of an application, its container and its pod as a key needs; also Edged."""

    def __init__(self):
        self.container = self.pod = self
        self.resource = "default/pod/p"
        self.store = DictStore()
        self.store.task = None


class Asyncio:
    """`sleep` counts; a value is kept by a coroutine that needs nothing else of asyncio."""

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)


def put(app, value):
    """Run `Services.put` to its end. -> how long it slept each time."""
    real = services.asyncio
    services.asyncio = Asyncio()
    try:
        Services(app, None, None).put(app, "k", value).send(None)
    except StopIteration:
        pass
    finally:
        slept = services.asyncio.slept
        services.asyncio = real
    return slept


def test_a_value_waits_while_the_store_makes_room():
    app = App()
    busy = Busy(app.store, 3)
    slept = put(app, b"1")
    assert len(slept) == 3 and 0 < min(slept) <= max(slept) < 1
    assert app.store.data == {_KEY: b"1"} and busy.left < 0
    assert not put(app, None) and not app.store.data


def test_a_value_does_not_wait_for_ever():
    app = App()
    busy = Busy(app.store, 1000)
    error = raises(OSError, put, app, b"1")
    assert error.args[0] == _EAGAIN and busy.left == 1000 - PUT_TRIES and not app.store.data


def test_a_value_leaves_the_last_room_to_those_who_cannot_wait():
    app = App()
    app.store.task = app
    behind = [True, True, False]
    woken = []
    app.wake = lambda: woken.append(1)
    app.store.behind = lambda: behind.pop(0)
    assert len(put(app, b"1")) == 2 == len(woken)
    assert app.store.data == {_KEY: b"1"}


def test_a_file_that_the_store_has_no_room_for_yet_may_be_closed_again():
    app = App()
    Busy(app.store, 1)
    file = files.Fresh(app.store, ".pod/default/p/tmp/f", 0)
    file.write("text")
    assert raises(OSError, file.close).args[0] == _EAGAIN and not app.store.data
    file.close()
    assert app.store.data == {".pod/default/p/tmp/f": b"text"}
    app.store.full = True
    file = files.Fresh(app.store, ".pod/default/p/tmp/g", 0)
    file.write(b"more")
    assert raises(OSError, file.close).args[0] == 28
    file.close()  # given up
    assert len(app.store.data) == 1
