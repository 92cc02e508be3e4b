"""p256 and csr against published vectors; tests/identity has `cryptography` as the judge."""

from binascii import hexlify, unhexlify
from hashlib import sha256

from motelet import csr, p256
from tests_util import raises

# RFC 6979, A.2.5
KEY = unhexlify("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
X = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
Y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
SIGNED = (
    (
        b"sample",
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    (
        b"test",
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    ),
)
# Multiples of the base point: NIST's "Mathematical routines for the NIST prime elliptic curves", and n - 1.
MULTIPLES = (
    (1, "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
    (2, "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978"),
    (3, "5ecbe4d1a6330a44c8f7ef951d4bf165e6c6b721efada985fb41661bc6e7fd6c"),
    (112233445566778899, "339150844ec15234807fe862a86be77977dbfb3ae3d96f4c22795513aeaab82f"),
    (
        115792089210356248762697446949407573529996955224135760342422259061068512044367,
        "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
    ),
)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def result(generator):
    """What a generator returns; MicroPython's `yield from` is what gets it."""
    box = []

    def outer():
        box.append((yield from generator))

    steps = sum([1 for _ in outer()])
    return box[0], steps


def test_multiples_of_the_base_point():
    for scalar, x in MULTIPLES:
        point, _ = result(p256.multiply(scalar))
        assert "%064x" % point[0] == x, scalar


def test_the_public_key_of_rfc_6979():
    public, steps = result(p256.public_key(KEY))
    assert hexlify(public).decode() == "04" + X + Y
    assert steps == 32  # a gateway goes on in between


def test_signatures_of_rfc_6979():
    for message, r, s in SIGNED:
        made, _ = result(p256.sign(KEY, sha256(message).digest()))
        assert ("%064x" % made[0], "%064x" % made[1]) == (r, s)


def test_keys_out_of_range_are_drawn_again_and_refused():
    draws = [bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big"), (ORDER - 1).to_bytes(32, "big")]
    assert p256.new_key(lambda n: draws.pop(0)) == (ORDER - 1).to_bytes(32, "big")
    assert not draws
    for key in (bytes(32), ORDER.to_bytes(32, "big"), KEY[1:], KEY + b"\x00", b""):
        raises(ValueError, result, p256.public_key(key))
        raises(ValueError, result, p256.sign(key, bytes(32)))


def test_a_request_says_who_asks_and_with_which_key():
    public, _ = result(p256.public_key(KEY))
    der, _ = result(csr.request("board-1", KEY, public))
    again, _ = result(csr.request("board-1", KEY, public))
    assert der == again  # the nonce is no accident
    assert public in der and b"system:node:board-1" in der and b"system:nodes" in der
    assert der[0] == 0x30 and len(der) < 320


def test_names_that_no_certificate_holds():
    raises(ValueError, result, csr.request("", KEY, bytes(65)))
    raises(ValueError, result, csr.request("n" * 53, KEY, bytes(65)))


def test_a_key_is_found_again_in_its_der():
    public, _ = result(p256.public_key(KEY))
    der = csr.private_key(KEY, public)
    assert len(der) == 121
    assert csr.key_of(der) == (KEY, public)
