"""Log lines: their form, what they leave out, and that no value can forge one."""

from motelet import borrow
from motelet.log import LEVELS, LINE_SIZE_MAX, Log
from tests_util import IS_MICROPYTHON, raises


def written(level="debug"):
    lines = []
    return Log(lines.append, level), lines


def line_of(*pairs):
    log, lines = written()
    log.info("module", "text", *pairs)
    assert len(lines) == 1
    return lines[0]


def test_a_line_names_level_module_text_and_values():
    log, lines = written()
    log.info("edgehub", "connected", "host", "bridge.test", "port", 10443, "again", True, "since", None)
    assert lines == ["info edgehub connected host=bridge.test port=10443 again=True since=None"]


def test_levels_below_the_chosen_one_are_left_out():
    for chosen in LEVELS:
        log, lines = written(chosen)
        for level in LEVELS:
            getattr(log, level)("m", "t")
        assert [line.split()[0] for line in lines] == list(LEVELS[LEVELS.index(chosen) :])


def test_there_are_four_levels():
    raises(ValueError, Log, print, "verbose")


def test_values_that_would_not_read_back_are_quoted():
    assert line_of("a", "", "b", "two words", "c", "x=y") == 'info module text a="" b="two words" c="x=y"'
    assert line_of("a", 'say "x"') == 'info module text a="say \\"x\\""'
    assert line_of("a", "back\\slash") == "info module text a=back\\x5cslash"


def test_no_value_begins_a_line_of_its_own_or_drives_a_terminal():
    assert line_of("a", "x\nerror forged t\r\x1b[2J\0\x7f") == (
        'info module text a="x\\x0aerror forged t\\x0d\\x1b[2J\\x00\\x7f"'
    )
    assert line_of("a", "\x85\x9b") == "info module text a=\\x85\\x9b"
    assert line_of("a", "\u2028\u202e\u200b") == "info module text a=\\u2028\\u202e\\u200b"
    log, lines = written()
    log.info("m", "text\nforged")
    assert lines == ["info m text\\x0aforged"]


def test_letters_of_all_languages_stay_readable():
    assert (
        line_of("room", "K\xfcche", "name", "\u6e29\u5ea6")
        == "info module text room=K\xfcche name=\u6e29\u5ea6"
    )
    if not IS_MICROPYTHON:  # which has no surrogates in text
        assert line_of("a", "\udc80") == "info module text a=\\udc80"


def test_a_long_line_is_cut_and_marked():
    longest = "x" * (LINE_SIZE_MAX - len("info module text a="))
    assert line_of("a", longest) == "info module text a=" + longest
    assert line_of("a", longest + "x") == "info module text a=" + longest + "..."
    assert len(line_of("a", "\n" * 20000)) == LINE_SIZE_MAX + 3
    assert LINE_SIZE_MAX == 512


def test_a_key_without_a_value_is_seen():
    assert line_of("a", 1, "b") == "info module text a=1 b=?"


def test_an_exception_is_logged_with_the_place_it_came_from():
    def innermost():
        raise ValueError("what\nhappened")

    def outer(depth):
        return outer(depth - 1) if depth else innermost()

    log, lines = written()
    borrow("logtext").exception(log, "task", raises(ValueError, outer, 12))
    assert len(lines) == 1
    assert lines[0].startswith('error task failed type=ValueError error=what\\x0ahappened trace="')
    assert "innermost" in lines[0]


def test_lines_a_sink_cannot_write_are_counted():
    def broken(line):
        raise OSError(32)

    log = Log(broken, "info")
    log.info("m", "t")
    log.debug("m", "t")
    log.error("m", "t")
    assert log.lost == 2
