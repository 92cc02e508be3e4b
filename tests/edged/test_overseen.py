"""Who does not let others run is interrupted, and nobody else: the moments at which that is hardest."""

import json
from pathlib import Path

from interpreters import running

CLIENT = Path(__file__).with_name("overseen.py")
CORE = Path(__file__).parent.parent / "core"
HUNG = (137, "it did not let others run, and was interrupted")


def test_an_interrupt_ends_who_is_meant_wherever_it_arrives() -> None:
    with running("micropython", CLIENT, folders=(CORE,), heap="1M") as process:
        assert process.stdout is not None
        output = process.stdout.read().splitlines()
    assert process.returncode == 0, "\n".join(output)
    told = {line["name"]: line for line in map(json.loads, output)}
    ends = {name: (line.get("code"), line.get("message")) for name, line in told.items()}
    assert ends == {
        "when_it_has_just_yielded": HUNG,
        "when_it_has_just_ended": (0, ""),
        "between_sleep_and_await": HUNG,
        "that_is_held": (0, ""),
        "in_the_store": HUNG,
        "in_a_service_that_waits": (0, ""),
        "when_a_stream_is_queued": HUNG,
        "when_a_turn_is_short": (0, ""),
        "in_the_gateway": (None, None),
    }
    assert told["in_the_gateway"]["turns"] is True
    assert [line["errors"] for line in told.values()] == [[]] * len(told)
