"""TLS of the unix port on both interpreters against a real server: who is refused, what a stream shows."""

import socket
import ssl
import stat
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import certificates
import interpreters
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from motelet.ports.unix import Port

WAIT_S = 90  # a bound for what would hang


class Server:
    """A TLS server for one connection: echoes, or does what the first message says."""

    def __init__(self, context: ssl.SSLContext, answers_at_once: bool) -> None:
        self.peer: str | None = None
        self.error: OSError | None = None
        self.go = threading.Event()  # what the client prints "go" for
        self._answers_at_once = answers_at_once
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        # A client that never came would leave the thread waiting.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.go.set()
        self._thread.join(WAIT_S)
        self._listener.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        self._listener.settimeout(WAIT_S)
        raw, _ = self._listener.accept()
        raw.settimeout(WAIT_S)
        assert self._answers_at_once or self.go.wait(WAIT_S)
        try:
            with self._context.wrap_socket(raw, server_side=True) as stream:
                certificate = stream.getpeercert() or {}
                names = [value for part in certificate.get("subject", ()) for key, value in part]
                self.peer = names[0] if names else None
                self._serve(stream)
        except OSError as exc:
            self.error = exc
        finally:
            raw.close()

    def _serve(self, stream: ssl.SSLSocket) -> None:
        while data := stream.recv(4096):
            if data.startswith(b"burst"):
                stream.sendall(bytes(int(data.split()[1])))
            elif data == b"hold":
                self._hold(stream)
            elif data == b"break":
                socket.close(stream.detach())  # no word of goodbye
                return
            elif data == b"close":
                stream.sendall(b"bye")
                stream.unwrap()
                return
            else:
                stream.sendall(data)

    def _hold(self, stream: ssl.SSLSocket) -> None:
        """Read nothing until told to, then answer how many bytes in order came before the end."""
        assert self.go.wait(WAIT_S)
        data = bytearray()
        while not data.endswith(b"end!"):
            data += stream.recv(65536)
        pattern = bytes(range(256)) * (len(data) // 256 + 1)
        assert data[:-4] == pattern[: len(data) - 4]
        stream.sendall(b"%d" % (len(data) - 4))


class World:
    """The server's context and the folder of what the client knows; both may be spoiled before `run`."""

    def __init__(self, folder: Path, interpreter: str, kind: str = "ec", form: str = "pkcs8") -> None:
        self.folder = folder
        self.interpreter = interpreter
        self.authority = certificates.Authority("good", kind)
        self.server_key = certificates.new_key(kind)
        self.client_key = certificates.new_key(kind)
        self.context = self.serve(
            self.authority.issue(self.server_key, "server", (certificates.HOST, "127.0.0.1"))
        )
        self.put("ca.der", self.authority.der)
        client = self.authority.issue(self.client_key, "system:node:n1")
        self.put("cert.der", client.public_bytes(Encoding.DER))
        self.put("key.der", certificates.key_der(self.client_key, form))

    def serve(self, certificate: "certificates.x509.Certificate") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.write_server(self.folder, certificate, self.server_key))
        context.load_verify_locations(cadata=self.authority.der)
        context.verify_mode = ssl.CERT_REQUIRED
        self.context = context
        return context

    def put(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def run(self, scenario: str = "echo", name: str = certificates.HOST, stall: bool = False) -> list[str]:
        """The lines the client printed, and in `self.server` what the server saw."""
        self.server = Server(self.context, answers_at_once=not stall)
        program = Path(__file__).parent / "tls_client.py"
        number = str(self.server.port)
        with interpreters.running(
            self.interpreter, program, number, name, str(self.folder), scenario
        ) as client:
            assert client.stdout is not None
            lines = []
            for line in client.stdout:
                lines.append(line.strip())
                if lines[-1] == "go":
                    self.server.go.set()
        self.server.close()
        assert client.returncode == 0, "\n".join(lines)
        return lines


@pytest.fixture(params=interpreters.NAMES)
def interpreter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(tmp_path: Path, interpreter: str) -> World:
    return World(tmp_path, interpreter)


def refused(lines: list[str]) -> bool:
    """Whether the client ended with the error of a certificate that does not hold."""
    return lines[-1] == "raised ValueError"


def test_both_sides_know_each_other_and_messages_allocate_nothing(world: World) -> None:
    assert world.run() == ["allocated 0", "done"]
    assert world.server.peer == "system:node:n1"


@pytest.mark.parametrize(("kind", "form"), [("ec", "traditional"), ("rsa", "pkcs8"), ("rsa", "traditional")])
def test_keys_of_each_kind_and_form_are_read(tmp_path: Path, interpreter: str, kind: str, form: str) -> None:
    world = World(tmp_path, interpreter, kind, form)
    assert world.run("end")[-1] == "done" and world.server.peer == "system:node:n1"


def test_an_address_may_be_the_name(world: World) -> None:
    assert world.run("end", name="")[-1] == "done"  # the host connected to, 127.0.0.1


def test_bytes_inside_tls_count_as_readable(world: World) -> None:
    assert world.run("pending") == ["got 5000", "done"]


def test_a_full_connection_goes_on_when_there_is_room(world: World) -> None:
    assert world.run("full") == ["go", "whole True", "done"]


def test_much_goes_both_ways_at_once(world: World) -> None:
    assert world.run("bulk") == ["received 300000", "done"]


def test_the_end_of_the_stream_is_seen(world: World) -> None:
    assert world.run("end") == ["read 3 0", "done"]


def test_the_end_of_the_connection_below_is_the_end_too(world: World) -> None:
    assert world.run("cut") == ["read 0", "done"]


def test_a_handshake_waits_without_blocking_or_spinning(world: World) -> None:
    lines = world.run("stalled", stall=True)
    assert lines == ["woken 0 beside 50 ticks", "go", "got 40", "done"]


def test_a_wrong_authority_is_refused(world: World) -> None:
    world.put("ca.der", certificates.Authority("good").der)
    assert refused(world.run())


def test_a_wrong_name_is_refused(world: World) -> None:
    assert refused(world.run(name="other.test"))


def test_an_expired_certificate_is_refused(world: World) -> None:
    world.serve(world.authority.issue(world.server_key, "server", ends_in=timedelta(days=-1)))
    assert refused(world.run())


def test_a_certificate_without_the_name_is_refused(world: World) -> None:
    world.serve(world.authority.issue(world.server_key, "server", hosts=()))
    assert refused(world.run())


def test_the_second_of_two_authorities_counts(world: World) -> None:
    world.put("ca.der", certificates.Authority("old").der + world.authority.der)
    assert world.run("end")[-1] == "done"


def test_a_client_without_certificate_is_told_so_by_the_server(world: World) -> None:
    (world.folder / "cert.der").unlink()
    (world.folder / "key.der").unlink()
    assert world.run()[-1] == "raised OSError" and world.server.peer is None


def test_a_client_without_certificate_is_served_where_none_is_asked_for(world: World) -> None:
    (world.folder / "cert.der").unlink()
    (world.folder / "key.der").unlink()
    world.context.verify_mode = ssl.CERT_NONE
    assert world.run("end")[-1] == "done"


def test_tls_1_1_is_refused(world: World) -> None:
    with pytest.warns(DeprecationWarning):
        world.context.minimum_version = world.context.maximum_version = ssl.TLSVersion.TLSv1_1
    world.context.set_ciphers("ALL:@SECLEVEL=0")
    assert world.run()[-1] == "raised OSError" and world.server.error is not None


@pytest.mark.parametrize("spoil", ["no authority", "two certificates", "no key", "other key"])
def test_material_that_does_not_fit_makes_no_context(world: World, spoil: str) -> None:
    certificate = (world.folder / "cert.der").read_bytes()
    authority = world.authority.der
    material: dict[str, tuple[bytes, bytes, bytes]] = {
        "no authority": (b"", certificate, certificates.key_der(world.client_key, "pkcs8")),
        "two certificates": (
            authority,
            certificate + authority,
            certificates.key_der(world.client_key, "pkcs8"),
        ),
        "no key": (authority, certificate, b"\x30\x05no key"),
        "other key": (authority, certificate, certificates.key_der(certificates.new_key("ec"), "pkcs8")),
    }
    for name, data in zip(("ca.der", "cert.der", "key.der"), material[spoil], strict=True):
        world.put(name, data)
    assert world.run()[-1].startswith("raised")


def test_the_private_key_is_on_disk_for_a_moment_and_for_us_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "cpython")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, path: str) -> None:
        seen.append((stat.S_IMODE(Path(path).stat().st_mode), stat.S_IMODE(Path(path).parent.stat().st_mode)))
        assert scratch in Path(path).parents
        load(context, path)

    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    files = [(world.folder / name).read_bytes() for name in ("ca.der", "cert.der", "key.der")]
    Port().tls(*files)
    assert seen == [(0o600, 0o700)] and list(scratch.iterdir()) == []
    with pytest.raises(OSError):
        Port().tls(files[0], files[1], certificates.key_der(certificates.new_key("ec"), "pkcs8"))
    assert list(scratch.iterdir()) == []
