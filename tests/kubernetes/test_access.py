"""In a pod by its service account, outside by a kubeconfig; and what is wrong with either is named."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.backend import Kubernetes
from motelet.tools.kubernetes.cluster import Cluster


def starts(found: access.Access) -> None:
    """A backend starts with this access, and stops."""

    async def run() -> None:
        backend = Kubernetes(found, "bridge-access")
        await backend.start()
        await backend.stop()

    asyncio.run(run())


def token(cluster: Cluster) -> str:
    """Of the service account of cloud_bridge/deploy/rbac.yaml."""
    path = "/api/v1/namespaces/motelet/serviceaccounts/motelet-bridge/token"
    answer = cluster.request("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
    return str(answer["status"]["token"])


def changed(cluster: Cluster, folder: Path, **user: Any) -> Path:
    """A kubeconfig with another user, and the CA in it."""
    config = json.loads(cluster.kubeconfig().read_text())
    ca = config["clusters"][0]["cluster"].pop("certificate-authority")
    data = base64.b64encode(Path(ca).read_bytes()).decode()
    config["clusters"][0]["cluster"]["certificate-authority-data"] = data
    config["users"][0]["user"] = user
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def test_in_a_pod(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(token(cluster))
    (tmp_path / "ca.crt").write_bytes(cluster.ca.certificate_path.read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    starts(access.find(None))
    (tmp_path / "token").unlink()
    with pytest.raises(BackendError, match="token: No such file"):
        starts(access.find(None))
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(BackendError, match=r"ca\.crt: No such file"):
        access.find(None)


def test_kubeconfigs_of_every_kind(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    starts(access.find(None))
    good = token(cluster)
    starts(access.find(changed(cluster, tmp_path, token=good)))
    (tmp_path / "token").write_text(good)
    starts(access.find(changed(cluster, tmp_path, tokenFile="token")))
    program = f"import json; print(json.dumps({{'status': {{'token': '{good}'}}}}))"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
        "env": [{"name": "A", "value": "b"}],
    }
    starts(access.find(changed(cluster, tmp_path, exec=plugin)))
    certificate, key = (base64.b64encode(each.read_bytes()).decode() for each in cluster.ca.client("x", ()))
    inline = {"client-certificate-data": certificate, "client-key-data": key}
    with pytest.raises(BackendError, match="403: .*the bridge's role is missing something"):
        starts(access.find(changed(cluster, tmp_path, **inline)))
    with pytest.raises(BackendError, match="401: .*the credentials are not good"):
        starts(access.find(changed(cluster, tmp_path, token="stranger")))
    plugin["args"] = ["-c", "print('hello')"]
    with pytest.raises(BackendError, match="gave no token"):
        starts(access.find(changed(cluster, tmp_path, exec=plugin)))
    plugin["args"] = ["-c", "raise SystemExit(3)"]
    with pytest.raises(BackendError, match="exited with 3"):
        starts(access.find(changed(cluster, tmp_path, exec=plugin)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("{", "kubeconfig"),
        ("[]", "kubeconfig"),
        ("current-context: a\ncontexts: []", "contexts: a"),
        (
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: []}",
            "clusters: c",
        ),
    ],
)
def test_a_kubeconfig_of_no_use_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BackendError, match=told) as caught:
        access.find(path)
    assert str(path) in str(caught.value)


def test_a_server_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(cluster.kubeconfig().read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(BackendError, match="the API server cannot be reached"):
        starts(access.find(tmp_path / "config"))
