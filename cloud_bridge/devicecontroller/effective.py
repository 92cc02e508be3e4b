"""A Device and its DeviceModel made into the one object that a board gets, or a list of what is wrong.

A board has no room for two objects that have to be joined, nor for telling a user what is wrong
with them; so both happen here. The result has KubeEdge's v1beta1 field names, encoded as CBOR with
sorted keys: equal objects are equal bytes, and their hash, with the uid, is their version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cbor2

from cloud_bridge.backends.base import Body, FieldError, Path, dotted
from cloud_bridge.devicecontroller import values
from cloud_bridge.names import NAME_RULE, NAMESPACE_RULE, is_label, is_subdomain
from cloud_bridge.resources import Content
from motelet import protocol

PROPERTIES_MAX = 256
"""Properties of one device."""
OBJECT_SIZE_MAX = 16384
"""Bytes of an encoded effective Device; a board takes it whole into RAM."""
CYCLE_MS_MAX = 86_400_000
"""Milliseconds of reportCycle and collectCycle: a day."""
METADATA_MAX = 16
"""Entries of desired.metadata."""
TEXT_SIZE_MAX = protocol.VALUE_SIZE_MAX
"""Bytes of a text in an object that has no smaller limit of its own."""
VERSION_DIGITS = 16

_ACCESS_MODES = ("ReadWrite", "ReadOnly")
_DATA_DEPTH_MAX = 3
"""What the 8 levels that a board decodes leave for the values within visitors.configData."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What a node gets of a Device: its resource, its content, and the type of each property."""

    node: str
    resource: str
    content: Content
    types: Mapping[str, str]


class InvalidError(Exception):
    """An object is not valid; `errors` has all that is wrong with it, at least one."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors


class Fields:
    """Takes an object apart and collects everything that is wrong on the way.

    Each method returns the field `key` of the mapping `at`, or a harmless default after it has
    noted an error, so that one pass finds them all.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def error(self, path: Path, text: str) -> None:
        """Note what is wrong at `path`."""
        self.errors.append(FieldError(path, text))

    def mapping(self, at: Body, path: Path, key: str, needed: bool = False) -> Body:
        """A mapping, empty when there is none."""
        value = at.get(key)
        if value is None:
            if needed:
                self.error((*path, key), "is missing")
            return {}
        if not isinstance(value, Mapping):
            self.error((*path, key), "must be a mapping")
            return {}
        return value

    def mappings(self, at: Body, path: Path, key: str) -> Iterator[tuple[Path, Body]]:
        """The mappings of a list, each with its path."""
        value = at.get(key)
        if value is not None and not isinstance(value, list):
            self.error((*path, key), "must be a list")
        for index, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, Mapping):
                yield (*path, key, index), each
            else:
                self.error((*path, key, index), "must be a mapping")

    def text(
        self, at: Body, path: Path, key: str, needed: bool = False, size_max: int = TEXT_SIZE_MAX
    ) -> str:
        """A text, empty when there is none."""
        value = at.get(key)
        if value is None or value == "":
            if needed:
                self.error((*path, key), "is missing")
            return ""
        if not isinstance(value, str):
            self.error((*path, key), f"must be a string: write it in quotes ({_yaml(value)})")
            return ""
        if len(value.encode(errors="replace")) > size_max:
            self.error((*path, key), f"is longer than {size_max} bytes")
            return ""
        return value

    def whole(self, at: Body, path: Path, key: str, limit: int) -> int | None:
        """A whole number from 0 to `limit`, None when there is none."""
        value = at.get(key)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= limit:
            self.error((*path, key), f"must be a whole number from 0 to {limit}")
            return None
        return value

    def boolean(self, at: Body, path: Path, key: str) -> bool | None:
        """True or false, None when there is none."""
        value = at.get(key)
        if value is not None and not isinstance(value, bool):
            self.error((*path, key), "must be true or false")
            return None
        return value

    def data(self, at: Body, path: Path, key: str) -> Body:
        """A free-form mapping (configData) of JSON values that fits what a board can decode."""
        value = self.mapping(at, path, key)
        self._json(value, (*path, key), _DATA_DEPTH_MAX)
        return value

    def _json(self, value: Any, path: Path, depth: int) -> None:
        if isinstance(value, Mapping | list) and depth == 0:
            self.error(path, "is nested too deep")
        elif isinstance(value, Mapping):
            for key, each in value.items():
                self._json(each, (*path, key), depth - 1)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                self._json(each, (*path, index), depth - 1)
        elif isinstance(value, str) and len(value.encode(errors="replace")) > TEXT_SIZE_MAX:
            self.error(path, f"is longer than {TEXT_SIZE_MAX} bytes")
        elif type(value) is int and not -(2**63) <= value < 2**63:
            self.error(path, "does not fit 64 bits")

    def name(self, at: Body) -> None:
        """Check metadata.name and metadata.namespace."""
        metadata = self.mapping(at, (), "metadata", needed=True)
        if not is_subdomain(metadata.get("name")):
            self.error(("metadata", "name"), NAME_RULE)
        if not is_label(metadata.get("namespace")):
            self.error(("metadata", "namespace"), NAMESPACE_RULE)


