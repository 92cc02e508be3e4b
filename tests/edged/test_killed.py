"""The real gateway gets SIGKILL at every step of a pod's life, on a real API server, and goes on from there.

tests/core/test_edged_killed.py cuts the power at every write instead, without processes.
"""

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_world import ClusterWorld
from pod_world import NODE, config_map, wait_for

from motelet.tools.freeport import free_port
from motelet.tools.kubernetes.cluster import Cluster

pytestmark = pytest.mark.slow

PODS = "/api/v1/namespaces/default/pods"
POD = f"{PODS}/life"
TWICE = 99
"""Exit code of an application that finds another one running."""
FIRST = """
import asyncio
async def main(context):
    while context.open('/conf/do').read() == 'begin':
        await asyncio.sleep_ms(20)
"""
MAIN = """
import asyncio, builtins
well = True
def alive():
    return well
async def main(context):
    global well
    if getattr(builtins, 'lives', False):
        raise SystemExit(99)
    builtins.lives = True
    runs = int(await context.get('runs') or b'0') + 1
    await context.put('runs', str(runs).encode())
    print('run', runs)
    last, sick = '', 0
    try:
        while True:
            do = context.open('/conf/do').read()
            if do != last:
                last = do
                print('does', do)
            if do == 'crash':
                raise ValueError('as it was told')
            sick = sick + 1 if do == 'sick' else 0
            well = sick < 20
            await asyncio.sleep_ms(20)
    except asyncio.CancelledError:
        print('leaving')
        while context.open('/conf/do').read() != 'live':
            await asyncio.sleep_ms(20)
    finally:
        builtins.lives = False
"""


