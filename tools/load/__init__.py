"""`motelet load`: boards that are not there put a bridge under load, and say how it bore it.

Each speaks the real link, over TLS with a certificate of its own, as a board does; what is simulated is the
board behind it. The tests use the same boards (`board`), so what they are strict about holds here too.
"""
