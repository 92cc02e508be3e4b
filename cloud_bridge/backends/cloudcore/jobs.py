"""The jobs that CloudCore's TaskManager gives to nodes, which a board does not do: answered all the same.

A NodeUpgradeJob, ConfigUpdateJob or ImagePrePullJob waits until each node has said what became of the
first step of its flow. A refusal of that step ends the node's part of the job as failed, with the reason.
"""

from typing import Any

from cloud_bridge.backends.cloudcore.message import Message
from cloud_bridge.backends.nodebody import rfc3339

UPDATE_STATUS = "UpdateNodeActionStatus"
REASONS = {
    "nodeupgradejob": "a board's firmware comes with motelet's own updates, not with EdgeCore's",
    "configupdatejob": "a board has no EdgeCore configuration; what it has comes from the bridge",
    "imageprepulljob": "a board runs MicroPython applications and pulls no container images",
}
_PREFIX = "operations.kubeedge.io/v1alpha2/"


def is_job(message: Message) -> bool:
    """Whether the message asks a node for a step of a job."""
    return message.resource.startswith(_PREFIX)


def refusal(message: Message, epoch_ms: int) -> dict[str, Any]:
    """The content of the answer, which goes up as UPDATE_STATUS of the same resource."""
    kind = message.resource.removeprefix(_PREFIX).partition("/")[0]
    return {
        "action": message.operation,
        "succ": False,
        "finishTime": rfc3339(epoch_ms),
        "reason": REASONS.get(kind, f"a board does no {kind}"),
        "extend": "",
    }
