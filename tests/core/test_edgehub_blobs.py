"""EdgeHub against a scripted CloudHub: objects that come in chunks.

The real bridge is the peer in tests/integration; here the script can do what a good bridge never does.
"""

from hashlib import sha256

from link_world import World, encoded

from motelet import protocol

CHUNK = 1024  # what a board asks for at a time


def blob(cloud, seq, data, resource="default/configmap/big", version="v9"):
    cloud.say([protocol.PUTBLOB, seq, resource, version, len(data), sha256(data).digest()])
    return cloud.heard()


def send(cloud, data, start=0):
    """Chunk after chunk from `start`; -> what is heard after the last."""
    digest = sha256(data).digest()
    for offset in range(start, len(data), CHUNK):
        cloud.say([protocol.BLOB, digest, offset, len(data), data[offset : offset + CHUNK]])
        heard = cloud.heard()
    return heard


def is_stored(world, data):
    value = world.store.data["default/configmap/big"]
    return value[:3] == encoded("v9") and memoryview(value)[6:] == data


def test_a_blob_arrives_in_chunks_and_others_do_not_wait_for_it():
    world = World()
    cloud = world.connect()
    data = bytes(range(250)) * 20
    digest = sha256(data).digest()
    heard = blob(cloud, 1, data)
    assert heard[-1] == [protocol.BLOBGET, digest, 0, CHUNK]
    cloud.say([protocol.PUT, 2, "default/configmap/small", "v", b"\xa0"])
    assert [protocol.ACK, 2] in cloud.heard()
    assert send(cloud, data) == [[protocol.ACK, 1, True]]
    assert is_stored(world, data)


def test_a_blob_goes_on_where_the_lost_link_left_it():
    world = World()
    cloud = world.connect()
    data = bytes(1500)
    digest = sha256(data).digest()
    blob(cloud, 1, data)
    cloud.say([protocol.BLOB, digest, 0, 1500, data[:CHUNK]])
    cloud.heard()
    cloud.stream.close()
    cloud = world.connect()
    assert blob(cloud, 1, data)[-1] == [protocol.BLOBGET, digest, CHUNK, 1500 - CHUNK]
    assert send(cloud, data, CHUNK) == [[protocol.ACK, 1, True]]
    assert is_stored(world, data)


def test_a_blob_with_a_wrong_digest_leaves_nothing():
    world = World()
    cloud = world.connect()
    digest = sha256(b"something else").digest()
    cloud.say([protocol.PUTBLOB, 1, "default/configmap/big", "v", 4, digest])
    cloud.heard()
    cloud.say([protocol.BLOB, digest, 0, 4, b"1234"])
    heard = cloud.heard()
    assert heard[-1][:3] == [protocol.NACK, 1, protocol.INVALID] and "digest" in heard[-1][3]
    assert not world.store.data


def test_a_blob_chunk_that_lies_is_refused():
    for chunk in ([1, 4, b"1234"], [0, 5, b"1234"], [0, 4, b""], [0, 4, b"12345"]):
        world = World()
        cloud = world.connect()
        digest = sha256(b"1234").digest()
        blob(cloud, 1, b"1234")
        cloud.say([protocol.BLOB, digest] + chunk)
        heard = cloud.heard()
        assert heard[-1][:3] == [protocol.NACK, 1, protocol.INVALID], heard
        assert not world.store.data and world.hub.connected


def test_a_device_too_large_for_a_message_is_handed_on_whole():
    world = World()
    cloud = world.connect()
    data = b"x" * 3000
    digest = sha256(data).digest()
    blob(cloud, 1, data, "default/device/large")
    assert send(cloud, data)[-1] == [protocol.ACK, 1, True]
    assert world.twin_mail.take() and world.twin_mail.b == data
    cloud.say([protocol.PUTBLOB, 2, "default/device/huge", "v", 16385, digest])
    heard = cloud.heard()
    assert heard[0][:3] == [protocol.NACK, 2, protocol.INVALID]
