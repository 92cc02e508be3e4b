"""The gateway is killed at every write that it makes in a pod's life, before it and right afterwards.

What the cloud does is level-triggered: it sends what the gateway does not hold. So a life that was cut
anywhere goes on after the restart and ends where one that was not cut ends.
"""

from edged_world import POD, World, container, held, pod
from link_world import DictStore

from motelet.edged import RUNNING

KEPT = ".pod/default/p"
VALUE = KEPT + "/=/n"


class PowerCut(BaseException):
    """No Exception: nothing may catch it."""


class CutStore(DictStore):
    """The power goes at write number `left`, before it or after it."""

    left = -1
    after = False

    def cut(self, write):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise PowerCut()
        result = write()
        if self.left == 0:
            raise PowerCut()
        return result

    def put(self, key, value):
        return self.cut(lambda: DictStore.put(self, key, value))

    def delete(self, key):
        return self.cut(lambda: DictStore.delete(self, key))


class Life:
    """A pod that comes, crashes, is started again, is changed, is deleted and goes; `step` by step."""

    def __init__(self, left, after):
        self.world = World()
        self.world.store = CutStore()
        self.world.restart()
        self.world.store.left = left
        self.world.store.after = after
        self.cuts = 0

    def want(self, content):
        if self.world.store.get(POD) != held(content):
            self.world.put(POD, content)

    def come(self):
        self.want(pod(container("first"), container()))
        self.value(b"1")
        assert self.world.container().state == RUNNING

    def value(self, value):
        if self.world.store.get(VALUE) != value:
            self.world.store.put(VALUE, value)

    def crash(self):
        self.world.exit(1)
        self.world.run(11000)
        self.world.exit(3, "first")
        self.world.run(11000)
        assert self.world.container().state == self.world.container("first").state == RUNNING
        assert self.world.store.get(VALUE) == b"1"

    def change(self):
        self.want(pod(container("first"), container(digest=2)))
        if self.world.container().pause_s < 0:
            self.world.exit(143)
        self.world.run(600000)
        assert self.world.container().state == RUNNING

    def leave(self):
        self.want(pod(deletionGracePeriodSeconds=5))
        self.world.run(6000)
        assert self.world.status()["gone"] and self.world.edged.pods[POD].dirty

    def gone(self):
        if POD in self.world.edged.pods:
            self.world.edged.acked(self.world.edged.pods[POD])
            self.world.delete(POD)

    def live(self):
        """-> whether the power went at all."""
        for step in (self.come, self.crash, self.change, self.leave, self.gone):
            try:
                step()
            except PowerCut:
                self.cuts += 1
                self.world.restart()
                if step == self.gone:
                    self.world.delete(POD)
                else:
                    step()
        return self.cuts == 1

    def ended(self):
        left = [key for key in self.world.store.keys()]
        return not self.world.edged.pods and not left


def test_a_pod_lives_on_wherever_the_power_goes():
    for after in (False, True):
        cut_at = 1
        while True:
            life = Life(cut_at, after)
            went = life.live()
            # What a pod leaves behind when the power goes with its last write, the next boot removes.
            if not life.ended():
                life.world.restart()
                from motelet.edged.kept import prune

                prune(life.world.store)
            assert life.ended(), (cut_at, after, list(life.world.store.keys()))
            if not went:
                break
            cut_at += 1
        assert cut_at > 12, cut_at


def test_one_that_was_killed_between_two_writes_is_not_started_twice():
    """A planted fault: a gateway that does not look at what it kept would count no restart."""
    life = Life(-1, False)
    life.come()
    life.world.restart()
    assert life.world.container().restarts == 1
    life.world.store.data.pop(KEPT)
    life.world.restart()
    assert life.world.container().restarts == 0
