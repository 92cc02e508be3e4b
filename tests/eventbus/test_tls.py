"""MQTT over TLS, both ways: the internal broker with client certificates, and the client of mosquitto."""

import socket
import ssl
from pathlib import Path
from typing import Any

import certificates
import interpreters
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from peers import DEV, WAIT_S, Application, gateway, mosquitto

from motelet.tools.freeport import free_port

TOPICS = ("$hw/events/device/+/+/twin/+/+", "$hw/events/node/+/membership/get/result")
UPDATE = {"event_id": "1", "twin": {"temperature": {"actual": {"value": "1"}}}}


class Files:
    """Certificates of one authority in `folder`, in DER for gateways and in PEM for everybody else."""

    def __init__(self, folder: Path, name: str = "good") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.authority = certificates.Authority(name)
        (folder / "ca.der").write_bytes(self.authority.der)
        (folder / "ca.pem").write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))
        for who in ("server", "client"):
            key = certificates.new_key("ec")
            certificate = self.authority.issue(key, who, ("localhost", "127.0.0.1"))
            (folder / f"{who}.der").write_bytes(certificate.public_bytes(Encoding.DER))
            (folder / f"{who}-key.der").write_bytes(certificates.key_der(key, "pkcs8"))
            (folder / f"{who}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{who}-key.pem").write_bytes(pem)

    def der(self, who: str) -> dict[str, str]:
        """The fields of a configuration."""
        names = {"ca": "ca.der", "cert": f"{who}.der", "key": f"{who}-key.der"}
        return {field: str(self.folder / name) for field, name in names.items()}

    def context(self, other: "Files | None" = None) -> ssl.SSLContext:
        """That of a client, with the certificate of `other`."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if other is not None:
            context.load_cert_chain(other.folder / "client.pem", other.folder / "client-key.pem")
        return context


def refused(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client is sent away, at once or with the first packet."""
    hello = b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1x"
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as stream:
                stream.sendall(hello)
                return not stream.recv(4)
        except (ssl.SSLError, ConnectionError):
            return True


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_the_internal_broker_takes_clients_with_a_certificate_only(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    good, bad = Files(tmp_path), Files(tmp_path / "bad", "bad")
    config: dict[str, Any] = {"mqttMode": 0, "broker": {"port": port, **good.der("server")}}
    options = {"tls_set_context": (good.context(good),)}
    with gateway(interpreter, tmp_path, config), Application(port, *TOPICS, **options) as application:
        application.until_answered()
        for qos in (0, 1):
            said = application.ask(DEV + "twin/update", UPDATE, 2, qos)
            assert [topic for topic, _ in said] == [DEV + "twin/update/result", DEV + "twin/update/document"]
        assert refused(port, good.context())
        assert refused(port, good.context(bad))
        assert not refused(port, good.context(good))
        with socket.create_connection(("127.0.0.1", port)) as plain, Application(port, **options) as other:
            plain.sendall(b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1x")  # and stays: who says no TLS delays nobody
            other.say("chat", b"x" * 2000)
            application.ask(DEV + "twin/get", {"event_id": "2"})


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_the_client_shows_its_certificate_and_checks_the_broker(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    files, bad = Files(tmp_path), Files(tmp_path / "bad", "bad")
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n"
        f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server-key.pem\n"
    )
    with mosquitto(port, config):
        options = {"tls_set_context": (files.context(files),)}
        with Application(port, *TOPICS, "here", **options) as application:
            with gateway(interpreter, tmp_path, {"port": port, **files.der("client")}):
                application.until_answered()
                assert application.ask(DEV + "twin/update", UPDATE, 2)[0][1]["event_id"] == "1"
            strangers = {**bad.der("client"), "ca": files.der("client")["ca"]}
            impostor = {**files.der("client"), "ca": bad.der("client")["ca"]}
            for folder, config in ((files.folder, strangers), (bad.folder, impostor)):
                with gateway(interpreter, folder, {"port": port, **config}) as other:
                    other.wait("no broker")
                    assert other.process.poll() is None
            application.say("here", b"{}")  # they were not heard of
            assert application.hear()[0] == "here"
