"""The bridge killed (SIGKILL) between keeping what CloudCore sent and acknowledging it, and started again."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from board_client import BoardClient
from world import LAMP, NODE, World

from cloud_bridge.backends.cloudcore.mirror import Mirror
from motelet import protocol
from motelet.tools.freeport import free_port
from motelet.tools.load.board import SimulatedBoard

KILLED = """
import os, sys
from cloud_bridge.backends.cloudcore.session import Session
from motelet.tools.cli import main

def acknowledge(self, message):
    if "{what}" in message.resource:
        os.kill(os.getpid(), {signal:d})
    whole(self, message)

whole, Session.acknowledge = Session.acknowledge, acknowledge
sys.exit(main(sys.argv[1:]))
"""
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def start(folder, cloud, port, before=""):
    code = before or "import sys; from motelet.tools.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "bridge", "--cloudcore", f"ws://127.0.0.1:{cloud}"]
    command += ["--cloudcore-state", str(folder), "--plain", "--listen", f"127.0.0.1:{port}"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


async def connected(board, port):
    for _ in range(200):
        try:
            client = BoardClient(board, port, path=f"{protocol.PATH}/{NODE}")
            return await client.__aenter__()
        except OSError:
            await asyncio.sleep(0.05)
    raise AssertionError("the bridge does not listen")


def test_what_was_kept_and_not_acknowledged_comes_again_and_changes_nothing(tmp_path):
    what = "/device/"

    async def main():
        async with World(tmp_path / "unused", scale=0.1) as world:
            folder, port = tmp_path / "state", free_port()
            world.lamp()
            board = SimulatedBoard()
            code = KILLED.format(what=what, signal=signal.SIGKILL)
            bridge = start(folder, world.port, port, code)
            client = await connected(board, port)
            await client.flush()
            await world.until(lambda: NODE in world.peer.sessions)
            world.peer.resend()
            await world.until(lambda: bridge.poll() is not None)
            assert bridge.returncode == -signal.SIGKILL
            bridge.stderr.close()
            store = Mirror(folder / "mirror.db")
            kept = {resource for _, resource, _ in store.objects()}
            await store.close()
            assert any(what in each for each in kept)
            bridge = start(folder, world.port, port)
            try:
                client = await connected(board, port)
                await client.until(lambda: LAMP in board.flash)
                await client.until(lambda: {s["version"] for s in world.peer.sync.values()} != {"0"})
                await client.until(lambda: all(s["version"] != "0" for s in world.peer.sync.values()))
                assert board.kinds().count(protocol.PUT) == 1
            finally:
                os.kill(bridge.pid, signal.SIGTERM)
                assert await asyncio.to_thread(bridge.wait, 60) == 0
                bridge.stderr.close()
            assert world.peer.faults == []

    asyncio.run(main())
