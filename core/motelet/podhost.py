"""Whether this node takes pods, and how they are run: in this interpreter, or each in a process. Borrowed.

Apart from Edged, because a node says what it can take before there is any pod, and without one
Edged is not loaded.
"""

import gc

from micropython import const

PODS_MAX = const(8)
_MEMORY_MIN = const(4096)


def offer(port, config, info):
    """-> how pods are run here, None if not at all; says it in `info`, of HELLO. ValueError for bad settings.

    `memory`, bytes for all pods together, is what the node's allocatable says and what admission goes by.
    """
    settings = config.get("edged")
    if settings is False:
        return None
    settings = dict(settings or {})
    if not isinstance(settings.get("memory", 1), int):
        raise ValueError("edged.memory: expected bytes")
    how = port.pods(settings)
    if how is None:
        return None
    settings.update(how)
    if "memory" not in settings:
        # Half of what is free now: the other half is the link's, and the garbage's between two collections.
        gc.collect()
        settings["memory"] = max(gc.mem_free() // 2, _MEMORY_MIN)
    info["pods"] = PODS_MAX
    info["pod_memory"] = settings["memory"]
    info["mpy"] = settings["mpy"]
    if settings.get("namespaces") == "any":
        info["namespaces"] = "any"
    return settings
