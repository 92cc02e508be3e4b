"""A gateway on MicroPython that measures what updates of its device default/bench allocate.

Between the value "start" and the value "end" of its first property nothing is collected. Prints
{"ready": true} and then {"bytes": sum}.
"""

import gc
import json
import sys

from motelet.gateway import Gateway
from motelet.ports.unix import Port

_WAIT_MS = 20


def main(path):
    with open(path) as file:
        config = json.load(file)
    gateway = Gateway(Port(), config)
    devices = gateway.twin.devices
    loop = gateway.loop
    while "default/bench" not in devices or not gateway.edgehub.synced:
        loop.step(_WAIT_MS)
    print('{"ready": true}')
    _until(gateway, "start")
    gc.collect()
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    _until(gateway, "end")
    while gateway.edgehub._tx_seq != gateway.edgehub._tx_acked:
        loop.step(_WAIT_MS)
    print('{"bytes": %d}' % (gc.mem_alloc() - before))


def _until(gateway, value):
    device = gateway.twin.devices["default/bench"]
    while device.properties[0].value != value:
        gateway.loop.step(_WAIT_MS)
    for _ in range(3):  # its answers go out
        gateway.loop.step(_WAIT_MS)


main(sys.argv[1])
