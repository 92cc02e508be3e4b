"""Device: the state of a device as its mapper on MQTT tells it (KubeEdge's DeviceModule).

The state is kept in the store, so that one told while the cloud was away, or just before the power
went, still arrives. KubeEdge's attributes have no way to a node of ours: nothing sets them in a
Device of v1beta1, and nobody asks for them on MQTT.
"""

import json

from motelet import borrow
from motelet.kvlog import StoreError

STATES = ("online", "offline", "ok", "unknown", "unhealthy")


def _key(device):
    return ".twin/%s/=" % device.id


def last_online(device):
    """-> when the device was last said to be online, RFC 3339; "" unless it is online."""
    if device.state.lower() not in ("online", "ok"):
        return ""
    return borrow("devicetwin.payload").rfc3339(device.time_ms)


def update(comm, device_id, payload):
    """dealDeviceStateUpdate. As in KubeEdge nothing is answered to what cannot be taken: it is logged."""
    device = comm.twin.devices.get(device_id)
    try:
        state = borrow("devicetwin.payload").parse(payload).get("state")
        if device is None or not isinstance(state, str) or state.lower() not in STATES:
            raise ValueError("unknown device or state")
        now = comm.twin.epoch_ms()
        comm.twin.store.put(_key(device), json.dumps([state, now]).encode())
    except (ValueError, StoreError) as error:
        comm.twin.log.warning("devicetwin", "state refused", "device", device_id, "error", error)
        return
    if not comm.twin.state(device, state):
        device.time_ms = now
        stated(comm, device)


def restore(comm, device):
    """Give a device that just came from flash the state that was told before."""
    kept = comm.twin.store.get(_key(device))
    if kept is not None:
        device.state, device.time_ms = json.loads(kept)
        comm.twin.mark(device)


def stated(comm, device):
    """Publish the state of a device, whoever told it."""
    entry = '"device":{"name":%s,"state":%s' % (json.dumps(device.id.split("/")[1]), json.dumps(device.state))
    online = last_online(device)
    if online:
        entry += ',"lastOnlineTime":"%s"' % online
    path = "device/" + device.id + "/state/update/result"
    borrow("devicetwin.payload").send(comm, path, None, entry + "}")
