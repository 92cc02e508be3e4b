"""Values that a `kvlog.Store` keeps encrypted: AES-256 in CBC mode, and an HMAC-SHA256 of each chunk.

KVLOG.md, section 9, has the format, and says what it protects and what it does not. Borrowed: a board that
holds no Secret never loads this.

A store's `vault` is what it seals with, the port: `secret_key()` -> 32 bytes, `aes(key, iv)` -> an object
with `encrypt(data)` and `decrypt(data)` in CBC mode, `random(n)`. The first two raise ValueError or OSError
where the platform has no key or no AES.
"""

from hashlib import sha256
from struct import pack

from micropython import const

from motelet.kvrecord import StoreError

_BLOCK = const(16)
_TAG_SIZE = const(16)
_PAD = const(64)  # the block size of SHA-256
_NONCE_SIZE = const(16)


def chunk_size(store):
    """Bytes of the value in each chunk but the last: whole blocks, and room for the tag."""
    return (store.chunk_size - _TAG_SIZE) // _BLOCK * _BLOCK


class Seal:
    """The keys of one value of `total` bytes; `nonce` is what its stream record says, None for a new value.

    StoreError "seal" where nothing can be encrypted: no vault, no key, no AES.
    """

    def __init__(self, store, key, nonce, total):
        self._vault = store.vault
        self._total = total
        self.chunk_size = chunk_size(store)
        try:
            if self._vault is None:
                raise ValueError("no key to encrypt with")
            self.nonce = nonce or self._vault.random(_NONCE_SIZE)
            own = _hmac(self._vault.secret_key(), b"motelet secret" + self.nonce + key.encode())
            self._key = _hmac(own, b"encrypt")
            self._mac = _hmac(own, b"authenticate")
            self._vault.aes(self._key, bytes(_BLOCK))
        except (ValueError, OSError) as error:
            raise StoreError("seal", "%s: %s" % (key, error))

    def close(self, index, data):
        """-> the bytes that flash gets for chunk `index`."""
        pad = -len(data) % _BLOCK
        aes = self._vault.aes(self._key, self._iv(index))
        text = aes.encrypt(bytes(data) + bytes(pad))
        return text + self._tag(index, text)

    def open(self, index, data):
        """-> chunk `index`, padded to whole blocks; None when it is not what `close` made with this key."""
        text = bytes(data[:-_TAG_SIZE])
        if bytes(data[-_TAG_SIZE:]) != self._tag(index, text):
            return None
        return self._vault.aes(self._key, self._iv(index)).decrypt(text)

    def _iv(self, index):
        # Nobody without the key can tell it, and no two chunks have the same.
        return _hmac(self._mac, b"iv" + pack("<I", index))[:_BLOCK]

    def _tag(self, index, text):
        return _hmac(self._mac, b"tag" + pack("<II", index, self._total) + text)[:_TAG_SIZE]


def _hmac(key, data):
    """HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes."""
    key = key + bytes(_PAD - len(key))
    inner = sha256(bytes([each ^ 0x36 for each in key]) + data).digest()
    return sha256(bytes([each ^ 0x5C for each in key]) + inner).digest()
