"""Who a board is: the key, certificate and CA it holds, and the change to newer ones. Borrowed by EdgeHub.

Everything is in the store, so the power may go at any point:

    .id/key .id/cert .id/ca      what a link is made with: SEC 1 and X.509, DER
    .id/origin                   8 bytes of SHA-256 of what they came from: the token, or the certificate of
                                 the configuration; another token or certificate there starts anew
    .id/next                     a key for which a certificate is being asked
    .id/next-cert                its certificate, once it came: tried first, until a link with it was welcomed

A private key never leaves the board. It is made once and kept until it has its certificate, so that asking
again after a power cut is asking for the same.
"""

from hashlib import sha256

from micropython import const

from motelet import borrow

# EdgeHub's `pair`: which of two pairs the link uses.
ONLY = const(0)
NEWER = const(1)  # not welcomed yet
OLDER = const(2)  # the newer one did not get in, and is tried again next time


def load(hub):
    """Give `hub` the TLS context of what the board holds, else of its configuration; -> False without any.

    ValueError and OSError of a certificate or key that TLS does not take.
    """
    store = hub.meta.store
    if store.get(".id/origin") != _origin(hub) or ".id/cert" not in store or ".id/key" not in store:
        return "cert" in hub.config and _use(hub, hub.config["ca"], hub.config["cert"], hub.config["key"])
    if ".id/next-cert" in store and ".id/next" in store:
        hub.pair = NEWER
        try:
            return _use_stored(hub)
        except (ValueError, OSError) as error:
            hub.log.error("edgehub", "the newer certificate is unusable", "error", error)
            hub.pair = OLDER
    return _use_stored(hub)


def store_first(hub, ca, certificate):
    """The certificate for the key that is asked for has come: from now on the board is who it says."""
    store = hub.meta.store
    key = store.get(".id/next")
    check(certificate, key)
    names = ("key", "cert", "ca", "origin", "next", "next-cert")
    values = (key, certificate, ca, _origin(hub), None, None)
    store.batch([(".id/" + name, value) for name, value in zip(names, values)])
    hub.pair = ONLY
    _use_stored(hub)


def store_next(hub, certificate):
    """The next certificate has come: the next link is made with it. ValueError when it is not for our key."""
    store = hub.meta.store
    key = store.get(".id/next")
    check(certificate, key)
    items = [(".id/next-cert", certificate)]
    if store.get(".id/origin") != _origin(hub):
        # What it replaces came with the configuration, and is to be at hand when the board starts again.
        for name in ("ca", "cert", "key"):
            items.append((".id/" + name, hub.config[name]))
        items.append((".id/origin", _origin(hub)))
    store.batch(items)
    hub.pair = OLDER  # until this link has ended


def welcomed(hub):
    """A link is up: if it is with the newer pair, the older one goes."""
    if hub.pair == NEWER:
        store = hub.meta.store
        items = [(".id/key", store.get(".id/next")), (".id/cert", store.get(".id/next-cert"))]
        store.batch(items + [(".id/next", None), (".id/next-cert", None)])
        hub.pair = ONLY
        hub.log.info("edgehub", "certificate renewed")


def other_pair(hub):
    """A link has ended that was made with one of two pairs: try the other."""
    pair = hub.pair
    hub.pair = OLDER if pair == NEWER else NEWER
    try:
        _use_stored(hub)
    except (ValueError, OSError) as error:
        hub.log.error("edgehub", "a certificate is unusable", "error", error)
        hub.pair = pair


def check(certificate, key):
    """ValueError unless `certificate` (DER) is whole and for the private key `key` (DER)."""
    size = len(certificate)
    whole = size > 4 and certificate[:2] == b"\x30\x82" and certificate[2] << 8 | certificate[3] == size - 4
    # The public key is what is at the end of the key's DER; TLS checks the rest.
    if not whole or key is None or certificate.find(key[-65:]) < 0:
        raise ValueError("not a certificate for the key that was asked for")


def request(hub, task):
    """A generator within `task`; returns a request (DER) for a certificate of this node."""
    store = hub.meta.store
    csr = borrow("csr")
    der = store.get(".id/next")
    if der is None:
        p256 = borrow("p256")
        key = p256.new_key(hub.port.random)
        der = csr.private_key(key, (yield from _stepped(task, p256.public_key(key))))
        store.put(".id/next", der)
    key, public = csr.key_of(der)
    return (yield from _stepped(task, csr.request(hub.config["node"], key, public)))


def _stepped(task, work):
    """A generator; what `work` returns, which lets the other tasks go on between its steps."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
        task.wake()
        yield


def renew(hub, task):
    """RENEW has come: a task of the loop, which ends when EdgeHub has the request to send."""
    link = hub.connects
    made = yield from request(hub, task)
    # The link may have been lost meanwhile; the next one will say so again if need be.
    if hub.connected and hub.connects == link:
        hub.csr = made
        hub.task.wake()


def _origin(hub):
    """What the configuration says that the identity comes from; with nothing there, what is stored counts."""
    source = hub.config.get("token") or hub.config.get("cert")
    if source is None:
        return hub.meta.store.get(".id/origin")
    return sha256(source if isinstance(source, bytes) else source.encode()).digest()[:8]


def _use_stored(hub):
    store = hub.meta.store
    key, certificate = ("next", "next-cert") if hub.pair == NEWER else ("key", "cert")
    return _use(hub, store.get(".id/ca"), store.get(".id/" + certificate), store.get(".id/" + key))


def _use(hub, ca, certificate, key):
    if ca is None or certificate is None or key is None:
        raise ValueError("the stored identity is damaged")
    hub.context = hub.port.tls(ca, certificate, key)
    return True
