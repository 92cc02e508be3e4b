"""YAML of Kubernetes objects: what JSON can hold, each error with its line, and no file that costs much."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.backends import yamlfile
from cloud_bridge.backends.base import Key
from cloud_bridge.backends.yamlfile import ManifestError, manifests, parse


def body(text: str):
    (document,) = parse(text.encode())
    return document.body


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("-017", -15),
        ("0b101", 5),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("true", True),
        ("off", False),
        ("Yes", True),
        ('"yes"', "yes"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("2026-11-22", "2026-11-22"),  # no dates in JSON
        ("12:30:45", "12:30:45"),  # nor numbers to base 60
        ("00:1A:22", "00:1A:22"),
        ("1.2.3", "1.2.3"),
        ("089", 89.0),
        (".inf", ".inf"),
        ("y", "y"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[]", []),
        ("[1, [2], {a: 3}]", [1, [2], {"a": 3}]),
        ("{a: ~, b: null, c: }", {"a": None, "b": None, "c": None}),
        ("1: one\ntrue: yes\n", {"1": "one", "true": True}),
        ("- &x {a: 1}\n- *x\n", [{"a": 1}, {"a": 1}]),
        ("base: &b {a: 1, c: 2}\nd:\n  <<: *b\n  a: 5\n", {"base": {"a": 1, "c": 2}, "d": {"c": 2, "a": 5}}),
        (
            "- &a {x: 1}\n- &b {x: 2, y: 2}\n- {<<: [*a, *b], z: 3}\n",
            [{"x": 1}, {"x": 2, "y": 2}, {"x": 1, "y": 2, "z": 3}],
        ),
        ('{"<<": 1}', {"<<": 1}),
        ("!!map {a: !!seq [1]}", {"a": [1]}),
    ],
)
def test_values_are_those_of_json_as_kubectl_reads_them(text, value):
    found = body(text)
    assert found == value
    assert type(found) is type(value)


def test_documents_and_their_lines():
    documents = parse(b"# nothing\n---\n---\na: 1\nb:\n- c: 2\n  d: 3\n- 5\n---\n\ne: {f: 6}\n", lines=True)
    assert [each.body for each in documents] == [{"a": 1, "b": [{"c": 2, "d": 3}, 5]}, {"e": {"f": 6}}]
    first, second = documents
    assert (first.line, second.line) == (4, 11)
    lines = {
        ("a",): 4,
        ("b",): 5,
        ("b", 0, "d"): 7,
        ("b", 1): 8,
        ("b", 0, "missing"): 6,
        ("nothing", "like", "it"): 4,
        (): 4,
    }
    assert {path: first.line_of(path) for path in lines} == lines
    assert second.line_of(("e", "f")) == 11
    assert parse(b"a: 1")[0].line_of(("a",)) == 1


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only a comment\n", b"---\n---\n", b"\xef\xbb\xbf"])
def test_a_file_without_documents(data):
    assert parse(data) == []


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"a: 1\nb: [1\n", 3, "expected"),
        (b"a: 1\n\tb: 2\n", 2, "tab character"),
        (b"a: 1\nb: 2\na: 3\n", 3, 'the key "a" is there twice'),
        (b"a: 1\n? [x]\n: 2\n", 2, "a key must be a string"),
        (b"a: 1\nb: *x\n", 2, "no anchor &x"),
        (b"a: 1\nb: &x [*x]\n", 2, "no anchor &x"),
        (b"&x a: 1\n---\nb: *x\n", 3, "no anchor &x"),
        (b"a: !!python/object/apply:os.system ['true']\n", 1, "the tag tag:yaml.org,2002:python"),
        (b"a: 1\nb: !!timestamp 2026-01-01\n", 2, "the tag tag:yaml.org,2002:timestamp is not known"),
        (b"a: !thing {}\n", 1, "the tag !thing"),
        (b"a: 1\nb: {<<: 5}\n", 2, "<< takes mappings only"),
        (b"a: 1\nb: {<<: [5]}\n", 2, "<< takes mappings only"),
        (b"a: 1\nb: \xff\xfe\n", 2, "is not UTF-8"),
        (b"a: 1\nb: " + b"9" * 41 + b"\n", 2, "more than 40 digits"),
        (b"a: 1\nb: \x07\n", 2, "control characters"),
        (b"a: " + b"x" * yamlfile.FILE_SIZE_MAX, 1, "bytes, at most 1048576"),
        (b"[" * 900 + b"]" * 900, 1, "nested deeper than 32"),
        (b"- " * 200_000, 1, "nested deeper than 32"),
        (b"{a: " * 200_000, 1, "nested deeper than 32"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(data, line, text):
    with pytest.raises(ManifestError) as caught:
        parse(data)
    assert text in caught.value.text
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")


def test_a_file_of_too_many_values():
    parse(b"[" + b"1," * (yamlfile.NODES_MAX - 1) + b"]")
    with pytest.raises(ManifestError, match="more than 100000 values"):
        parse(b"[" + b"1," * yamlfile.NODES_MAX + b"]")


def test_aliases_count_as_what_they_stand_for():
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    with pytest.raises(ManifestError, match="more than 100000 values"):
        parse(laughs.encode())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<~1", min_size=1, max_size=4), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_what_a_library_writes_is_read_back(value):
    data = yaml.safe_dump(value).encode()
    assert [each.body for each in parse(data)] == ([] if value is None else [value])


@given(st.binary(max_size=60) | st.text("{}[]:-? &*!|>'\"\n abc#%@`", max_size=60).map(str.encode))
def test_bytes_of_any_kind_are_documents_or_an_error_with_a_line(data):
    try:
        parse(data, lines=True)
    except ManifestError as error:
        assert error.line >= 1  # noqa: PT017 - whether it is raised is not the question


GOOD = """\
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata:
  name: lamp
