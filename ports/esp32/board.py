"""The gateway of a board, which keeps the last traceback where a restart does not reach it."""

from motelet import borrow
from motelet.gateway import Gateway


class Board(Gateway):
    """A Gateway whose failed tasks are told to the bridge as the node's `crash`, even after a restart."""

    def task_failed(self, task, error):
        super().task_failed(task, error)
        borrow("ports.esp32.crash").save(error)
