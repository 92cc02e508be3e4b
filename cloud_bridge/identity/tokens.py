"""The token a board joins with, in KubeEdge's format, as a pure function of its parts.

``hex(sha256(DER of the CA)) + "." + JWT``: the first part lets the board check the CA before it trusts
it, the rest (RFC 7519, HS256, the key is the DER of the CA's private key) says to the bridge that it
made this token. KubeEdge's claims are ``exp`` alone, and such a token makes its owner any node. Here ``sub``
names the node and ``jti`` the record of the token, and a token without them is worth nothing.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from cloud_bridge.names import is_subdomain

NODE_PREFIX = "system:node:"
JWT_SIZE_MAX = 1024
"""Characters of a bearer token that is looked at."""
_HEADER = {"alg": "HS256", "typ": "JWT"}


class TokenError(Exception):
    """The token is not good; the text says why, for the log and not for who showed it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: its record, the node it is for, and when it ends (seconds since 1970)."""

    id: str
    node: str
    issued: int
    expires: int


def make(ca_der: bytes, key: bytes, claims: Claims) -> str:
    """The whole token."""
    return f"{hashlib.sha256(ca_der).hexdigest()}.{_jwt(key, claims)}"


def read(text: str, key: bytes, now: float) -> Claims:
    """The claims of a JWT, the part that a board shows the bridge. Raises TokenError."""
    parts = text.split(".")
    if len(text) > JWT_SIZE_MAX or len(parts) != 3:
        raise TokenError("not a JWT")
    signed = f"{parts[0]}.{parts[1]}".encode(errors="replace")
    if not hmac.compare_digest(_signature(key, signed), _decoded(parts[2])):
        raise TokenError("signature of another installation")
    header, payload = (_json(part) for part in parts[:2])
    if header.get("alg") != _HEADER["alg"]:
        raise TokenError("not HS256")
    identity, subject = payload.get("jti"), payload.get("sub")
    expires, issued = payload.get("exp"), payload.get("iat")
    if not (isinstance(identity, str) and isinstance(subject, str) and subject.startswith(NODE_PREFIX)):
        raise TokenError("names no node")
    if type(expires) is not int or type(issued) is not int or not is_subdomain(subject[len(NODE_PREFIX) :]):
        raise TokenError("claims of another shape")
    if expires <= now:
        raise TokenError("expired")
    return Claims(identity, subject[len(NODE_PREFIX) :], issued, expires)


def _jwt(key: bytes, claims: Claims) -> str:
    payload = {
        "exp": claims.expires,
        "iat": claims.issued,
        "jti": claims.id,
        "sub": NODE_PREFIX + claims.node,
    }
    signed = f"{_encoded(_dumped(_HEADER))}.{_encoded(_dumped(payload))}"
    return f"{signed}.{_encoded(_signature(key, signed.encode()))}"


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")


def _dumped(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise TokenError("not base64url") from error


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(text))
    except (ValueError, RecursionError) as error:
        raise TokenError("not JSON") from error
    if not isinstance(value, dict):
        raise TokenError("not a JSON object")
    return value
