"""A board's Node in the cluster: registered first, then kept alive by a lease and told of by patches.

Without I/O; the questions go through `Session.ask`. The first one, for the Node itself, is also the
probe: CloudHub leaves a connection open and silent that it refuses or has no room for, so a question
that stays unanswered is the only sign. A Node that is the record of another mirror is not served:
what CloudCore believes the board to hold is then in that mirror and not in this one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from cloud_bridge.backends import nodebody
from cloud_bridge.backends.cloudcore.message import INSERT, OK, PATCH, QUERY, UPDATE, code_of, error_of
from cloud_bridge.backends.cloudcore.session import UNANSWERED, Session
from cloud_bridge.backends.nodebody import Board

MIRROR = "motelet.dev/mirror"
"""Annotation of a Node: the id of the mirror that has what CloudCore sent for it."""
ACCEPTED = "ObjectsAccepted"
"""Type of the Node's condition that is false while the board refuses to hold something."""
SETTLE_SECONDS = 0.5
"""From connecting to the first question: an answer any sooner may be lost in CloudHub."""
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
PATCH_SECONDS = 300.0
"""How often the Node's status is told when nothing in it changes, as EdgeCore does."""
CHECK_SECONDS = 10.0
"""How often it is looked whether something changed, and how long after a failure it is tried again."""
REFUSALS_SHOWN = 8
NOT_FOUND = 404


class _Condition(NamedTuple):
    """What is remembered of a condition of the Node: since when it has been so."""

    type: str
    status: str
    lastTransitionTime: str  # noqa: N815 - Kubernetes' name


