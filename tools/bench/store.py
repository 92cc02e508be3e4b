"""The store's figures: what an update costs the flash, how long a put and a start take, RAM for each key."""

from __future__ import annotations

from collections.abc import Iterator

from motelet.tools.bench import interpreters
from motelet.tools.bench.figures import Figure, quantiles


def measure() -> Iterator[Figure]:
    """`kv.bytes_per_update`, `kv.erases_per_update`, `kv.put_us`, `kv.index_bytes_per_key`, `kv.mount_ms`.

    On this computer's MicroPython and a flash in RAM: the times are the interpreter's own, to which a chip
    adds its flash's.
    """
    with interpreters.running(interpreters.command64("store_probe")) as answers:
        for answer in answers:
            if "puts_us" in answer:
                puts = [float(each) for each in answer["puts_us"]]
                mean = sum(puts) / len(puts)
                yield Figure("kv.put_us", round(mean, 1), "us", len(puts), max(puts) - min(puts))
                yield from quantiles("kv.put_us", puts, "us")
            else:
                yield Figure(answer["figure"], round(answer["value"], 4), answer["unit"], answer["n"])
