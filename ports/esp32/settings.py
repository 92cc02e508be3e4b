"""What a board is told once, by `motelet provision`. Borrowed.

It is kept in NVS, which outlives firmware and file system, in the namespace "motelet" (a name has 15 bytes at
the most):

    config     JSON: node, bridge {host, port, ..}, store, network, pins, .. (boards/README.md)
    secrets    JSON: what of it nobody is to see: {"token": .., "wifi": {"<ssid>": "<key>", ..}}
    ca cert key    DER, where the bridge's CA and the board's identity are given and not fetched by a token
    seal       the key that Secrets are kept encrypted with, made at the first use
    crash      the end of the last traceback
    leaving    why the board restarted by its own will

`config` is written last: a board without it is not provisioned, whatever else is there.
"""

import json
import os

from esp32 import NVS
from micropython import const

SIZE_MAX = const(3000)  # bytes: the largest value
NAMES = ("secrets", "ca", "cert", "key", "config")  # in the order they are to be written


class SettingsError(ValueError):
    """The settings cannot be used; the text says which and why."""


def nvs():
    return NVS("motelet")


def get(name, size=SIZE_MAX):
    """-> the value as bytes, None when there is none. SettingsError when it is larger than `size`."""
    buf = bytearray(size)
    try:
        return bytes(memoryview(buf)[: nvs().get_blob(name, buf)])
    except OSError as error:
        # "Not found" is -0x1102 on the chip, "does not fit" -0x110c.
        if error.errno == -0x110C:
            raise SettingsError("%s is larger than %d bytes" % (name, size))
        return None


def put(name, value):
    """Keep `value` (bytes; None: nothing) under `name`; durable on return. OSError when NVS is full."""
    if value is not None and len(value) > SIZE_MAX:
        raise SettingsError("%s is larger than %d bytes" % (name, SIZE_MAX))
    space = nvs()
    if value is None:
        try:
            space.erase_key(name)
        except OSError:
            return  # there was none
    else:
        space.set_blob(name, value)
    space.commit()


def load():
    """-> the configuration for `Gateway`, None when the board is not provisioned. SettingsError."""
    text = get("config")
    if text is None:
        return None
    config = _json("config", text)
    secrets = _json("secrets", get("secrets") or b"{}")
    bridge = config.get("bridge")
    if not isinstance(bridge, dict):
        raise SettingsError("config: no section bridge")
    if "token" in secrets:
        bridge["token"] = secrets["token"]
        bridge["enrolled"] = forget_token
    for name in ("ca", "cert", "key"):
        value = get(name)
        if value is not None:
            bridge[name] = value
    keys = secrets.get("wifi", {})
    for each in config.get("network", {}).get("wifi", []):
        each["key"] = keys.get(each.get("ssid"))
    return config


def forget_token():
    """The board has its certificate, and the token has no more use."""
    secrets = _json("secrets", get("secrets") or b"{}")
    if secrets.pop("token", None) is not None:
        put("secrets", json.dumps(secrets).encode())


def secret_key():
    """-> 32 bytes, made when there are none."""
    key = get("seal")
    if key is None:
        key = os.urandom(32)
        put("seal", key)
    return key


def erase():
    """Back to a board that nobody has provisioned; nobody can read the Secrets in its store any more."""
    for name in NAMES + ("seal", "crash", "leaving"):
        put(name, None)


def _json(name, text):
    try:
        value = json.loads(text)
    except ValueError:
        raise SettingsError("%s is no JSON" % name)
    if not isinstance(value, dict):
        raise SettingsError("%s is no JSON object" % name)
    return value
