"""What becomes of a Pod on its way to a board, corner by corner."""

import pytest

from cloud_bridge.backends import tokenrequest
from cloud_bridge.backends.base import POD, BackendError, Key, TokenRequest
from cloud_bridge.edgecontroller import effective
from cloud_bridge.edgecontroller.effective import UnrunnableError

APP = Key(POD, "default", "app")


def pod(*volumes, annotations=None, **spec):
    """A pod of one container that mounts all volumes, each at its name."""
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    container = {"name": "main", "image": "micropython", "command": ["main"], "volumeMounts": mounts}
    container.update(spec.pop("container", {}))
    return {
        "metadata": {"name": "app", "namespace": "default", "uid": "u1", "annotations": annotations or {}},
        "spec": {"nodeName": "board", "containers": [container], "volumes": list(volumes), **spec},
    }


def draft(body, *objects):
    """The draft of a pod where there are these objects."""
    known = {Key(each["kind"], "default", each["metadata"]["name"]): each for each in objects}
    return effective.draft(body, known.get, lambda name, version: None)


def projected(name, *sources):
    return {"name": name, "projected": {"sources": list(sources)}}


def token(path="token", **source):
    return {"serviceAccountToken": {"path": path, **source}}


# -- tokens of service accounts ------------------------------------------------------------------


def test_the_volume_of_admission_is_left_out_unless_the_annotation_asks_for_it():
    account = projected("kube-api-access-x7k2p", token(expirationSeconds=3607))
    found = draft(pod(account))
    assert "volumes" not in found.content and not found.tokens
    assert "mounts" not in found.content["containers"][0]
    found = draft(pod(account, annotations={effective.SERVICE_ACCOUNT_ANNOTATION: "true"}))
    at = found.content["volumes"]["kube-api-access-x7k2p"]
    assert at == {"token": ["default/secret/app:token", "0"]}
    assert found.tokens == {TokenRequest(APP, "u1", "default", "", 3607): "0"}


def test_a_volume_of_the_pods_own_with_a_token_needs_no_annotation():
    volumes = [projected("own", token(), token("vault/token", audience="vault")), projected("again", token())]
    found = draft(pod(*volumes, serviceAccountName="robot"))
    assert found.tokens == {
        TokenRequest(APP, "u1", "robot", "", effective.TOKEN_SECONDS): "0",
        TokenRequest(APP, "u1", "robot", "vault", effective.TOKEN_SECONDS): "1",
    }
    assert found.content["volumes"]["own"]["vault/token"] == ["default/secret/app:token", "1"]
    assert found.content["volumes"]["again"] == {"token": ["default/secret/app:token", "0"]}


def test_tokens_that_are_none_and_too_many_of_them():
    wrong = [
        ({"path": "../token"}, {}, "does not lie within"),
        ({"path": "t", "expirationSeconds": "600"}, {}, "600 seconds"),
        ({"path": "t"}, {"serviceAccountName": "a/../b"}, "a/../b"),
    ]
    for source, spec, told in wrong:
        with pytest.raises(UnrunnableError, match=told):
            draft(pod(projected("own", {"serviceAccountToken": source}), **spec))
    many = [token(f"t{number}", audience=str(number)) for number in range(effective.TOKENS_MAX + 1)]
    draft(pod(projected("own", *many[1:])))
    with pytest.raises(UnrunnableError, match=f"more than {effective.TOKENS_MAX}"):
        draft(pod(projected("own", *many)))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "OK",
        {},
        {"spec": {"expirationSeconds": 600}, "status": {}},
        {"spec": {"expirationSeconds": 600}, "status": {"token": ""}},
        {"spec": {"expirationSeconds": 600}, "status": {"token": "x" * (tokenrequest.TOKEN_SIZE_MAX + 1)}},
        {"spec": {"expirationSeconds": 0}, "status": {"token": "secret"}},
        {"spec": {"expirationSeconds": "600"}, "status": {"token": "secret"}},
    ],
)
def test_an_answer_without_a_token_is_told_and_not_shown(answer):
    with pytest.raises(BackendError) as caught:
        tokenrequest.token_of(answer)
    assert "secret" not in str(caught.value)


# -- volumes -------------------------------------------------------------------------------------


def config_map(name="conf", data=None, **more):
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data or {}, **more}


def secret(name="keys", **data):
    return {"kind": "Secret", "metadata": {"name": name}, "data": data}


def volume(**source):
    return {"name": "v", **source}


def files(body, *objects):
    return draft(body, *objects).content["volumes"]["v"]


def test_one_key_at_several_paths_and_with_a_mode():
    items = [{"key": "a", "path": "x"}, {"key": "a", "path": "deep/y", "mode": 0o400}]
    source = {"configMap": {"name": "conf", "items": items, "defaultMode": 0o644}}
    at = ["default/configmap/conf", "a"]
    assert files(pod(volume(**source)), config_map(data={"a": "1", "b": "2"})) == {"x": at, "deep/y": at}


