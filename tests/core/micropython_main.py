"""Runs the named tests of one module on MicroPython and says what became of each.

Started by tests/two_interpreters.py: `-m micropython_main MODULE TEST...`. What a test prints goes
to the same standard output, so the lines meant for the collector begin with a record separator.
"""

import gc
import sys


def _say(word, name):
    print("\x1e" + word, name)


def _run(module, name):
    gc.collect()
    _say("begin", name)
    try:
        getattr(module, name)()
    except Exception as error:  # every failure of a test is an answer to be passed on
        sys.print_exception(error)
        _say("failed", name)
    else:
        _say("passed", name)


def _main(argv):
    # An import that fails ends this process with its traceback: then no test has an answer.
    module = __import__(argv[1])
    for name in argv[2:]:
        _run(module, name)
    _say("end", argv[1])


_main(sys.argv)
