"""Pods in a folder of YAML, applications on the real MicroPython, status in YAML: the whole way and back."""

from pod_world import PodWorld, config_map, pod, wait_for

FOREVER = "    while True:\n        await asyncio.sleep(1)\n"
LOOP = "import asyncio\nasync def main(context):\n" + FOREVER


def test_a_pod_runs_and_everything_about_it_is_in_its_status(world: PodWorld) -> None:
    world.apply(*pod("hello", LOOP))
    status = world.running("hello")
    wait_for("the phase", lambda: world.status("hello")["phase"] == "Running")
    conditions = {each["type"]: each["status"] for each in world.status("hello")["conditions"]}
    assert conditions == dict.fromkeys(("PodScheduled", "Initialized", "Ready", "ContainersReady"), "True")
    assert status["qosClass"] == "BestEffort" and status["startTime"]
    assert status["containerStatuses"][0]["image"] == "micropython"
    assert world.events("Started container main")


def test_environment_arguments_and_volumes(world: PodWorld) -> None:
    source = (
        "async def main(context):\n"
        "    print(sorted(context.env.items()), context.args)\n"
        "    for name in ('text', 'labels', 'deep/key', 'token'):\n"
        "        print(name, repr(context.open('/all/' + name).read()))\n"
        "    import os\n"
        "    print(sorted(os.listdir(context.path('/all'))))\n"
        "    with context.open('/scratch/a/b', 'w') as file:\n"
        "        file.write('kept')\n"
        "    print(context.open('/scratch/a/b').read(), os.listdir(context.path('/scratch/a')))\n"
        "    for path in ('/all/nothing', '/all/../../etc/passwd', '/nowhere/x'):\n"
        "        try:\n"
        "            context.open(path)\n"
        "        except OSError as error:\n"
        "            print(path, error.errno)\n"
        "    try:\n"
        "        context.open('/all/text', 'w')\n"
        "    except OSError as error:\n"
        "        print('read only', error.errno)\n"
    )
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"password": "p:w"},
    }
    projected = [
        {
            "configMap": {
                "name": "settings",
                "items": [{"key": "text", "path": "text"}, {"key": "k", "path": "deep/key"}],
            }
        },
        {"secret": {"name": "s", "items": [{"key": "password", "path": "token"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    account = {
        "name": "kube-api-access-x",
        "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]},
    }
    objects = pod(
        "env",
        source,
        restartPolicy="Never",
        container={
            "command": ["main", "$(A)-1"],
            "args": ["$$(A)", "$(UNKNOWN)"],
            "env": [
                {"name": "A", "value": "x"},
                {"name": "B", "value": "$(A)y"},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}},
                {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {
                    "name": "F",
                    "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}},
                },
            ],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}],
            "volumeMounts": [
                {"name": "all", "mountPath": "/all"},
                {"name": "scratch", "mountPath": "/scratch"},
                {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            ],
        },
        volumes=[
            {"name": "all", "projected": {"sources": projected}},
            {"name": "scratch", "emptyDir": {}},
            account,
        ],
    )
    objects[-1]["metadata"]["labels"] = {"app": "env"}
    world.apply(config_map("settings", text="grün\n", k="v"), secret, *objects)
    wait_for("it has ended", lambda: world.status("env").get("phase") == "Succeeded")
    lines = world.logs("env").splitlines()
    assert lines == [
        "[('A', 'x'), ('B', 'xy'), ('C', 'v'), ('D', 'p:w'), ('E', 'board'), ('P_k', 'v'),"
        " ('P_text', 'gr\\xfcn\\n')] ['x-1', '$(A)', '$(UNKNOWN)']",
        "text 'gr\\xfcn\\n'",
        "labels 'app=\"env\"'",
        "deep/key 'v'",
        "token 'p:w'",
        "['deep', 'labels', 'text', 'token']",
        "kept ['b']",
        "/all/nothing 2",
        "/all/../../etc/passwd 2",
        "/nowhere/x 2",
        "read only 13",
    ]


def test_a_program_is_a_program_whatever_its_key_is_called(world: PodWorld) -> None:
    objects = pod(
        "named",
        container={
            "volumeMounts": [
                {"name": "code", "mountPath": "/app"},
                {"name": "code", "mountPath": "/one/alone.py", "subPath": "lib/alone.py"},
            ]
        },
        volumes=[
            {
                "name": "code",
                "configMap": {
                    "name": "sources",
                    "items": [
                        {"key": "code", "path": "main.py"},
                        {"key": "code", "path": "text"},
                        {"key": "alone.py", "path": "lib/alone.py"},
                        {"key": "alone.py", "path": "alone.txt"},
                    ],
                },
            }
        ],
        restartPolicy="Never",
    )
    source = (
        "import alone\n"
        "async def main(context):\n"
        "    print(alone.word, len(context.open('/app/text').read()))\n"
        "    print(context.open('/app/alone.txt').read())\n"
    )
    world.apply(config_map("sources", code=source, alone_py="word = 'found'"), *objects)
    wait_for("it has ended", lambda: world.status("named").get("phase") in ("Succeeded", "Failed"))
    assert world.logs("named") == f"found {len(source)}\nword = 'found'\n"


def test_a_changed_config_map_reaches_the_volume_of_a_running_application(world: PodWorld) -> None:
    source = (
        "import asyncio\n"
        "async def main(context):\n"
        "    last = None\n"
        "    while True:\n"
        "        text = context.open('/conf/value').read()\n"
        "        if text != last:\n"
        "            last = text\n"
        "            print('now', text, context.env['V'])\n"
        "        await asyncio.sleep_ms(20)\n"
    )
    mounts = {"volumeMounts": [{"name": "conf", "mountPath": "/conf"}]}
    mounts["env"] = [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "value"}}}]
    volumes = [{"name": "conf", "configMap": {"name": "conf"}}]
    world.apply(config_map("conf", value="one"), *pod("live", source, container=mounts, volumes=volumes))
    world.logged("live", "now one one")
    world.apply(config_map("conf", value="two"))
    log = world.logged("live", "now two one")
    assert log.count("now") == 2, "the environment stays, and the application is not started again"
    assert world.container("live")["restartCount"] == 0