def test_what_is_optional_may_be_missing_and_what_is_not_may_not():
    none = {"configMap": {"name": "none"}}, {"secret": {"secretName": "none"}}
    some = {"configMap": {"name": "conf", "items": [{"key": "no", "path": "n"}, {"key": "a", "path": "a"}]}}
    for source in none:
        ((kind, fields),) = source.items()
        assert files(pod(volume(**{kind: {**fields, "optional": True}}))) == {}
        with pytest.raises(UnrunnableError, match='"none" not found'):
            draft(pod(volume(**source)))
    found = files(pod(volume(configMap={**some["configMap"], "optional": True})), config_map(data={"a": "1"}))
    assert list(found) == ["a"]
    with pytest.raises(UnrunnableError, match="conf has no key no"):
        draft(pod(volume(**some)), config_map(data={"a": "1"}))


def test_of_projected_sources_with_the_same_path_the_last_counts():
    first = {"configMap": {"name": "conf", "items": [{"key": "a", "path": "p"}, {"key": "a", "path": "q"}]}}
    last = {"secret": {"name": "keys", "items": [{"key": "k", "path": "p"}]}}
    found = files(pod(projected("v", first, last)), config_map(data={"a": "1"}), secret(k="eA=="))
    assert found == {"p": ["default/secret/keys", "k"], "q": ["default/configmap/conf", "a"]}


def test_whether_a_file_is_a_program_is_said_by_its_path():
    items = [{"key": "code", "path": "main.py"}, {"key": "code", "path": "code.txt"}]
    items += [{"key": "other.py", "path": "other.txt"}, {"key": "other.py", "path": "lib/other.py"}]
    body = pod(volume(configMap={"name": "conf", "items": items}))
    found = draft(body, config_map(data={"code": "x = 1", "other.py": "y = 2"}))
    held = {path: at[1] for path, at in found.content["volumes"]["v"].items()}
    assert held == {
        "main.mpy": "code:mpy",
        "code.txt": "code",
        "other.txt": "other.py:raw",
        "lib/other.mpy": "other.py",
    }
    assert {each for each in held.values() if effective.is_source(each)} == {"code:mpy", "other.py"}
    assert found.files == {Key("ConfigMap", "default", "conf"): set(held.values())}


def test_binary_data_is_for_volumes_and_not_for_the_environment():
    body = pod(
        volume(configMap={"name": "conf"}), container={"envFrom": [{"configMapRef": {"name": "conf"}}]}
    )
    found = draft(body, config_map(data={"a": "1"}, binaryData={"b": "/w=="}, immutable=True)).content
    assert set(found["volumes"]["v"]) == {"a", "b"}
    assert found["containers"][0]["env"] == {"a": "1"}
    with pytest.raises(UnrunnableError, match="b is not base64"):
        draft(body, config_map(binaryData={"b": "?"}))


def test_a_volume_without_a_source_is_an_empty_directory():
    assert files(pod({"name": "v"})) == {"": None}


def mounts(body, *objects):
    container = draft(body, *objects).content["containers"][0]
    return container["mounts"], container.get("workingDir")


def test_a_part_of_a_volume_is_mounted_by_its_path():
    conf = config_map(data={"main.py": "x = 1", "a": "1"})
    items = [{"key": "main.py", "path": "lib/main.py"}, {"key": "a", "path": "lib/a"}]
    source = volume(configMap={"name": "conf", "items": items})

    def mounted(path, **part):
        mount = [{"name": "v", "mountPath": path, **part}]
        return mounts(
            pod(source, container={"volumeMounts": mount, "env": [{"name": "P", "value": "a"}]}), conf
        )

    assert mounted("/x/", subPath="lib") == ([["/x", "v", "lib"]], None)
    assert mounted("/x/a", subPathExpr="lib/$(P)") == ([["/x/a", "v", "lib/a"]], None)
    # A program that is mounted alone is found all the same.
    assert mounted("/app/main.py", subPath="lib/main.py") == (
        [["/app/main.mpy", "v", "lib/main.mpy"]],
        "/app",
    )
    for wrong in ("../x", "/x", "lib//a"):
        with pytest.raises(UnrunnableError, match="does not lie within"):
            mounted("/x", subPath=wrong)


# -- what a pod is told of itself ----------------------------------------------------------------

RESOURCES = {"limits": {"memory": "96Ki", "cpu": "250m"}, "requests": {"memory": "1.5Ki"}}


def env(*entries, containers=(), **spec):
    body = pod(**spec, container={"env": list(entries), "resources": RESOURCES})
    body["spec"]["containers"] += containers
    return draft(body).content["containers"][0].get("env")


