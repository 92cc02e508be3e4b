"""One property report on the wire, as the gateway sends it and as KubeEdge's edge does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from motelet import cbor, protocol, websocket
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError

# A real message of KubeEdge's EdgeCore, captured on its way to CloudCore.
CAPTURED = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "kubeedge-twin-report.jsonl"
MASK_SIZE = 4


def measure() -> Iterator[Figure]:
    """`link.report_bytes` and `link.report_bytes_kubeedge`: the same value, frame and mask included."""
    if not CAPTURED.exists():
        raise UserError(f"{CAPTURED} is missing: measure in a source tree")
    message = json.loads(CAPTURED.read_text().splitlines()[0])["message"]
    ((_, twin),) = message["content"]["twin"].items()
    actual = twin["actual"]
    report = report_frame(float(actual["value"]), actual["metadata"]["timestamp"])
    yield Figure("link.report_bytes", len(report), "bytes")
    yield Figure("link.report_bytes_kubeedge", kubeedge_frame_size(message), "bytes")


def report_frame(value: float, epoch_ms: int, seq: int = 1000, ref: int = 40) -> bytes:
    """The bytes of one REPORT, made by the code that a board runs; `seq` and `ref` as after a while."""
    client = websocket.Client(2304, 1024)
    writer = cbor.Writer(client.tx)
    writer.n = websocket.PAYLOAD
    writer.head(cbor.ARRAY, 5)
    for item in (protocol.REPORT, seq, ref, value, epoch_ms):
        writer.value(item)
    client.frame(websocket.MESSAGE, writer.n - websocket.PAYLOAD, b"mask")
    return bytes(client.tx[client.off : client.off + client.len])


def kubeedge_frame_size(message: dict[str, object]) -> int:
    """Bytes of a message as KubeEdge's edge sends it: compact JSON and a newline in one masked frame."""
    payload = len(json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()) + 1
    header = 2 if payload < 126 else 4 if payload < 65536 else 10
    return header + MASK_SIZE + payload
