"""The figures of the project: sizes, memory, latencies, measured on the real thing and kept one a line.

A figure that nobody can measure again is a claim. `make bench` measures all of them and writes
build/bench.jsonl; each measurement is a module of its own with a function `measure`.
"""
