"""Log lines: one an event, whatever a peer puts into them."""

import io
import json
import logging

import pytest

from cloud_bridge import logs

LOG = logs.Log("test")


def lines(form, write, level="info"):
    stream = io.StringIO()
    logs.configure(level, form, stream)
    write()
    return stream.getvalue().splitlines()


def test_logfmt():
    (line,) = lines(
        "logfmt", lambda: LOG.info("board connected", node="board-1", count=5, key="a b", none=None)
    )
    time, rest = line.split(" ", 1)
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == 'level=info module=test text="board connected" node=board-1 count=5 key="a b" none=None'


def test_json():
    (line,) = lines("json", lambda: LOG.error("failed", error=ValueError("x"), size=5))
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    assert fields == {"level": "error", "module": "test", "text": "failed", "error": "x", "size": "5"}


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_value_can_make_a_line_or_drive_a_terminal(form):
    nasty = 'x\nlevel=error text="forged"\r\x1b[2J\x7f\u2028\u202e"\\ é'
    found = lines(form, lambda: LOG.info("said", value=nasty))
    (line,) = found
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["value"] == nasty


def test_an_empty_value_and_a_long_one():
    (line,) = lines("logfmt", lambda: LOG.info("said", empty="", long="x" * 5000))
    assert ' empty="" ' in line
    assert line.endswith("long=" + "x" * logs.VALUE_SIZE_MAX)


def test_levels():
    def all_of_them():
        for write in (LOG.debug, LOG.info, LOG.warning, LOG.error):
            write("said")

    for number, level in enumerate(logs.LEVELS):
        assert len(lines("logfmt", all_of_them, level)) == 4 - number


def test_what_libraries_say_is_a_line_too():
    def fail():
        try:
            raise ValueError("of a library")
        except ValueError:
            logging.getLogger("asyncio").exception("Task %s failed", "x")

    (line,) = lines("json", fail)
    fields = json.loads(line)
    assert (fields["module"], fields["text"]) == ("asyncio", "Task x failed")
    assert "of a library" in fields["exception"]
    assert lines("logfmt", lambda: logging.getLogger("asyncio").info("not this")) == []
