"""Runs on MicroPython: a gateway that runs out of memory again and again.

    short_gateway CONFIG SEED WANTED ROUND FAULT


tests/edged/shortages.py starts it. In each round one task of the gateway finds the heap filled up to a few
blocks when its turn comes, in pieces of one block or in one piece: sooner or later it is each allocation that
fails. What fills it belongs to the application `hog`, and is given back only by ending that. Then all must be
as before within WAIT_MS: `lost` otherwise. It is over when an allocation of the gateway has failed in WANTED
rounds. ROUND: that one only, again and again, 0 for all of them; FAULT: see
`plant`, empty for none.

What would wait after a failure (back-off of tasks, of the link, of pods) does not, so that rounds are short.
"""

import gc
import sys
import time

from motelet.ports.unix import Port, run

WAIT_MS = 60000  # for the recovery: a bound for what would hang; with a FAULT it is shorter
ROOM = 24576  # bytes that the hog leaves in its own turn
STEPS = 40  # of the loop, after which a shortage that hurt nobody is over
SLACK = 6144  # bytes: what may be in use of late and was not at first, such as a page of the log
BLOCK = 32


class Clock:
    """The clock, which `skew` ms were skipped of."""

    ticks_diff = staticmethod(time.ticks_diff)
    ticks_add = staticmethod(time.ticks_add)
    skew = 0

    def ticks_ms(self):
        return time.ticks_add(time.ticks_ms(), self.skew)


class ShortPort(Port):
    """The unix port, but for the clock; `told` counts the lines about a MemoryError."""

    told = 0

    def __init__(self):
        super().__init__()
        self.clock = Clock()

    def log_sink(self, line):
        if "MemoryError" in line:
            self.told += 1
        super().log_sink(line)


