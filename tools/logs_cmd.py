"""`motelet logs`: the newest lines that a pod on a board has written, through the bridge."""

import argparse
import json
import socket
import sys
from pathlib import Path

LINES_DEFAULT = 100
ANSWER_SECONDS = 20
ANSWER_SIZE_MAX = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet logs`."""
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    parser.add_argument("-c", "--container", default="", help="default: the first")
    parser.add_argument(
        "--tail", type=int, default=LINES_DEFAULT, metavar="LINES", help="default: %(default)s"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--manifests", type=Path, metavar="DIR", help="the folder that the bridge serves")
    where.add_argument("--control", type=Path, metavar="SOCKET", help="the bridge's --control")


def run(args: argparse.Namespace) -> int:
    """Print the log; -> exit status. Raises OSError when there is no bridge."""
    path = args.control or args.manifests / "status" / ".control"
    request = {"log": [args.namespace, args.pod, args.container], "lines": args.tail}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline(ANSWER_SIZE_MAX))
    if "error" in answer:
        print(f"motelet logs: {answer['error']}", file=sys.stderr)
        return 1
    sys.stdout.write(answer["text"])
    return 0
