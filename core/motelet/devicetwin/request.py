"""Requests of applications that are made now and then: what is there, and what is it? Borrowed by `comm`."""

from micropython import const

from motelet import borrow

_TYPE = const(8)  # of a record, see devicetwin.twin
_DELETED = const("deleted")
_NO_DEVICE = "Device %s not found while getting twin"


def handle(comm, parts, verb, payload):
    """Act on a message by its topic: as its levels, and those behind the name of a device."""
    if parts[2] == "node":
        if parts[4:] == ["membership", "get"]:
            borrow("devicetwin.membership").get(comm, payload)
    elif verb == "twin/get":
        _get(comm, parts[3] + "/" + parts[4], payload)
    elif verb == "state/update":
        borrow("devicetwin.device").update(comm, parts[3] + "/" + parts[4], payload)


def _get(comm, device_id, payload):
    """dealTwinGet: answer with all that is known of the device."""
    answers = borrow("devicetwin.payload")
    try:
        event_id = answers.parse(payload)["event_id"]
    except ValueError as error:
        reason = "Unmarshal twin info %s failed , err: %s" % (str(payload[:64])[2:-1], error)
        answers.error(comm, device_id, "twin/get", "", 400, reason)
        return
    device = comm.twin.devices.get(device_id)
    if device is None:
        answers.error(comm, device_id, "twin/get", event_id, 404, _NO_DEVICE % device_id)
        return
    twin = borrow("devicetwin.twin")
    out = answers.begin(comm, event_id)
    twin.listed(out, [pair for pair in twin.records(comm, device) if pair[1][_TYPE] != _DELETED])
    answers.end(comm, out, "device/" + device_id + "/twin/get/result")