class Registration:
    """The Node of one session.

    `mirror` is the id of this bridge's mirror. `own(uid)` is called when the Node is there and
    is this mirror's, `failed(reason)` when the session is worth nothing, `refused(reason)` when the node
    is another mirror's.
    """

    def __init__(
        self,
        session: Session,
        node: str,
        board: Board,
        mirror: str,
        clocks: tuple[Callable[[], float], Callable[[], int]],
        own: Callable[[str], None],
        failed: Callable[[str], None],
        refused: Callable[[str], None],
    ) -> None:
        self.ready = False
        """Whether the Node is there and this bridge may serve it."""
        self._session = session
        self._node = node
        self.board = board
        """The board that the Node tells of."""
        self._mirror = mirror
        self._now, self._epoch_ms = clocks
        self._own = own
        self._failed = failed
        self._refused = refused
        self._uid = ""
        self._stored: Sequence[_Condition] = ()
        self._lease: dict[str, Any] | None = None
        self._refusals: Mapping[str, str] = {}
        self._told = b""
        self._begin_due: float | None = self._now() + SETTLE_SECONDS
        self._lease_due = self._patch_due = self._check_due = 0.0

    def refusals(self, refusals: Mapping[str, str]) -> None:
        """The board refuses to hold these resources, each with the reason."""
        self._refusals = refusals
        self._check_due = 0.0

    def changed(self) -> None:
        """The board has said something new of itself."""
        self._check_due = 0.0

    def tick(self) -> float:
        """Do what is due; -> seconds until something is due again."""
        now = self._now()
        if self._begin_due is not None:
            if now < self._begin_due:
                return self._begin_due - now
            self._begin_due = None
            self._ask_node()
        if not self.ready:
            return CHECK_SECONDS
        if now >= self._lease_due:
            self._lease_due = now + RENEW_SECONDS
            self._renew()
        if now >= self._check_due:
            self._check_due = now + CHECK_SECONDS
            self._patch(now)
        return min(self._lease_due, self._check_due) - now

    # -- the Node ------------------------------------------------------------------------------

    def _ask_node(self) -> None:
        self._session.ask(QUERY, f"null/node/{self._node}", None, self._node_found)

    def _node_found(self, content: Any) -> None:
        if content is UNANSWERED:
            self._failed("CloudHub answers nothing: it refuses the node, or has no room for it")
        elif isinstance(content, Mapping) and isinstance(content.get("metadata"), Mapping):
            self._judge(content)
        elif code_of(content) == NOT_FOUND:
            self._session.ask(INSERT, f"null/node/{self._node}", self._body(), self._inserted)
        else:
            self._failed(f"the Node cannot be read: {error_of(content) or content}")

    def _judge(self, node: Mapping[str, Any]) -> None:
        metadata = node["metadata"]
        mirror = (metadata.get("annotations") or {}).get(MIRROR, self._mirror)
        if mirror != self._mirror:
            self._refused(
                f"what CloudCore sent for the node is in the mirror {mirror}, this bridge has the mirror "
                f"{self._mirror}: end the other bridge and see motelet bridge refill --help"
            )
            return
        status = node.get("status")
        self._stored = _conditions(status if isinstance(status, Mapping) else {})
        labels = nodebody.labels(self._node, self.board)
        said = {key: metadata.get("labels", {}).get(key) for key in labels}
        if said != labels or MIRROR not in (metadata.get("annotations") or {}):
            own = {"metadata": self._metadata()}
            self._session.ask(UPDATE, f"null/node/{self._node}", own, self._labelled)
        self._begin(str(metadata.get("uid", "")))

    def _labelled(self, answer: Any) -> None:
        if answer != OK:
            self._failed("CloudCore does not change the labels of the Node")

    def _inserted(self, content: Any) -> None:
        if content is UNANSWERED:
            self._failed("CloudCore does not answer the registration of the Node")
            return
        error = content.get("Err") if isinstance(content, Mapping) else content
        if error is None:
            self._begin(str(_metadata(content.get("Object")).get("uid", "")))
        elif code_of(error) == 409:  # somebody else made it just now
            self._ask_node()
        else:
            self._failed(f"the Node cannot be registered: {error_of(error) or error}")

    def _begin(self, uid: str) -> None:
        self._uid = uid
        self.ready = True
        self._own(uid)

    def _metadata(self) -> dict[str, Any]:
        labels = nodebody.labels(self._node, self.board)
        return {"name": self._node, "labels": labels, "annotations": {MIRROR: self._mirror}}

    def _body(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": self._metadata(),
            "spec": {"taints": nodebody.taints()},
            "status": self._status(),
        }

    # -- its status ----------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        now_ms = self._epoch_ms()
        stored = [each._asdict() for each in self._stored]
        status = nodebody.status(self._node, self.board, {"conditions": stored}, now_ms)
        shown = [f"{resource}: {why}" for resource, why in sorted(self._refusals.items())]
        more = f"; and {len(shown) - REFUSALS_SHOWN} more" if len(shown) > REFUSALS_SHOWN else ""
        message = "; ".join(shown[:REFUSALS_SHOWN]) + more
        reason = "Refused" if shown else "AllHeld"
        status["conditions"].append(
            nodebody.condition(ACCEPTED, not shown, reason, message, stored, now_ms, self.board.heard_ms)
        )
        return status

    def _patch(self, now: float) -> None:
        status = self._status()
        conditions = [{**each, "lastHeartbeatTime": ""} for each in status["conditions"]]
        told = sha256(json.dumps({**status, "conditions": conditions}).encode()).digest()
        if told == self._told and now < self._patch_due:
            return
        self._patch_due = now + PATCH_SECONDS

        def answered(content: Any) -> None:
            error = "no answer" if content is UNANSWERED else _error(content)
            if not error:
                self._told, self._stored = told, _conditions(status)
            elif _gone(content):
                self._failed("the Node was deleted")
            else:
                self._patch_due = 0.0

        patch = json.dumps({"status": status}, separators=(",", ":"))
        self._session.ask(PATCH, f"null/nodepatch/{self._node}", patch, answered)

    # -- its lease -----------------------------------------------------------------------------

    def _renew(self) -> None:
        resource = f"kube-node-lease/lease/{self._node}"
        if self._lease is None:
            self._session.ask(QUERY, resource, None, self._lease_found)
        else:
            self._session.ask(UPDATE, resource, self._lease_body(), self._leased)

    def _lease_found(self, content: Any) -> None:
        if content is UNANSWERED:
            self._failed("CloudHub answers nothing any more")
            return
        found = content.get("Object") if isinstance(content, Mapping) else None
        if isinstance(found, Mapping):
            self._keep_lease(found)
            self._lease_due = 0.0
        elif code_of(content.get("Err") if isinstance(content, Mapping) else None) == NOT_FOUND:
            resource = f"kube-node-lease/lease/{self._node}"
            self._session.ask(INSERT, resource, self._lease_body(), self._leased)

    def _leased(self, content: Any) -> None:
        if content is UNANSWERED or _error(content):
            self._lease = None  # perhaps another resourceVersion: read it again
        else:
            self._keep_lease(content["Object"])

    def _keep_lease(self, lease: Mapping[str, Any]) -> None:
        metadata = _metadata(lease)
        kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences")
        self._lease = {key: metadata[key] for key in kept if key in metadata}

    def _lease_body(self) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._uid}
        metadata = {"name": self._node, "namespace": "kube-node-lease", "ownerReferences": [owner]}
        moment = datetime.fromtimestamp(self._epoch_ms() / 1000, UTC)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**metadata, **(self._lease or {})},
            "spec": {
                "holderIdentity": self._node,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }


def _conditions(status: Mapping[str, Any]) -> Sequence[_Condition]:
    found = status.get("conditions") or ()
    return [_Condition(*(str(each.get(key, "")) for key in _Condition._fields)) for each in found]


def _metadata(body: Any) -> Mapping[str, Any]:
    metadata = body.get("metadata") if isinstance(body, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else {}


def _error(content: Any) -> str:
    """What an answer of the form ``{"Object": .., "Err": ..}`` says went wrong, empty when nothing did."""
    if not isinstance(content, Mapping) or "Err" not in content:
        return f"not an answer: {content}"
    error = content["Err"]
    return "" if error is None else error_of(error) or str(error)


def _gone(content: Any) -> bool:
    return isinstance(content, Mapping) and code_of(content.get("Err")) == NOT_FOUND
