"""The buffer that a link's messages are made in grows with the first one that does not fit. Borrowed.

Most messages of a board are of some 40 bytes. Many boards never send the largest ones - an application's
upload, a pod's status, a page of a log - and so never have the buffer for them.
"""

from micropython import const

from motelet.cbor import CborError

# Bytes of the larger buffer: an upload with a payload of 1024 and a topic of 512, and what is around it.
SIZE_MAX = const(1600)


def make(writer, size):
    """Have room for `size` bytes more; what was written stays, and `writer.link` sends from the new buffer.

    CborError where that is too much, and for a writer that has no link.
    """
    if writer.link is None or writer.n + size > SIZE_MAX:
        raise CborError("CBOR: no room for %d bytes at offset %d" % (size, writer.n))
    larger = bytearray(SIZE_MAX)
    larger[: writer.n] = writer.buf[: writer.n]
    writer.link.tx = larger
    writer.buf = memoryview(larger)
