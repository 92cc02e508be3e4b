"""A Pod made into what a board gets: every reference resolved, every source named, nothing that is not used.

A board has no room for objects that have to be joined. So env and downwardAPI are texts already, a volume
is a list of files with the object and key that each comes from, and whatever a board cannot run is found
here and told as kubelet would tell it: `UnrunnableError` has the reason a container waits with.

What is left out without a word: the service account volume that admission adds to every pod (unless
the annotation below asks for it), ports, security contexts, CPU. A token that a volume has is a file of
an object of its own, `token_resource`, so that it can change without the pod.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud_bridge.backends.base import CONFIG_MAP, POD, SECRET, Body, Key, TokenRequest
from cloud_bridge.edgecontroller import downward
from cloud_bridge.edgecontroller.quantity import bytes_of
from cloud_bridge.names import is_subdomain

IMAGE = "micropython"
"""The image that is on every board."""
PACKAGE = "package"
"""Type of the resource that holds the files of a package."""
PACKAGE_PATH = "/lib"
"""Where a package is mounted."""
HELD_IMAGES = re.compile(r"([a-z0-9][a-z0-9._-]{0,63}):([A-Za-z0-9][A-Za-z0-9._-]{0,63})\Z")
SERVICE_ACCOUNT_VOLUME = "kube-api-access-"
"""How the name of the volume begins that admission adds."""
SERVICE_ACCOUNT_ANNOTATION = "motelet.dev/service-account-volume"
""""true": the pod wants that volume."""
HOLD_ANNOTATION = "edge.kubeedge.io/hold-upgrade"
"""KubeEdge's: "true" holds a pod that has not started yet, until whoever minds the site removes it."""
HELD = "HeldUpgrade"
CONTAINERS_MAX = 8
"""Containers of a pod, init containers among them; a board has the same limit."""
ENV_SIZE_MAX = 4096
"""Bytes of all names and values of a container's environment."""
FILES_MAX = 64
"""Files of all volumes of a pod."""
TOKENS_MAX = 4
"""Different tokens of a pod."""
TOKEN_SECONDS = 3600
"""How long a token is good whose source does not say it, as in Kubernetes."""
INVALID_IMAGE = "InvalidImageName"
CONFIG_ERROR = "CreateContainerConfigError"
_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z0-9_.-]+)\)")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
)
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Lookup = Callable[[Key], Body | None]
Packages = Callable[[str, str], Collection[str] | None]
"""The paths in a package, None when there is none. Raises PendingError, UnrunnableError."""


class UnrunnableError(Exception):
    """A board cannot run the pod as it is. `reason` is what its containers wait with, in kubelet's words."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PendingError(Exception):
    """What the pod needs is being fetched or compiled; when that is done, it is to be looked at again."""


@dataclass(slots=True)
class Draft:
    """What became of a Pod: `content` as in protocol.cddl (pod), and what it needs beside itself.

    files     keys of ConfigMaps and Secrets that have to be held, by object
    packages  (name, version) of the packages that have to be held
    tokens    tokens that have to be held, and the key of each in `token_resource`
    """

    content: dict[str, Any]
    files: dict[Key, set[str]] = field(default_factory=dict)
    packages: set[tuple[str, str]] = field(default_factory=set)
    tokens: dict[TokenRequest, str] = field(default_factory=dict)


def resource(key: Key) -> str:
    """The name of an object on the link, as KubeEdge has it."""
    return f"{key.namespace}/{key.kind.lower()}/{key.name}"


def package_resource(namespace: str, name: str, version: str) -> str:
    """The name of a package on the link."""
    return f"{namespace}/{PACKAGE}/{name}-{version}"


def token_resource(key: Key) -> str:
    """The name on the link of the tokens of a pod: a Secret's, but for ":", which no Secret has."""
    return f"{key.namespace}/secret/{key.name}:token"


