"""Serial ports: which one a board is on, and waiting for it when its cable was pulled."""

from __future__ import annotations

import os
import sys
import time

from motelet.tools.cli import UserError

# USB vendors of boards: Espressif, Silicon Labs (CP210x), QinHeng (CH34x), FTDI.
VENDORS = (0x303A, 0x10C4, 0x1A86, 0x0403)
BACK_S = 120  # how long a pulled cable is waited for
_LOOK_S = 0.2


def find(named: str | None) -> str:
    """The port of the one board that is plugged in, or `named`. UserError when there is none or several."""
    if named is not None:
        if not os.path.exists(named) and os.name != "nt":
            raise UserError(f"no serial port {named}")
        return named
    from serial.tools import list_ports

    found = [port for port in list_ports.comports() if port.vid in VENDORS]
    if not found:
        raise UserError("no board found on USB; name its serial port with --port")
    if len(found) > 1:
        listed = ", ".join(f"{port.device} ({port.description})" for port in found)
        raise UserError(f"several boards: choose one with --port: {listed}")
    return str(found[0].device)


def wait(port: str, timeout_s: float = BACK_S) -> None:
    """Wait until `port` is there again. UserError when it does not come."""
    if not os.path.exists(port):
        print(f"the cable is unplugged: waiting up to {timeout_s:.0f} s for {port} ...", file=sys.stderr)
    end = time.monotonic() + timeout_s
    while not os.path.exists(port):
        if time.monotonic() > end:
            raise UserError(f"{port} did not come back; plug the board in and run the same command again")
        time.sleep(_LOOK_S)
