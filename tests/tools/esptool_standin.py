"""Stands in for esptool: a flash in a file, which a pulled cable leaves half written. argv as esptool's.

ESPTOOL_STATE is a folder with chip.json {"chip", "megabytes", "pull"}: after "pull" more sectors the cable is
pulled, once. `calls` gets a line for each command.
"""

import json
import os
import sys
from pathlib import Path

SECTOR = 4096
state = Path(os.environ["ESPTOOL_STATE"])
chip = json.loads((state / "chip.json").read_text())
size = chip["megabytes"] << 20
flash = state / "flash"
if not flash.exists():
    flash.write_bytes(b"\0" * size)
arguments = sys.argv[1:]
verb = next(each for each in arguments if each in ("flash-id", "erase-flash", "write-flash", "verify-flash"))
port = arguments[arguments.index("--port") + 1]
with (state / "calls").open("a") as calls:
    calls.write(verb + "\n")
if not os.path.exists(port):
    sys.exit("could not open the port")
content = bytearray(flash.read_bytes())
print(f"Connected to {chip['chip']} on {port}:\nDetected flash size: {chip['megabytes']}MB")
if verb == "erase-flash":
    content[:] = b"\xff" * size
elif verb in ("write-flash", "verify-flash"):
    at = int(arguments[-2], 0)
    data = Path(arguments[-1]).read_bytes()
    if verb == "verify-flash":
        if content[at : at + len(data)] != data:
            print("Verification failed (digest mismatch).")
            sys.exit(2)
        print("Verification successful (digest matched).")
    else:
        for start in range(0, len(data), SECTOR):
            if chip["pull"] is not None:
                chip["pull"] -= 1
                if chip["pull"] < 0:
                    chip["pull"] = None
                    (state / "chip.json").write_text(json.dumps(chip))
                    flash.write_bytes(content)
                    sys.exit("A fatal error occurred: the port is gone")
            content[at + start : at + start + SECTOR] = data[start : start + SECTOR]
        print(f"Wrote {len(data)} bytes at {at:#x}.\nHash of data verified.")
flash.write_bytes(content)
(state / "chip.json").write_text(json.dumps(chip))