def references(pod: Body) -> set[Key]:
    """The ConfigMaps and Secrets that the pod names, whether or not they exist."""
    found: set[Key] = set()
    namespace = pod["metadata"]["namespace"]
    spec = _map(pod.get("spec"))

    def add(kind: str, name: Any) -> None:
        if isinstance(name, str) and name:
            found.add(Key(kind, namespace, name))

    for container in (*_list(spec.get("initContainers")), *_list(spec.get("containers"))):
        for each in _list(_map(container).get("envFrom")):
            add(CONFIG_MAP, _map(_map(each).get("configMapRef")).get("name"))
            add(SECRET, _map(_map(each).get("secretRef")).get("name"))
        for each in _list(_map(container).get("env")):
            source = _map(_map(each).get("valueFrom"))
            add(CONFIG_MAP, _map(source.get("configMapKeyRef")).get("name"))
            add(SECRET, _map(source.get("secretKeyRef")).get("name"))
    for volume in _list(spec.get("volumes")):
        sources = [_map(volume), *map(_map, _list(_map(_map(volume).get("projected")).get("sources")))]
        for each in sources:
            add(CONFIG_MAP, _map(each.get("configMap")).get("name"))
            add(SECRET, _map(each.get("secret")).get("secretName", _map(each.get("secret")).get("name")))
    for each in _list(spec.get("imagePullSecrets")):
        add(SECRET, _map(each).get("name"))
    return found


