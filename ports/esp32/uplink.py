"""The board's way to the network: Wi-Fi, with a second network to try, or Ethernet. It is kept connected.

    "network": {"wifi": [{"ssid": "a"}, {"ssid": "b"}],
                "address": ["192.168.1.7", "255.255.255.0", "192.168.1.1", "192.168.1.1"]}
    "network": {"ethernet": {"phy_type": "PHY_LAN8720", "phy_addr": 0, "mdc": 23, "mdio": 18, "power": 12}}

Without an address DHCP gives one. The driver does not reconnect by itself: it would go on with one network
for ever where there is a choice of two.
"""

import network
from micropython import const

_TRY_MS = const(15000)  # to get in and have an address
_WATCH_MS = const(1000)
_ETHERNET_MS = const(30000)  # without a link for so long: start the driver anew
NETWORKS_MAX = const(2)


class Uplink:
    """Keeps the network interface `nic` connected. `config` is the section "network"; ValueError for it."""

    def __init__(self, config, clock, log):
        self.log = log
        self._clock = clock
        self._networks = config.get("wifi", [])
        self._turn = -1
        self._up = False
        self._since = clock.ticks_ms()
        self._tried = False
        ethernet = config.get("ethernet")
        if (ethernet is None) == (not self._networks) or len(self._networks) > NETWORKS_MAX:
            raise ValueError("network: either ethernet, or wifi with 1 to %d networks" % NETWORKS_MAX)
        self.nic = _wifi() if ethernet is None else _ethernet(ethernet)
        if "address" in config:
            self.nic.ifconfig(tuple(config["address"]))

    def run(self, task):
        """The task: look once a second."""
        while True:
            self.step()
            task.sleep(_WATCH_MS)
            yield

    def step(self):
        """Note what has changed, try the next network when it is time; -> whether there is a connection."""
        up = self.nic.isconnected()
        now = self._clock.ticks_ms()
        if up != self._up:
            self._up = up
            self._tried = False
            self._since = now
            self._say()
        if not up:
            waited = self._clock.ticks_diff(now, self._since)
            if not self._networks:
                if waited >= _ETHERNET_MS:
                    self._since = now
                    self.nic.active(False)
                    self.nic.active(True)
            elif not self._tried or waited >= _TRY_MS or self._refused():
                self._since = now
                self._try_next()
        return up

    def _refused(self):
        # No such network, or it does not want us: there is nothing to wait for, but the next second.
        status = self.nic.status()
        return status not in (network.STAT_CONNECTING, network.STAT_GOT_IP)

    def _try_next(self):
        # The network that was lost comes first, since it was the better one.
        if self._tried or self._turn < 0:
            self._turn = (self._turn + 1) % len(self._networks)
        self._tried = True
        each = self._networks[self._turn]
        try:
            self.nic.disconnect()
            self.nic.connect(each["ssid"], each.get("key"))
        except OSError as error:
            self.log.warning("uplink", "cannot connect", "ssid", each["ssid"], "error", error)

    def _say(self):
        if self._up:
            self.log.info("uplink", "connected", "address", self.nic.ifconfig()[0])
        else:
            self.log.warning("uplink", "lost")


def _wifi():
    nic = network.WLAN(network.WLAN.IF_STA)
    nic.active(True)
    nic.config(reconnects=0)
    return nic


def _ethernet(config):
    from machine import Pin

    options = dict(config)
    for name in ("mdc", "mdio", "power", "ref_clk"):
        if name in options:
            options[name] = Pin(options[name])
    options["phy_type"] = getattr(network, options["phy_type"])
    nic = network.LAN(options.pop("id", 0), **options)
    nic.active(True)
    return nic
