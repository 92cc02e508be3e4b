"""protocol: the digest over what a board holds, and numbers that do not change by accident."""

from binascii import hexlify

from motelet import protocol


def test_an_item_of_the_digest_is_the_head_of_a_sha256():
    # What `printf 'default/device/t1\00012' | sha256sum` begins with.
    assert hexlify(protocol.digest_item("default/device/t1", "12")) == b"a6bbd68b8c651b35"
    assert protocol.digest_item("a", "bc") != protocol.digest_item("ab", "c")
    assert protocol.digest_item("gr\u00fcn", "1") == protocol.digest_item("gr\u00fcn", "1")


def test_the_digest_depends_on_the_set_and_not_on_the_order():
    items = [protocol.digest_item("ns/device/d%d" % i, str(i)) for i in range(5)]
    one = bytearray(8)
    for item in items:
        protocol.digest_xor(one, item)
    other = bytearray(8)
    for item in reversed(items):
        protocol.digest_xor(other, item)
    assert one == other and one != bytearray(8)
    protocol.digest_xor(one, items[0])
    protocol.digest_xor(one, protocol.digest_item("ns/device/d0", "99"))
    assert one != other
    protocol.digest_xor(one, protocol.digest_item("ns/device/d0", "99"))
    for item in items[1:]:
        protocol.digest_xor(one, item)
    assert one == bytearray(8)


def test_the_kinds_are_numbered_without_a_gap():
    kinds = (
        "HELLO WELCOME LIST HAVE SYNCED ACK NACK PUT DELETE PUTBLOB BLOBGET BLOB NAME REPORT STATE EVENT "
        "TIME RENEW CSR CERTIFICATE"
    ).split()
    assert [getattr(protocol, kind) for kind in kinds] == list(range(20))
    codes = "TOO_LARGE MALFORMED UNSUPPORTED STORAGE_FULL INVALID NOT_YOURS UNKNOWN".split()
    assert [getattr(protocol, code) for code in codes] == list(range(1, 8))
