"""A real cluster on loopback: etcd and kube-apiserver, and on demand controller-manager and scheduler.

It has its own certificates and RBAC, and keeps everything in one folder. There is no kubelet: Nodes are
what the test makes them. etcd does not wait for the disk, for nothing here outlives the test.
"""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from motelet.tools.freeport import free_port
from motelet.tools.kubernetes import components
from motelet.tools.kubernetes.pki import ClusterCA

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0
ADMIN = "admin"
MASTERS = "system:masters"


class ClusterError(Exception):
    """A component did not come up or ended; the text has the end of its log."""


class Cluster:
    """One control plane below `folder`. A context manager: it is up within it, and stopped after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = ClusterCA(folder / "pki")
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._etcd_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._admin: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.start_apiserver()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- components --------------------------------------------------------------------------

    def start_apiserver(self, *more: str) -> None:
        """Start kube-apiserver, on the same port each time, and wait until it is ready."""
        pki = self.ca
        serving = pki.server(["127.0.0.1"], ["localhost", "kubernetes.default.svc"])
        options = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "tls-cert-file": serving[0],
            "tls-private-key-file": serving[1],
            "client-ca-file": pki.certificate_path,
            "service-account-key-file": pki.service_account_key,
            "service-account-signing-key-file": pki.service_account_key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": "10.96.0.0/24",
            "authorization-mode": "RBAC",
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        arguments = [f"--{key}={value}" for key, value in options.items()]
        self._start("kube-apiserver", [*arguments, *more])
        self._wait("kube-apiserver", self._ready)
        # What kube-controller-manager does in every namespace, and pods need.
        account = {"metadata": {"name": "default"}}
        with suppress(urllib.error.HTTPError):  # there is one, when it was started before
            self.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)

    def start_controller_manager(self, *controllers: str, **options: str) -> None:
        """Start kube-controller-manager with these controllers only; `options` have _ for -."""
        named = {key.replace("_", "-"): value for key, value in options.items()}
        arguments = {
            "kubeconfig": str(self.kubeconfig()),
            "controllers": ",".join(controllers),
            "leader-elect": "false",
            "secure-port": "0",
            **named,
        }
        self._start("kube-controller-manager", [f"--{key}={value}" for key, value in arguments.items()])

    def start_scheduler(self) -> None:
        """Start kube-scheduler."""
        options = [f"--kubeconfig={self.kubeconfig()}", "--leader-elect=false", "--secure-port=0"]
        self._start("kube-scheduler", options)

    def stop_component(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop one of `components.PROGRAMS` and wait until it has ended."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def running(self, name: str) -> bool:
        """Whether this component was started and not stopped."""
        return name in self._processes

    def stop(self) -> None:
        """Stop everything."""
        for name in reversed(components.PROGRAMS):
            if name in self._processes:
                # Nothing is to be saved, and an orderly end of kube-apiserver takes a while.
                self.stop_component(name, signal.SIGKILL)

    def signal_component(self, name: str, number: int) -> None:
        """Send a signal, such as SIGSTOP, to a component."""
        self._processes[name].send_signal(number)

    # -- clients -----------------------------------------------------------------------------

    def kubeconfig(self, user: str = ADMIN, groups: Sequence[str] = (MASTERS,), server: str = "") -> Path:
        """A kubeconfig file of a user with a certificate of its own; `server`: by another URL."""
        path = self.folder / f"{user.replace(':', '-')}{'-other' if server else ''}.kubeconfig"
        if not path.exists():
            certificate, key = self.ca.client(user, groups)
            cluster = {"server": server or self.url, "certificate-authority": str(self.ca.certificate_path)}
            client = {"client-certificate": str(certificate), "client-key": str(key)}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": user, "user": client}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                "current-context": "test",
            }
            path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        return path

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Ask the API server as the administrator; -> its JSON. Raises urllib.error.HTTPError, OSError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": kind, "Accept": "application/json"}, method=method
        )
        if self._admin is None:
            self._admin = ssl.create_default_context(cafile=str(self.ca.certificate_path))
            self._admin.load_cert_chain(*self.ca.client(ADMIN, (MASTERS,)))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._admin)
        )
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; -> what it printed. Raises ClusterError with its complaint."""
        command = [str(components.program("kubectl")), f"--kubeconfig={self.kubeconfig()}", *arguments]
        environment = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, env=environment
        )
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    # -- processes ---------------------------------------------------------------------------

    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{free_port()}"
        options = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",
        }
        self._start("etcd", [f"--{key}={value}" for key, value in options.items()])

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(components.program(name)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _wait(self, name: str, ready: Any) -> None:
        end = time.monotonic() + START_SECONDS_MAX
        while not ready():
            code = self._processes[name].poll()
            if code is not None or time.monotonic() > end:
                log = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                what = f"ended with {code}" if code is not None else "is not ready"
                raise ClusterError(f"{name} {what}:\n{log}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            self.request("GET", "/readyz")
            # RBAC's own roles are made after the server is ready to be asked.
            self.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin")
            self.request("GET", "/api/v1/namespaces/default")
        except (OSError, urllib.error.HTTPError):
            return False
        return True
