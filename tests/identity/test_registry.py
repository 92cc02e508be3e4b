"""Tokens, certificates and revocations on disk: the rules, two processes at once, and damage."""

import base64
import inspect
import json
import os
import stat

import pytest

from cloud_bridge.identity import registry as registry_module
from cloud_bridge.identity import tokens
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.registry import Registry, RegistryError
from cloud_bridge.identity.store import Token
from cloud_bridge.identity.tokens import Claims, TokenError
from cloud_bridge.peer import Peer

CA, KEY = b"the DER of a CA", b"the DER of its key"
DAY = 86400


class Clock:
    def __init__(self):
        self.now = 1_800_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(tmp_path, clock):
    return opened(tmp_path, clock)


class AtOnce:
    """A registry whose methods do not have to be awaited."""

    def __init__(self, registry):
        self._registry = registry

    def __getattr__(self, name):
        def call(*args, **options):
            result = getattr(self._registry, name)(*args, **options)
            return at_once(result) if inspect.iscoroutine(result) else result

        return call


def opened(folder, clock):
    return AtOnce(Registry(Folder(folder / "state"), clock))


def peer(serial, made=0, node="board-1", life=100 * DAY):
    return Peer(node, serial, 1_800_000_000 + made, 1_800_000_000 + made + life)


# -- the format ---------------------------------------------------------------------------------


def test_a_token_is_that_of_kubeedge_with_two_claims_more():
    claims = Claims("ab12", "board-1", 5, 10)
    token = tokens.make(CA, KEY, claims)
    digest, header, payload, _ = token.split(".")
    assert digest == "41ffc93b104f13aacad0e282372e300fa359cd30ab95d4a5cc9657cf293d7a86"
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == {
        "exp": 10,
        "iat": 5,
        "jti": "ab12",
        "sub": "system:node:board-1",
    }
    assert tokens.read(token.split(".", 1)[1], KEY, 9.5) == claims


def jwt(payload, header=None, key=KEY):
    signed = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in (header or {"alg": "HS256"}, payload)
    )
    signature = base64.urlsafe_b64encode(tokens._signature(key, signed.encode())).decode().rstrip("=")
    return f"{signed}.{signature}"


GOOD = {"exp": 10, "iat": 5, "jti": "ab12", "sub": "system:node:board-1"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JWT"),
        ("a.b", "not a JWT"),
        ("a.b.c.d", "not a JWT"),
        ("a.b." + "c" * 2000, "not a JWT"),
        ("a.b.c", "base64url"),
        ("a.b.\u00e4", "base64url"),
        (jwt(GOOD, key=b"other"), "another installation"),
        (jwt(GOOD, {"alg": "none"}), "not HS256"),
        (jwt(GOOD, {"alg": "HS512"}), "not HS256"),
        (jwt([]), "not a JSON object"),
        (jwt(GOOD | {"exp": 9}), "expired"),
        (jwt({"exp": 10}), "names no node"),  # all that a token of KubeEdge says
        (jwt(GOOD | {"sub": "board-1"}), "names no node"),
        (jwt(GOOD | {"sub": "system:node:../x"}), "another shape"),
        (jwt(GOOD | {"sub": "system:node:x\n"}), "another shape"),
        (jwt(GOOD | {"exp": "10"}), "another shape"),
        (jwt(GOOD | {"exp": True}), "another shape"),
        (jwt(GOOD | {"jti": 5}), "names no node"),
    ],
)
def test_tokens_that_are_worth_nothing(text, why):
    with pytest.raises(TokenError, match=why):
        tokens.read(text, KEY, 9)


def test_a_token_that_is_nested_deeply_is_no_json():
    signed = f"{base64.urlsafe_b64encode(b'[' * 300).decode()}.e30"
    signature = base64.urlsafe_b64encode(tokens._signature(KEY, signed.encode())).decode().rstrip("=")
    with pytest.raises(TokenError, match="not JSON"):
        tokens.read(f"{signed}.{signature}", KEY, 9)


# -- tokens -------------------------------------------------------------------------------------


