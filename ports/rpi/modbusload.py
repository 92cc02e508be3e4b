"""Modbus on a Linux computer: configured as everywhere (`motelet.mappers.modbusload`), driven by pymodbus."""

from motelet.mappers.modbusload import attach, bus

__all__ = ["attach", "bus", "driver"]


def driver(key):
    """The class of the driver for the bus `key`, TCP or RTU."""
    from motelet.ports.rpi.modbus import RtuDriver, TcpDriver

    return RtuDriver if len(key) > 2 else TcpDriver
