"""Tokens of service accounts, made by the real API server for pods of boards, and used on it."""

import asyncio
import json
import logging
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest
from board_client import BoardClient
from kubernetes_world import SUBJECT, Bridge, content, get, seen

from cloud_bridge.edgecontroller import tokens
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard

CORE = "/api/v1/namespaces/default"
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CA = "certificate of the CA"
SHORTEST = 600
"""Seconds: Kubernetes makes no token for less."""


class Board(SimulatedBoard):
    """A gateway that runs pods, on CPython."""

    def hello(self, **info: Any) -> None:
        super().hello(mpy=0, **info)

    def file(self, pod: str, volume: str, path: str) -> bytes | None:
        """What a file of a volume has in it, as Edged finds it."""
        at = content(self, f"default/pod/{pod}")["volumes"][volume][path]
        if isinstance(at, bytes):
            return at
        found = content(self, at[0])
        return None if found is None else bytes(found[at[1]])


def pod(name: str, node: str, account: str, *own: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A pod as kubectl sends it; `own`: sources of a projected volume of its own."""
    mount = [{"name": "own", "mountPath": "/own"}] if own else []
    container = {"name": "main", "image": "micropython", "command": ["main"], "volumeMounts": mount}
    spec = {"nodeName": node, "serviceAccountName": account, "containers": [container]}
    if own:
        spec["volumes"] = [{"name": "own", "projected": {"sources": list(own)}}]
    return {"metadata": {"name": name, **metadata}, "spec": spec}


def token_of(**source: Any) -> dict[str, Any]:
    return {"serviceAccountToken": {"path": "token", **source}}


def create(cluster: Cluster, plural: str, body: dict[str, Any], namespace: str = "default") -> Any:
    group = "/apis/rbac.authorization.k8s.io/v1" if plural.startswith("role") else "/api/v1"
    return cluster.request("POST", f"{group}/namespaces/{namespace}/{plural}", body)


def account(cluster: Cluster, name: str) -> None:
    """A service account that may read ConfigMaps, and nothing else."""
    create(cluster, "serviceaccounts", {"metadata": {"name": name}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    create(cluster, "roles", {"metadata": {"name": name}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
    create(cluster, "rolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})


def ask(cluster: Cluster, token: bytes, path: str) -> tuple[int, str]:
    """GET as who has the token; -> status and answer."""
    context = ssl.create_default_context(cafile=str(cluster.ca.certificate_path))
    question = urllib.request.Request(
        cluster.url + path, headers={"Authorization": f"Bearer {token.decode()}"}
    )
    try:
        with urllib.request.urlopen(question, context=context, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def review(cluster: Cluster, token: bytes, *audiences: str) -> dict[str, Any]:
    """What TokenReview says of it."""
    spec = {"token": token.decode(), **({"audiences": list(audiences)} if audiences else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    found = cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    return dict(found["status"])


def waiting(cluster: Cluster, path: str) -> dict[str, Any]:
    """What the pod's container waits for."""
    status = (get(cluster, path) or {}).get("status", {}).get("containerStatuses") or [{}]
    return dict(status[0].get("state", {}).get("waiting") or {})


def test_the_token_is_good_is_the_pods_and_is_renewed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account(cluster, "reader")
    if get(cluster, f"{CORE}/configmaps/kube-root-ca.crt") is None:  # a controller makes it everywhere
        create(cluster, "configmaps", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": CA}})
    node, board, known = "board-token", Board(), set[bytes]()

    async def run() -> None:
        async with Bridge(cluster, pods=True) as bridge, client_of(bridge) as client:
            await client.until(lambda: board.synced)
            plain = pod("plain", node, "reader")
            wanted = {"annotations": {"motelet.dev/service-account-volume": "true"}}
            own = token_of(audience="vault", expirationSeconds=SHORTEST)
            made = create(cluster, "pods", pod("asks", node, "reader", own, **wanted))
            create(cluster, "pods", plain)
            await client.until(lambda: {"default/pod/asks", "default/pod/plain"} <= board.flash.keys())
            assert "volumes" not in content(board, "default/pod/plain")
            volume = next(each for each in content(board, "default/pod/asks")["volumes"] if each != "own")
            assert board.file("asks", volume, "ca.crt") and board.file("asks", volume, "namespace")
            token, other = board.file("asks", volume, "token"), board.file("asks", "own", "token")
            assert token and other
            known.update((token, other))
            mounts = content(board, "default/pod/asks")["containers"][0]["mounts"]
            assert [MOUNT, volume, ""] in mounts
            await asyncio.to_thread(check, made["metadata"]["uid"], token, other)
            before = board.flash["default/pod/asks"]
            monkeypatch.setattr(tokens, "RENEW_PART", 1 / SHORTEST)
            # As it would be after a restart of the bridge too, whose boards hold what they held.
        async with Bridge(cluster, pods=True) as bridge, client_of(bridge) as client:
            for _ in range(2):
                await client.until(lambda: board.file("asks", "own", "token") not in known)
                known.add(board.file("asks", "own", "token") or b"")
            assert (await asyncio.to_thread(review, cluster, max(known), "vault"))["authenticated"]
            assert board.flash["default/pod/asks"] == before, "the pod is not started again"
            for name in ("asks", "plain"):
                cluster.request("DELETE", f"{CORE}/pods/{name}?gracePeriodSeconds=0")
            await client.until(lambda: not [each for each in board.flash if "asks" in each])

    def client_of(bridge: Bridge) -> BoardClient:
        return bridge.board(node, board)

    def check(uid: str, token: bytes, other: bytes) -> None:
        assert ask(cluster, token, f"{CORE}/configmaps")[0] == 200
        code, said = ask(cluster, token, f"{CORE}/secrets")
        assert code == 403 and "system:serviceaccount:default:reader" in json.loads(said)["message"]
        assert ask(cluster, other, f"{CORE}/configmaps")[0] == 401
        reviewed = review(cluster, token)
        extra = reviewed["user"]["extra"]
        assert reviewed["authenticated"] and extra["authentication.kubernetes.io/pod-name"] == ["asks"]
        assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
        assert review(cluster, other, "vault")["audiences"] == ["vault"]
        assert not review(cluster, other).get("authenticated")

    asyncio.run(run())
    assert len(known) == 4
    for each in known:
        assert each.decode() not in caplog.text and each.decode().rpartition(".")[2] not in caplog.text


def test_where_the_bridge_may_make_none_a_pod_waits_and_says_why(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/closed"
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "closed"}})
    create(cluster, "serviceaccounts", {"metadata": {"name": "default"}}, "closed")

    async def run() -> None:
        board = Board()
        async with Bridge(cluster, pods=True) as bridge, bridge.board("board-closed", board) as client:
            await client.until(lambda: board.synced)
            create(cluster, "pods", pod("asks", "board-closed", "default", token_of()), "closed")
            await client.until(lambda: waiting(cluster, f"{path}/pods/asks"))
            state = waiting(cluster, f"{path}/pods/asks")
            assert state["reason"] == "CreateContainerConfigError"
            assert "serviceaccounts/token" in state["message"] and "motelet-bridge-tokens" in state["message"]
            assert get(cluster, f"{path}/pods/asks")["status"]["phase"] == "Pending"
            events = await seen(lambda: cluster.request("GET", f"{path}/events")["items"])
            assert "cannot create resource" in events[0]["message"]
            assert not [each for each in board.flash if "asks" in each]
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
            bound = {"metadata": {"name": "t"}, "roleRef": {**role, "name": "motelet-bridge-tokens"}}
            create(cluster, "rolebindings", {**bound, "subjects": [SUBJECT]}, "closed")
            await client.until(lambda: "closed/secret/asks:token" in board.flash)
            cluster.request("DELETE", f"{path}/pods/asks?gracePeriodSeconds=0")
            await client.until(lambda: "closed/secret/asks:token" not in board.flash)

    asyncio.run(run())
