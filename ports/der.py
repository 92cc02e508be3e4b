"""DER (X.690), as far as a port must know it: where one certificate ends and the next begins."""

from micropython import const

_SEQUENCE = const(0x30)
_LONG_FORM = const(0x80)


def split(der):
    """Cut concatenated DER sequences apart and return them as a list of bytes.

    Certificate authorities are handed over in one piece, and MicroPython's TLS takes the first of
    several and says nothing of the others. ValueError names the offset where there is no whole sequence.
    """
    parts = []
    at = 0
    while at < len(der):
        if der[at] != _SEQUENCE or len(der) - at < 2:
            raise ValueError("no DER sequence at offset %d" % at)
        size = der[at + 1]
        body = at + 2
        if size & _LONG_FORM:
            body += size & ~_LONG_FORM
            size = int.from_bytes(der[at + 2 : body], "big")
        if body + size > len(der):
            raise ValueError("DER sequence at offset %d is cut short" % at)
        parts.append(bytes(der[at : body + size]))
        at = body + size
    return parts


def authorities(ca_der, cert_der):
    """The certificates of `ca_der`, a list. ValueError without one, or if `cert_der` is not exactly one."""
    parts = split(ca_der)
    if not parts:
        raise ValueError("no certificate authority")
    # MicroPython would take the first of several and leave the others out.
    if cert_der is not None and len(split(cert_der)) != 1:
        raise ValueError("not exactly one certificate")
    return parts
