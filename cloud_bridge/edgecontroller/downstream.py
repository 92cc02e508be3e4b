"""Which pods, files and packages each node should hold: one manager for each kind, joined by node.

Derived from state, like DeviceController's: whatever may have changed for a node has all of the node made
anew, and what comes out equal changes nothing. A pod that a board cannot run as it is now is told so; what
the board has of it from before stays as it is (`kept`).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import cbor2

from cloud_bridge.backends.base import CONFIG_MAP, POD, SECRET, Backend, Body, Key, TokenRequest
from cloud_bridge.edgecontroller import effective
from cloud_bridge.edgecontroller.compiler import MPY_VERSION, CompileError, Compiler
from cloud_bridge.edgecontroller.effective import Draft, PendingError, UnrunnableError
from cloud_bridge.edgecontroller.packages import Packages
from cloud_bridge.edgecontroller.tokens import Tokens
from cloud_bridge.logs import Log
from cloud_bridge.resources import Content, Desired

OBJECT_SIZE_MAX = 8192
"""Bytes of an encoded pod; a board takes it whole into RAM."""
FILES_SIZE_MAX = 256 * 1024
"""Bytes of one ConfigMap, Secret or package as a board holds it."""
VERSION_DIGITS = 16
SOURCES = 0
"""What a gateway says in the place of `mpy` whose applications run on CPython."""
FINISHED = ("Succeeded", "Failed")
GRACE = "deletionGracePeriodSeconds"

_log = Log("edgecontroller")


@dataclass(slots=True)
class Board:
    """A connected board: what HELLO said of its interpreter (`mpy`), and whether it takes any namespace."""

    mpy: int
    any_namespace: bool


@dataclass(slots=True)
class Plan:
    """What a node should hold, and what is wrong with those of its pods that it cannot.

    `there` are the pods that its board may have, as they are now or were.
    """

    items: dict[str, Content] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    problems: dict[Key, UnrunnableError] = field(default_factory=dict)
    there: set[Key] = field(default_factory=set)


class PodManager:
    """The pods by node, and which of them refer to an object."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.nodes: defaultdict[str, set[Key]] = defaultdict(set)
        self._node_of: dict[Key, str] = {}
        self._refers: dict[Key, set[Key]] = {}

    def changed(self, key: Key) -> set[str]:
        """Look at a pod again; -> the nodes for which it may make a difference."""
        before = self._node_of.pop(key, "")
        if before:
            self.nodes[before].discard(key)
        pod = self._backend.get(key)
        node = node_of(pod) if pod is not None else ""
        self._refers[key] = effective.references(pod) if pod is not None and node else set()
        if not self._refers[key]:
            del self._refers[key]
        if node:
            self._node_of[key] = node
            self.nodes[node].add(key)
        return {before, node} - {""}

    def users(self, key: Key) -> set[str]:
        """The nodes with a pod that refers to `key`."""
        return {self._node_of[pod] for pod, found in self._refers.items() if key in found}

    def referred(self) -> set[Key]:
        """All that the pods refer to."""
        return set().union(*self._refers.values()) if self._refers else set()

    def ended(self, key: Key) -> bool:
        """Whether the pod needs nothing any more: it has ended, is to go, or is not there."""
        pod = self._backend.get(key)
        return pod is None or effective.deleted(pod) or phase_of(pod) in FINISHED

    def node(self, key: Key) -> str:
        """The node of a pod, "" without."""
        return self._node_of.get(key, "")


class FileManager:
    """The objects of one kind (ConfigMap or Secret) as boards get them: the keys wanted, compiled."""

    def __init__(self, backend: Backend, kind: str, compiler: Compiler) -> None:
        self.kind = kind
        self._backend = backend
        self._compiler = compiler

    def content(self, key: Key, names: set[str], mpy: int) -> Content:
        """The object with the keys `names`. Raises UnrunnableError, PendingError."""
        body = self._backend.get(key)
        data = effective.data_of(key, body) if body is not None else {}
        held = {name: data[name.partition(":")[0]] for name in names if name.partition(":")[0] in data}
        sources = {name for name in held if effective.is_source(name)}
        return files_content(str(key), held, sources, mpy, self._compiler)


