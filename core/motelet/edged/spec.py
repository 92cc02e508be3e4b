"""What a container is to be, as flash holds it (protocol.cddl: pod). Borrowed when one is started."""

from motelet import borrow


def container(store, pod, name):
    """-> the spec of a container, with "volumes"; None while it or what it mounts is not held. ValueError."""
    spec = borrow("edged.load").content(store, pod.resource)
    if spec is None:
        return None
    volumes = spec.get("volumes", {})
    for each in spec.get("initContainers", []) + spec["containers"]:
        if each["name"] != name:
            continue
        mounts = {}
        for path, volume, inner in each.get("mounts", []):
            mounts[path] = (volume, inner)
            for source in volumes[volume].values():
                if isinstance(source, list) and source[0] not in store:
                    return None
        each["mounts"] = mounts
        each["volumes"] = volumes
        return each
    raise ValueError("no container %s" % name)


def find(spec, path):
    """-> (volume, path within it, its files {path: source}) of the absolute `path`; None outside of all."""
    best = None
    for mount in spec["mounts"]:
        if (path == mount or path.startswith(mount + "/")) and (best is None or len(mount) > len(best)):
            best = mount
    if best is None:
        return None
    volume, inner = spec["mounts"][best]
    within = path[len(best) + 1 :]
    if inner:
        within = inner + ("/" + within if within else "")
    return volume, within, spec["volumes"][volume]