def check_model(model: Body) -> None:
    """Check a DeviceModel by itself. Raises InvalidError."""
    fields = Fields()
    fields.name(model)
    spec = fields.mapping(model, (), "spec", needed=True)
    fields.text(spec, ("spec",), "protocol")
    fields.data(spec, ("spec",), "protocolConfigData")
    seen: set[str] = set()
    for path, prop in fields.mappings(spec, ("spec",), "properties"):
        _unique(fields, prop, path, seen)
        _model_property(fields, prop, path)
    if len(seen) > PROPERTIES_MAX:
        fields.error(("spec", "properties"), f"has {len(seen)} properties, at most {PROPERTIES_MAX}")
    if fields.errors:
        raise InvalidError(fields.errors)


def _unique(fields: Fields, prop: Body, path: Path, seen: set[str]) -> str:
    name = fields.text(prop, path, "name", needed=True, size_max=protocol.PROPERTY_NAME_MAX)
    if name in seen:
        fields.error((*path, "name"), f'there is another property "{name}"')
    elif name:
        seen.add(name)
    return name


def _model_property(fields: Fields, prop: Body, path: Path) -> None:
    kind = prop.get("type")
    if kind not in values.TYPES:
        fields.error((*path, "type"), f"must be one of {', '.join(values.TYPES)}")
    if prop.get("accessMode") not in _ACCESS_MODES:
        fields.error((*path, "accessMode"), f"must be one of {', '.join(_ACCESS_MODES)}")
    fields.text(prop, path, "unit")
    _visitors(fields, prop, path)
    limits = {key: fields.text(prop, path, key) for key in ("minimum", "maximum")}
    numbers: dict[str, int | float] = {}
    for key, text in limits.items():
        if text and kind in values.TYPES and kind not in values.NUMBERS:
            fields.error((*path, key), f"is only for numbers, not for {kind}")
        elif text and kind in values.NUMBERS:
            number = _number(fields, (*path, key), kind, text)
            if number is not None:
                numbers[key] = number
    if len(numbers) == 2 and numbers["minimum"] > numbers["maximum"]:
        fields.error((*path, "minimum"), f"{limits['minimum']} is more than the maximum, {limits['maximum']}")


def _visitors(fields: Fields, prop: Body, path: Path) -> tuple[str, Body]:
    visitors = fields.mapping(prop, path, "visitors")
    where = (*path, "visitors")
    return fields.text(visitors, where, "protocolName"), fields.data(visitors, where, "configData")


def _number(fields: Fields, path: Path, kind: str, text: str) -> int | float | None:
    try:
        return values.parse(kind, text)
    except ValueError as error:
        fields.error(path, str(error))
        return None


def node_of(device: Body) -> str:
    """The node that a Device names, valid or not; empty when it names none."""
    spec = device.get("spec")
    node = spec.get("nodeName") if isinstance(spec, Mapping) else None
    return node if isinstance(node, str) else ""


def model_of(device: Body) -> str:
    """The name of the DeviceModel that a Device refers to, empty when it names none."""
    spec = device.get("spec")
    reference = spec.get("deviceModelRef") if isinstance(spec, Mapping) else None
    name = reference.get("name") if isinstance(reference, Mapping) else None
    return name if isinstance(name, str) else ""


def join(device: Body, model: Body | None, model_text: str = "") -> Effective:
    """Make what `device` is on its node. Raises InvalidError.

    `model` is its DeviceModel, one that `check_model` passed; if None, `model_text` says why.
    """
    fields = Fields()
    fields.name(device)
    spec = fields.mapping(device, (), "spec", needed=True)
    node = fields.text(spec, ("spec",), "nodeName")
    if node and not is_subdomain(node):
        fields.error(("spec", "nodeName"), NAME_RULE)
    reference = fields.mapping(spec, ("spec",), "deviceModelRef", needed=True)
    name = fields.text(reference, ("spec", "deviceModelRef"), "name", needed=bool(reference))
    if name and model is None:
        fields.error(("spec", "deviceModelRef", "name"), model_text)
    body = {
        "protocol": _protocol(fields, spec, model),
        "properties": _properties(fields, spec, model),
        **_state_report(fields, spec),
    }
    data = b"" if fields.errors else cbor2.dumps(body, canonical=True)
    if len(data) > OBJECT_SIZE_MAX:
        fields.error((), f"is {len(data)} bytes when encoded for a board, at most {OBJECT_SIZE_MAX}")
    if fields.errors:
        raise InvalidError(fields.errors)
    metadata = device["metadata"]
    resource = f"{metadata['namespace']}/device/{metadata['name']}"
    # Another object of the same name is another version: its status is empty, and has to be reported anew.
    uid = metadata.get("uid")
    version = sha256(data + (uid.encode() if isinstance(uid, str) else b""))
    content = Content(version.hexdigest()[:VERSION_DIGITS], data)
    return Effective(node, resource, content, {each["name"]: each["type"] for each in body["properties"]})


