"""`motelet simulate`: the whole system in one process on a virtual clock, and everything that can go wrong.

Boards are the real `motelet` (core) and bridges the real CloudHub and DeviceController; what is played is
what lies outside of them: time, chance, the network, the flash, the devices and the backend. Everything that
is drawn comes from the seed, and nothing waits, so thirty minutes of twenty gateways take a second or two and
a failure is replayed by its seed alone.
"""
