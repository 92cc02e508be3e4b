"""Settings of all tests: no deadline for hypothesis, because a busy machine is no fault of the code."""

from hypothesis import settings

settings.register_profile("motelet", deadline=None, print_blob=True)
settings.load_profile("motelet")
