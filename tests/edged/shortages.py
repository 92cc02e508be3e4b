"""A board whose memory runs out under whatever allocation: who took it is ended and told, the rest goes on.

    python tests/edged/shortages.py --count 1000

A real bridge, a real Modbus device, an MQTT client, and the gateway on MicroPython (short_gateway.py) with
two pods: `good` reports, publishes and keeps a number, `hog` takes the memory. Meanwhile the desired value
of the device goes on changing. Figures: `memory.injected`, shortages in which an allocation of the gateway
failed, and `memory.lost`, those that it did not recover from. The first that is lost ends it, and says how
to have it again.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

sys.path += [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "eventbus")]

from modbus_peers import HOLDING, Server
from peers import Application
from pod_world import NODE, PodWorld, pod, wait_for

from motelet.tools import mpy
from motelet.tools.bench.figures import Figure, append
from motelet.tools.freeport import free_port

SCRIPT = Path(__file__).parent / "short_gateway.py"
HEAP = "288K"  # of objects of 64 bits
DEADLINE_S = 3600.0
WRONG = 100
"""Shortages for one of which, and for two besides, the wrong pod may be ended: 3 of 1,000 were seen, for a
reason that is not known."""
ASK_S = 0.05
"""Between two questions of the MQTT client."""
QUESTIONS = 5
"""That it asks between two changes of the desired value."""
HOG = (
    "import asyncio, sys\n"
    "hold = [None]\n"
    "beat = 0\n"
    "async def main(context):\n"
    "    global beat\n"
    "    while True:\n"
    "        sys.modules['shortages'].turn(hold)\n"
    "        await asyncio.sleep_ms(5 if hold[0] is None else 300)\n"
    "        beat += 1\n"
)
GOOD = (
    "import asyncio\n"
    "kept = 0\n"
    "async def main(context):\n"
    "    global kept\n"
    "    value = await context.get('n')\n"
    "    print('kept', int(value or b'0'))\n"
    "    kept = n = int(value or b'0')\n"
    "    while True:\n"
    "        try:\n"
    "            n += 1\n"
    "            await context.put('n', str(n).encode())\n"
    "            kept = n\n"
    "            await context.report('counter', 'n', n)\n"
    "            await context.publish('beat', str(n))\n"
    "            value = int(await context.get('n'))\n"
    "            if value != n:\n"
    "                raise SystemExit(value - n)\n"
    "        except (KeyError, OSError, MemoryError):\n"
    "            pass\n"
    "        await asyncio.sleep_ms(20)\n"
)


def device(name: str, prop: dict[str, Any], protocol: dict[str, Any]) -> list[dict[str, Any]]:
    """A Device of one property, and its DeviceModel."""
    access = "ReadWrite" if "desired" in prop else "ReadOnly"
    visitors = {"protocolName": protocol["protocolName"], "configData": prop.pop("visitor")}
    typed = {"name": prop["name"], "type": "INT", "accessMode": access, "visitors": visitors}
    model_spec = {"protocol": protocol["protocolName"], "properties": [typed]}
    spec = {"deviceModelRef": {"name": name}, "nodeName": NODE, "protocol": protocol, "properties": [prop]}
    version = "devices.kubeedge.io/v1beta1"
    return [
        {"apiVersion": version, "kind": "DeviceModel", "metadata": {"name": name}, "spec": model_spec},
        {"apiVersion": version, "kind": "Device", "metadata": {"name": name}, "spec": spec},
    ]


class ShortWorld(PodWorld):
    """A board that runs short_gateway.py, which has the arguments described, and all that it speaks to."""

    def __init__(self, folder: Path, seed: int, wanted: int, only: int = 0, fault: str = "") -> None:
        super().__init__(folder, heap=HEAP)
        self.mqtt_port = free_port()
        self.config["mqtt"] = {"mqttMode": 0, "broker": {"port": self.mqtt_port}}
        self.arguments = [str(seed), str(wanted), str(only), fault]
        self.server = Server(1)
        self.application: Application | None = None
        self.level = 0
        self._stop = threading.Event()
        self._life = threading.Thread(target=self._live)

    def interpreter(self) -> list[str]:
        command = super().interpreter()
        own = self.folder / "own"
        own.mkdir(exist_ok=True)
        mpy.compile_file(SCRIPT, own / "short_gateway.mpy", SCRIPT.name, mpy.TEST_OPT_LEVEL)
        self.environment["MICROPYPATH"] = f"{own}:{self.environment['MICROPYPATH']}"
        return [*command[:-1], "short_gateway"]

    def begin(self) -> None:
        """Start it all."""
        self.desire(1)
        self.apply(
            *device("counter", {"name": "n", "reportToCloud": True, "visitor": {}}, {"protocolName": "own"})
        )
        self.start()
        self.apply(*pod("good", GOOD, container={"name": "good"}))
        wait_for("the good one reports", lambda: self.counter() > 5)
        self.application = Application(self.mqtt_port, "beat", "$hw/events/node/+/membership/get/result")
        self.application.client.reconnect_delay_set(1, 1)
        self._life.start()
        self.apply(*pod("hog", HOG, container={"name": "hog"}))

    def _live(self) -> None:
        for number in itertools.count():
            if self._stop.wait(ASK_S):
                break
            if number % QUESTIONS == 0:
                self.desire(self.level % 1000 + 1)
            self.ask()

    def ask(self) -> None:
        """Have the MQTT client ask for the node's devices."""
        assert self.application is not None
        self.application.client.publish(f"$hw/events/node/{NODE}/membership/get", "{}", 0)

    def desire(self, level: int) -> None:
        """Have the register be `level`."""
        self.level = level
        prop = {"name": "level", "desired": {"value": str(level)}, "collectCycle": 50, "reportCycle": 50}
        prop |= {"reportToCloud": True, "visitor": {"register": "HoldingRegister", "offset": 0, "limit": 1}}
        where = {"communicateMode": "TCP", "ip": "127.0.0.1", "port": self.server.port, "slaveID": 1}
        self.apply(*device("valve", prop, {"protocolName": "modbus", "configData": where}))

    def reached(self) -> bool:
        """Whether the register is as desired."""
        return bool(self.server.get(1, HOLDING, 0)[0] == self.level)

    def counter(self) -> int:
        """What the cloud has of what the good application reports."""
        path = self.manifests / "status" / "default" / "counter.yaml"
        found = yaml.safe_load(path.read_text()) if path.exists() else {}
        twins = (found.get("status") or {}).get("twins") or [{}]
        return int((twins[0].get("reported") or {}).get("value") or 0)

    def over(self, deadline_s: float) -> list[str]:
        """Wait for the end of the rounds; -> the words of what short_gateway.py says then. AssertionError."""

        def ended() -> list[str]:
            assert self.gateway is not None
            for line in self.gateway_log.read_text().splitlines():
                if line.startswith("lost "):
                    raise AssertionError(line)
                if line.startswith("over "):
                    return line.split()
            assert self.gateway.poll() is None, "the gateway has ended"
            return []

        found: list[str] = wait_for("all rounds", ended, deadline_s)
        return found

    def quiet(self) -> None:
        """Let nothing be desired any more."""
        self._stop.set()
        if self._life.is_alive():
            self._life.join()

    def stop(self) -> None:
        self.quiet()
        if self.application is not None:
            self.application.__exit__()
        super().stop()
        self.server.__exit__()


