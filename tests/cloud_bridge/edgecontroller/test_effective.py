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
