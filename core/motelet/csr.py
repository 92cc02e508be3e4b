"""The DER (X.690) of what a board sends and keeps when it gets a certificate; borrowed for that.

A certification request is PKCS #10 (RFC 2986), a key an EC private key of SEC 1 (RFC 5915), which is what
MicroPython's TLS and OpenSSL both take. Subjects are KubeEdge's: O=system:nodes, CN=system:node:<node>.
"""

from hashlib import sha256

from micropython import const

from motelet import borrow

NODE_SIZE_MAX = 52  # characters: X.509 ends a common name at 64 (RFC 5280, A.1), and 12 are system:node:

_INTEGER = const(0x02)
_BIT_STRING = const(0x03)
_OCTET_STRING = const(0x04)
_UTF8_STRING = const(0x0C)
_SEQUENCE = const(0x30)
_SET = const(0x31)
_CONTEXT_0 = const(0xA0)
_CONTEXT_1 = const(0xA1)

_EC_PUBLIC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"  # 1.2.840.10045.2.1
_PRIME256V1 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"  # 1.2.840.10045.3.1.7
_ECDSA_SHA256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"  # 1.2.840.10045.4.3.2
_ORGANIZATION = b"\x06\x03\x55\x04\x0a"  # 2.5.4.10
_COMMON_NAME = b"\x06\x03\x55\x04\x03"  # 2.5.4.3


def private_key(key, public):
    """-> DER of an ECPrivateKey: `key` of 32 bytes and its `public` key of 65."""
    content = b"\x02\x01\x01" + _tlv(_OCTET_STRING, key)
    content += _tlv(_CONTEXT_0, _PRIME256V1) + _tlv(_CONTEXT_1, _bits(public))
    return _tlv(_SEQUENCE, content)


def key_of(der):
    """-> (key, public): what `private_key` made `der` of. Only for what it made."""
    return der[7:39], der[-65:]


def request(node, key, public):
    """A generator, as those of p256; returns the DER of a request for a certificate of `node`.

    ValueError for a node whose name no certificate holds, or a key that is none.
    """
    if not 0 < len(node) <= NODE_SIZE_MAX:
        raise ValueError("node name of %d characters, at most %d" % (len(node), NODE_SIZE_MAX))
    subject = _name(_ORGANIZATION, "system:nodes") + _name(_COMMON_NAME, "system:node:" + node)
    point = _tlv(_SEQUENCE, _EC_PUBLIC_KEY + _PRIME256V1) + _bits(public)
    info = b"\x02\x01\x00" + _tlv(_SEQUENCE, subject) + _tlv(_SEQUENCE, point) + _tlv(_CONTEXT_0, b"")
    info = _tlv(_SEQUENCE, info)
    r, s = yield from borrow("p256").sign(key, sha256(info).digest())
    signature = _bits(_tlv(_SEQUENCE, _integer(r) + _integer(s)))
    return _tlv(_SEQUENCE, info + _tlv(_SEQUENCE, _ECDSA_SHA256) + signature)


def _tlv(tag, content):
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    if size < 0x100:
        return bytes([tag, 0x81, size]) + content
    return bytes([tag, 0x82, size >> 8, size & 0xFF]) + content


def _bits(content):
    return _tlv(_BIT_STRING, b"\x00" + content)


def _integer(number):
    content = number.to_bytes(32, "big").lstrip(b"\x00")
    # Two's complement: a first bit that is set would make it negative.
    return _tlv(_INTEGER, b"\x00" + content if content[0] & 0x80 else content)


def _name(kind, text):
    return _tlv(_SET, _tlv(_SEQUENCE, kind + _tlv(_UTF8_STRING, text.encode())))