"""


def test_objects_are_known_by_kind_namespace_and_name():
    text = (
        GOOD
        + "---\n"
        + GOOD
        + "  namespace: hall\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: lamp}\n"
    )
    found = manifests(text.encode())
    keys = [Key("Device", "default", "lamp"), Key("Device", "hall", "lamp"), Key("Secret", "default", "lamp")]
    assert [each.key for each in found] == keys
    assert [each.index for each in found] == [0, 1, 2]
    assert found[0].body["metadata"] == {"name": "lamp", "namespace": "default"}


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("", 1, "there is no object"),
        ("# a comment\n", 1, "there is no object"),
        ("- a\n", 1, "expected a mapping"),
        ("a: 1\n---\njust text\n", 1, "kind must be one of Device, DeviceModel, Rule, RuleEndpoint, Pod, "),
        (GOOD.replace("Device", "Devise"), 2, "kind must be one of"),
        (GOOD.replace("kind: Device", "kind: [Device]"), 2, "kind must be one of"),
        (GOOD.replace("v1beta1", "v1alpha2"), 1, "must be devices.kubeedge.io/v1beta1"),
        (GOOD.replace("lamp", "Lamp"), 4, "metadata.name must be at most 253"),
        (GOOD.replace("lamp", "../../etc"), 4, "metadata.name must be"),
        (GOOD.replace("lamp", "5"), 4, "metadata.name must be"),
        (GOOD + "  namespace: a.b\n", 5, "metadata.namespace must be at most 63"),
        ("kind: Device\napiVersion: devices.kubeedge.io/v1beta1\n", 1, "metadata must be a mapping"),
        (GOOD + "---\n" + GOOD, 6, "Device default/lamp is in this file twice"),
    ],
)
def test_a_file_whose_objects_cannot_be_told_apart(text, line, error):
    with pytest.raises(ManifestError) as caught:
        manifests(text.encode())
    assert caught.value.line == line
    assert error in caught.value.text
