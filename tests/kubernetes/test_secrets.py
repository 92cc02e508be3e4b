"""Identities in Secrets that bridges share: what one bridge does counts at all of them, and once is once."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from board_client import SERVER_NAMES, BoardClient, client_context
from certificates import new_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from kubernetes_world import Bridge, BridgeProcess, config, get, node, seen
from websockets.exceptions import InvalidStatus

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import access, secretstore
from cloud_bridge.backends.kubernetes.secretstore import SecretStore
from cloud_bridge.cloudhub.server import CLOSE_CERTIFICATE
from cloud_bridge.identity.identity import Identity
from cloud_bridge.identity.store import NodeRevocation
from cloud_bridge.identity.tokens import TokenError
from motelet.tools.cli import main
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard

NAMESPACE = "motelet"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


@asynccontextmanager
async def identities(cluster: Cluster, count: int = 1) -> AsyncIterator[list[Identity]]:
    """The identities as so many bridges see them, each following what the others change."""
    stores = [SecretStore(access.find(config(cluster)), NAMESPACE) for _ in range(count)]
    for each in stores:
        await each.open()
    tasks = [asyncio.create_task(each.run()) for each in stores]
    try:
        yield await asyncio.gather(*(Identity.open(each) for each in stores))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for each in stores:
            await each.close()


def request(name: str) -> bytes:
    """A request of a board with a key of its own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}")])
    builder = x509.CertificateSigningRequestBuilder(subject)
    return builder.sign(new_key("ec"), hashes.SHA256()).public_bytes(Encoding.DER)


def jwt(token: str) -> str:
    return token.partition(".")[2]


def test_all_bridges_have_one_ca_and_one_server_key(cluster: Cluster) -> None:
    async def run() -> None:
        async with identities(cluster, 3) as bridges:
            assert len({each.authority.der for each in bridges}) == 1
            pairs = await asyncio.gather(*(each.server(SERVER_NAMES) for each in bridges))
            assert len(set(pairs)) == 1
            assert (await bridges[0].server(["elsewhere"])) != pairs[0]

    asyncio.run(run())
    stored = get(cluster, f"{SECRETS}/motelet-ca")
    assert stored["type"] == "kubernetes.io/tls"


async def race(cluster: Cluster, rounds: int) -> list[int]:
    """Two boards show one token to two bridges at the same moment; -> how many were let in, each time."""
    results = []
    async with identities(cluster, 2) as bridges:
        for number in range(rounds):
            name = f"raced-{number}"
            token = jwt(await bridges[number % 2].create_token(name, 60, reusable=False))
            said = await asyncio.gather(
                *(each.enrol(token, name, request(name)) for each in bridges), return_exceptions=True
            )
            for each in said:
                assert isinstance(each, tuple | TokenError), each
            results.append(sum(isinstance(each, tuple) for each in said))
    return results


def test_a_token_is_used_once_although_two_bridges_are_shown_it(cluster: Cluster) -> None:
    assert asyncio.run(race(cluster, 20)) == [1] * 20


