"""Bad input to a running gateway on each interpreter, with a client beside it that must not notice."""

import json
import socket
from pathlib import Path
from typing import Any

import interpreters
import pytest
from peers import DEV, WAIT_S, Application, gateway

from motelet.tools.freeport import free_port

NODEV = DEV.replace("dev1", "nodev")
RESULT = "$hw/events/device/+/+/twin/+/result"
MEMBERS = "$hw/events/node/+/membership/get/result"
UNMARSHAL = "Unmarshal update request body failed, please check the request"
HELLO = b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1x"


def twin(value: Any, name: str = "temperature") -> bytes:
    return json.dumps({"event_id": "e", "twin": {name: value}}).encode()


UPDATES = [
    (b"", UNMARSHAL),
    (b"{", UNMARSHAL),
    (b"[]", UNMARSHAL),
    (b"\xff\xfe", UNMARSHAL),
    (b'{"event_id":"\xff"}', UNMARSHAL),
    (b"[" * 3000, UNMARSHAL),
    (b'{"twin":{"temperature":{"actual":{"value":' + b"[" * 400 + b"]" * 400 + b"}}}}", UNMARSHAL),
    (b'{"event_id":7,"twin":{}}', UNMARSHAL),
    (b'{"event_id":"e"}', "Update twin error, key:twin does not exist"),
    (b'{"event_id":"e","twin":[]}', UNMARSHAL),
    (twin(7), UNMARSHAL),
    (twin({"actual": 7}), UNMARSHAL),
    (twin({"actual": {}}), UNMARSHAL),
    (twin({"actual": {"value": 7}}), UNMARSHAL),
    (twin({"actual": {"value": "1"}, "optional": "yes"}), UNMARSHAL),
    (twin({"actual": {"value": "1"}, "metadata": 7}), UNMARSHAL),
    (twin({"actual": {"value": "1"}, "metadata": {"type": 7}}), UNMARSHAL),
    (twin({"actual": {"value": "1"}, "actual_version": 7}), UNMARSHAL),
    (twin({"actual": {"value": "x" * 513}}), "The length of value should be at most 512 bytes"),
    (twin({"actual": {"value": "1"}}, "no good name"), "The key of twin must only include"),
    (twin({"actual": {"value": "x"}, "metadata": {"type": "int"}}, "new"), "the value is not int"),
    (twin({"actual": {"value": "x"}, "metadata": {"type": "?"}}, "new"), "the value type is not"),
    (b'{"event_id":"e","twin":{"nosuch":null}}', "the request body is wrong"),
]
PACKETS = [
    b"\x00\x00",  # no such type
    b"\x10\x0d\0\4MQTT\5\2\0\x3c\0\1x",  # MQTT 5
    HELLO + HELLO,
    HELLO + b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
    HELLO + b"\x30\xff\xff\xff\x7f",  # 256 MiB
    HELLO + b"\x30\x03\x00\x09a",  # a topic longer than its packet
    HELLO + b"\x30\x05\x00\x03a/#",
    HELLO + b"\x30\x04\x00\x02\xff\xfe",
    HELLO + b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
    HELLO + b"\x82\x02\x00\x01",  # subscribes to nothing
    HELLO + b"\x82\x08\x00\x01\x00\x03#/a\x00",
    HELLO + b"\xf0\x00",
]


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_bad_input_is_answered_or_its_connection_closed_and_nobody_else_notices(
    interpreter: str, tmp_path: Path
) -> None:
    port = free_port()
    with gateway(interpreter, tmp_path, {"mqttMode": 0, "broker": {"port": port}}) as running:
        with Application(port, RESULT, MEMBERS, "beside") as application:
            application.until_device()
            for payload, reason in UPDATES:
                ((topic, said),) = application.ask(DEV + "twin/update", payload)
                assert topic == DEV + "twin/update/result"
                assert said.get("code") == 400, (payload, said)
                assert said["reason"].startswith(reason), payload
            ((topic, said),) = application.ask(NODEV + "twin/update", twin({"actual": {"value": "1"}}))
            assert (topic, said["code"]) == (NODEV + "twin/update/result", 404)
            application.say(DEV + "state/update", b'{"state":"dancing"}')  # as in KubeEdge: no answer
            for packet in PACKETS:
                with socket.create_connection(("127.0.0.1", port), WAIT_S) as bad:
                    bad.sendall(packet)
                    heard = b""
                    while data := bad.recv(64):
                        heard += data
                    assert heard in (b"", b"\x20\2\0\0", b"\x20\2\0\1"), packet
                application.say("beside", {"is": "well"})
                assert application.hear() == ("beside", {"is": "well"})
            _flood(port)
            _two_of_one_name(port)
            ((_, said),) = application.ask(DEV + "twin/update", twin({"actual": {"value": "good"}}))
            assert said["twin"]["temperature"]["actual"]["value"] == "good"
            assert running.process.poll() is None


def _flood(port: int) -> None:
    """One client may not have more than so many subscriptions; it is told which were refused."""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as client:
        client.sendall(HELLO)
        assert client.recv(4) == b"\x20\2\0\0"
        codes = b""
        for number in range(40):
            client.sendall(b"\x82\x08\0\1\0\3t%02d\0" % number)
            answer = client.recv(5)
            assert answer[:4] == b"\x90\3\0\1"
            codes += answer[4:]
        assert codes == bytes(16) + b"\x80" * 24


def _two_of_one_name(port: int) -> None:
    """The newer connection takes over (MQTT 3.1.1, 3.1.4)."""
    with (
        socket.create_connection(("127.0.0.1", port), WAIT_S) as one,
        socket.create_connection(("127.0.0.1", port), WAIT_S) as two,
    ):
        one.sendall(HELLO)
        assert one.recv(4) == b"\x20\2\0\0"
        two.sendall(HELLO)
        assert two.recv(4) == b"\x20\2\0\0"
        assert one.recv(1) == b""
        two.sendall(b"\xc0\0")
        assert two.recv(2) == b"\xd0\0"
