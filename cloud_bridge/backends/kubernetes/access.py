"""How to reach an API server, and who the bridge is to it: from a kubeconfig file, or within the cluster."""

import asyncio
import base64
import json
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cloud_bridge.backends.base import BackendError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""How long a token is used before its file is read again; the kubelet renews it long before its end."""
EXEC_SECONDS = 30.0
"""For a program of the kubeconfig that makes credentials."""

Token = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Access:
    """`server`: the URL; `context`: None for http; `token()`: the bearer token of now, None without."""

    server: str
    context: ssl.SSLContext | None
    token: Token


def find(kubeconfig: Path | None) -> Access:
    """By this kubeconfig; or, in a pod, as that; or by KUBECONFIG or ~/.kube/config. Raises BackendError."""
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(SERVICE_ACCOUNT)
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return from_kubeconfig(kubeconfig or (Path(first) if first else Path.home() / ".kube" / "config"))


def in_cluster(folder: Path) -> Access:
    """As the service account of this pod, whose files are in `folder`. Raises BackendError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except OSError as error:
        raise BackendError(f"{folder / 'ca.crt'}: {error.strerror or error}") from error
    where = f"[{host}]" if ":" in host else host
    return Access(f"https://{where}:{port}", context, _token_file(folder / "token"))


def from_kubeconfig(path: Path) -> Access:
    """By the current context of the file. Raises BackendError naming what is wrong with it."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackendError(f"kubeconfig {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BackendError(f"kubeconfig {path}: {error}") from error
    try:
        context = _named(config, "contexts", "context", config["current-context"])
        cluster = _named(config, "clusters", "cluster", context["cluster"])
        user = _named(config, "users", "user", context["user"])
        server = str(cluster["server"])
        tls = _tls(path.parent, cluster, user) if server.startswith("https:") else None
        return Access(server.rstrip("/"), tls, _token(path.parent, user))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackendError(f"kubeconfig {path}: {error!r} is missing or of no use") from error
    except OSError as error:
        raise BackendError(f"kubeconfig {path}: {error.filename or ''} {error.strerror or error}") from error


def _named(config: Mapping[str, Any], table: str, kind: str, name: str) -> Mapping[str, Any]:
    for each in config[table]:
        if each["name"] == name:
            entry: Mapping[str, Any] = each[kind]
            return entry
    raise KeyError(f"{table}: {name}")


def _tls(folder: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=_pem(folder, cluster, "certificate-authority"))
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _pem(folder, user, "client-certificate"), _pem(folder, user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 600, gone at once
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(folder: Path, entry: Mapping[str, Any], key: str) -> str | None:
    """What the entry has under `key`, as a file name, or in base64 under `key`-data."""
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return (folder / entry[key]).read_text(encoding="utf-8") if entry.get(key) else None


def _token(folder: Path, user: Mapping[str, Any]) -> Token:
    if "exec" in user:
        return _token_program(user["exec"])
    if "tokenFile" in user:
        return _token_file(folder / user["tokenFile"])
    text = user.get("token")

    async def fixed() -> str | None:
        return text

    return fixed


def _token_file(path: Path) -> Token:
    read = [float("-inf")]
    kept = [""]

    async def current() -> str:
        if time.monotonic() - read[0] > TOKEN_SECONDS:
            try:
                kept[0] = path.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise BackendError(f"token {path}: {error.strerror or error}") from error
            read[0] = time.monotonic()
        return kept[0]

    return current


def _token_program(plugin: Mapping[str, Any]) -> Token:
    """Credentials by a program, as clouds have them (client.authentication.k8s.io ExecCredential)."""
    command = [str(plugin["command"]), *map(str, plugin.get("args") or ())]
    more = {each["name"]: each["value"] for each in plugin.get("env") or ()}
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **more, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    read = [float("-inf")]
    kept = [""]

    async def current() -> str:
        if time.monotonic() - read[0] > TOKEN_SECONDS:
            kept[0] = await _run(command, environment)
            read[0] = time.monotonic()
        return kept[0]

    return current


async def _run(command: list[str], environment: Mapping[str, str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(EXEC_SECONDS):
            output, _ = await process.communicate()
        if process.returncode:
            raise BackendError(f"{command[0]} exited with {process.returncode}")
        return str(json.loads(output)["status"]["token"])
    except TimeoutError as error:
        process.kill()
        raise BackendError(f"{command[0]} did not finish within {EXEC_SECONDS:.0f} s") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{command[0]} gave no token: {error!r}") from error
