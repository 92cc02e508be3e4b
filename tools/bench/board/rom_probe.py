"""Runs on MicroPython: rom_probe ROM.img CONFIG.json. Has start_probe find the gateway in ROMFS."""

import gc
import sys

import vfs

gc.collect()
_before = gc.mem_alloc()
with open(sys.argv[1], "rb") as _file:
    _image = _file.read()
vfs.mount(vfs.VfsRom(memoryview(_image)), "/rom")
sys.path.insert(0, "/rom/lib")
gc.collect()
# On a board the image lies in flash.
sys.argv[1:] = [sys.argv[2], str(gc.mem_alloc() - _before)]
import start_probe  # noqa: E402, F401
