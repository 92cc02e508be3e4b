"""Runs boards/bringup.py (argv[1]) on MicroPython with doubles of a chip. argv[2]: the bridge's port."""

import json
import sys

import esp_doubles

esp_doubles.install()

from motelet.ports.esp32 import settings  # noqa: E402

esp_doubles.CHIP.aps["a"] = (None, -60)
esp_doubles.CHIP.largest = 70000
esp_doubles.partition("motelet", 16)
config = {
    "node": "kitchen",
    "bridge": {"host": "127.0.0.1", "port": int(sys.argv[2])},
    "store": {"path": "partition:motelet", "size": 65536},
    "network": {"wifi": [{"ssid": "a"}]},
    "pins": {"uart1": {"tx": 17, "rx": 16}},
}
if sys.argv[3] == "provisioned":
    settings.put("config", json.dumps(config).encode())
with open(sys.argv[1]) as script:
    exec(script.read(), {})
