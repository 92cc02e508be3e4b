"""A store that refuses for a while, as one does that has to make room first."""

from motelet.kvrecord import StoreError


class Busy:
    """Has `store` refuse so many puts and batches; `left` is what remains of them, below 0 it takes them."""

    def __init__(self, store, times):
        self.left = times
        self._put = store.put
        self._batch = getattr(store, "batch", None)
        store.put = self.put
        store.batch = self.batch

    def _refuse(self):
        self.left -= 1
        if self.left >= 0:
            raise StoreError("busy", "store is making room, try again")

    def put(self, key, value):
        self._refuse()
        self._put(key, value)

    def batch(self, items):
        self._refuse()
        self._batch(items)
