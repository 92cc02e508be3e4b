"""From what a board says of its containers to a PodStatus, by kubelet's rules."""

import cbor2
import pytest

from cloud_bridge.edgecontroller.effective import CONFIG_ERROR, UnrunnableError
from cloud_bridge.edgecontroller.status import (
    STATUS_SIZE_MAX,
    gate_moved,
    parse,
    pod_status,
    qos_class,
    waiting_status,
)

NOW = 1_790_000_000_000
RUNS = [1, True, 0, 0, NOW, 0, "", ""]
UNREADY = [1, False, 0, 0, NOW, 0, "", ""]
DONE = [2, False, 0, 0, NOW, NOW, "Completed", ""]
CRASHED = [2, False, 0, 1, NOW, NOW, "Error", "ValueError"]
NEW = [0, False, 0, 0, 0, 0, "ContainerCreating", ""]
BACK_OFF = [
    0,
    False,
    3,
    1,
    NOW,
    NOW,
    "CrashLoopBackOff",
    "back-off 10s",
    [1, NOW, NOW, "Error", "ValueError"],
]
AGAIN = [0, False, 1, 0, NOW, NOW, "", "", [0, NOW, NOW, "Completed", ""]]


def pod(policy="Always", init=0, count=1, status=None, **spec):
    containers = [{"name": f"c{number}", "image": "micropython"} for number in range(count)]
    first = [{"name": f"i{number}", "image": "micropython"} for number in range(init)]
    spec = {"restartPolicy": policy, "containers": containers, "initContainers": first, **spec}
    return {"metadata": {"name": "app", "uid": "u1"}, "spec": spec, "status": status or {}}


def said(*containers, init=(), **more):
    return parse(
        cbor2.dumps({"uid": "u1", "start": NOW, "containers": containers, "init": list(init), **more})
    )


def status(body, *containers, init=(), **more):
    return pod_status(body, said(*containers, init=init, **more), "10.0.0.7")


def conditions(found):
    return {each["type"]: each["status"] for each in found["conditions"]}


@pytest.mark.parametrize(
    ("policy", "init", "containers", "phase"),
    [
        ("Always", [], [RUNS], "Running"),
        ("Always", [], [NEW, RUNS], "Pending"),
        ("Always", [], [BACK_OFF, DONE], "Running"),
        ("Always", [], [DONE], "Running"),
        ("OnFailure", [], [DONE, DONE], "Succeeded"),
        ("OnFailure", [], [DONE, CRASHED], "Running"),
        ("OnFailure", [], [DONE, AGAIN], "Running"),
        ("Never", [], [DONE, CRASHED], "Failed"),
        ("Never", [], [RUNS, CRASHED], "Running"),
        ("Never", [], [DONE], "Succeeded"),
        ("Always", [RUNS], [NEW], "Pending"),
        ("Always", [BACK_OFF], [NEW], "Pending"),
        ("Never", [CRASHED], [NEW], "Failed"),
        ("Never", [DONE, NEW], [NEW], "Pending"),
        ("Never", [DONE], [DONE], "Succeeded"),
    ],
)
def test_phases(policy, init, containers, phase):
    found = status(pod(policy, len(init), len(containers)), *containers, init=init)
    assert found["phase"] == phase


def test_conditions_and_their_reasons():
    found = status(pod(), RUNS)
    assert set(conditions(found).values()) == {"True"}
    found = status(pod(count=2), RUNS, UNREADY)
    assert conditions(found)["Ready"] == conditions(found)["ContainersReady"] == "False"
    assert "[c1]" in str(found["conditions"]) and conditions(found)["Initialized"] == "True"
    found = status(pod(init=1), NEW, init=[RUNS])
    assert conditions(found)["Initialized"] == "False" and "ContainersNotInitialized" in str(found)
    assert "PodCompleted" in str(status(pod("Never"), DONE)["conditions"])
    assert "PodFailed" in str(status(pod("Never"), CRASHED)["conditions"])