class Downstream:
    """Follows a backend; `desired` tells what a node is to hold, `problems` what it cannot."""

    def __init__(self, backend: Backend, index: str | None, told: Callable[[str], None]) -> None:
        self._backend = backend
        self._told = told
        self.pods = PodManager(backend)
        self._compiler = Compiler(self._again)
        self._packages = Packages(index, self._again)
        self.tokens = Tokens(backend, lambda node: self._renew({node}))
        self._files = {kind: FileManager(backend, kind, self._compiler) for kind in (CONFIG_MAP, SECRET)}
        self._boards: dict[str, Board] = {}
        self._plans: dict[str, Plan] = {}
        self._pending: set[str] = set()
        self._listeners: list[Callable[[str | None], None]] = []

    def start(self) -> None:
        """Take over what the backend has and follow it from now on."""
        self._backend.watch(self._changed)
        self._changed(frozenset(self._backend.keys(POD)))

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed."""
        self._listeners.append(changed)

    def opened(self, node: str, info: Mapping[str, Any]) -> None:
        """The board said hello: now it is known what its interpreter loads."""
        mpy = info.get("mpy")
        if type(mpy) is int:
            self._boards[node] = Board(mpy, info.get("namespaces") == "any")
        else:
            self._boards.pop(node, None)
        self.tokens.opened(node)
        self._renew({node})

    def desired(self, node: str) -> Desired:
        """What the node should hold now."""
        plan = self._plans.get(node) or self._make(node)
        return Desired(plan.items, plan.kept, self._backend.synced(node))

    def problems(self, node: str) -> Mapping[Key, UnrunnableError]:
        """The pods of the node that it cannot run, and why."""
        plan = self._plans.get(node)
        return plan.problems if plan else {}

    # -- following the backend ---------------------------------------------------------------

    def _changed(self, keys: frozenset[Key]) -> None:
        nodes: set[str] = set()
        for key in keys:
            if key.kind == POD:
                nodes |= self.pods.changed(key)
                if self.pods.ended(key):
                    self.tokens.forget(key)
        for kind in self._files:
            self._backend.refer(kind, frozenset(key for key in self.pods.referred() if key.kind == kind))
        for key in keys:
            if key.kind in self._files:
                nodes |= self.pods.users(key)
        if not keys:  # everything was read, or no longer is
            self._again()
        self._renew(nodes)

    def _again(self) -> None:
        """Something was compiled or fetched."""
        nodes, self._pending = self._pending, set()
        self._renew(nodes)

    def _renew(self, nodes: set[str]) -> None:
        for node in sorted(nodes):
            before = self._plans.pop(node, None)
            plan = self._make(node, before)
            if before is None or (before.items, before.kept) != (plan.items, plan.kept):
                for listener in self._listeners:
                    listener(node)
            self._told(node)

    def _make(self, node: str, before: Plan | None = None) -> Plan:
        plan = Plan()
        board = self._boards.get(node)
        files: defaultdict[Key, set[str]] = defaultdict(set)
        drafts: dict[Key, Draft] = {}
        owner = ""
        pods = {
            key: pod for key in self.pods.nodes.get(node, ()) if (pod := self._backend.get(key)) is not None
        }
        there = {key for key, pod in pods.items() if _is_there(key, pod, before)}
        # Those that the board has come first: whose they are, the board is.
        for key in sorted(pods, key=lambda each: (each not in there, _age(pods[each]), each)):
            pod = pods[key]
            counts = key in there
            if effective.deleted(pod):
                self._leave(plan, key, pod, board, before)
            elif board is None or phase_of(pod) in FINISHED:
                # What a board that is not here holds is not known, and what has finished is not sent again.
                self._keep(plan, key, pod)
            else:
                counts |= self._draft(plan, key, pod, board, drafts, owner)
            if counts:
                owner = owner or key.namespace
        for each in drafts.values():
            for name, keys in each.files.items():
                files[name] |= keys
        self._fill(plan, drafts, files, board)
        plan.there = there | {key for key in pods if effective.resource(key) in plan.items}
        if node in self._boards:
            self._plans[node] = plan
        return plan

    def _draft(
        self, plan: Plan, key: Key, pod: Body, board: Board, drafts: dict[Key, Draft], owner: str
    ) -> bool:
        """-> whether the board, whose pods are of the namespace `owner`, is to have the pod, now or soon."""
        try:
            if effective.held(pod):
                text = f"not started while its annotation {effective.HOLD_ANNOTATION} is true"
                raise UnrunnableError(effective.HELD, text)
            if owner and key.namespace != owner and not board.any_namespace:
                text = f"the pods of a board are of one namespace, on this one {owner}"
                raise UnrunnableError(effective.CONFIG_ERROR, text)
            draft = self._drafted(pod, board)
            self.tokens.want(key, node_of(pod), phase_of(pod) in ("", "Pending"), draft.tokens)
            drafts[key] = draft
        except UnrunnableError as error:
            plan.problems[key] = error
            self._keep(plan, key, pod)
            return False
        except PendingError:
            self._pending.add(str(pod["spec"]["nodeName"]))
            self._keep(plan, key, pod)
        return True

    def _leave(self, plan: Plan, key: Key, pod: Body, board: Board | None, before: Plan | None) -> None:
        """A pod that is to go stays as it is for its grace period, with what the board holds for it.

        Even where the ConfigMaps that it has mounted are gone already, as far as it is known what it was.
        """
        ends = effective.leaving(pod)
        known = before.items.get(effective.resource(key)) if before is not None else None
        try:
            was: Mapping[str, Any] = {}
            if known is not None:
                was = cbor2.loads(known.data)
            elif board is not None:
                was = _with_digests(self._drafted(pod, board).content)
            content = _encode({**ends, **was, GRACE: ends[GRACE]} if was.get("uid") == ends["uid"] else ends)
        except UnrunnableError:
            content = _encode(ends)
        except PendingError:
            if not self._backend.synced():
                self._pending.add(node_of(pod))
                self._keep(plan, key, pod)
                return
            content = _encode(ends)
        self._keep(plan, key, pod)
        plan.items[effective.resource(key)] = content

    def _drafted(self, pod: Body, board: Board) -> Draft:
        return effective.draft(pod, self._lookup, self._packages.get, board.mpy == SOURCES)

    def _lookup(self, key: Key) -> Body | None:
        """The object; while not everything was read, what is not there is not known to be missing."""
        body = self._backend.get(key)
        if body is None and not self._backend.synced():
            raise PendingError(f"{key} may still come")
        return body

    def _keep(self, plan: Plan, key: Key, pod: Body) -> None:
        plan.kept.add(effective.resource(key))
        plan.kept |= {effective.resource(each) for each in effective.references(pod)}
        plan.kept.add(effective.token_resource(key))
        for container in (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())):
            match = effective.HELD_IMAGES.match(str(container.get("image", "")))
            if match:
                plan.kept.add(effective.package_resource(key.namespace, *match.groups()))

    def _fill(
        self, plan: Plan, drafts: Mapping[Key, Draft], files: Mapping[Key, set[str]], board: Board | None
    ) -> None:
        """Add the pods of `drafts`, after the files that they need: in this order they are sent."""
        ready: dict[str, Content | Exception] = {}
        pods: dict[str, Content] = {}
        for key, each in drafts.items():
            pod = self._backend.get(key)
            assert board is not None and pod is not None
            try:
                needed: dict[str, Content] = {}
                for name in each.files:
                    content = partial(self._files[name.kind].content, name, files[name], board.mpy)
                    self._once(ready, needed, effective.resource(name), content)
                if each.tokens:
                    self._once(ready, needed, effective.token_resource(key), partial(self._held, each.tokens))
                for package in each.packages:
                    resource = effective.package_resource(key.namespace, *package)
                    self._once(ready, needed, resource, partial(self._package, package, board.mpy))
                encoded = _encode(_with_digests(each.content))
            except UnrunnableError as error:
                plan.problems[key] = error
                self._keep(plan, key, pod)
            except PendingError:
                self._pending.add(node_of(pod))
                self._keep(plan, key, pod)
            else:
                plan.items.update(needed)
                pods[effective.resource(key)] = encoded
        plan.items.update(pods)
        plan.kept -= plan.items.keys()

    def _once(
        self,
        ready: dict[str, Content | Exception],
        needed: dict[str, Content],
        resource: str,
        make: Callable[[], Content],
    ) -> None:
        """Put the resource into `needed`; it is made once, and so is the error."""
        if resource not in ready:
            try:
                ready[resource] = make()
            except (UnrunnableError, PendingError) as error:
                ready[resource] = error
        found = ready[resource]
        if isinstance(found, Exception):
            raise found
        needed[resource] = found

    def _held(self, tokens: Mapping[TokenRequest, str]) -> Content:
        """The tokens of a pod as a board holds them. Raises UnrunnableError, PendingError."""
        return _encode({name: self.tokens.get(request) for request, name in tokens.items()})

    def _package(self, package: tuple[str, str], mpy: int) -> Content:
        held = self._packages.get(*package)
        files = dict(held or {})
        sources = {name for name in files if name.endswith(".py")}
        return files_content(":".join(package), files, sources, mpy, self._compiler)


def files_content(
    shown: str, data: Mapping[str, bytes], sources: Collection[str], mpy: int, compiler: Compiler
) -> Content:
    """Files by name as a board holds them, `sources` compiled. Raises UnrunnableError, PendingError.

    Where applications run on CPython (`mpy` is SOURCES) they are compiled for their errors only.
    """
    found: dict[str, bytes] = {}
    pending = False
    for name, each in sorted(data.items()):
        found[name] = each
        if name in sources:
            try:
                compiled = compiler.get(each, name, mpy or MPY_VERSION)
            except CompileError as error:
                text = f"{shown}: {name}: {error}"
                raise UnrunnableError(effective.CONFIG_ERROR, text) from error
            pending |= compiled is None
            if mpy != SOURCES:
                found[name] = compiled or b""
    if pending:
        raise PendingError(f"{shown} is being compiled")
    content = _encode(found)
    if len(content.data) > FILES_SIZE_MAX:
        text = f"{shown} has {len(content.data)} bytes, a board takes {FILES_SIZE_MAX}"
        raise UnrunnableError(effective.CONFIG_ERROR, text)
    return content


def node_of(pod: Body) -> str:
    """The node that a pod is bound to, "" while it is none."""
    spec = pod.get("spec")
    node = spec.get("nodeName") if isinstance(spec, Mapping) else None
    return node if isinstance(node, str) else ""


def phase_of(pod: Body) -> str:
    """The phase that is stored for a pod."""
    status = pod.get("status")
    return str(status.get("phase", "")) if isinstance(status, Mapping) else ""


def _is_there(key: Key, pod: Body, before: Plan | None) -> bool:
    """Whether a board may run the pod: it was sent before, or has begun, and has not ended."""
    if phase_of(pod) in FINISHED and not effective.deleted(pod):
        return False
    if before is not None and key in before.there:
        return True
    status = pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses")
    states = [each.get("state") or {} for kind in kinds for each in status.get(kind) or ()]
    return any("waiting" not in each or "CrashLoopBackOff" in str(each) for each in states)


def _age(pod: Body) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _with_digests(content: dict[str, Any]) -> dict[str, Any]:
    """Have each container say what it is, so that a board starts anew what was changed.

    The environment does not count: as in Kubernetes it stays as it was until the container starts again.
    """
    for name in ("initContainers", "containers"):
        for each in content.get(name, ()):
            counted = {key: value for key, value in each.items() if key != "env"}
            each["digest"] = (
                int.from_bytes(sha256(cbor2.dumps(counted, canonical=True)).digest()[:3], "big") or 1
            )
    return content


def _encode(content: Mapping[str, Any]) -> Content:
    data = cbor2.dumps(content, canonical=True)
    if "uid" in content and len(data) > OBJECT_SIZE_MAX:
        raise UnrunnableError(
            effective.CONFIG_ERROR, f"the pod has {len(data)} bytes, a board takes {OBJECT_SIZE_MAX}"
        )
    return Content(sha256(data).hexdigest()[:VERSION_DIGITS], data)