def test_an_application_that_fails_is_started_again_and_says_why(world: PodWorld) -> None:
    world.apply(*pod("bad", "async def main(context):\n    raise ValueError('no such thing')\n"))
    wait_for("the pause", lambda: world.container("bad").get("state", {}).get("waiting", {}).get("reason"))
    found = wait_for(
        "back-off", lambda: "CrashLoopBackOff" in str(world.container("bad")) and world.container("bad")
    )
    assert found["restartCount"] == 2
    last = found["lastState"]["terminated"]
    assert last["exitCode"] == 1 and "ValueError: no such thing" in last["message"]
    assert "main.py" in last["message"] and "line 2" in last["message"]
    wait_for("the event", lambda: world.events("Back-off restarting"))
    assert "no such thing" in world.logs("bad")


def test_a_syntax_error_is_an_event_with_file_and_line(world: PodWorld) -> None:
    world.apply(*pod("typo", "async def main(context):\n    x = = 1\n"))
    wait_for("the event", lambda: world.events("main.py: line 2: SyntaxError"))
    state = wait_for("waiting", lambda: world.container("typo").get("state"))
    assert state["waiting"]["reason"] == "CreateContainerConfigError"
    assert world.status("typo")["phase"] == "Pending"
    world.apply(*pod("typo", LOOP))
    world.running("typo")


def test_what_a_board_cannot_run_stays_pending_and_says_so(world: PodWorld) -> None:
    path = {"name": "v", "hostPath": {"path": "/"}}
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    world.apply(
        *pod("image", container={"image": "nginx:1.25"}),
        *pod("path", LOOP, volumes=[path]),
        *pod("claim", LOOP, volumes=[claim]),
        *pod("missing", LOOP, volumes=[{"name": "v", "configMap": {"name": "not-there"}}]),
    )
    for name, reason in (
        ("image", "InvalidImageName"),
        ("path", "CreateContainerConfigError"),
        ("claim", "CreateContainerConfigError"),
        ("missing", "CreateContainerConfigError"),
    ):
        state = wait_for(name, lambda name=name: world.container(name).get("state"))
        assert state["waiting"]["reason"] == reason
        assert world.status(name)["phase"] == "Pending"
    wait_for("the events", lambda: len(world.events("Failed")) >= 4)
    world.apply(config_map("not-there", x="1"))
    world.running("missing")


