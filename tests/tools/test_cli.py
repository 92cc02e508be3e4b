"""The command line as a person meets it: help, versions, mistakes, missing packages, no tracebacks."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from motelet import __version__
from motelet.tools import cli


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Puts a made-up sub-command `try` in place that runs the given function."""

    def install(run, extra: str | None = None) -> None:
        module = SimpleNamespace(
            configure=lambda parser: parser.add_argument("--n", type=int, default=0), run=run
        )
        monkeypatch.setitem(sys.modules, "made_up_command", module)
        monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("made_up_command", "try something", extra))

    return install


def test_help_names_every_command_and_imports_none() -> None:
    program = (
        "import sys; from motelet.tools import cli\ntry: cli.main(['--help'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text, modules = done.stdout.rstrip().rsplit("\n", 1)
    for name, entry in cli.COMMANDS.items():
        assert f"    {name}" in text
        assert entry.summary in text
        assert entry.module not in modules.split()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"motelet {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["try", "--n", "x"]])
def test_a_mistake_is_answered_with_the_usage(command, capsys, arguments: list[str]) -> None:
    command(lambda args: 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == cli.EXIT_USAGE
    assert capsys.readouterr().err.startswith("usage: motelet")


def test_no_command_prints_the_help(capsys) -> None:
    assert cli.main([]) == cli.EXIT_USAGE
    assert "commands:" in capsys.readouterr().out


def test_a_command_gets_its_arguments_and_gives_its_status(command) -> None:
    command(lambda args: args.n)
    assert cli.main(["try", "--n", "7"]) == 7


@pytest.mark.parametrize(
    "error", [cli.UserError("no such folder: x"), FileNotFoundError(2, "no such file", "x")]
)
def test_a_user_error_is_one_line(command, capsys, error: Exception) -> None:
    def fail(args) -> int:
        raise error

    command(fail)
    assert cli.main(["try"]) == cli.EXIT_FAILURE
    assert capsys.readouterr().err == f"motelet: {error}\n"


def test_a_bug_keeps_its_traceback(command) -> None:
    def fail(args) -> int:
        raise KeyError("bug")

    command(fail)
    with pytest.raises(KeyError):
        cli.main(["try"])


def test_an_interrupt_is_quiet(command, capsys) -> None:
    def interrupt(args) -> int:
        raise KeyboardInterrupt

    command(interrupt)
    assert cli.main(["try"]) == cli.EXIT_INTERRUPTED
    assert capsys.readouterr().err == ""


def test_a_missing_package_is_named_with_its_extra(monkeypatch, capsys) -> None:
    monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("package_that_is_missing.sub", "try", "bridge"))
    assert cli.main(["try"]) == cli.EXIT_FAILURE
    assert (
        "needs the package package_that_is_missing: pip install 'motelet[bridge]'" in capsys.readouterr().err
    )


def test_a_closed_pipe_is_quiet() -> None:
    done = subprocess.run(
        f"{sys.executable} -u -m motelet.tools.cli --help | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
