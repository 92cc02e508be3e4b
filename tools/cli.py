"""The one command, `motelet`. A sub-command's module is imported only when that sub-command is used.

So `motelet --help` needs none of the optional packages, and a gateway never loads the bridge. Such a
module has two functions: `configure(parser)` adds its arguments to an argparse parser, `run(args)`
does the work and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from types import ModuleType

from motelet import __version__

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A failure that the person at the keyboard can mend: its text is shown, without a traceback."""


@dataclass(frozen=True)
class Command:
    """A sub-command: where it is implemented, and the line that `motelet --help` has for it."""

    module: str
    summary: str
    extra: str | None = None  # the extra of the distribution that brings what it imports


COMMANDS = {
    "demo": Command("motelet.tools.demo.command", "watch one device follow its YAML, end to end", "dev"),
    "bridge": Command("cloud_bridge.app", "serve boards from a folder of Kubernetes YAML", "bridge"),
    "gateway": Command("motelet.tools.gateway_cmd", "run a gateway on this computer"),
    "logs": Command("motelet.tools.logs_cmd", "read what a pod on a board has written"),
    "kv": Command("motelet.tools.kv", "look into a gateway's flash image"),
    "names": Command("motelet.tools.names", "put the names of the source into a board's tracebacks"),
    "load": Command("motelet.tools.load.command", "put a bridge under load by simulated boards", "bridge"),
    "simulate": Command(
        "motelet.tools.simulate.command", "run the whole system on a virtual clock, with faults", "dev"
    ),
    "torture": Command("motelet.tools.torture", "cut the power of the store, again and again"),
    "flash": Command("motelet.tools.setup.flash", "write firmware and code to a board", "flash"),
    "provision": Command(
        "motelet.tools.setup.provision", "tell a board its name, bridge and secrets", "flash"
    ),
    "image": Command("motelet.tools.image.command", "build what a board is given", "dev"),
    "bench": Command("motelet.tools.bench.command", "measure sizes, memory and latencies", "dev"),
}
EPILOG = """\
`motelet COMMAND --help` tells what each command takes.
Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said, nor must the exit try to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except (UserError, OSError) as error:
        print(f"motelet: {error}", file=sys.stderr)
        return EXIT_FAILURE


def _dispatch(arguments: list[str]) -> int:
    parser, parsers = _parser()
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if name is None:
        # --help, --version and mistakes: argparse answers them and exits.
        parser.parse_args(arguments)
        parser.print_help()
        return EXIT_USAGE
    module = _load(COMMANDS[name])
    module.configure(parsers[name])
    args = parser.parse_args(arguments)
    return int(module.run(args))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each sub-command, which has no arguments of its own yet."""
    parser = argparse.ArgumentParser(
        prog="motelet",
        description="Microcontrollers and small gateways as members of a Kubernetes cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"motelet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", title="commands")
    parsers = {
        name: commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, command in COMMANDS.items()
    }
    return parser, parsers


def _load(command: Command) -> ModuleType:
    """Import a sub-command's module; a package that its extra would bring is named with the extra."""
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if command.extra is None or missing in ("motelet", "cloud_bridge", ""):
            raise
        raise UserError(
            f"this command needs the package {missing}: pip install 'motelet[{command.extra}]'"
        ) from error


if __name__ == "__main__":
    # By its own name, so that there is one UserError only: commands import it from motelet.tools.cli.
    sys.exit(importlib.import_module("motelet.tools.cli").main())