def test_a_folder_of_yaml_makes_no_token(world: PodWorld) -> None:
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]
    world.apply(*pod("token", LOOP, volumes=[{"name": "t", "projected": {"sources": sources}}]))
    state = wait_for("waiting", lambda: world.container("token").get("state"))
    assert state["waiting"]["reason"] == "CreateContainerConfigError"
    assert "no service accounts" in state["waiting"]["message"]
    wait_for("the event", lambda: world.events("no service accounts"))


def test_init_containers_come_first(world: PodWorld) -> None:
    mount = [{"name": "work", "mountPath": "/scratch"}, {"name": "code", "mountPath": "/app"}]
    init = {"name": "prepare", "image": "micropython", "command": ["prepare"], "volumeMounts": mount}
    source = "async def main(context):\n    print(context.open('/scratch/a').read())\n"
    objects = pod(
        "staged",
        source,
        restartPolicy="OnFailure",
        initContainers=[init],
        container={"volumeMounts": mount[:1]},
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    objects[0]["data"]["prepare.py"] = (
        "async def main(context):\n    with context.open('/scratch/a', 'w') as f:\n        f.write('ready')\n"
    )
    world.apply(*objects)
    wait_for("it has ended", lambda: world.status("staged").get("phase") == "Succeeded")
    assert world.logs("staged") == "ready\n"
    first = world.status("staged")["initContainerStatuses"][0]
    assert first["state"]["terminated"]["exitCode"] == 0 and first["ready"]


def test_a_value_of_its_own_survives_and_goes_with_the_pod(world: PodWorld) -> None:
    source = (
        "async def main(context):\n"
        "    n = int(await context.get('n') or b'0') + 1\n"
        "    await context.put('n', str(n).encode())\n"
        "    print('run', n)\n"
        "    raise SystemExit(1)\n"
    )
    world.apply(*pod("counter", source))
    world.logged("counter", "run 2")
    world.clear()
    world.apply(*pod("counter", source))
    assert "run 1\n" in world.logged("counter", "run 2")


def test_applications_talk_to_each_other(world: PodWorld) -> None:
    listener = (
        "async def main(context):\n"
        "    await context.subscribe('room/+/temperature')\n"
        "    print('listening')\n"
        "    while True:\n"
        "        topic, payload = await context.receive()\n"
        "        print(topic, payload.decode())\n"
    )
    speaker = (
        "import asyncio\n"
        "async def main(context):\n"
        "    while True:\n"
        "        await context.publish('room/kitchen/temperature', '21.5')\n"
        "        await context.publish('room/kitchen/light', 'on')\n"
        "        await asyncio.sleep_ms(50)\n"
    )
    world.apply(*pod("listener", listener))
    world.logged("listener", "listening")
    world.apply(*pod("speaker", speaker))
    assert "light" not in world.logged("listener", "room/kitchen/temperature 21.5")


def test_pods_of_a_board_are_of_one_namespace(world: PodWorld) -> None:
    world.apply(*pod("first", LOOP))
    world.running("first")
    other = pod("second", container={"command": ["x"]})[0]
    other["metadata"]["namespace"] = "other"
    world.apply(other)
    wait_for("refused", lambda: world.events("of one namespace"))
    waiting = wait_for("status", lambda: world.status("second", "other").get("containerStatuses"))
    assert waiting[0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"


def test_a_pod_is_held_until_its_annotation_is_gone(world: PodWorld) -> None:
    objects = pod("held", LOOP)
    objects[-1]["metadata"]["annotations"] = {"edge.kubeedge.io/hold-upgrade": "true"}
    world.apply(*objects)
    wait_for("it waits", lambda: world.container("held").get("state"))
    assert world.container("held")["state"]["waiting"]["reason"] == "HeldUpgrade"
    assert held_upgrade(world) == "True" and world.events("HeldUpgrade")
    world.apply(*pod("free", LOOP))
    world.running("free")
    assert world.status("held")["phase"] == "Pending"
    world.apply(*pod("held", LOOP))
    world.running("held")
    assert held_upgrade(world) == "False"
    world.apply(*objects)  # what runs is not stopped by it
    world.apply(*pod("last", LOOP))
    world.running("last")
    assert world.container("held")["restartCount"] == 0 and held_upgrade(world) == "False"


def held_upgrade(world: PodWorld) -> str:
    """The status of the condition."""
    return str({each["type"]: each["status"] for each in world.status("held")["conditions"]}["HeldUpgrade"])
