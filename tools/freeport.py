"""TCP ports of loopback for servers that start a moment later, in other processes.

The kernel's own choice (port 0) comes from the range of which outgoing connections take theirs, so that
between the choice and the start, or while a server is away for a test, any connection of this computer may
have it. The ports here lie below that range.
"""

import random
import socket

FIRST, LAST = 20000, 31999
"""Linux gives 32768 and up to outgoing connections (ip_local_port_range), others 49152 and up (RFC 6335)."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens at now. Raises OSError when there are not as many."""
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    raise OSError(f"{count} free TCP ports were asked for between {FIRST} and {LAST}; {len(found)} are")


def free_port() -> int:
    """A port that nobody listens at now. Raises OSError when there is none."""
    return free_ports(1)[0]
