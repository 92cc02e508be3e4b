"""The numbers of the link between a board and the bridge that both sides have to agree on.

Each binary WebSocket message is one CBOR array whose first item is its kind; protocol.cddl, beside this
file, is the grammar of all of them. Nothing else is here, because each name costs a board memory.
"""

from hashlib import sha256

from micropython import const

SUBPROTOCOL = "motelet.v1+cbor"
PATH = "/motelet/v1"
VERSION = const(1)

# Kinds of message. Those with a seq in second place are durable: acknowledged once they are stored.
HELLO = const(0)
WELCOME = const(1)
LIST = const(2)
HAVE = const(3)
SYNCED = const(4)
ACK = const(5)
NACK = const(6)
PUT = const(7)
DELETE = const(8)
PUTBLOB = const(9)
BLOBGET = const(10)
BLOB = const(11)
NAME = const(12)
REPORT = const(13)
STATE = const(14)
EVENT = const(15)
TIME = const(16)
RENEW = const(17)
CSR = const(18)
CERTIFICATE = const(19)
NODE = const(20)
POD = const(21)
LOGGET = const(22)
LOG = const(23)
PUBLISH = const(24)

# Codes of NACK.
TOO_LARGE = const(1)
MALFORMED = const(2)
UNSUPPORTED = const(3)
STORAGE_FULL = const(4)
INVALID = const(5)
NOT_YOURS = const(6)
UNKNOWN = const(7)

# WebSocket close code: no version in common.
CLOSE_VERSION = const(4001)

# Bytes of a message: what the bridge takes, and the least that a board may announce.
MESSAGE_SIZE_MAX = const(65536)
MESSAGE_SIZE_MIN = const(1024)
# Durable messages that may wait for an ACK.
WINDOW_MAX = const(32)
# Numbers that NAME may give on one connection.
REFS_MAX = const(4096)
# Bytes of UTF-8. A resource: Kubernetes' limits of a namespace (63) and a name (253), and a type.
RESOURCE_SIZE_MAX = const(340)
VERSION_SIZE_MAX = const(64)
PROPERTY_NAME_MAX = const(128)
VALUE_SIZE_MAX = const(512)
REASON_SIZE_MAX = const(200)
# Bytes of a blob in one BLOB.
CHUNK_SIZE_MAX = const(2048)
# Bytes of DER in CSR and in CERTIFICATE.
CSR_SIZE_MAX = const(512)
CERTIFICATE_SIZE_MAX = const(1024)
# Milliseconds: a board that sent nothing for the first pings; after the second without a byte a link is dead.
PING_MS = const(15000)
DEAD_MS = const(45000)


def digest_item(resource, version):
    """8 bytes that stand for one held resource (both str) in the digest of HELLO."""
    return sha256((resource + "\0" + version).encode()).digest()[:8]


def digest_xor(digest, item):
    """Count an item in `digest` (bytearray of 8, all zero when nothing is held), or take it out again."""
    for i in range(8):
        digest[i] ^= item[i]