def test_a_token_is_good_once_and_for_the_same_key_again(registry):
    claims = registry.create_token("board-1", 60, reusable=False)
    registry.redeem(claims, "key one")
    registry.redeem(claims, "key one")  # the board's power went before it stored the answer
    with pytest.raises(TokenError, match="used before"):
        registry.redeem(claims, "key two")
    assert registry.tokens()[0].state(0) == "used"


def test_a_reusable_token_is_good_for_many_keys(registry):
    claims = registry.create_token("board-1", 60, reusable=True)
    registry.redeem(claims, "key one")
    registry.redeem(claims, "key two")
    assert registry.tokens()[0].state(0) == "valid"


def test_a_token_without_a_record_or_revoked_is_refused(registry, clock):
    with pytest.raises(TokenError, match="no record"):
        registry.redeem(Claims("0123456789abcdef", "board-1", 0, 2**33), "key")
    claims = registry.create_token("board-1", 60, reusable=True)
    with pytest.raises(TokenError, match="no record"):
        registry.redeem(Claims(claims.id, "board-2", claims.issued, claims.expires), "key")
    registry.revoke_token(claims.id)
    with pytest.raises(TokenError, match="revoked"):
        registry.redeem(claims, "key")
    assert registry.tokens()[0].state(clock.now) == "revoked"
    with pytest.raises(RegistryError, match="no token"):
        registry.revoke_token("nothing")


def test_limits_of_tokens(registry, clock, monkeypatch):
    for ttl in (0, -1, registry_module.TTL_MAX + 1):
        with pytest.raises(RegistryError, match="lives"):
            registry.create_token("board-1", ttl, reusable=False)
    monkeypatch.setattr(registry_module, "TOKENS_MAX", 2)
    registry.create_token("a", 60, reusable=False)
    registry.create_token("b", 60, reusable=False)
    with pytest.raises(RegistryError, match="2 tokens already"):
        registry.create_token("c", 60, reusable=False)
    clock.now += 61
    registry.create_token("c", 60, reusable=False)
    clock.now += registry_module.KEEP_SECONDS + 61
    registry.create_token("d", 60, reusable=False)
    assert [token.node for token in registry.tokens()] == ["d"]


# -- certificates -------------------------------------------------------------------------------


def test_the_newer_certificate_counts_once_it_has_connected(registry, clock):
    old, new = peer("a1"), peer("a2", made=50)
    registry.add(old, clock.now)
    registry.connected(old)
    registry.add(new, clock.now)
    assert registry.refusal(old) is None and registry.refusal(new) is None
    registry.connected(new)
    assert registry.refusal(old) == "replaced by a newer certificate"
    assert registry.refusal(new) is None
    assert registry.refusal(peer("a0", node="board-2")) is None
    registry.revoke_serial("A2")
    assert (registry.refusal(old), registry.refusal(new)) == (None, "revoked")


def test_of_two_certificates_of_one_second_the_serial_tells(registry, clock):
    old, new = peer("a1"), peer("a2")
    for each in (old, new):
        registry.add(each, clock.now)
        registry.connected(each)
    assert registry.refusal(old) == "replaced by a newer certificate"
    assert registry.refusal(new) is None


def test_a_node_is_revoked_with_all_it_has_and_may_join_again(registry, clock):
    known, foreign = peer("a1"), peer("f1", made=-100)
    registry.add(known, clock.now)
    assert registry.revoke_node("board-1") == 1
    assert registry.refusal(known) == registry.refusal(foreign) == "revoked"
    later = peer("a2", made=-3600)  # backdated, as certificates are: the record is what counts
    registry.add(later, clock.now)
    assert registry.refusal(later) is None
    assert registry.refusal(peer("f2", made=1)) is None


def test_certificates_from_elsewhere_are_revoked_by_serial(registry):
    foreign = peer("ff0102")
    assert registry.refusal(foreign) is None
    registry.revoke_serial("00:FF:01:02")
    assert registry.refusal(foreign) == "revoked"
    for serial in ("", "0", "xyz", "../../etc", "f" * 41):
        with pytest.raises(RegistryError, match="not a serial"):
            registry.revoke_serial(serial)