def test_without_the_version_it_is_used_twice(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault, which shows that the test above can fail."""
    write = SecretStore._write
    one_by_one = asyncio.Lock()

    async def careless(self, name, stored, *more):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0.3)  # the other has decided as well, most often
        async with one_by_one:
            return await write(self, name, get(cluster, f"{SECRETS}/{name}") or stored, *more)

    monkeypatch.setattr(SecretStore, "_write", careless)

    async def twice() -> bool:
        for _ in range(20):
            if await race(cluster, 1) == [2]:
                return True
        return False

    assert asyncio.run(twice())


def test_what_one_bridge_revokes_ends_a_session_of_another(cluster: Cluster) -> None:
    async def run() -> None:
        async with identities(cluster, 2) as (mine, other):
            pairs = {name: await mine.create_pair(name) for name in ("secret-1", "secret-2")}
            async with Bridge(cluster, "bridge-a", identity=mine) as one:
                for name, revoke in (("secret-1", True), ("secret-2", False)):
                    context = client_context(mine, name, pairs[name])
                    async with BoardClient(SimulatedBoard(), one.port, context) as client:
                        await client.until(lambda client=client: client.board.synced)
                        if revoke:
                            await other.registry.revoke_node(name)
                        else:
                            # A newer certificate that has connected elsewhere ends it, too.
                            newer, _ = await other._sign(request(name), name)
                            await other.registry.connected(newer)
                        assert await client.closed() == CLOSE_CERTIFICATE
                    with pytest.raises(InvalidStatus):
                        async with BoardClient(SimulatedBoard(), one.port, context):
                            pass

    asyncio.run(run())


def test_operators_commands(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str, status: int = 0) -> str:
        assert main(["bridge", *words, *options]) == status
        said = capsys.readouterr()
        return (said.out if status == 0 else said.err).strip()

    options = ["--secrets", NAMESPACE, "--kubeconfig", str(config(cluster))]
    token = run("token", "create", "commanded")
    row = next(line.split() for line in run("token", "list").splitlines() if " commanded " in line)
    assert row[1:4] == ["commanded", "valid", "once"]

    async def enrol() -> str:
        async with identities(cluster) as (identity,):
            peer, _ = await identity.enrol(jwt(token), "commanded", request("commanded"))
            return peer.serial

    serial = asyncio.run(enrol())
    assert any(
        line.split()[:3] == ["commanded", serial, "valid"] for line in run("cert", "list").splitlines()
    )
    run("cert", "create", "commanded", "--out", str(tmp_path))
    assert hashlib.sha256((tmp_path / "ca.der").read_bytes()).hexdigest() == token.partition(".")[0]
    run("cert", "revoke", serial)
    assert "revoked 1 certificates of node commanded" in run("cert", "revoke", "commanded")
    run("token", "revoke", row[0])
    with pytest.raises(TokenError, match="revoked"):
        asyncio.run(enrol())
    assert "no token x" in run("token", "revoke", "x", status=1)
    assert "is gone" in run("node", "remove", "commanded")
    options[1] = "../x"
    assert "not the name of a namespace" in run("token", "list", status=1)
    options[1] = "kube-system"  # where the bridge has no right
    assert "403" in run("token", "list", status=1)
    options += ["--state", str(tmp_path)]
    assert "in one place" in run("token", "list", status=1)


def test_a_board_joins_one_bridge_and_is_served_by_another(cluster: Cluster, tmp_path: Path) -> None:
    options = [f"--secrets={NAMESPACE}", "--name=localhost", "--enrol=127.0.0.1:0"]

    async def run() -> None:
        async with identities(cluster) as (identity,):
            pair = await identity.create_pair("shared")
            context = client_context(identity, "shared", pair)
        with BridgeProcess(cluster, "bridge-p1", tmp_path, identity=options) as one:
            async with one.board("shared", context=context) as client:
                await client.until(lambda: client.board.synced)
        with BridgeProcess(cluster, "bridge-p2", tmp_path, identity=options) as two:
            async with two.board("shared", context=context) as client:
                await client.until(lambda: client.board.synced)
            assert await seen(lambda: node(cluster, "shared"))

    asyncio.run(run())


def test_a_backup_is_all_it_takes(cluster: Cluster) -> None:
    """As cloud_bridge/deploy/README.md says."""

    async def before() -> tuple[bytes, str]:
        async with identities(cluster) as (identity,):
            peer, _ = await identity._sign(request("kept"), "kept")
            await identity.registry.revoke_node("kept")
            return identity.authority.der, peer.serial

    async def after() -> tuple[bytes, set[str]]:
        async with identities(cluster) as (identity,):
            revoked = {each.serial for each in identity.registry.issued() if each.revoked is not None}
            return identity.authority.der, revoked

    der, serial = asyncio.run(before())
    select = ("secrets", f"--namespace={NAMESPACE}", f"--selector={secretstore.LABEL}")
    backup = cluster.kubectl("get", *select, "--output=yaml")
    cluster.kubectl("delete", "secret", "motelet-ca", f"--namespace={NAMESPACE}")
    with pytest.raises(BackendError, match="motelet-ca is missing or empty: restore it from the backup"):
        asyncio.run(after())
    cluster.kubectl("delete", *select)
    cluster.kubectl("replace", "--force", "--filename=-", stdin=backup)
    restored = asyncio.run(after())
    assert restored[0] == der and serial in restored[1]
    assert len(yaml.safe_load(backup)["items"]) == len(get(cluster, SECRETS)["items"])


def test_a_record_that_cannot_be_read_shuts_out(cluster: Cluster) -> None:
    async def run() -> None:
        async with identities(cluster, 2) as (one, other):
            peer, _ = await one._sign(request("spoilt"), "spoilt")
            secret = await seen(lambda: holder(peer.serial))
            for content in (b"", b"{", b"[]", b'{"serial": 1}', b"\xff"):
                data = {f"certificate.{peer.serial}": base64.b64encode(content).decode()}
                cluster.request(
                    "PATCH", f"{SECRETS}/{secret}", {"data": data}, "application/merge-patch+json"
                )
                async with asyncio.timeout(10):
                    while other.refusal(peer) != "its record cannot be read":
                        await asyncio.sleep(0.01)
                        other.refresh()
            await one.registry.revoke_serial(peer.serial)
            assert one.refusal(peer) == "revoked"

    def holder(serial: str) -> str:
        for each in get(cluster, SECRETS)["items"]:
            if f"certificate.{serial}" in (each.get("data") or {}):
                return str(each["metadata"]["name"])
        return ""

    asyncio.run(run())


def test_a_secret_that_is_full_says_so(cluster: Cluster) -> None:
    big = NodeRevocation("x" * (1 << 20), 0)

    async def run() -> None:
        async with identities(cluster) as (identity,):
            await identity.create_token("full", 60, reusable=False)
            with pytest.raises(BackendError, match=r"motelet/motelet-identities-\d takes no more"):
                await identity.store.change("full", lambda tables: tables.nodes.put("full", big))
            await identity.create_token("full", 60, reusable=False)

    asyncio.run(run())
