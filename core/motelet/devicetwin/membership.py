"""Membership: which devices belong to this node (KubeEdge's MemModule).

The cloud's lists reach a node of ours as Devices that are put and deleted, each by itself: what
dealMembershipUpdated and dealMembershipDetail do with lists, DeviceTwin does by adding and removing
one. What is left is to answer and to announce, in KubeEdge's payloads.
"""

import json

from motelet.devicetwin.device import last_online
from motelet.devicetwin.payload import NODE_PREFIX, parse


def _entry(device):
    entry = '{"id":%s,"name":%s' % (json.dumps(device.id), json.dumps(device.id.split("/")[1]))
    if device.time_ms is not None:
        entry += ',"state":' + json.dumps(device.state)
    online = last_online(device)
    if online:
        entry += ',"last_online":"%s"' % online
    return entry + "}"


def get(comm, payload):
    """dealMembershipGet: answer `membership/get` with the devices of the node."""
    topic = NODE_PREFIX + comm.node + "/membership/get/result"
    try:
        event_id = parse(payload)["event_id"]
    except ValueError as error:
        reason = "Unmarshal get membership info failed , err: %s" % error
        comm.send(topic, "", '"code":400,"reason":' + json.dumps(reason))
        return
    entries = [_entry(device) for device in comm.twin.devices.values()]
    comm.send(topic, event_id, '"devices":[%s]' % ",".join(entries))


def updated(comm, device, added):
    """dealMembershipUpdated: tell the applications that a device came, or went."""
    entry = "[%s]" % _entry(device)
    pair = (entry, "null") if added else ("null", entry)
    comm.send(
        NODE_PREFIX + comm.node + "/membership/updated",
        None,
        '"added_devices":%s,"removed_devices":%s' % pair,
    )
