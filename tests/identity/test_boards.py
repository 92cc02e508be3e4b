"""The life of an identity, on a real bridge with real gateways: joining, renewing, revoking, power cuts."""

import random
import time
from datetime import timedelta

import pytest
from installation import installation, wait_for, write_pair

NODE = "board-1"


def serials(bridge):
    return [line.split("serial=")[1].split()[0] for line in bridge.bridge.lines("board enrolled")]


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_a_board_joins_once_and_is_itself_from_then_on(tmp_path, interpreter):
    with installation(tmp_path) as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE), interpreter=interpreter)
        board.start()
        board.wait("synced")
        assert not (tmp_path / NODE / "token").exists()
        board.kill()
        board.start()
        board.wait("synced", count=2)
        assert len(bridge.bridge.lines("board enrolled")) == 1
        assert len(bridge.bridge.lines("board said hello", f"node={NODE}")) == 2
        assert "used" in bridge.command("token", "list")
        flash = (tmp_path / NODE / "flash.img").read_bytes()
        assert b"eyJ" not in flash  # of the token nothing is left


def test_a_token_in_the_configuration_works_too_and_a_new_one_is_a_new_identity(tmp_path):
    with installation(tmp_path) as bridge:
        board = bridge.board("b", NODE, **{"token": bridge.token(NODE)})
        for number in range(2):
            board.start()
            board.wait("synced", count=number + 1)
            board.kill()
        assert len(bridge.bridge.lines("board enrolled")) == 1
        board = bridge.board("b", NODE, **{"token": bridge.token(NODE)})
        board.start()
        bridge.bridge.wait("board said hello", count=3)
        assert len(bridge.bridge.lines("board enrolled")) == 2


def test_a_certificate_is_renewed_over_the_link_without_a_restart(tmp_path):
    with installation(tmp_path, "--certificate-life", "12s") as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE))
        board.start()
        board.wait("certificate renewed", count=2)
        assert board.process.poll() is None
        listed = bridge.command("cert", "list").splitlines()
        assert len([line for line in listed if "valid" in line]) >= 1
        assert [line for line in listed if "replaced" in line or "expired" in line]
        renewed = len(board.lines("certificate renewed"))
        board.kill()  # the newer pair is what is in flash
        board.start()
        board.wait("gateway started", count=2)
        board.wait("certificate renewed", count=renewed + 1)


LIFE_S = 15  # what is left from nine tenths on is enough to renew it on a busy computer too


def test_a_provisioned_board_is_renewed_too(tmp_path):
    with installation(tmp_path) as bridge:
        pair = bridge.signed(f"system:node:{NODE}", timedelta(hours=-1), timedelta(seconds=LIFE_S))
        board = bridge.board(NODE, **write_pair(tmp_path / NODE, pair, bridge.state))
        board.start()
        board.wait("certificate renewed")
        time.sleep(LIFE_S)
        board.kill()
        board.start()  # with a configuration whose certificate has expired
        board.wait("synced", count=3)


def test_a_revocation_ends_the_session_and_keeps_the_board_out(tmp_path):
    with installation(tmp_path) as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE))
        other = bridge.board("board-2", token=bridge.token("board-2"))
        for each in (board, other):
            each.start()
            each.wait("synced")
        bridge.command("cert", "revoke", NODE)
        board.wait("link down", "4004", "revoked")
        bridge.bridge.wait("connection refused", "revoked", f"node={NODE}")
        assert len(other.lines("link down")) == 0
        board.kill()
        again = bridge.board("again", NODE, token=bridge.token(NODE))
        again.start()
        again.wait("synced")


def test_of_two_boards_with_one_name_the_newer_certificate_wins(tmp_path):
    with installation(tmp_path) as bridge:
        first = bridge.board("first", NODE, token=bridge.token(NODE))
        first.start()
        first.wait("synced")
        second = bridge.board("second", NODE, token=bridge.token(NODE))
        second.start()
        second.wait("synced")
        bridge.bridge.wait("two certificates of one node")
        bridge.bridge.wait("TwoCertificates")
        bridge.bridge.wait("connection refused", "older than that of the board that is connected", count=2)
        second.kill()  # and the older one does not come back then
        bridge.bridge.wait("connection refused", "replaced by a newer certificate")
        assert len(first.lines("connected host")) == 1


def cut_power(bridge, board, longest):
    """Twelve cuts of the board's power at random moments of its first seconds, some of the bridge's too."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(12):
        board.start()
        time.sleep(chance.uniform(0.05, longest))
        if number % 4 == 3:
            bridge.bridge.kill()
            board.kill()
            bridge.start()
        board.kill()
    synced = len(board.lines("synced"))
    board.start()
    board.wait("synced", count=synced + 1)


@pytest.mark.slow
def test_power_cuts_at_any_moment_of_joining(tmp_path):
    with installation(tmp_path) as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE))
        cut_power(bridge, board, 0.35)
        assert bridge.command("cert", "list").count("valid") >= 1
        assert not (tmp_path / NODE / "token").exists()


@pytest.mark.slow
def test_power_cuts_at_any_moment_of_renewing(tmp_path):
    with installation(tmp_path) as bridge:
        # Over 90 % of this certificate's life have passed, and five minutes are left of it.
        pair = bridge.signed(f"system:node:{NODE}", timedelta(hours=-3), timedelta(minutes=5))
        board = bridge.board(NODE, **write_pair(tmp_path / NODE, pair, bridge.state))
        cut_power(bridge, board, 0.9)
        board.wait("certificate renewed")
        hellos = len(bridge.bridge.lines("board said hello"))
        board.kill()
        board.start()
        bridge.bridge.wait("board said hello", count=hellos + 1)
        # What it came with counts no more.
        bridge.command("cert", "revoke", f"{pair[1].serial_number:x}")
        synced = len(board.lines("synced"))
        board.kill()
        board.start()
        board.wait("synced", count=synced + 1)


def test_a_key_that_was_asked_for_is_asked_for_again_after_a_cut(tmp_path):
    with installation(tmp_path) as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE), enrol_port=1)  # nobody answers: the key waits
        board.start()
        board.wait("not enrolled", count=2)
        board.kill()
        board = bridge.board(NODE, token=(tmp_path / NODE / "token").read_text())
        board.start()
        board.wait("synced")
        assert len(serials(bridge)) == 1


def test_the_bridge_restarts_and_knows_everybody(tmp_path):
    with installation(tmp_path) as bridge:
        board = bridge.board(NODE, token=bridge.token(NODE))
        board.start()
        board.wait("synced")
        bridge.bridge.kill()
        bridge.start()
        board.wait("synced", count=2)
        wait_for("listed", lambda: NODE in bridge.command("cert", "list"))
