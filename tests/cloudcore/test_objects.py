"""What a message makes of an object in a mirror: by the resource, whoever sent it, however often."""

import json

import frames
import pytest

from cloud_bridge.backends.base import Key
from cloud_bridge.backends.cloudcore.message import Message, decode
from cloud_bridge.backends.cloudcore.objects import Known, change_of, key_of, resource_of, shows

LAMP = "default/device/lamp"
BEFORE = Known("u1", "10")


def message(operation="update", version="11", uid="u1", source="devicecontroller", resource=LAMP, **metadata):
    body = {"kind": "Device", "metadata": {"name": "lamp", "uid": uid, **metadata}}
    return Message("1", operation, resource, body, source, "resource", version=version)


def test_newer_objects_are_kept_and_others_are_not():
    assert change_of(message(), BEFORE).stored.known == Known("u1", "11")
    assert change_of(message(), None).stored.known == Known("u1", "11")
    assert change_of(message(version="10"), BEFORE) is None
    assert change_of(message(version="9"), BEFORE) is None
    assert change_of(message(version="9", uid="u2"), BEFORE).stored.known == Known("u2", "9")
    assert change_of(message(version="x"), BEFORE).stored.known.version == "x"
    assert change_of(message(version="x"), Known("u1", "x")) is None


def test_the_source_does_not_matter():
    assert change_of(message(source="edgecontroller"), BEFORE) == change_of(message(), BEFORE)


def test_the_version_may_be_in_the_object_only():
    assert change_of(message(version="", resourceVersion="12"), BEFORE).stored.known.version == "12"


def test_deletions_with_a_stub_without_a_uid_and_of_an_older_object():
    assert change_of(message("delete", version=""), BEFORE).stored is None
    assert change_of(message("delete", uid=""), BEFORE).stored is None
    assert change_of(message("delete", uid="u0"), BEFORE) is None
    assert change_of(message("delete"), None) is None
    assert change_of(Message("1", "delete", LAMP, None), BEFORE).stored is None


@pytest.mark.parametrize(
    "other",
    [
        Message("1", "error", LAMP, "no"),
        Message("1", "update", "membership", {}),
        Message("1", "response", "a/configmap/b", {"ErrStatus": {"code": 404}}),
        Message("1", "update", LAMP, "text"),
        Message("1", "update", LAMP, {"metadata": []}),
    ],
)
def test_what_is_no_object_changes_nothing(other):
    assert change_of(other, None) is None


def test_content_in_a_text_and_without_what_nobody_needs():
    body = message(managedFields=[1], annotations={"a": "b", _LAST: "{}"}).content
    stored = change_of(Message("1", "update", LAMP, json.dumps(body), version="3"), None).stored
    assert stored.body()["metadata"] == {"name": "lamp", "uid": "u1", "annotations": {"a": "b"}}


_LAST = "kubectl.kubernetes.io/last-applied-configuration"


def test_keys_and_resources():
    assert key_of("a/configmap/b") == Key("ConfigMap", "a", "b")
    assert key_of("a/widget/b") is None
    assert key_of("membership") is None
    assert resource_of(Key("DeviceModel", "a", "b")) == "a/devicemodel/b"


def test_an_answer_shows_the_object_that_is_known_and_no_other():
    assert shows(message("response"), BEFORE) and shows(message(version="9"), BEFORE)
    assert not shows(message(uid="u2"), BEFORE)  # replaced since
    assert not shows(message("delete"), BEFORE) and not shows(message("error"), BEFORE)
    assert not shows(message(uid=""), Known("", "10"))
    for content in ("text", {"metadata": []}, {}):
        assert not shows(Message("1", "response", LAMP, content), BEFORE)


@pytest.mark.parametrize("name", frames.NAMES)
def test_real_messages_leave_what_the_cluster_had(name):
    mirror = {}
    for text in map(frames.wire, frames.read(name, "cloud")):
        for _ in range(2):  # each comes twice
            change = change_of(decode(text), mirror.get(decode(text).resource))
            if change is not None:
                mirror[change.resource] = change.stored and change.stored.known
    held = {resource for resource, known in mirror.items() if known}
    assert (
        held
        == {
            "device-created": {LAMP, "default/devicemodel/lamp-model"},
            "device-desired": {LAMP},
            "device-reported": set(),
            "device-deleted": set(),
            "node": {"null/node/board-1"},
            "pod": {"default/configmap/blink-config"},
            "resync": {LAMP},
        }[name]
    )