def _protocol(fields: Fields, spec: Body, model: Body | None) -> dict[str, Any]:
    model_spec = model["spec"] if model else {}
    own = fields.mapping(spec, ("spec",), "protocol")
    where = ("spec", "protocol")
    name = fields.text(own, where, "protocolName") or model_spec.get("protocol") or ""
    if model and not name:
        fields.error((*where, "protocolName"), "is missing, and the DeviceModel names no protocol")
    defaults = model_spec.get("protocolConfigData") or {}
    return {"protocolName": name, "configData": {**defaults, **fields.data(own, where, "configData")}}


def _state_report(fields: Fields, spec: Body) -> dict[str, Any]:
    # `status` is where KubeEdge had these two before v1.23.
    key = "stateReport" if spec.get("stateReport") is not None else "status"
    report = fields.mapping(spec, ("spec",), key)
    path = ("spec", key)
    found = {
        "reportToCloud": fields.boolean(report, path, "reportToCloud"),
        "reportCycle": fields.whole(report, path, "reportCycle", CYCLE_MS_MAX),
    }
    present = {name: value for name, value in found.items() if value is not None}
    return {"stateReport": present} if present else {}


def _properties(fields: Fields, spec: Body, model: Body | None) -> list[dict[str, Any]]:
    of_model = {each["name"]: each for each in (model["spec"].get("properties") or ())} if model else {}
    listed: dict[str, tuple[Path, Body]] = {}
    seen: set[str] = set()
    for path, prop in fields.mappings(spec, ("spec",), "properties"):
        name = _unique(fields, prop, path, seen)
        if model and name and name not in of_model:
            reference = dotted(("spec", "deviceModelRef"))
            fields.error((*path, "name"), f'the DeviceModel of {reference} has no property "{name}"')
        listed.setdefault(name, (path, prop))
    joined = []
    for name, definition in of_model.items():
        if name in listed:
            joined.append(_join_property(fields, definition, *listed[name]))
        elif definition.get("visitors"):
            joined.append(_join_property(fields, definition, ("spec", "properties"), {}))
    if not model:
        for path, prop in listed.values():
            _join_property(fields, {}, path, prop)
    return joined


def _join_property(fields: Fields, definition: Body, path: Path, prop: Body) -> dict[str, Any]:
    """One property of the effective Device. Without a `definition` only what the instance says is checked."""
    joined = {key: definition[key] for key in ("name", "type", "accessMode") if key in definition}
    joined |= {key: definition[key] for key in ("minimum", "maximum", "unit") if definition.get(key)}
    protocol_name, data = _visitors(fields, prop, path)
    defaults = definition.get("visitors") or {}
    if definition and not prop.get("visitors") and not defaults:
        fields.error((*path, "visitors"), f'is missing, and the DeviceModel has none for "{joined["name"]}"')
    joined["visitors"] = {
        "protocolName": protocol_name or defaults.get("protocolName") or "",
        "configData": {**(defaults.get("configData") or {}), **data},
    }
    desired = _desired(fields, definition, path, prop)
    if desired:
        joined["desired"] = desired
    for key in ("reportCycle", "collectCycle"):
        cycle = fields.whole(prop, path, key, CYCLE_MS_MAX)
        if cycle:  # KubeEdge means its default by 0
            joined[key] = cycle
    report = fields.boolean(prop, path, "reportToCloud")
    if report is not None:
        joined["reportToCloud"] = report
    return joined


def _desired(fields: Fields, definition: Body, path: Path, prop: Body) -> dict[str, Any] | None:
    """The desired value, None when there is none; KubeEdge means none by an empty text too."""
    desired = fields.mapping(prop, path, "desired")
    path = (*path, "desired")
    text = fields.text(desired, path, "value")
    metadata = fields.mapping(desired, path, "metadata")
    for key in metadata:
        fields.text(metadata, (*path, "metadata"), key)
    if len(metadata) > METADATA_MAX:
        fields.error((*path, "metadata"), f"has {len(metadata)} entries, at most {METADATA_MAX}")
    if not text:
        return None
    if definition:
        _check_desired(fields, definition, (*path, "value"), text)
    return {"value": text, "metadata": dict(metadata)} if metadata else {"value": text}


def _check_desired(fields: Fields, definition: Body, path: Path, text: str) -> None:
    kind = definition["type"]
    if definition["accessMode"] == "ReadOnly":
        fields.error(path, "the DeviceModel says that this property is ReadOnly")
        return
    number = _number(fields, path, kind, text)
    if number is None:
        return
    minimum, maximum = definition.get("minimum"), definition.get("maximum")
    if minimum and number < (values.parse(kind, minimum) or 0):
        fields.error(path, f"{text} is less than the minimum, {minimum}")
    if maximum and number > (values.parse(kind, maximum) or 0):
        fields.error(path, f"{text} is more than the maximum, {maximum}")


def _yaml(value: object) -> str:
    """How the value has to be written in YAML to be a text."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text[:40]}"'