def works(world: ShortWorld, wanted: int) -> None:
    """After all shortages: everything still arrives where it should, and who took the memory was ended."""
    last = world.container("hog")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled"), last
    assert any("grew the most" in line for line in world.events("hog"))
    assert world.container("good")["restartCount"] <= 2 + wanted // WRONG, world.container("good")
    world.quiet()
    world.desire(4242)
    wait_for("the desired value arrives", world.reached)
    before = world.counter()
    wait_for("reports arrive", lambda: world.counter() > before)
    assert world.application is not None
    heard = world.application.got
    while not heard.empty():
        heard.get()
    topics = set()
    while len(topics) < 2:
        world.ask()
        topics.add(heard.get(timeout=60)[0])


def kept_on_flash(world: ShortWorld, number: int) -> None:
    """Without power and without a bridge: what was acknowledged is on flash, and the pods start from it."""
    world.kill_gateway()
    assert world.bridge is not None
    world.bridge.kill()
    world.bridge.wait()
    world.server.set(1, HOLDING, 0, [0])
    world.arguments[1] = "0"
    world.start_gateway()
    wait_for("the desired value is kept", world.reached)
    found = world.over(DEADLINE_S)
    assert int(found[2]) >= number, found


def shortages(folder: Path, seed: int, wanted: int, only: int = 0, fault: str = "") -> int:
    """Survive `wanted` shortages, `only` those of one round; -> how many rounds it took. AssertionError."""
    world = ShortWorld(folder, seed, wanted, only, fault)
    try:
        world.begin()
        _, rounds, number = world.over(DEADLINE_S)
        works(world, wanted)
        kept_on_flash(world, int(number))
    finally:
        world.stop()
        print(world.bridge_log.read_text()[-3000:], world.gateway_log.read_text()[-6000:], sep="\n")
    return int(rounds)


def main() -> int:
    """Exit status 0; AssertionError when one was lost."""
    parser = argparse.ArgumentParser(prog="shortages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="of the shortages")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10000)
    parser.add_argument("--round", type=int, default=0, help="this one only, again and again")
    parser.add_argument("--output", type=Path, default=Path("build/torture.jsonl"), help="where figures go")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            rounds = shortages(Path(folder), args.seed, args.count, args.round)
        except AssertionError:
            append(args.output, [Figure("memory.lost", 1, "count")])
            raise
    print(f"{args.count} shortages survived in {rounds} rounds")
    append(args.output, [Figure("memory.injected", args.count, "count"), Figure("memory.lost", 0, "count")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
