"""Messages that a real EdgeCore and a real CloudCore exchanged, from tests/fixtures/cloudcore."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures" / "cloudcore"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def read(name: str, sender: str = "") -> list[dict[str, Any]]:
    """The messages of a file in their order; those of one sender (edge, cloud) only, if named."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [each["message"] for each in map(json.loads, lines) if sender in ("", each["from"])]


def wire(message: dict[str, Any]) -> str:
    """The message as it was on the wire."""
    return json.dumps(message, separators=(",", ":")) + "\n"