class Shortages:
    """The rounds, driven by what `gateway` does: `stepped` and `resumed` stand for methods of its loop."""

    wait_ms = WAIT_MS

    def __init__(self, gateway, seed, wanted, only):
        self.gateway = gateway
        self.loop = gateway.loop
        self.seed = seed
        self.wanted = wanted
        self.only = only
        self.round = self.injected = self.told = self.shortages = self.steps = 0
        self.since = time.ticks_ms()
        self.target = self.state = None  # state: see `stepped`
        self.hog = None
        self.free = self.beat = 0
        sys.modules["shortages"] = self
        self._step = self.loop.step
        self._resume = self.loop._resume
        self.loop.step = self.stepped
        self.loop._resume = self.resumed

    # -- in the place of the loop's methods ---------------------------------------------------

    def stepped(self, dt):
        if self.target == "" and self.state == 2:
            self.top_up()
        ran = self._step(min(dt, 5) if dt >= 0 else 5)
        try:
            self.hasten()
            if self.state is not None:
                (self.settle, self.wait, self.wait, self.watch)[self.state]()
            elif self.module("hog") is not None:
                self.state = 0
        except MemoryError:
            pass  # the next step does it
        return ran

    def resumed(self, task, now):
        if self.state == 2 and task.name == self.target:
            self.top_up()
        self._resume(task, now)

    # -- the states ---------------------------------------------------------------------------

    def settle(self):
        """0: has the gateway recovered?"""
        if time.ticks_diff(time.ticks_ms(), self.since) > self.wait_ms:
            print(f"lost seed {self.seed} round {self.round} task {self.target}: {self.wrong()}")
            sys.exit(3)
        if not self.wanted:
            if self.module("good") is not None and self.module("good").kept:
                self.end()
            return
        if self.wrong():
            return
        if not self.free:
            self.free = gc.mem_free()
        if self.injected == self.wanted:
            self.end()
            return
        self.round += 1
        number = self.only or self.round
        self.random = (self.seed * 7919 + number * 104729) & 0xFFFFFF
        tasks = self.loop._tasks
        at = self.draw(len(tasks) + 1)
        self.target = tasks[at].name if at < len(tasks) else ""
        self.blocks = self.draw(24) if self.draw(2) else self.draw(300)
        self.apart = self.draw(2)
        self.state = 1
        self.since = time.ticks_ms()
        self.beat = self.module("good").kept
        self.shortages = self.gateway.shortages
        self.told = self.gateway.port.told

    def end(self):
        print("over", self.round, self.module("good").kept)
        self.loop.step = self._step
        self.loop._resume = self._resume

    def wait(self):
        """1: the hog has not had a turn yet; 2: the task has not."""
        if self.failed():
            self.over()
        elif time.ticks_diff(time.ticks_ms(), self.since) > 300:
            self.target = ""  # it may have none for long

    def watch(self):
        """3: the heap is full."""
        self.steps += 1
        if self.failed():
            self.over()
        elif self.steps == STEPS:
            self.hog.module.hold[0] = None
            self.over()

    def failed(self):
        """-> whether memory has run out: a task failed, something said so, or the hog was ended before."""
        gateway = self.gateway
        if gateway.shortages != self.shortages or gateway.port.told != self.told:
            self.injected += 1
        elif self.state == 1 or self.hog is self.instance("hog"):
            return False
        print("round", self.round, self.target, self.blocks, self.apart)
        return True

    def over(self):
        self.hog = None
        self.state = 0
        self.since = time.ticks_ms()

    def turn(self, hold):
        """The hog has its turn: it takes what there is, but for what `top_up` takes."""
        if self.state == 1:
            self.hog = self.instance("hog")
            self.fill(hold, ROOM, False)
            self.state = 2

    def top_up(self):
        """The turn of the task has come: have no more than `blocks` left, all of it the hog's."""
        if self.hog is self.instance("hog"):
            self.steps = 0
            self.state = 3
            gc.collect()
            before = gc.mem_alloc()
            self.fill(self.hog.module.hold, self.blocks * BLOCK, self.apart)
            self.hog.grown += gc.mem_alloc() - before  # as if it had taken that in its own turn, too

    # -- what they use ------------------------------------------------------------------------

    def draw(self, below):
        self.random = (self.random * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.random >> 12) % below

    def instance(self, name):
        """-> the application in the container `name`, None if it does not run."""
        if self.gateway.edged is not None:
            for app in self.gateway.edged.runner.slots:
                if app is not None and app.container.name == name:
                    return app
        return None

    def module(self, name):
        app = self.instance(name)
        return None if app is None else app.module

    def wrong(self):
        """-> what is not as it should be, "" if nothing is."""
        gateway = self.gateway
        hub = gateway.edgehub
        if not hub.connected or not hub.synced:
            return "no link"
        hog, good = self.module("hog"), self.module("good")
        if hog is None or good is None or hog.beat < 2:
            return "an application does not run"
        if good.kept == self.beat:
            return "the good application does not go on"
        for task in self.loop._tasks:
            if task._held:
                return f"task {task.name} has failed"
        if gateway.edged._reserve is None:
            return "there is no reserve"
        for device in gateway.twin.devices.values():
            for prop in device.properties:
                if prop.name == "level" and (prop.observed != prop.desired or device.state != "online"):
                    return f"desired {prop.desired}, observed {prop.observed}, {device.state}"
        gc.collect()
        gone = self.free - gc.mem_free()
        return f"{gone} bytes are gone" if gone > SLACK else ""

    def fill(self, hold, left, apart):
        """Have `left` bytes free, in one piece or `apart`."""
        chain = pieces = None
        try:
            gc.collect()
            if apart:
                pieces = [(None,) for _ in range(2 * left // BLOCK)]
            for size in (16384, 2048, 256):
                try:
                    while gc.mem_free() > left + size + 64:
                        chain = (chain, bytearray(size))
                except MemoryError:
                    pass
            if pieces:
                for at in range(0, len(pieces), 2):
                    pieces[at] = None
            hold[0] = [hold[0], pieces, chain]
            pieces = chain = None
            gc.collect()
            while gc.mem_free() > left:
                hold[0] = (hold[0],)
        except MemoryError:
            hold[0] = (hold[0], chain)

    def hasten(self):
        """Nobody waits because something failed."""
        gateway = self.gateway
        hub = gateway.edgehub
        hub._back_off = 0
        if hub._stream is None:
            self.loop.clock.skew += 100
        for task in self.loop._tasks:
            task._backoff = 0
            if task._held:
                task.deadline = self.loop.clock.ticks_ms()
        if gateway.edged is not None:
            for pod in gateway.edged.pods.values():
                for container in pod.containers:
                    container.pause_s = 0
                    if container.due is not None and not container.stopping and container.run is None:
                        container.due = self.loop.clock.ticks_ms()
                        gateway.edged.look(pod)


def plant(fault):
    """Break what the recovery depends on."""
    Shortages.wait_ms = WAIT_MS // 6
    from motelet.edged import Edged, apps

    if fault == "reserve":  # memory runs out, and nobody is ended
        Edged.short = lambda self: None
    elif fault == "held":  # asyncio's queue keeps what an ended application had
        apps.Held = Kept
    elif fault == "blame":  # the first one is ended, which is the good one
        apps.Apps._weigh = lambda self, weight: None


class Kept:
    """What Held would be if it let go of nothing."""

    def __init__(self, coro):
        self.send = coro.send
        self.throw = coro.throw


def main(arguments):
    seed, wanted, only = [int(each) for each in arguments[2:5]]
    if arguments[5]:
        plant(arguments[5])
    return run.main(arguments[:2], ShortPort(), lambda gateway: Shortages(gateway, seed, wanted, only))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
