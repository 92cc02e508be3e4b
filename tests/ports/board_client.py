"""Boots a board on doubles of its modules against a bridge that is not there; tells what came in which order.

argv: the port of the bridge. Runs on MicroPython.
"""

import json
import sys

import esp_doubles

esp_doubles.install()
from esp_doubles import CHIP  # noqa: E402

from motelet.ports.esp32 import Port, run, settings  # noqa: E402


def say(**fields):
    print(json.dumps(fields))


class Air(dict):
    """The access points; the first look at them is told."""

    def get(self, ssid):
        if not self.looked:
            self.looked = True
            say(event="wifi", gateway="motelet.gateway" in sys.modules)
        return super().get(ssid)


def reserve(port):
    say(event="reserve", gateway="motelet.gateway" in sys.modules)
    Port.reserve_kept(port)


CHIP.aps = Air()
CHIP.aps.looked = False
CHIP.aps["a"] = ("key", -60)
esp_doubles.partition("motelet", 16)
settings.put("secrets", b'{"wifi": {"a": "key"}}')
run.main()  # says that it is not provisioned
config = {
    "node": "kitchen",
    "bridge": {"host": "127.0.0.1", "port": int(sys.argv[1])},
    "store": {"path": "partition:motelet", "size": 65536},
    "network": {"wifi": [{"ssid": "a"}]},
    "sntp": [],
}
settings.put("config", json.dumps(config).encode())
Port.reserve_kept = Port.reserve
Port.reserve = reserve
port = Port(settings.load())
gateway = run.start(port, settings.load())
say(event="started", tasks=[task.name for task in gateway.loop._tasks], reserved=port._reserve is not None)
began = port.clock.ticks_ms()
while gateway.edgehub._stream is None or port.clock.ticks_diff(port.clock.ticks_ms(), began) < 1200:
    gateway.loop.step(100)
say(event="ran", fed=CHIP.fed, reset=port.reset)
port.tls_unchecked()
port.tcp("127.0.0.1", int(sys.argv[1]), port.tls_unchecked()).close()
say(event="dialled", reserved=port._reserve is not None)
try:
    gateway.task_failed(gateway.edgehub.task, ValueError("planted"))
finally:
    say(event="crash", text=settings.get("crash").decode())
for field, value in (("network", {}), ("node", "")):
    settings.put("config", json.dumps(dict(config, **{field: value})).encode())
    run.main()  # a configuration that cannot be used
settings.put("config", b"{")
run.main()
settings.put("config", json.dumps(dict(config, store={"path": "partition:none", "size": 65536})).encode())
try:
    run.main()
except esp_doubles.Restart as restart:
    say(event="restart", why=restart.args[0], text=settings.get("crash").decode())
