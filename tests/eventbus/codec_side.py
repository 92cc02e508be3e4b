"""What the MQTT codec makes of bytes, on either interpreter: a line in, a line out, for test_fuzz.py.

A line is HEX SIZE,SIZE,..: the bytes, and the pieces that they arrive in, over and over. The answer has
the packets, each KIND:HEX of its body, and "refused" at the end where a connection would be closed.
"""

import sys
from binascii import hexlify, unhexlify

from motelet.mqtt import Packets

PACKET_MAX = 150


class Piece:
    """A stream that has `data` and no more."""

    def __init__(self, data):
        self.data = data

    def readinto(self, buf):
        count = min(len(buf), len(self.data))
        buf[:count] = self.data[:count]
        self.data = self.data[count:]
        return count


def answer(line):
    data, sizes = line.split(" ")
    data = unhexlify(data)
    sizes = [int(size) for size in sizes.split(",")]
    packets = Packets(16, PACKET_MAX)
    found = []
    at = turn = 0
    while at < len(data):
        piece = Piece(data[at : at + sizes[turn % len(sizes)]])
        before = len(piece.data)
        try:
            packets.fill(piece)
            kind = packets.next()
            while kind:
                body = memoryview(packets.rx)[packets.pos : packets.stop]
                found.append(str(kind) + ":" + hexlify(body).decode())
                kind = packets.next()
        except ValueError:
            found.append("refused")
            break
        assert len(packets.rx) <= PACKET_MAX
        at += before - len(piece.data)
        turn += 1
    return " ".join(found)


def main():
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        print(answer(line.rstrip("\n")))


if __name__ == "__main__":
    main()
