"""How the probes collect garbage."""

import gc


def collected():
    """Collect garbage. WebAssembly's stack cannot be scanned: there it happens between two steps."""
    for _ in range(2):  # what had a finaliser goes the second time
        gc.collect()
        yield
