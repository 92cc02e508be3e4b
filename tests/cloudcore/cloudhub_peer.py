"""A stand-in for CloudCore, made from a description of its protocol and from nothing else.

It speaks to EdgeCore's side of the link as CloudHub does, and is strict where CloudHub is: it closes a
connection over bad JSON, ends a session without keepalives, sends one message at a time that has to be
acknowledged and sends that again five times, forgets a connection that has been replaced, says nothing
to who is refused, splits long messages, drops without an answer what it does not know, and stores the
first report of a property empty. `scale` shortens all of its times alike.

What it cannot show: that CloudCore really is like this. It has no Kubernetes behind it (its objects are
a dict, resource versions one counter, a strategic merge patch is merged by the type of conditions and
addresses only), no authorization of nodes, no QUIC, no more than one instance, no load, and none of
CloudCore's own faults but those that its description names.
"""

import asyncio
import contextlib
import copy
import json
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

FRAGMENT = 4082
"""Bytes of a message that go into one frame."""
RESEND_SECONDS = 5.0
SENDS_MAX = 5
KEEPALIVE_SECONDS = 30.0
SYNC_SECONDS = 5.0
LOG_MAX = 20_000
"""Messages kept of each direction."""

Body = dict[str, Any]
CLOUD_SOURCES = ("cloudhub", "cloudStream", "devicecontroller", "edgecontroller", "synccontroller")
TYPES = {"Device": "device", "DeviceModel": "devicemodel", "Pod": "pod", "ConfigMap": "configmap"}
TYPES["Secret"] = "secret"


class _Pool:
    """What waits for one node: by uid, the newest of each only."""

    def __init__(self) -> None:
        self.ack: dict[str, tuple[str, Body]] = {}
        self.plain: list[Body] = []
        self.work = asyncio.Event()
        self.ack_work = asyncio.Event()

    def put(self, key: str, operation: str, message: Body) -> None:
        """Queue what has to be acknowledged, in the place of an older one."""
        self.ack[key] = (operation, message)
        self.ack_work.set()


class _Session:
    def __init__(self, node: str, socket: ServerConnection) -> None:
        self.node = node
        self.socket = socket
        self.pool = _Pool()
        self.acked: dict[str, asyncio.Event] = {}
        self.kept_alive = time.monotonic()