def resource_field(name, **more):
    return {"name": "V", "valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


@pytest.mark.parametrize(
    ("name", "divisor", "told"),
    [
        ("limits.memory", None, "98304"),
        ("limits.memory", "1Ki", "96"),
        ("limits.memory", "1Mi", "1"),
        ("requests.memory", "0", "1536"),
        ("requests.memory", "1k", "2"),
        ("limits.cpu", None, "1"),
        ("limits.cpu", "1m", "250"),
        ("requests.cpu", "1", "0"),
        ("limits.ephemeral-storage", "1", "0"),
    ],
)
def test_resources_in_units_rounded_up(name, divisor, told):
    assert env(resource_field(name, **({"divisor": divisor} if divisor else {}))) == {"V": told}


def test_resources_of_the_container_that_asks_or_of_another():
    other = {"name": "other", "image": "micropython", "resources": {"limits": {"memory": "1Ki"}}}
    other["env"] = [resource_field("limits.memory")]
    body = pod(
        container={"env": [resource_field("limits.memory", containerName="other")], "resources": RESOURCES}
    )
    body["spec"]["containers"].append(other)
    found = [each["env"]["V"] for each in draft(body).content["containers"]]
    assert found == ["1024", "1024"]
    for name, more, told in (
        ("limits.hugepages-2Mi", {}, "not known"),
        ("limits.memory", {"containerName": "no"}, "no container no"),
        ("limits.memory", {"divisor": "much"}, "no quantity"),
    ):
        with pytest.raises(UnrunnableError, match=told):
            env(resource_field(name, **more))


def test_labels_and_annotations_are_quoted_as_kubelet_does():
    items = [
        {"path": each, "fieldRef": {"fieldPath": f"metadata.{each}"}} for each in ("labels", "annotations")
    ]
    items.append({"path": "one", "fieldRef": {"fieldPath": "metadata.annotations['b']"}})
    body = pod(volume(downwardAPI={"items": items}), annotations={"b": 'say "hü"\n', "a": "1"})
    body["metadata"]["labels"] = {"app": "x"}
    assert files(body) == {
        "labels": b'app="x"',
        "annotations": 'a="1"\nb="say \\"hü\\"\\n"'.encode(),
        "one": 'say "hü"\n'.encode(),
    }
    with pytest.raises(UnrunnableError, match="metadata.generation is not known"):
        env({"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "metadata.generation"}}})


def test_the_environment_in_the_order_of_kubernetes():
    source = [{"configMapRef": {"name": "conf"}}, {"prefix": "P.", "secretRef": {"name": "keys"}}]
    source.append({"prefix": "1-", "configMapRef": {"name": "none", "optional": True}})
    entries = [{"name": "A", "value": "own"}, {"name": "B", "value": "$(A) $(P.k) $(C) $$(A)"}, {"name": "C"}]
    body = pod(container={"envFrom": source, "env": entries})
    found = draft(body, config_map(data={"A": "1", "D-2": "2"}), secret(k="eA=="))
    expected = {"A": "own", "D-2": "2", "P.k": "x", "B": "own x $(C) $(A)", "C": ""}
    assert found.content["containers"][0]["env"] == expected
    with pytest.raises(UnrunnableError, match="env is over"):
        draft(body, config_map(data={"A": "1", "big": "x" * effective.ENV_SIZE_MAX}), secret(k="eA=="))


# -- containers ----------------------------------------------------------------------------------


def test_a_probe_names_its_port_as_a_number_or_by_its_name():
    ports = [{"name": "web", "containerPort": 8080}]

    def probe(port, ports=ports):
        container = {"ports": ports, "livenessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 3}}
        return draft(pod(container=container)).content["containers"][0]["probes"]["livenessProbe"]

    assert probe("web") == {"tcpSocket": ["127.0.0.1", 8080], "periodSeconds": 3}
    assert probe(99)["tcpSocket"] == ["127.0.0.1", 99]
    with pytest.raises(UnrunnableError, match="no port other"):
        probe("other")


def test_what_a_board_does_not_know_is_told_and_not_left_out():
    init = {"name": "side", "image": "micropython"}
    for spec, told in (
        ({"initContainers": [{**init, "restartPolicy": "Always"}]}, "sidecars"),
        ({"initContainers": [{**init, "name": "main"}]}, "same name"),
        ({"container": {"lifecycle": {"preStop": {}}}}, "lifecycle"),
        ({"container": {"livenessProbe": {"httpGet": {"port": 1}}}}, "exec or tcpSocket"),
        ({"container": {"image": "docker.io/library/nginx:1.25"}}, "a board runs micropython"),
    ):
        with pytest.raises(UnrunnableError, match=told):
            draft(pod(**spec))
