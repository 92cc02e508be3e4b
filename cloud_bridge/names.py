"""Kubernetes' rules for names (RFC 1123), checked before a name becomes a key, a path or a log line."""

import re

NAME_SIZE_MAX = 253
NAMESPACE_SIZE_MAX = 63
NAME_RULE = 'must be at most 253 characters of a-z, 0-9, "-" and ".", and begin and end with one of a-z, 0-9'
NAMESPACE_RULE = 'must be at most 63 characters of a-z, 0-9 and "-", and begin and end with one of a-z, 0-9'

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_RE = re.compile(_LABEL + r"\Z")
_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")


def is_label(text: object) -> bool:
    """Whether this is a label, as a namespace has to be."""
    return isinstance(text, str) and len(text) <= NAMESPACE_SIZE_MAX and bool(_LABEL_RE.match(text))


def is_subdomain(text: object) -> bool:
    """Whether this is a subdomain, as the name of an object or of a node has to be."""
    return isinstance(text, str) and len(text) <= NAME_SIZE_MAX and bool(_SUBDOMAIN_RE.match(text))
