"""TokenRequest of authentication.k8s.io/v1: what is asked, and the token in the answer. Without I/O."""

from typing import Any

from cloud_bridge.backends.base import BackendError, Token, TokenRequest

TOKEN_SIZE_MAX = 4096
"""Bytes; Kubernetes' own tokens have some 1,200."""


def body(request: TokenRequest) -> dict[str, Any]:
    """The object to be sent: for this pod only, as kubelet asks for it."""
    pod = {"kind": "Pod", "apiVersion": "v1", "name": request.pod.name, "uid": request.uid}
    spec: dict[str, Any] = {"expirationSeconds": request.seconds, "boundObjectRef": pod}
    if request.audience:
        spec["audiences"] = [request.audience]
    metadata = {"name": request.account, "namespace": request.pod.namespace}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": metadata,
        "spec": spec,
    }


def token_of(answer: Any) -> Token:
    """The token in the answer. Raises BackendError, which does not show the answer, where there is none."""
    try:
        text, seconds = answer["status"]["token"], answer["spec"]["expirationSeconds"]
    except (KeyError, TypeError) as error:
        raise BackendError(f"an answer without a token: no {error}") from None
    if not isinstance(text, str) or not 0 < len(text.encode()) <= TOKEN_SIZE_MAX:
        raise BackendError(f"an answer without a token of at most {TOKEN_SIZE_MAX} bytes")
    if type(seconds) is not int or seconds <= 0:
        raise BackendError("an answer that does not say how long the token is good")
    return Token(text, seconds)
