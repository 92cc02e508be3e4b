"""ECDSA over P-256 (FIPS 186-5; SEC 2 section 2.4.2), as much as a board needs to get a certificate.

MicroPython has no asymmetric arithmetic of its own, and its TLS keeps mbedTLS's to itself. This runs
twice when a board joins and twice when its certificate is renewed; it is borrowed for that and gone again.

One addition serves every case: the complete formulas of Renes, Costello and Batina (Complete addition
formulas for prime order elliptic curves, 2015, algorithm 4). So the sequence of operations is the same
for every key. The integers below are not of constant time, and a nonce leaks as much as they do:
cloud_bridge/THREATS.md says who could see it.

What takes long is a generator, so that a gateway goes on meanwhile: it yields None between two steps of
some milliseconds on a PC, and returns its result.
"""

from hashlib import sha256

from micropython import const

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    1,
)
_SIZE = const(32)  # bytes of a private key, of a coordinate and of each half of a signature
_BITS_A_STEP = const(8)


def _add(one, other):
    """The sum of two points, equal or not, in projective coordinates; O is (0, 1, 0)."""
    x1, y1, z1 = one
    x2, y2, z2 = other
    xx = x1 * x2
    yy = y1 * y2
    zz = z1 * z2
    xy = (x1 + y1) * (x2 + y2) - xx - yy
    yz = (y1 + z1) * (y2 + z2) - yy - zz
    xz = (x1 + z1) * (x2 + z2) - xx - zz
    zz %= _P
    xz %= _P
    u = 3 * (xz - _B * zz)
    left = (yy + u) % _P
    right = (yy - u) % _P
    v = 3 * (_B * xz - 3 * zz - xx) % _P
    w = 3 * (xx - zz) % _P
    xy %= _P
    yz %= _P
    return (xy * left - yz * v) % _P, (left * right + w * v) % _P, (yz * right + xy * w) % _P


def multiply(scalar):
    """A generator; returns the coordinates (x, y) of `scalar` times the base point; 0 < scalar < order."""
    # Montgomery's ladder: one addition and one doubling a bit, whichever it is.
    low, high = (0, 1, 0), _G
    for bit in range(8 * _SIZE - 1, -1, -1):
        total = _add(low, high)
        if scalar >> bit & 1:
            low, high = total, _add(high, high)
        else:
            low, high = _add(low, low), total
        if bit % _BITS_A_STEP == 0:
            yield
    inverse = pow(low[2], _P - 2, _P)
    return low[0] * inverse % _P, low[1] * inverse % _P


def new_key(random):
    """-> a private key, 32 bytes, of `random(n)` (FIPS 186-5, A.2.2: draw again what is out of range)."""
    while True:
        key = bytes(random(_SIZE))
        if 0 < int.from_bytes(key, "big") < _N:
            return key


def public_key(key):
    """A generator; returns the public key of `key` as SEC 1 has it uncompressed: 65 bytes.

    ValueError when `key` is not a private key.
    """
    x, y = yield from multiply(_scalar(key))
    return b"\x04" + _octets(x) + _octets(y)


def sign(key, digest):
    """A generator; returns the signature (r, s) of `digest`, 32 bytes of SHA-256.

    The nonce is that of RFC 6979, so a bad source of random numbers cannot give the key away.
    ValueError when `key` is not a private key.
    """
    secret = _scalar(key)
    number = int.from_bytes(digest, "big")
    for nonce in _nonces(key, _octets(number % _N)):
        x, _ = yield from multiply(nonce)
        r = x % _N
        s = pow(nonce, _N - 2, _N) * (number + r * secret) % _N
        if r and s:
            return r, s


def _scalar(key):
    scalar = int.from_bytes(key, "big")
    if len(key) != _SIZE or not 0 < scalar < _N:
        raise ValueError("not a private key of P-256")
    return scalar


def _octets(number):
    return number.to_bytes(_SIZE, "big")


def _nonces(key, digest):
    """Iterate over the nonces of RFC 6979, section 3.2, steps b to h; the first is nearly always the one."""
    v = b"\x01" * _SIZE
    k = bytes(_SIZE)
    for number in (b"\x00", b"\x01"):
        k = _hmac(k, v + number + key + digest)
        v = _hmac(k, v)
    while True:
        v = _hmac(k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < _N:
            yield nonce
        k = _hmac(k, v + b"\x00")
        v = _hmac(k, v)


def _hmac(key, message):
    """HMAC-SHA256 (RFC 2104); `key` is of one size here, below that of a block."""
    inner = bytes([octet ^ 0x36 for octet in key]) + b"\x36" * _SIZE
    outer = bytes([octet ^ 0x5C for octet in key]) + b"\x5c" * _SIZE
    return sha256(outer + sha256(inner + message).digest()).digest()
