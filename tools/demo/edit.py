"""Changes one scalar in a YAML file and leaves every other byte, comments included, as its author wrote it.

PyYAML drops comments when it dumps. Its parser, however, knows where each scalar begins and ends in the
text, so one value can be replaced in place.
"""

import os
from pathlib import Path

import yaml

Step = str | tuple[str, str]
"""One step down a document: a key of a mapping, or (key, value) for the item of a list that has this pair."""


def replace_scalar(text: str, kind: str, name: str, path: list[Step], scalar: str) -> str:
    """Put `scalar`, written as YAML, where `path` leads in the document of this kind and name.

    Raises KeyError when there is no such document or place, ValueError when a scalar on one line is not
    what is there, and yaml.YAMLError when the text is not YAML.
    """
    node = _document(text, kind, name)
    for step in path:
        node = _child(node, step)
    if not isinstance(node, yaml.ScalarNode) or node.style not in (None, "'", '"'):
        raise ValueError(f"{path[-1]} of {kind} {name} is no scalar on one line")
    return text[: node.start_mark.index] + scalar + text[node.end_mark.index :]


def edit_file(path: Path, kind: str, name: str, where: list[Step], scalar: str) -> None:
    """`replace_scalar` on a file, which is replaced atomically. Raises as it does, and OSError."""
    text = replace_scalar(path.read_text(encoding="utf-8"), kind, name, where, scalar)
    # A name that starts with a dot is nothing a watcher of manifests would take for one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _document(text: str, kind: str, name: str) -> yaml.Node:
    for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
        metadata = _value(document, "metadata")
        if _text(_value(document, "kind")) == kind and _text(_value(metadata, "name")) == name:
            return document
    raise KeyError(f"no {kind} {name}")


def _child(node: yaml.Node, step: Step) -> yaml.Node:
    found = None
    if isinstance(step, str):
        found = _value(node, step)
    elif isinstance(node, yaml.SequenceNode):
        found = next((item for item in node.value if _text(_value(item, step[0])) == step[1]), None)
    if found is None:
        raise KeyError(step)
    return found


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if _text(name) == key), None)


def _text(node: yaml.Node | None) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None
