"""A gateway on MicroPython that measures what updates of its device default/bench allocate.

Each update that changes its first property between the values "start" and "end" is a sample: what the heap in
use has grown by since the one before. Prints {"ready": true} and then {"bytes": median}. Collections are
off but for those that loading a module makes, hence the median.
"""

import gc
import json
import sys
from array import array

from motelet.gateway import Gateway
from motelet.ports.unix import Port

_WAIT_MS = 20
_SAMPLES = 200
_STEPS = 20


def main(path):
    with open(path) as file:
        config = json.load(file)
    gateway = Gateway(Port(), config)
    devices = gateway.twin.devices
    loop = gateway.loop
    while "default/bench" not in devices or not gateway.edgehub.synced:
        loop.step(_WAIT_MS)
    print('{"ready": true}')
    prop = devices["default/bench"].properties[0]
    while prop.value != "start":
        loop.step(_WAIT_MS)
    gc.collect()
    gc.disable()
    samples = array("i", [0] * _SAMPLES)
    last = prop.value
    before = gc.mem_alloc()
    count = 0
    while last != "end" and count < _SAMPLES:
        loop.step(_WAIT_MS)
        if prop.value != last:
            last = prop.value
            now = gc.mem_alloc()
            samples[count] = now - before
            before = now
            count += 1
    for _ in range(_STEPS):  # the last answer goes out
        loop.step(_WAIT_MS)
    print('{"bytes": %d}' % sorted(samples[:count])[count // 2])


main(sys.argv[1])
