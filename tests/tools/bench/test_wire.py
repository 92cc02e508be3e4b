"""What a report weighs on the wire is read from real bytes: ours and KubeEdge's."""

import json

import cbor2

from motelet import protocol
from motelet.tools.bench import wire


def test_the_report_that_is_weighed_is_a_real_one() -> None:
    frame = wire.report_frame(21.5, 1795375460890)
    size = frame[1] & 127
    mask, payload = frame[2:6], frame[6:]
    assert (frame[0], frame[1] >> 7, size) == (0x82, 1, len(payload))
    message = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    assert cbor2.loads(message) == [protocol.REPORT, 1000, 40, 21.5, 1795375460890]


def test_kubeedge_is_weighed_as_captured() -> None:
    line = wire.CAPTURED.read_text().splitlines()[0]
    start = len('{"from":"edge","message":')
    as_captured = line[start:-1]  # the message's own text, without what the capture put around it
    assert json.loads(as_captured) == json.loads(line)["message"]
    assert wire.kubeedge_frame_size(json.loads(as_captured)) == 2 + 2 + 4 + len(as_captured) + 1


def test_the_figures_compare_the_same_value() -> None:
    ours, theirs = wire.measure()
    assert (ours.name, theirs.name) == ("link.report_bytes", "link.report_bytes_kubeedge")
    assert ours.value <= 40 < theirs.value
