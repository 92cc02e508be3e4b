"""Membership: which devices belong to this node (KubeEdge's MemModule).

The cloud's lists reach a node of ours as Devices that are put and deleted, each by itself: what
dealMembershipUpdated and dealMembershipDetail do with lists, DeviceTwin does by adding and removing
one. What is left is to answer and to announce, in KubeEdge's payloads.
"""

import json

from motelet import borrow


def _entry(device):
    entry = '{"id":%s,"name":%s' % (json.dumps(device.id), json.dumps(device.id.split("/")[1]))
    if device.time_ms is not None:
        entry += ',"state":' + json.dumps(device.state)
    online = borrow("devicetwin.device").last_online(device)
    if online:
        entry += ',"last_online":"%s"' % online
    return entry + "}"


def get(comm, payload):
    """dealMembershipGet: answer `membership/get` with the devices of the node."""
    answers = borrow("devicetwin.payload")
    path = "node/" + comm.node + "/membership/get/result"
    try:
        event_id = answers.parse(payload)["event_id"]
    except ValueError as error:
        reason = "Unmarshal get membership info failed , err: %s" % error
        answers.send(comm, path, "", '"code":400,"reason":' + json.dumps(reason))
        return
    entries = [_entry(device) for device in comm.twin.devices.values()]
    answers.send(comm, path, event_id, '"devices":[%s]' % ",".join(entries))


def updated(comm, device, added):
    """dealMembershipUpdated: tell the applications that a device came, or went."""
    entry = "[%s]" % _entry(device)
    pair = (entry, "null") if added else ("null", entry)
    borrow("devicetwin.payload").send(
        comm,
        "node/" + comm.node + "/membership/updated",
        None,
        '"added_devices":%s,"removed_devices":%s' % pair,
    )