def deleted(pod: Body) -> bool:
    """Whether somebody wants the pod to go."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def held(pod: Body) -> bool:
    """Whether the pod is not to be started yet; one that ran is not stopped."""
    wanted = _map(_map(pod.get("metadata")).get("annotations")).get(HOLD_ANNOTATION) == "true"
    return wanted and _map(pod.get("status")).get("phase") in (None, "", "Pending")


def draft(pod: Body, lookup: Lookup, packages: Packages, sources: bool = False) -> Draft:
    """The pod for a board, which takes `sources` as they are or compiled. UnrunnableError, PendingError."""
    return _Drafter(pod, lookup, packages, sources).draft()


def leaving(pod: Body) -> dict[str, Any]:
    """The content for a pod that is to go: what it was does not matter any more."""
    grace = pod["metadata"].get("deletionGracePeriodSeconds")
    seconds = grace if type(grace) is int and grace >= 0 else _grace(_map(pod.get("spec")))
    return {
        "uid": str(pod["metadata"].get("uid", "")),
        "deletionGracePeriodSeconds": seconds,
        "containers": [],
    }


class _Drafter:
    def __init__(self, pod: Body, lookup: Lookup, packages: Packages, sources: bool) -> None:
        self._pod = pod
        self._called = str if sources else _compiled
        self._meta = _map(pod.get("metadata"))
        self._spec = _map(pod.get("spec"))
        self._lookup = lookup
        self._packages = packages
        self._draft = Draft({})
        self._left_out: set[str] = set()
        self._files = 0

    def draft(self) -> Draft:
        volumes = self._volumes()
        init = [self._container(each, volumes) for each in _list(self._spec.get("initContainers"))]
        containers = [self._container(each, volumes) for each in _list(self._spec.get("containers"))]
        if not containers or len(init) + len(containers) > CONTAINERS_MAX:
            raise UnrunnableError(CONFIG_ERROR, f"a pod has 1 to {CONTAINERS_MAX} containers on a board")
        if len({each["name"] for each in (*init, *containers)}) < len(init) + len(containers):
            raise UnrunnableError(CONFIG_ERROR, "two containers of the pod have the same name")
        policies = [_map(each).get("restartPolicy") for each in _list(self._spec.get("initContainers"))]
        if "Always" in policies:
            raise UnrunnableError(CONFIG_ERROR, "a board has no sidecars (init containers that go on)")
        memory = max(sum(each["memory"] for each in containers), *(each["memory"] for each in init), 0)
        content: dict[str, Any] = {
            "uid": str(self._meta.get("uid", "")),
            "restartPolicy": self._spec.get("restartPolicy", "Always"),
            "terminationGracePeriodSeconds": _grace(self._spec),
            "memory": memory,
            "containers": containers,
        }
        if init:
            content["initContainers"] = init
        if volumes:
            content["volumes"] = volumes
        self._draft.content = content
        return self._draft

    # -- volumes -----------------------------------------------------------------------------

    def _volumes(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        wanted = self._meta.get("annotations") or {}
        for volume in map(_map, _list(self._spec.get("volumes"))):
            name = str(volume.get("name", ""))
            if _is_service_account(volume) and wanted.get(SERVICE_ACCOUNT_ANNOTATION) != "true":
                self._left_out.add(name)
                continue
            found[name] = self._volume(name, volume)
        return found

    def _volume(self, name: str, volume: Body) -> dict[str, Any]:
        kinds = [each for each in volume if each != "name"]
        kind = kinds[0] if len(kinds) == 1 else "" if kinds else "emptyDir"
        source = _map(volume.get(kind))
        if kind == "emptyDir":
            return {"": None}
        if kind == "projected":
            files: dict[str, Any] = {}
            for each in map(_map, _list(source.get("sources"))):
                inner = next(iter(each), "")
                entry = _map(each.get(inner))
                token = inner == "serviceAccountToken"
                files.update(self._token(entry) if token else self._files_of(name, inner, entry))
            return files
        return self._files_of(name, kind, source)

    def _files_of(self, volume: str, kind: str, source: Body) -> dict[str, Any]:
        if kind == "configMap":
            return self._object(Key(CONFIG_MAP, self._meta["namespace"], str(source.get("name", ""))), source)
        if kind == "secret":
            name = source.get("secretName", source.get("name", ""))
            return self._object(Key(SECRET, self._meta["namespace"], str(name)), source)
        if kind == "downwardAPI":
            files = {}
            for item in map(_map, _list(source.get("items"))):
                files[_path(item.get("path"))] = self._downward(item, {}).encode()
            return self._counted(files)
        raise UnrunnableError(CONFIG_ERROR, f'volume "{volume}": a board has no {kind or "such"} volumes')

    def _object(self, key: Key, source: Body) -> dict[str, Any]:
        keys = self._keys(key)
        if keys is None:
            if source.get("optional") is True:
                return {}
            raise UnrunnableError(CONFIG_ERROR, f'{key.kind.lower()} "{key.name}" not found')
        items = [(str(_map(each).get("key", "")), each) for each in _list(source.get("items"))]
        wanted = [(name, str(_map(item).get("path", ""))) for name, item in items if name in keys]
        missing = [name for name, _ in items if name not in keys]
        if missing and source.get("optional") is not True:
            raise UnrunnableError(CONFIG_ERROR, f"{key.kind.lower()} {key.name} has no key {missing[0]}")
        files = {}
        for name, path in wanted if items else [(each, each) for each in keys]:
            held = held_name(name, path)
            self._draft.files.setdefault(key, set()).add(held)
            files[self._called(_path(path))] = [resource(key), held]
        return self._counted(files)

    def _token(self, source: Body) -> dict[str, Any]:
        key = Key(POD, str(self._meta["namespace"]), str(self._meta.get("name", "")))
        account = self._spec.get("serviceAccountName") or "default"
        seconds = source.get("expirationSeconds", TOKEN_SECONDS)
        if not is_subdomain(account) or type(seconds) is not int:
            raise UnrunnableError(CONFIG_ERROR, f"a token of {account} for {seconds} seconds is no token")
        audience = str(source.get("audience") or "")
        request = TokenRequest(key, str(self._meta.get("uid", "")), account, audience, seconds)
        name = self._draft.tokens.setdefault(request, str(len(self._draft.tokens)))
        if len(self._draft.tokens) > TOKENS_MAX:
            raise UnrunnableError(CONFIG_ERROR, f"more than {TOKENS_MAX} different tokens in a pod")
        return self._counted({_path(source.get("path")): [token_resource(key), name]})

    def _counted(self, files: dict[str, Any]) -> dict[str, Any]:
        self._files += len(files)
        if self._files > FILES_MAX:
            raise UnrunnableError(CONFIG_ERROR, f"more than {FILES_MAX} files in the pod's volumes")
        return files

    def _keys(self, key: Key) -> Sequence[str] | None:
        body = self._lookup(key)
        return None if body is None else sorted(data_of(key, body))

    # -- containers --------------------------------------------------------------------------

    def _container(self, container: Any, volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        container = _map(container)
        name = str(container.get("name", ""))
        env = self._env(name, container)
        mounts, folder = self._mounts(name, container, volumes, env)
        default = self._image(str(container.get("image", "")), mounts, volumes)
        command = [_expand(str(each), env) for each in _list(container.get("command"))] or [default]
        command += [_expand(str(each), env) for each in _list(container.get("args"))]
        found: dict[str, Any] = {"name": name, "command": command, "memory": memory_of(container)}
        if env:
            found["env"] = env
        if mounts:
            found["mounts"] = mounts
        if container.get("workingDir") or folder:
            found["workingDir"] = str(container.get("workingDir") or folder)
        for each in _PROBES:
            if container.get(each) is not None:
                found.setdefault("probes", {})[each] = _probe(container, each, _map(container[each]))
        if container.get("lifecycle"):
            raise UnrunnableError(CONFIG_ERROR, f'container "{name}": a board has no lifecycle hooks')
        return found

    def _image(self, image: str, mounts: list[list[str]], volumes: dict[str, dict[str, Any]]) -> str:
        """Add what the image brings along; -> the module that it runs by default."""
        if image in (IMAGE, f"{IMAGE}:latest"):
            return "main"
        match = HELD_IMAGES.match(image)
        paths = self._packages(*match.groups()) if match is not None else None
        if match is None or paths is None:
            raise UnrunnableError(INVALID_IMAGE, f'"{image}": a board runs {IMAGE} or a package of the index')
        name, version = match.groups()
        self._draft.packages.add((name, version))
        held = package_resource(self._meta["namespace"], name, version)
        volumes[f".{name}"] = self._counted({self._called(_path(path)): [held, path] for path in paths})
        mounts.append([PACKAGE_PATH, f".{name}", ""])
        return name.replace("-", "_")

    def _mounts(
        self, name: str, container: Body, volumes: Mapping[str, Any], env: Mapping[str, str]
    ) -> tuple[list[list[str]], str]:
        """-> the mounts, and the folder of a program that is mounted as a single file."""
        found, folder = [], ""
        for mount in map(_map, _list(container.get("volumeMounts"))):
            volume, path = str(mount.get("name", "")), str(mount.get("mountPath", "")).rstrip("/")
            if volume in self._left_out:
                continue
            if volume not in volumes or not path.startswith("/") or ".." in path.split("/"):
                raise UnrunnableError(CONFIG_ERROR, f'container "{name}": cannot mount {volume} at {path}')
            within = mount.get("subPath") or _expand(str(mount.get("subPathExpr") or ""), env)
            inner = self._called(_path(within)) if within else ""
            if inner and inner in volumes[volume] and path.endswith(".py"):
                path, folder = self._called(path), folder or path.rpartition("/")[0]
            found.append([path, volume, inner])
        return found, folder

    def _env(self, name: str, container: Body) -> dict[str, str]:
        env: dict[str, str] = {}
        for each in map(_map, _list(container.get("envFrom"))):
            for kind, ref in ((CONFIG_MAP, "configMapRef"), (SECRET, "secretRef")):
                if ref in each:
                    source = _map(each[ref])
                    key = Key(kind, self._meta["namespace"], str(source.get("name", "")))
                    texts = self._texts(key, source)
                    prefix = str(each.get("prefix", ""))
                    env.update({prefix + one: text for one, text in texts.items()})
        for each in map(_map, _list(container.get("env"))):
            value = self._value(container, each, env)
            if value is not None:
                env[str(each.get("name", ""))] = value
        if sum(len(key.encode()) + len(value.encode()) for key, value in env.items()) > ENV_SIZE_MAX:
            raise UnrunnableError(CONFIG_ERROR, f'container "{name}": env is over {ENV_SIZE_MAX} bytes')
        return env

    def _value(self, container: Body, entry: Body, env: Mapping[str, str]) -> str | None:
        source = _map(entry.get("valueFrom"))
        if not source:
            return _expand(str(entry.get("value") or ""), env)
        for kind, ref in ((CONFIG_MAP, "configMapKeyRef"), (SECRET, "secretKeyRef")):
            if ref in source:
                at = _map(source[ref])
                key = Key(kind, self._meta["namespace"], str(at.get("name", "")))
                texts = self._texts(key, at)
                if at.get("key") in texts:
                    return texts[at["key"]]
                if at.get("optional") is True:
                    return None
                text = f"couldn't find key {at.get('key')} in {kind} {key.namespace}/{key.name}"
                raise UnrunnableError(CONFIG_ERROR, text)
        if "fieldRef" in source or "resourceFieldRef" in source:
            return self._downward(source, container)
        text = f'container "{container.get("name")}": env {entry.get("name")} from an unknown source'
        raise UnrunnableError(CONFIG_ERROR, text)

    def _texts(self, key: Key, source: Body) -> dict[str, str]:
        body = self._lookup(key)
        if body is None:
            if source.get("optional") is True:
                return {}
            raise UnrunnableError(CONFIG_ERROR, f'{key.kind.lower()} "{key.name}" not found')
        if key.kind == CONFIG_MAP:
            body = {"data": body.get("data")}  # what is binary is for volumes only
        return {name: data.decode(errors="replace") for name, data in data_of(key, body).items()}

    def _downward(self, source: Body, container: Body) -> str:
        """What the pod says of itself, or of a container: the one that asks, if none is named."""
        path = str(_map(source.get("fieldRef")).get("fieldPath", ""))
        at = _map(source.get("resourceFieldRef"))
        name = at.get("containerName") or container.get("name")
        both = (*_list(self._spec.get("initContainers")), *_list(self._spec.get("containers")))
        try:
            if path:
                return downward.field_of(self._pod, path)
            named = next((each for each in map(_map, both) if each.get("name") == name), None)
            if named is None:
                raise ValueError(f"resourceFieldRef: there is no container {name}")
            return downward.resource_of(named, str(at.get("resource", "")), at.get("divisor"))
        except ValueError as error:
            raise UnrunnableError(CONFIG_ERROR, str(error)) from error


def held_name(name: str, path: str) -> str:
    """What a key is called in the object that a board holds, if it is to be a file at `path` there.

    A program is compiled, so a key that is both a program and a text is held twice; ":" is in no key.
    """
    if name.endswith(".py") == path.endswith(".py"):
        return name
    return f"{name}:{'mpy' if path.endswith('.py') else 'raw'}"


def is_source(held: str) -> bool:
    """Whether what `held_name` has called so is a program."""
    name, _, form = held.partition(":")
    return form == "mpy" if form else name.endswith(".py")


def data_of(key: Key, body: Body) -> dict[str, bytes]:
    """The bytes under each key of a ConfigMap or Secret. Raises UnrunnableError for what is no base64."""
    import base64

    found = {}
    texts, binaries = _map(body.get("data")), _map(body.get("binaryData"))
    if key.kind == SECRET:
        texts, binaries = _map(body.get("stringData")), texts
    for name, text in binaries.items():
        try:
            found[name] = base64.b64decode(str(text), validate=True)
        except ValueError as error:
            raise UnrunnableError(CONFIG_ERROR, f"{key}: {name} is not base64") from error
    for name, text in texts.items():
        found[name] = str(text).encode()
    return found


def memory_of(container: Body) -> int:
    """Bytes that the container may have: its limit, or else its request; 0 when it says neither."""
    resources = _map(container.get("resources"))
    for each in ("limits", "requests"):
        text = _map(resources.get(each)).get("memory")
        if text is not None:
            try:
                return bytes_of(text)
            except ValueError as error:
                raise UnrunnableError(CONFIG_ERROR, f"resources.{each}.memory: {error}") from error
    return 0


def _probe(container: Body, kind: str, probe: Body) -> dict[str, Any]:
    found: dict[str, Any] = {}
    shown = f'container "{container.get("name")}": {kind}'
    if "exec" in probe:
        found["exec"] = [str(each) for each in _list(_map(probe["exec"]).get("command"))]
    elif "tcpSocket" in probe:
        socket = _map(probe["tcpSocket"])
        ports = {
            each.get("name"): each.get("containerPort") for each in map(_map, _list(container.get("ports")))
        }
        port = ports.get(socket.get("port"), socket.get("port"))
        if type(port) is not int:
            raise UnrunnableError(CONFIG_ERROR, f"{shown}: the container has no port {port}")
        found["tcpSocket"] = [str(socket.get("host") or "127.0.0.1"), port]
    else:
        raise UnrunnableError(CONFIG_ERROR, f"{shown} must be exec or tcpSocket")
    if found.get("exec") == []:
        raise UnrunnableError(CONFIG_ERROR, f"{shown} names no function")
    found.update({name: probe[name] for name in _PROBE_NUMBERS if type(probe.get(name)) is int})
    return found


def _is_service_account(volume: Body) -> bool:
    """Whether admission has added the volume. One that the pod has of its own is delivered."""
    sources = _list(_map(volume.get("projected")).get("sources"))
    named = str(volume.get("name", "")).startswith(SERVICE_ACCOUNT_VOLUME)
    return named and any("serviceAccountToken" in _map(each) for each in sources)


def _path(value: Any) -> str:
    """A path within a volume. Raises UnrunnableError for one that could leave it."""
    text = str(value or "")
    if not text or text.startswith("/") or any(part in ("", ".", "..") for part in text.split("/")):
        raise UnrunnableError(CONFIG_ERROR, f'the path "{text}" does not lie within its volume')
    return text


def _compiled(path: str) -> str:
    """What a source is called once it is compiled."""
    return f"{path[:-3]}.mpy" if path.endswith(".py") else path


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value, and $$ by $, as Kubernetes does in command, args and env."""
    return _VARIABLE.sub(lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), text)


def _grace(spec: Body) -> int:
    value = spec.get("terminationGracePeriodSeconds")
    return value if type(value) is int and value >= 0 else 30


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
