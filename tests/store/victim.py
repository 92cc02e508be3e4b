"""Puts numbered values into a store on a file for ever and says each number once it was acknowledged.

tests/store/test_kill.py starts it, on CPython or MicroPython: `victim.py IMAGE FIRST`, and kills it.
"""

import sys

from motelet.kvlog import Store
from motelet.ports.unix.flash import FileFlash

KEYS = 5  # as in test_kill.py


def main(path, number):
    store = Store(FileFlash(path, 10 * 4096))
    store.mount()
    while True:
        text = str(number).encode() + b" "
        store.batch([("key/" + str(number % KEYS), text * 12), ("last", text), ("large", text * 200)])
        sys.stdout.write(str(number) + "\n")
        if hasattr(sys.stdout, "flush"):
            sys.stdout.flush()
        number += 1


main(sys.argv[1], int(sys.argv[2]))
