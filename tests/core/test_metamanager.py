"""MetaManager on a real store: every kind of object a node holds, and what is there with no link at all."""

from hashlib import sha256

from link_world import World, encoded
from nor import Nor

from motelet import protocol
from motelet.bus import Bus
from motelet.cbor import Reader
from motelet.kvlog import Store
from motelet.messages import PUT, READY
from motelet.metamanager import MetaManager
from motelet.metatransfer import Transfer
from motelet.ports.unix import Port

# The resources of KubeEdge that a node holds, under its keys.
OBJECTS = {
    "default/pod/blink": b"\xa1\x61p\x01",
    "default/configmap/settings": b"\xa1\x61c\x02",
    "default/secret/wifi": b"\xa1\x63key\x67hunter2",
    "default/device/lamp": b"\xa1\x61d\x04",
    "default/devicemodel/lamp": b"\xa1\x61m\x05",
    "null/node/board": b"\xa1\x61n\x06",
}


class Vault:
    aes = Port().aes

    def secret_key(self):
        return b"k" * 32

    def random(self, n):
        return b"n" * n


def make(flash, key=True):
    store = Store(flash)
    store.vault = Vault() if key else None
    store.mount()
    return store


def content(store, resource):
    """What a module does with an object that it looks up."""
    value = store.get(resource)
    reader = Reader()
    reader.open(value, 0, len(value))
    return reader.text(), reader.bytes()


def received(flash, objects, key=True):
    """A board that was sent these, and what it answered."""
    world = World(make(flash, key))
    cloud = world.connect()
    seq = 0
    heard = []
    for resource in sorted(objects):
        seq += 1
        cloud.say([protocol.PUT, seq, resource, "v%d" % seq, objects[resource]])
        heard += cloud.heard()
        while world.store.step():
            pass
    return world, heard


def test_every_kind_is_held_and_found_offline_after_a_restart():
    flash = Nor(12)
    _, heard = received(flash, OBJECTS)
    assert [protocol.ACK, len(OBJECTS)] in heard
    store = make(flash)
    for at, resource in enumerate(sorted(OBJECTS)):  # by key
        assert content(store, resource) == ("v%d" % (at + 1), OBJECTS[resource])
    for resource in OBJECTS:  # by type
        prefix = resource[: resource.rfind("/") + 1]
        assert list(store.keys(prefix)) == [resource]


def test_an_offline_start_hands_out_the_devices_and_says_ready():
    flash = Nor(12)
    received(flash, OBJECTS)
    world = World(make(flash))
    world.refuse = OSError(113)  # no link, ever
    world.loop.spawn("metamanager", world.meta.run)
    world.run(200)
    mail = world.twin_mail
    assert mail.take() and mail.kind == PUT and mail.a == "default/device/lamp"
    assert mail.b == OBJECTS["default/device/lamp"]
    assert mail.take() and mail.kind == READY
    assert not world.errors


def test_what_is_held_is_what_the_next_link_is_told_secrets_included():
    flash = Nor(12)
    received(flash, OBJECTS)
    expected = bytearray(8)
    for at, resource in enumerate(sorted(OBJECTS)):
        protocol.digest_xor(expected, protocol.digest_item(resource, "v%d" % (at + 1)))
    world = World(make(flash))
    assert world.connect().hello[3] == expected


def test_a_board_that_cannot_encrypt_refuses_secrets_by_name_and_takes_the_rest():
    world, heard = received(Nor(12), OBJECTS, key=False)
    refused = [message for message in heard if message[0] == protocol.NACK]
    assert len(refused) == 1 and refused[0][2] == protocol.INVALID and "default/secret/wifi" in refused[0][3]
    assert sorted(world.store.keys()) == sorted(set(OBJECTS) - {"default/secret/wifi"})
    assert encoded("hunter2")[1:] not in b"".join([piece or b"" for piece in world.store.flash._content])


def test_a_secret_that_came_in_chunks_is_encrypted_too():
    flash = Nor(16)
    bus = Bus()
    bus.mailbox("devicetwin", 4)
    meta = MetaManager(make(flash), bus)
    data = b"chunked secret! " * 80
    transfer = Transfer(meta, "default/secret/large", "v9", len(data), sha256(data).digest())
    for at in range(0, len(data), 700):
        transfer.write(data[at : at + 700])
    transfer.commit()
    assert content(meta.store, "default/secret/large") == ("v9", data)
    for piece in flash._content:
        assert piece is None or piece.find(b"chunked secret! ") < 0
