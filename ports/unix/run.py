"""Start a gateway on Linux or macOS from a JSON file, under MicroPython or CPython alike.

    micropython -X heapsize=160K -m motelet.ports.unix.run gateway.json

File names in the configuration count from the folder of the configuration. The key that Secrets are kept
encrypted with is made beside it, gateway.json.key.
"""

import json
import os
import sys

from motelet.gateway import ConfigError, Gateway
from motelet.ports.unix import Port

_NO_FILE = 2  # ENOENT


def _read(folder, where, section, name):
    """-> bytes of the file that section[name] names. Raises ConfigError naming the field, `where`.`name`."""
    try:
        with open(folder + section[name], "rb") as file:
            return file.read()
    except KeyError:
        raise ConfigError("%s.%s: missing, though other parts of TLS are given" % (where, name))
    except (OSError, TypeError) as error:  # TypeError: what is given is no text
        raise ConfigError("%s.%s: %s: %s" % (where, name, section[name], error))


def load(path):
    """-> the configuration for `Gateway` from the JSON file at `path`, certificates read (DER).

    Raises ConfigError with the file's name and what is wrong with it.
    """
    folder = path[: path.rfind("/") + 1]
    try:
        with open(path) as file:
            config = json.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError("%s: %s" % (path, error))
    bridge = config.get("bridge") if isinstance(config, dict) else None
    if not isinstance(bridge, dict):
        raise ConfigError("%s: no section bridge" % path)
    _certificates(folder, "bridge", bridge, "ca")
    mqtt = config.get("mqtt")
    if isinstance(mqtt, dict):
        _certificates(folder, "mqtt", mqtt, "cert")
        if "ca" in mqtt and "cert" not in mqtt:
            mqtt["ca"] = _read(folder, "mqtt", mqtt, "ca")
        if isinstance(mqtt.get("broker"), dict):
            _certificates(folder, "mqtt.broker", mqtt["broker"], "cert")
    if "token_file" in bridge:
        _token_file(folder + bridge.pop("token_file"), bridge)
    store = config.get("store")
    if isinstance(store, dict) and isinstance(store.get("path"), str) and not store["path"].startswith("/"):
        store["path"] = folder + store["path"]
    return config


def _certificates(folder, where, section, first):
    """Read the three files of TLS, if there is `first`."""
    if first in section:
        for name in ("ca", "cert", "key"):
            section[name] = _read(folder, where, section, name)


def _token_file(path, bridge):
    """Take the token from a file, which goes once the board has its certificate; without it there is none."""
    try:
        with open(path) as file:
            bridge["token"] = file.read().strip()
    except OSError as error:
        if error.errno != _NO_FILE:
            raise ConfigError("bridge.token_file: %s: %s" % (path, error))
        return
    bridge["enrolled"] = lambda: os.remove(path)


def main(argv, port=None, started=None):
    """-> exit status: 0 stopped, 2 a configuration that cannot be used.

    `port` stands in for the unix port; `started(gateway)` is called before the gateway serves.
    """
    if len(argv) != 2:
        print("usage: run.py CONFIG.json", file=sys.stderr)
        return 2
    try:
        port = port or Port()
        port.key_path = argv[1] + ".key"
        gateway = Gateway(port, load(argv[1]))
    except ConfigError as error:
        print("motelet gateway: %s" % error, file=sys.stderr)
        return 2
    try:
        if started is not None:
            started(gateway)
        gateway.run()
    except KeyboardInterrupt:
        gateway.log.info("gateway", "stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
