"""Bytes that no client would send, the same on both interpreters; a failure names its seed."""

from broker_world import CONNACK, Piece, World, connect, packet, publish, subscribe

from motelet.mqtt import Packets

_ROUNDS = 300
_LIMIT = 200


class Random:
    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state * 8121 + 28411) % 134456
        return self.state * bound // 134456


def _bytes(random, size):
    return bytes([random.below(256) for _ in range(size)])


def _feed(packets, data, random):
    """Feed data in pieces; -> True when it was refused."""
    at = 0
    piece = Piece()
    while at < len(data):
        piece.data = data[at : at + 1 + random.below(40)]
        packets.fill(piece)
        at += piece.count
        try:
            kind = packets.next()
            while kind:
                assert packets.head < packets.pos <= packets.stop <= packets.end <= len(packets.rx) <= _LIMIT
                kind = packets.next()
        except ValueError:
            return True
    return False


def test_any_bytes_are_packets_or_refused_and_never_more_than_the_limit():
    refused = 0
    for seed in range(_ROUNDS):
        random = Random(seed)
        data = _bytes(random, 1 + random.below(300))
        try:
            refused += _feed(Packets(32, _LIMIT), data, random)
        except Exception as error:
            raise AssertionError("seed %d: %r" % (seed, error))
    assert 0 < refused < _ROUNDS


def test_a_broker_outlives_clients_that_send_anything():
    world = World(clients=3)
    good = world.client("good", "ok")
    for seed in range(_ROUNDS // 3):
        random = Random(seed)
        bad = world.open(connect("bad"))
        assert bad.hear() == CONNACK, seed
        whole = (
            publish("a", b"x", 0x32, 5),
            subscribe("a/#"),
            connect("c"),
            packet(0xA2, b"\x00\x01\x00\x01a"),
        )
        data = bytearray(whole[random.below(4)])
        for _ in range(1 + random.below(3)):
            data[random.below(len(data))] = random.below(256)
        bad.say(bytes(data) + _bytes(random, random.below(20)))
        world.broker.publish("ok", "still here")
        assert good.hear() == publish("ok", b"still here"), seed
        bad.stream.close()
        world.step()
    assert len(world.broker._connections) == 1
