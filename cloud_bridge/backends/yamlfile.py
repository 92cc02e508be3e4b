"""YAML files of Kubernetes objects: text in, objects out, each error with its line.

Objects are built from the parser's events, not by a YAML library's constructors. That keeps what
JSON has (a date stays a text), refuses what hides a mistake (the same key twice), knows the line of
every field, and bounds what a file can cost: nesting, and nodes counted with every alias followed.
(PyYAML's fast composer recurses in C, and a file of brackets ends the process.)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from cloud_bridge.backends.base import DEVICE, DEVICE_MODEL, RULE, RULE_ENDPOINT, Body, Key, Path
from cloud_bridge.names import NAME_RULE, NAMESPACE_RULE, is_label, is_subdomain

FILE_SIZE_MAX = 1024 * 1024
"""Bytes of one file."""
DEPTH_MAX = 32
"""Nesting of one object."""
NODES_MAX = 100_000
"""Values in one file, each alias counted as what it stands for."""
INT_DIGITS_MAX = 40

API_VERSIONS = {
    DEVICE: "devices.kubeedge.io/v1beta1",
    DEVICE_MODEL: "devices.kubeedge.io/v1beta1",
    RULE: "rules.kubeedge.io/v1",
    RULE_ENDPOINT: "rules.kubeedge.io/v1",
    "Pod": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
}
"""The kinds that are known, each with the one apiVersion in which it is."""

_STR_TAG = "tag:yaml.org,2002:str"
_INT = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
# kubectl reads YAML 1.1: "yes", "no", "on" and "off" are booleans.
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ManifestError(Exception):
    """A file does not hold Kubernetes objects that can be told apart. `line` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document and the lines of its fields, which have to be asked for (see `parse`)."""

    body: Any
    line: int
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """The line of the field at `path`, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One Kubernetes object of a file; `index` is its place among the file's documents."""

    key: Key
    body: Body
    index: int


def parse(data: bytes, lines: bool = False) -> list[Document]:
    """The documents of a file, empty ones left out. Raises ManifestError.

    With `lines` each has the line of every field; that takes memory, so it is for who has an error to show.
    """
    if len(data) > FILE_SIZE_MAX:
        raise ManifestError(1, f"the file has {len(data)} bytes, at most {FILE_SIZE_MAX}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(data.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error
    try:
        return list(_Builder(text, lines).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise ManifestError(mark.line + 1 if mark else 1, problem) from error
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        raise ManifestError(line, f"a character that is not allowed: {error.reason}") from error


def manifests(data: bytes) -> list[Manifest]:
    """The Kubernetes objects of a file, each known by kind, namespace and name. Raises ManifestError.

    The namespace is "default" where none is given. A file without any object is an error: one that an
    editor has emptied on its way to write it looks just so.
    """
    found: dict[Key, Manifest] = {}
    for index, document in enumerate(parse(data)):
        try:
            manifest = _identify(document.body, index)
        except _UnidentifiedError as error:
            line = parse(data, lines=True)[index].line_of(error.path)
            raise ManifestError(line, error.text) from error
        if manifest.key in found:
            raise ManifestError(document.line, f"{manifest.key} is in this file twice")
        found[manifest.key] = manifest
    if not found:
        raise ManifestError(1, "there is no object in the file; remove the file to remove its objects")
    return list(found.values())


class _UnidentifiedError(Exception):
    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


def _identify(body: Any, index: int) -> Manifest:
    if not isinstance(body, dict):
        raise _UnidentifiedError((), "expected a mapping with apiVersion, kind and metadata")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in API_VERSIONS:
        raise _UnidentifiedError(("kind",), f"kind must be one of {', '.join(API_VERSIONS)}")
    if body.get("apiVersion") != API_VERSIONS[kind]:
        raise _UnidentifiedError(("apiVersion",), f"apiVersion of a {kind} must be {API_VERSIONS[kind]}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise _UnidentifiedError(("metadata",), "metadata must be a mapping")
    if not is_subdomain(metadata.get("name")):
        raise _UnidentifiedError(("metadata", "name"), f"metadata.name {NAME_RULE}")
    namespace = metadata.get("namespace", "default")
    if not is_label(namespace):
        raise _UnidentifiedError(("metadata", "namespace"), f"metadata.namespace {NAMESPACE_RULE}")
    key = Key(kind, namespace, metadata["name"])
    return Manifest(key, {**body, "metadata": {**metadata, "namespace": namespace}}, index)


class _Builder:
    """Builds values from the events of one file."""

    def __init__(self, text: str, want_lines: bool) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._want_lines = want_lines
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._lines = {}, {}
                first = next(self._events)
                body = self._value(first, (), 0)
                if body is not None:
                    yield Document(body, first.start_mark.line + 1, self._lines)

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        line = event.start_mark.line + 1
        if self._want_lines:
            self._lines[path] = line
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise ManifestError(line, f"there is no anchor &{event.anchor} before")
            value, nodes = self._anchors[event.anchor]
            self._count(nodes, line)
            return value
        before = self._nodes
        self._count(1, line)
        if depth > DEPTH_MAX:
            raise ManifestError(line, f"is nested deeper than {DEPTH_MAX}")
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            _no_tag(event, line, "seq")
            value = self._sequence(path, depth)
        else:
            _no_tag(event, line, "map")
            value = self._mapping(path, depth)
        if event.anchor is not None:
            # Only now: a value that is not whole cannot be within itself.
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*path, len(values)), depth + 1))
        return values

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise ManifestError(line, "a key must be a string")
            key = event.value
            value = self._value(next(self._events), (*path, key), depth + 1)
            if key == "<<" and event.implicit[0]:
                merged = {**_merge(value, line), **merged}
            elif key in values:
                raise ManifestError(line, f'the key "{key}" is there twice')
            else:
                values[key] = value
                if self._want_lines:
                    self._lines[(*path, key)] = line
        return {**merged, **values}

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise ManifestError(line, f"the file has more than {NODES_MAX} values")


def _merge(value: Any, line: int) -> dict[str, Any]:
    """What ``<<`` brings in: a mapping, or several of which the first counts most."""
    sources = value if isinstance(value, list) else [value]
    merged: dict[str, Any] = {}
    for source in sources:
        if not isinstance(source, dict):
            raise ManifestError(line, "<< takes mappings only")
        merged = {**source, **merged}
    return merged


def _no_tag(event: Any, line: int, kind: str) -> None:
    if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
        raise ManifestError(line, f"the tag {event.tag} is not known here")


def _scalar(event: Any, line: int) -> Any:
    text: str = event.value
    if event.tag is not None and event.tag != "!":
        _no_tag(event, line, "str")
        return text
    if not event.implicit[0]:  # quoted, or a block of text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        if len(text) > INT_DIGITS_MAX:
            raise ManifestError(line, f"a number of more than {INT_DIGITS_MAX} digits")
        return _whole(text)
    return float(text) if _FLOAT.match(text) else text


def _whole(text: str) -> int:
    digits = text.replace("_", "").lower()
    octal = digits.lstrip("+-")
    if len(octal) > 1 and octal[0] == "0" and octal[1].isdigit():
        digits = digits.replace("0", "0o", 1)
    return int(digits, 0)
