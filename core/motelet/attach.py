"""Finds the mapper of a device's bus. Borrowed: devices come and change seldom (`motelet.borrow`)."""

from motelet import borrow

MAPPERS = ("modbus", "i2c", "serial", "gpio", "onewire")  # drivers that `protocol.protocolName` may name


def attach(gateway, device, mappers):
    """Give `device` to the mapper of its bus, one of `mappers`, where a new bus gets one.

    `mappers` has them by (protocol, key of the bus). A driver that the gateway's configuration names, or the
    port brings, goes before one of ours. ValueError when there is no driver, or the device cannot be used as
    it is configured.
    """
    name = device.config["protocolName"] if device.config else ""
    if name in gateway.drivers:
        loading = __import__(gateway.drivers[name], None, None, ("bus",))
    elif name in MAPPERS:
        loading = borrow("mappers." + name + "load")
    else:
        raise ValueError("%s: no driver for protocol %s" % (device.id, name))
    for key in list(mappers):
        if mappers[key].task is None:  # its last device has left it
            del mappers[key]
    key = loading.bus(device, [each[1] for each in mappers if each[0] == name and mappers[each].devices])
    mapper = mappers.get((name, key))
    if mapper is None:
        from motelet.mappers import Mapper

        driver = loading.driver(key)(gateway.port, gateway.loop, key)
        mapper = Mapper(gateway.loop, gateway.log, gateway.twin, driver)
    add(mapper, device, loading)
    mappers[name, key] = mapper


def add(mapper, device, loading):
    """Have `mapper` serve `device`, which was loaded for this, from now on; `loading` prepares it.

    ValueError, naming device, property and field, if its config is malformed.
    """
    loading.attach(mapper.driver, device, mapper.devices)
    for prop in device.properties:
        prop.due = prop.report_due = mapper.clock.ticks_ms()
    device.mapper = mapper
    mapper.devices.append(device)
    if mapper.task is None:
        mapper.task = mapper.loop.spawn("mapper", mapper.run)
    mapper.task.wake()


def remove(device):
    """Leave `device` alone. Its bus is closed when no other is added before the task runs."""
    mapper = device.mapper
    device.mapper = None
    mapper.devices.remove(device)
    mapper.task.wake()