def test_an_expired_certificate_is_refused_in_a_session_too(registry, clock):
    one = peer("a1", life=10)
    registry.add(one, clock.now)
    clock.now += 11
    assert registry.refusal(one) == "expired"


def test_old_records_are_forgotten(registry, clock):
    registry.add(peer("a1", life=10), clock.now)
    clock.now += registry_module.KEEP_SECONDS + 11
    registry.add(peer("a2", made=clock.now - 1_800_000_000), clock.now)
    assert [each.serial for each in registry.issued()] == ["a2"]


# -- on disk ------------------------------------------------------------------------------------


def test_another_process_sees_everything_at_once(registry, tmp_path, clock):
    other = opened(tmp_path, clock)
    claims = other.create_token("board-1", 60, reusable=False)
    registry.redeem(claims, "key one")
    with pytest.raises(TokenError, match="used before"):
        other.redeem(claims, "key two")
    one = peer("a1")
    registry.add(one, clock.now)
    registry.connected(one)
    assert other.refresh()
    assert other.refusal(peer("a0")) == "replaced by a newer certificate"
    other.revoke_node("board-1")
    assert registry.refresh()
    assert registry.refusal(one) == "revoked"
    assert [each.revoked for each in opened(tmp_path, clock).issued()] == [clock.now]


def test_a_quiet_folder_is_not_read_again(registry, tmp_path, clock):
    registry.add(peer("a1"), clock.now)
    for folder in (tmp_path / "state").iterdir():
        if folder.is_dir():
            os.utime(folder, ns=(1, 1))
    registry.refresh()
    (tmp_path / "state" / "certificates" / "a1.json").write_text("unseen, for no folder has changed")
    assert not registry.refresh()
    assert registry.refusal(peer("a1")) is None


def put(folder, name):
    token = Token(name, name, 0, 1, reusable=False)
    at_once(folder.change(name, lambda tables: tables.tokens.put(name, token)))


def test_what_this_process_wrote_is_not_read_again(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    put(folder, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)
        assert not folder.refresh()
        put(folder, "mine-too")
    assert [each.id for each in folder.tables.tokens.values()] == ["mine", "mine-too"]


def test_a_change_of_another_process_within_a_tick_of_the_clock_is_seen(tmp_path):
    mine, other = Folder(tmp_path), Folder(tmp_path)
    put(mine, "mine")
    tick = (tmp_path / "tokens").stat().st_mtime_ns
    put(other, "other")
    os.utime(tmp_path / "tokens", ns=(tick, tick))
    assert mine.refresh()
    assert mine.tables.tokens.get("other") is not None


def test_a_damaged_record_shuts_out(registry, tmp_path, clock):
    registry.add(peer("a1"), clock.now)
    registry.add(peer("b1", node="board-2"), clock.now)
    for content in (b"", b"{", b"[]", b"{}", b'{"serial": 1}', b"\xff"):
        path = tmp_path / "state" / "certificates" / "a1.json"
        path.unlink()
        path.write_bytes(content)
        assert registry.refresh()
        assert registry.refusal(peer("a1")) == "its record cannot be read"
        assert registry.refusal(peer("b1", node="board-2")) is None
    registry.revoke_serial("a1")
    assert registry.refusal(peer("a1")) == "revoked"


def test_a_record_that_is_gone_is_forgotten(registry, tmp_path):
    registry.revoke_serial("a1")
    (tmp_path / "state" / "certificates" / "a1.json").unlink()
    assert registry.refresh()
    assert registry.refusal(peer("a1")) is None


def test_nobody_else_can_read_the_state(registry, tmp_path):
    registry.create_token("board-1", 60, reusable=False)
    registry.revoke_node("board-1")
    paths = [tmp_path / "state", *(tmp_path / "state").rglob("*")]
    assert len(paths) == 7
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_write_that_was_cut_short_is_no_record(registry, tmp_path, clock):
    folder = tmp_path / "state" / "tokens"
    (folder / ".new-abc.json").write_text('{"id": ')
    assert opened(tmp_path, clock).tokens() == []