class CloudHubPeer:
    """`start` listens and returns the port; what a cluster would do is done by `apply`, `delete` and others.

    `objects` is the cluster, `sync` what ObjectSync remembers; both outlive `stop` and another `start`.
    """

    def __init__(self, scale: float = 1.0, node_limit: int = 1000) -> None:
        self.scale = scale
        self.node_limit = node_limit
        self.refuse: set[str] = set()
        self.mute: Callable[[str], bool] = lambda resource: False
        """Resources whose answers are lost."""
        self.objects: dict[tuple[str, str, str], Body] = {}
        self.sync: dict[tuple[str, str], dict[str, str]] = {}
        self.sessions: dict[str, _Session] = {}
        self.received: list[tuple[str, Body]] = []
        self.sent: list[tuple[str, Body]] = []
        self.times: dict[str, float] = {}
        """When each message was sent, by msg_id."""
        self.bytes_sent = 0
        self.faults: list[str] = []
        """What a well-behaved edge does not do."""
        self.connections = 0
        self._version = 100
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- as a server ---------------------------------------------------------------------------

    async def start(self, port: int = 0, context: ssl.SSLContext | None = None) -> int:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            port,
            ssl=context,
            compression=None,
            ping_interval=None,
            max_size=None,
            close_timeout=1,
        )
        self._spawn(self._sync_loop())
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """As a CloudCore that is killed: sessions are cut, what waited in queues is forgotten."""
        for task in list(self._tasks):
            task.cancel()
        assert self._server is not None
        for session in list(self.sessions.values()):
            session.socket.transport.abort()
        self.sessions.clear()
        self._server.close()
        await self._server.wait_closed()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = socket.request.headers
        node = headers.get("node_id", "")
        self.connections += 1
        if headers.get("ConnectionUse") != "msg":
            self.faults.append("ConnectionUse is not msg: the connection is never read")
            await socket.wait_closed()
            return
        if node in self.refuse or (len(self.sessions) >= self.node_limit and node not in self.sessions):
            with contextlib.suppress(ConnectionClosed):
                async for _ in socket:
                    pass  # read, and never answered
            return
        session = _Session(node, socket)
        before = self.sessions.get(node)
        self.sessions[node] = session
        if before is not None:
            before.socket.transport.abort()
        work = [asyncio.create_task(each) for each in (self._acks(session), self._plain(session))]
        work.append(asyncio.create_task(self._watch_keepalive(session)))
        try:
            async for text in socket:
                message = _decode(text)
                if message is None:
                    self.faults.append(f"not a message: {text[:80]!r}")
                    break
                if len(self.received) < LOG_MAX:
                    self.received.append((node, message))
                self._dispatch(session, message)
        except ConnectionClosed:
            pass
        finally:
            for task in work:
                task.cancel()
            if self.sessions.get(node) is session:
                del self.sessions[node]

    async def _watch_keepalive(self, session: _Session) -> None:
        limit = KEEPALIVE_SECONDS * self.scale
        while time.monotonic() - session.kept_alive < limit:
            began = time.monotonic()
            await asyncio.sleep(limit / 10)
            # While this process stood still, on a busy computer, nobody was silent.
            session.kept_alive += time.monotonic() - began - limit / 10
        self.faults.append(f"no keepalive of {session.node}")
        await session.socket.close()

    # -- down --------------------------------------------------------------------------------

    async def _send(self, session: _Session, message: Body) -> None:
        text = json.dumps(message, separators=(",", ":")) + "\n"
        self.bytes_sent += len(text)
        self.times[message["header"]["msg_id"]] = time.monotonic()
        if len(self.sent) < LOG_MAX:
            self.sent.append((session.node, message))
        parts = [text[at : at + FRAGMENT] for at in range(0, len(text), FRAGMENT)]
        await session.socket.send(parts[0] if len(parts) == 1 else parts)

    async def _plain(self, session: _Session) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await session.pool.work.wait()
                session.pool.work.clear()
                while session.pool.plain:
                    await self._send(session, session.pool.plain.pop(0))

    async def _acks(self, session: _Session) -> None:
        """One message at a time; one that is not acknowledged is sent again, then put back."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                if not session.pool.ack:
                    session.pool.ack_work.clear()
                    await session.pool.ack_work.wait()
                key = next(iter(session.pool.ack))
                operation, message = session.pool.ack.pop(key)
                if not await self._send_acked(session, message):
                    session.pool.ack.setdefault(key, (operation, message))
                    continue
                self._synced(session.node, key, operation, message)

    async def _send_acked(self, session: _Session, message: Body) -> bool:
        number = message["header"]["msg_id"]
        event = session.acked.setdefault(number, asyncio.Event())
        for _ in range(SENDS_MAX):
            await self._send(session, message)
            try:
                async with asyncio.timeout(RESEND_SECONDS * self.scale):
                    await event.wait()
            except TimeoutError:
                continue
            del session.acked[number]
            return True
        return False

    def _synced(self, node: str, key: str, operation: str, message: Body) -> None:
        if operation == "delete":
            self.sync.pop((node, key), None)
        elif (node, key) in self.sync:
            self.sync[(node, key)]["version"] = message["header"].get("resourceversion", "0")

    def push(self, node: str, kind: str, operation: str, body: Body, source: str | None = None) -> None:
        """Queue a message about an object for a node, by CloudHub's rules."""
        metadata = body["metadata"]
        uid = metadata.get("uid", "")
        version = metadata.get("resourceVersion", "")
        if not version and operation != "delete":
            return
        record = self.sync.get((node, uid))
        if record is None and operation != "delete":
            name = {
                "kind": kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "version": "0",
            }
            record = self.sync[(node, uid)] = name
        deletes = operation == "delete" or "deletionTimestamp" in metadata
        session = self.sessions.get(node)
        if session is None:
            return
        waiting = session.pool.ack.get(uid)
        if not deletes and record is not None:
            than = waiting[1]["header"]["resourceversion"] if waiting else record["version"]
            if int(version) <= int(than):
                return
        group, default = "resource", "edgecontroller"
        if kind in ("Device", "DeviceModel"):
            default = "devicecontroller"
        resource = f"{metadata['namespace']}/{TYPES[kind]}/{metadata['name']}"
        header = {"resourceversion": version} if version else {}
        message = _message(source or default, group, operation, resource, copy.deepcopy(body), **header)
        session.pool.put(uid or metadata["name"], operation, message)

    def say(self, node: str, message: Body) -> None:
        """Send a message that is not acknowledged, once and only if the node is connected."""
        session = self.sessions.get(node)
        if session is not None:
            session.pool.plain.append(message)
            session.pool.work.set()

    async def raw(self, node: str, *parts: str) -> None:
        """Send this as it is: one message in so many frames."""
        await self.sessions[node].socket.send(parts[0] if len(parts) == 1 else parts)

    def cut(self, node: str) -> None:
        """Lose the node's connection."""
        session = self.sessions.pop(node, None)
        if session is not None:
            session.socket.transport.abort()

    async def _sync_loop(self) -> None:
        """SyncController: everything comes from edgecontroller, deletions have nothing but a name in them."""
        while True:
            await asyncio.sleep(SYNC_SECONDS * self.scale)
            for (node, uid), record in list(self.sync.items()):
                where = (record["kind"], record["namespace"], record["name"])
                body = self.objects.get(where)
                if body is None or body["metadata"]["uid"] != uid:
                    stub = {"metadata": {"name": where[2], "namespace": where[1], "uid": uid}}
                    self.push(node, where[0], "delete", stub, "edgecontroller")
                elif int(body["metadata"]["resourceVersion"]) > int(record["version"]):
                    self.push(node, where[0], "update", body, "edgecontroller")

    # -- what users of the cluster do ----------------------------------------------------------

    def version(self) -> str:
        self._version += 1
        return str(self._version)

    def apply(self, body: Mapping[str, Any]) -> Body:
        """Create an object or replace its spec."""
        body = copy.deepcopy(dict(body))
        where = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        before = self.objects.get(where)
        uid = before["metadata"]["uid"] if before else str(uuid.uuid4())
        body["metadata"] |= {
            "uid": uid,
            "resourceVersion": self.version(),
            "managedFields": [{"manager": "x"}],
        }
        self.objects[where] = body
        self._tell(before, body)
        return body

    def desire(self, name: str, prop: str, value: str, namespace: str = "default") -> str:
        """Patch a desired value; -> the new resourceVersion."""
        body = copy.deepcopy(self.objects[("Device", namespace, name)])
        for each in body["spec"]["properties"]:
            if each["name"] == prop:
                each["desired"] = {"value": value}
        return str(self.apply(body)["metadata"]["resourceVersion"])

    def delete_node(self, name: str) -> None:
        """Delete the Node: its session ends, and what was sent for it is forgotten."""
        self.objects.pop(("Node", "", name))
        self.objects.pop(("Lease", "kube-node-lease", name), None)
        for key in [each for each in self.sync if each[0] == name]:
            del self.sync[key]
        self.cut(name)

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        body = self.objects.pop((kind, namespace, name))
        if kind == "Device":
            node = body["spec"]["nodeName"]
            self._membership(node, "removed_devices", body)
            if not self._users(node, body):
                model = self.objects.get(("DeviceModel", namespace, body["spec"]["deviceModelRef"]["name"]))
                if model is not None:
                    self.push(node, "DeviceModel", "delete", model)
            self.push(node, "Device", "delete", body)
            self.objects.pop(("DeviceStatus", namespace, name), None)
        elif kind == "Pod":
            self.push(body["spec"]["nodeName"], kind, "delete", body)
        elif kind != "DeviceModel":
            for node in list(self.sessions):
                if (node, body["metadata"]["uid"]) in self.sync:
                    self.push(node, kind, "delete", body)

    def resend(self) -> None:
        """What a CloudCore does when it starts: it tells of every device."""
        for (kind, _, _), body in list(self.objects.items()):
            if kind == "Device":
                self._tell(None, body)

    def status(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The stored DeviceStatus: property to reported value and observed desired value, and the state."""
        status = self.objects.get(("DeviceStatus", namespace, name), {}).get("status", {})
        twins = {
            each["propertyName"]: (
                each.get("reported", {}).get("value"),
                each.get("observedDesired", {}).get("value"),
            )
            for each in status.get("twins", ())
        }
        return {"state": status.get("state"), "lastOnlineTime": status.get("lastOnlineTime"), **twins}

    def _users(self, node: str, device: Body) -> list[Body]:
        """Other devices of this node with the same model."""
        reference = device["spec"]["deviceModelRef"]
        return [
            body
            for (kind, _, name), body in self.objects.items()
            if kind == "Device" and name != device["metadata"]["name"]
            if body["spec"]["nodeName"] == node and body["spec"]["deviceModelRef"] == reference
        ]

    def _tell(self, before: Body | None, body: Body) -> None:
        kind = body["kind"]
        if kind == "Device":
            self._tell_device(before, body)
        elif kind == "Pod":
            self._tell_pod(before, body)
        elif kind in ("ConfigMap", "Secret"):
            for node in list(self.sessions):
                if any(self._refers(pod, kind, body["metadata"]["name"]) for pod in self._pods(node)):
                    self.push(
                        node, kind, "insert" if before is None and kind == "ConfigMap" else "update", body
                    )

    def _tell_device(self, before: Body | None, body: Body) -> None:
        node, namespace = body["spec"]["nodeName"], body["metadata"]["namespace"]
        if before is not None and before["spec"]["nodeName"] != node:
            old = before["spec"]["nodeName"]
            self._membership(old, "removed_devices", before)
            self.push(old, "Device", "delete", before)
            before = None
        operation = "insert" if before is None else "update"
        model = self.objects.get(("DeviceModel", namespace, body["spec"]["deviceModelRef"]["name"]))
        if before is None:
            self._membership(node, "added_devices", body)
        if model is not None and (before is not None or not self._users(node, body)):
            self.push(node, "DeviceModel", operation, model)
        self.push(node, "Device", operation, body)

    def _tell_pod(self, before: Body | None, body: Body) -> None:
        node = body["spec"]["nodeName"]
        labels = self.objects.get(("Node", "", node), {}).get("metadata", {}).get("labels", {})
        if labels.get("node-role.kubernetes.io/edge") != "":
            return
        terminating = "deletionTimestamp" in body["metadata"]
        self.push(node, "Pod", "insert" if before is None and not terminating else "update", body)
        for (kind, namespace, name), each in list(self.objects.items()):
            if kind in ("ConfigMap", "Secret") and namespace == body["metadata"]["namespace"]:
                if self._refers(body, kind, name):
                    self.push(node, kind, "insert" if kind == "ConfigMap" else "update", each)

    def _pods(self, node: str) -> list[Body]:
        return [b for (k, _, _), b in self.objects.items() if k == "Pod" and b["spec"]["nodeName"] == node]

    @staticmethod
    def _refers(pod: Body, kind: str, name: str) -> bool:
        text = json.dumps(pod["spec"])
        return f'"{name}"' in text and kind.lower() in text.lower()

    def _membership(self, node: str, what: str, device: Body) -> None:
        metadata = device["metadata"]
        entry = [{"id": f"{metadata['namespace']}/{metadata['name']}", "name": metadata["name"]}]
        content = {"event_id": str(uuid.uuid4()), "timestamp": _ms(), "added_devices": None}
        content |= {"removed_devices": None, what: entry}
        self.say(node, _message("devicecontroller", "twin", "update", "membership", content))

    # -- up --------------------------------------------------------------------------------------

    def _dispatch(self, session: _Session, message: Body) -> None:
        route = message["route"]
        operation, resource = route.get("operation", ""), route.get("resource", "")
        if operation == "keepalive":
            session.kept_alive = time.monotonic()
        elif operation == "response":
            event = session.acked.get(message["header"].get("parent_msg_id", ""))
            if event is not None:
                event.set()
        elif operation in ("error", "upload", "UpdateNodeActionStatus"):
            pass  # the log has it
        elif route.get("source") in CLOUD_SOURCES:
            self.faults.append(f"dropped, its source is {route['source']}")
        elif route.get("source") == "twin":
            self._device(session, message, resource)
        else:
            self._edge(session, message, operation, resource)

    def _answer(self, session: _Session, to: Body, content: Any, **route: str) -> None:
        resource = route.pop("resource", to["route"]["resource"])
        if self.mute(resource):
            return
        route = {"source": "edgecontroller", "group": "resource", **route}
        message = _message(route["source"], route["group"], "response", resource, content)
        message["header"]["parent_msg_id"] = to["header"]["msg_id"]
        if resource.split("/")[1:2] in (["configmap"], ["secret"]) and "metadata" in (content or {}):
            message["header"]["resourceversion"] = content["metadata"]["resourceVersion"]
            session.pool.put(content["metadata"]["uid"], "response", message)
            return
        session.pool.plain.append(message)
        session.pool.work.set()

    def _edge(self, session: _Session, message: Body, operation: str, resource: str) -> None:
        parts = resource.split("/")
        content = _data(message["content"])
        if len(parts) != 3:
            self.faults.append(f"no such resource: {resource}")
            return
        namespace, kind, name = parts
        if kind in ("node", "nodepatch"):
            self._node(session, message, operation, name, content)
        elif kind == "lease":
            self._lease(session, message, operation, name, content)
        elif kind in ("configmap", "secret") and operation == "query":
            titles = {"configmap": "ConfigMap", "secret": "Secret"}
            found = self.objects.get((titles[kind], namespace, name))
            if found is not None:
                self.sync[(session.node, found["metadata"]["uid"])] = {
                    "kind": titles[kind], "namespace": namespace, "name": name, "version": "0",
                }  # fmt: skip
            self._answer(session, message, found or _not_found(kind, name))
        elif kind == "serviceaccounttoken" and operation == "query":
            self._answer(session, message, self._token(namespace, name, content))
        elif kind == "podpatch":
            self._pod_patch(session, message, namespace, name, content)
        elif kind == "pod" and operation == "delete":
            self._pod_delete(session, message, namespace, name, content)
        elif kind == "event":
            body = dict(content)
            self.objects[("Event", namespace, name)] = body
        else:
            self.faults.append(f"nobody takes {operation} {resource}")

    def _node(self, session: _Session, message: Body, operation: str, name: str, content: Any) -> None:
        node = self.objects.get(("Node", "", name))
        if operation == "query":
            self._answer(session, message, node or _not_found("nodes", name))
        elif operation == "insert" and node is None:
            node = copy.deepcopy(content)
            node["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": self.version()}
            self.objects[("Node", "", name)] = node
            self._answer(session, message, {"Object": node, "Err": None})
        elif operation == "insert":
            error = _status(409, "AlreadyExists", f'nodes "{name}" already exists')
            self._answer(session, message, {"Object": None, "Err": error})
        elif node is None:
            if operation == "patch":
                self._answer(session, message, {"Object": None, "Err": _not_found("nodes", name)})
        elif operation == "update":
            for key in ("labels", "annotations"):
                node["metadata"].setdefault(key, {}).update(content["metadata"].get(key) or {})
            node["metadata"]["resourceVersion"] = self.version()
            self._answer(session, message, "OK")
        else:
            if not isinstance(message["content"], str):
                self.faults.append("a patch of a node has to be JSON inside a string")
            _merge_status(node.setdefault("status", {}), content["status"])
            node["metadata"]["resourceVersion"] = self.version()
            self._answer(session, message, {"Object": node, "Err": None})

    def _lease(self, session: _Session, message: Body, operation: str, name: str, content: Any) -> None:
        lease = self.objects.get(("Lease", "kube-node-lease", name))
        if operation in ("query", "update") and lease is None:
            self._answer(session, message, {"Object": None, "Err": _not_found("leases", name)})
            return
        if operation != "query":
            if (
                lease is not None
                and content["metadata"].get("resourceVersion") != (lease["metadata"]["resourceVersion"])
            ):
                error = _status(409, "Conflict", f'leases "{name}": the object has been modified')
                self._answer(session, message, {"Object": None, "Err": error})
                return
            lease = copy.deepcopy(content)
            lease["metadata"] |= {"uid": f"lease-{name}", "resourceVersion": self.version()}
            self.objects[("Lease", "kube-node-lease", name)] = lease
        self._answer(session, message, {"Object": lease, "Err": None})

    def _token(self, namespace: str, name: str, request: Any) -> Body:
        """The TokenRequest with its token, of a pod and a service account that there are."""
        bound = request["spec"]["boundObjectRef"]
        pod = self.objects.get(("Pod", namespace, bound["name"]))
        if pod is None or pod["metadata"]["uid"] != bound["uid"]:
            return _not_found("pods", bound["name"])
        if ("ServiceAccount", namespace, name) not in self.objects:
            return _not_found("serviceaccounts", name)
        audiences = ",".join(request["spec"].get("audiences", ()))
        return {**request, "status": {"token": f"token-{self.version()}-{name}-{audiences}"}}

    def _pod_patch(self, session: _Session, message: Body, namespace: str, name: str, content: Any) -> None:
        pod = self.objects.get(("Pod", namespace, name))
        if not isinstance(message["content"], str):
            self.faults.append("a patch of a pod has to be JSON inside a string")
        if pod is None or content["metadata"]["uid"] != pod["metadata"]["uid"]:
            self._answer(session, message, {"Object": None, "Err": _not_found("pods", name)})
            if pod is None:
                stub = {"metadata": {"name": name, "namespace": namespace}}
                self.push(session.node, "Pod", "delete", stub)
            return
        _merge_status(pod.setdefault("status", {}), content["status"])
        pod["metadata"]["resourceVersion"] = self.version()
        self._answer(session, message, {"Object": pod, "Err": None})

    def _pod_delete(self, session: _Session, message: Body, namespace: str, name: str, content: Any) -> None:
        pod = self.objects.get(("Pod", namespace, name))
        self._answer(session, message, "OK")
        if pod is not None and content["preconditions"]["uid"] == pod["metadata"]["uid"]:
            self.delete("Pod", name, namespace)

    def _device(self, session: _Session, message: Body, resource: str) -> None:
        parts = resource.split("/")
        content = _data(message["content"])
        if resource == "membership/detail" or len(parts) != 5:
            return
        namespace, name = parts[1:3]
        device = self.objects.get(("Device", namespace, name))
        if device is None:
            return  # dropped, without an answer
        where = ("DeviceStatus", namespace, name)
        status = self.objects.setdefault(where, {"kind": "DeviceStatus", "status": {}})["status"]
        if resource.endswith("state/update"):
            status["state"] = content["device"]["state"]
            status["lastOnlineTime"] = content["device"]["lastOnlineTime"]
        else:
            self._twins(device, status.setdefault("twins", []), content["twin"])
        self._answer(session, message, "OK", source="devicecontroller", group="twin", resource="twin")

    @staticmethod
    def _twins(device: Body, twins: list[Body], reported: Mapping[str, Any]) -> None:
        known = {each["name"] for each in device["spec"]["properties"]}
        for name, twin in reported.items():
            if name not in known:
                continue
            stored = next((each for each in twins if each["propertyName"] == name), None)
            if stored is None:
                twins.append({"propertyName": name})  # and it stays empty: the copy is filled, not this
                continue
            for key, of in (("actual", "reported"), ("expected", "observedDesired")):
                if key in twin:
                    metadata = {"timestamp": str(twin[key]["metadata"]["timestamp"])}
                    metadata["type"] = twin["metadata"]["type"]
                    stored[of] = {"value": twin[key]["value"], "metadata": metadata}


def _message(source: str, group: str, operation: str, resource: str, content: Any, **header: str) -> Body:
    return {
        "header": {"msg_id": str(uuid.uuid4()), "timestamp": _ms(), **header},
        "route": {"source": source, "group": group, "operation": operation, "resource": resource},
        "content": content,
    }


def user_message(source: str, operation: str, resource: str, content: Any = "") -> Body:
    """A message of the Router."""
    return _message(source, "user", operation, resource, content)


def job_message(job: str, name: str, node: str, action: str, spec: Any) -> Body:
    """The first step of a node's part of a job."""
    resource = f"operations.kubeedge.io/v1alpha2/{job}/{name}/node/{node}"
    return _message("taskmanager", "taskmanager", action, resource, spec)


def _decode(text: str | bytes) -> Body | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    good = isinstance(message, dict) and isinstance(message.get("header"), dict)
    if not good or not isinstance(message.get("route"), dict) or "content" not in message:
        return None
    header = message["header"]
    texts = [header.get("msg_id"), *message["route"].values()]
    if not all(isinstance(each, str) for each in texts) or type(header.get("timestamp")) is not int:
        return None
    return dict(message)


def _data(content: Any) -> Any:
    return json.loads(content) if isinstance(content, str) else content


def _merge_status(status: Body, patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if key in ("conditions", "addresses"):
            merged = {each["type"]: each for each in status.get(key, ())}
            merged |= {each["type"]: {**merged.get(each["type"], {}), **each} for each in value}
            status[key] = list(merged.values())
        else:
            status[key] = value


def _status(code: int, reason: str, message: str) -> Body:
    return {
        "ErrStatus": {"metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    }


def _not_found(kind: str, name: str) -> Body:
    return _status(404, "NotFound", f'{kind} "{name}" not found')


def _ms() -> int:
    return time.time_ns() // 1_000_000