def test_readiness_gates():
    gates = {"readinessGates": [{"conditionType": "x/a"}, {"conditionType": "x/b"}]}
    found = status(pod(**gates), RUNS)
    assert conditions(found)["ContainersReady"] == "True" and conditions(found)["Ready"] == "False"
    assert "condition x/a of a readiness gate" in str(found["conditions"])
    opened = [{"type": "x/a", "status": "True"}, {"type": "x/b", "status": "True"}]
    assert conditions(status(pod(status={"conditions": opened}, **gates), RUNS))["Ready"] == "True"
    assert conditions(status(pod(status={"conditions": opened}, **gates), UNREADY))["Ready"] == "False"
    ready, closed = {"type": "Ready", "status": "True"}, {"type": "Ready", "status": "False"}
    containers = {"type": "ContainersReady", "status": "True"}
    for stored, moved in (
        ([containers, closed, *opened], True),
        ([containers, ready, *opened], False),
        ([containers, ready], True),
        ([containers, closed], False),
        ([{**containers, "status": "False"}, closed, *opened], False),
    ):
        assert gate_moved(pod(status={"conditions": stored}, **gates)) == moved
        assert not gate_moved(pod(status={"conditions": stored}))


def test_the_states_of_containers():
    found = status(pod(count=3), RUNS, BACK_OFF, CRASHED)["containerStatuses"]
    assert [list(each["state"]) for each in found] == [["running"], ["waiting"], ["terminated"]]
    assert found[1]["state"]["waiting"] == {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    assert found[1]["restartCount"] == 3 and found[1]["lastState"]["terminated"]["exitCode"] == 1
    assert found[2]["state"]["terminated"]["startedAt"] == "2026-09-21T14:13:20Z"
    # What a board has not said yet of a container is being made.
    found = status(pod(count=2), RUNS)["containerStatuses"]
    assert found[1]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_one_that_is_refused_has_failed_and_its_class_is_as_it_was_stored():
    found = status(pod(), NEW, reason="OutOfmemory", message="no room")
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "OutOfmemory", "no room")
    assert found["hostIP"] == found["podIP"] == "10.0.0.7" and found["qosClass"] == "BestEffort"
    assert status(pod(status={"qosClass": "Guaranteed"}), RUNS)["qosClass"] == "Guaranteed"


@pytest.mark.parametrize(
    ("resources", "name"),
    [
        ({}, "BestEffort"),
        ({"limits": {"memory": "1Ki"}}, "Burstable"),
        ({"limits": {"memory": "1Ki", "cpu": "1"}}, "Guaranteed"),
        ({"limits": {"memory": "1Ki", "cpu": "1"}, "requests": {"memory": "1"}}, "Burstable"),
    ],
)
def test_the_class_of_a_pod(resources, name):
    body = pod()
    body["spec"]["containers"][0]["resources"] = resources
    assert qos_class(body) == name


def test_one_that_cannot_be_started_waits_with_the_reason():
    found = waiting_status(pod(init=1), UnrunnableError(CONFIG_ERROR, "no such thing"), NOW)
    waits = {"waiting": {"reason": CONFIG_ERROR, "message": "no such thing"}}
    assert found["phase"] == "Pending" and found["containerStatuses"][0]["state"] == waits
    assert found["initContainerStatuses"][0]["state"] == waits


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        cbor2.dumps([]),
        cbor2.dumps({"uid": 1}),
        cbor2.dumps({"uid": "u", "start": -1}),
        cbor2.dumps({"uid": "u", "containers": [RUNS] * 9}),
        cbor2.dumps({"uid": "u", "containers": [RUNS[:7]]}),
        cbor2.dumps({"uid": "u", "containers": [[3, *RUNS[1:]]]}),
        cbor2.dumps({"uid": "u", "containers": [[1, 1, *RUNS[2:]]]}),
        cbor2.dumps({"uid": "u", "containers": [[*RUNS, [1]]]}),
        cbor2.dumps({"uid": "u", "containers": [[*RUNS[:3], 2**31, *RUNS[4:]]]}),
        cbor2.dumps({"uid": "u" * 1025}),
        cbor2.dumps({"uid": "u", "message": "x" * STATUS_SIZE_MAX}),
    ],
)
def test_what_breaks_the_grammar_is_refused(wrong):
    with pytest.raises(ValueError, match="."):
        parse(wrong)