class Life:
    """The pod `life`: made, told what to do, and its gateway killed."""

    def __init__(self, world: ClusterWorld, metrics: int) -> None:
        self.world = world
        self.settings = config_map("life-conf", do="live")
        self._metrics = metrics

    def make(self) -> None:
        code = config_map("life-code", main_py=MAIN, first_py=FIRST)
        mounts = [{"name": "code", "mountPath": "/app"}, {"name": "conf", "mountPath": "/conf"}]
        container = {"name": "main", "image": "micropython", "volumeMounts": mounts}
        probe = {
            "exec": {"command": ["alive"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
            "timeoutSeconds": 60,
        }
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "life"}}
        body["spec"] = {
            "nodeName": NODE,
            "initContainers": [{**container, "name": "first", "command": ["first"]}],
            "containers": [{**container, "livenessProbe": probe}],
            "volumes": [{"name": each, "configMap": {"name": f"life-{each}"}} for each in ("code", "conf")],
            "terminationGracePeriodSeconds": 15,
            "tolerations": [{"operator": "Exists"}],
        }
        self.world.kubectl_apply(self.settings, code, body)

    def do(self, what: str) -> None:
        self.settings["data"]["do"] = what
        self.world.kubectl_apply(self.settings)

    def delete(self, *options: str) -> None:
        self.world.cluster.kubectl("delete", "pod", "life", "--wait=false", *options)

    # -- what is to be seen ------------------------------------------------------------------

    def body(self) -> dict[str, Any]:
        """The pod, empty when there is none."""
        items = self.world.cluster.request("GET", f"{PODS}?fieldSelector=metadata.name%3Dlife")["items"]
        return dict(items[0]) if items else {}

    def container(self, first: bool = False) -> dict[str, Any]:
        kind = "initContainerStatuses" if first else "containerStatuses"
        statuses = self.body().get("status", {}).get(kind)
        return dict(statuses[0]) if statuses else {}

    def bridge_said(self, text: str) -> int:
        """How often."""
        return self.world.bridge_log.read_text().count(text)

    def gateway_says(self, text: str, count: int = 1) -> None:
        wait_for(text, lambda: self.world.gateway_log.read_text().count(text) >= count)

    def running(self, restarts: int) -> dict[str, Any]:
        """Wait until it runs, having been started again so often; -> its last state."""

        def runs() -> dict[str, Any]:
            found = self.container()
            same = found.get("restartCount") == restarts and "running" in found.get("state", {})
            return found if same else {}

        try:
            found = wait_for("it runs", runs, 60.0)
        except AssertionError as error:
            raise AssertionError(self.container()) from error
        last = found["lastState"].get("terminated", {})
        assert last.get("exitCode") != TWICE
        return dict(last)

    def says(self, text: str) -> None:
        self.world.said("life", text)

    def deletions(self) -> float:
        """How many requests to delete something the bridge has made."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [each for each in lines if "motelet_api_requests_total{" in each and '"delete"' in each]
        return sum(float(each.split()[-1]) for each in found)

    # -- the kill ----------------------------------------------------------------------------

    def killed(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """SIGKILL; do something while the gateway is away, and start it again."""
        before = self.bridge_said("board disconnected")
        self.world.kill_gateway()
        wait_for("it is away", lambda: self.bridge_said("board disconnected") > before)
        meanwhile()
        self.world.start_gateway()


@pytest.fixture
def life(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    world = ClusterWorld(tmp_path_factory.mktemp("killed"), cluster)
    metrics = free_port()
    world.bridge_options = ["--http", f"127.0.0.1:{metrics}"]
    try:
        world.start()
        yield Life(world, metrics)
    finally:
        world.stop()
        cluster.kubectl("delete", "pod", "life", "--ignore-not-found", "--force", "--grace-period=0")
        print(world.bridge_log.read_text()[-3000:], world.gateway_log.read_text()[-3000:], sep="\n")


def test_a_life_with_a_kill_at_every_step(life: Life) -> None:
    # Received, and not started yet or just so.
    life.settings["data"]["do"] = "begin"
    life.make()
    life.gateway_says("edged pod pod=default/pod/life")
    life.killed()
    life.gateway_says("container started pod=default/pod/life container=first")
    wait_for("the init container runs", lambda: "running" in life.container(first=True).get("state", {}))

    # Its init container runs: that one is started again, and main after it for the first time.
    life.killed(lambda: life.do("live"))
    assert life.running(0) == {}
    first = life.container(first=True)
    restarts = first["restartCount"]
    assert restarts in (1, 2), "the first kill may have been before its first start"
    assert first["state"]["terminated"]["exitCode"] == 0
    assert first["lastState"]["terminated"]["exitCode"] == 137
    life.says("run 1")

    # It runs.
    life.killed()
    last = life.running(1)
    assert last["exitCode"] == 137 and "restarted" in last["message"]
    assert life.container(first=True)["restartCount"] == restarts, "what is done is done"

    # Its ConfigMap has changed, and the board has just said that it holds it.
    before = life.bridge_said("resource=default/configmap/life-conf")
    life.do("something else")
    wait_for("it is held", lambda: life.bridge_said("resource=default/configmap/life-conf") > before)
    life.killed()
    life.running(2)
    life.says("does something else")

    # Its probe has failed, and it takes its time to end.
    life.do("sick")
    life.says("leaving")
    life.killed(lambda: life.do("live"))
    assert life.running(3)["exitCode"] == 137
    life.says("run 4")

    # It has crashed, was started again at once, and waits in its back-off.
    life.do("crash")
    wait_for("the back-off", lambda: "CrashLoopBackOff" in str(life.container().get("state")))
    crash = life.container()["lastState"]["terminated"]
    assert life.container()["restartCount"] == 5
    life.killed(lambda: life.do("live"))
    life.gateway_says("synced")
    assert "CrashLoopBackOff" in str(life.container()["state"])
    last = life.running(5)
    for each in (crash, last):
        assert each.pop("message").endswith("ValueError: as it was told")
    assert last == crash
    life.says("run 6")


def test_a_kill_while_it_is_deleted_and_after(life: Life) -> None:
    life.make()
    life.running(0)
    life.do("linger")
    life.says("does linger")
    life.delete()
    life.says("leaving")

    def still_there() -> None:
        assert "deletionTimestamp" in life.body()["metadata"] and life.deletions() == 0

    life.killed(still_there)  # nobody confirms it for a board that is away
    wait_for("it is gone", lambda: not life.body())
    wait_for("it is counted", lambda: life.deletions() == 1)

    life.do("live")

    # Another one by its name, which knows nothing of it; killed when its deletion is confirmed.
    life.make()
    assert life.running(0) == {}
    life.says("run 1")
    life.delete("--grace-period=1")
    wait_for("it is gone", lambda: not life.body())
    life.killed(life.make)
    assert life.running(0) == {}
    life.says("run 1")
    assert life.deletions() == 2

    # Made anew while the board was away: the one that it had does not go on.
    def replaced() -> None:
        life.delete("--grace-period=0", "--force")
        life.make()

    before = life.body()["metadata"]["uid"]
    life.killed(replaced)
    assert life.running(0) == {} and life.body()["metadata"]["uid"] != before
    life.says("run 1")
    assert life.deletions() == 2
