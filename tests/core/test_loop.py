"""The event loop: what is woken when, what happens to a task that fails, and that waiting costs nothing."""

from motelet.bus import Mailbox
from motelet.loop import READ, STREAMS_MAX, TASKS_MAX, WRITE, Loop
from tests_util import Clock, MemoryPoller, MemoryStream, allocates_nothing, raises

ROUNDS = 1000


class World:
    """A loop on a virtual clock, and what it was told about failures."""

    def __init__(self, start_ms=0):
        self.clock = Clock(start_ms)
        self.errors = []
        self.loop = Loop(self.clock, MemoryPoller(self.clock), self.on_error)

    def on_error(self, task, exc):
        self.errors.append((self.clock.now_ms, task.name, exc))


class CountingPoller:
    """Nothing is ever ready; counts what is asked and allocates nothing, as MicroPython's poll does."""

    def __init__(self):
        self.asked = 0
        self.timeout = None

    def ipoll(self, timeout_ms):
        self.asked += 1
        self.timeout = timeout_ms
        return ()


class Counter:
    """A task that counts its turns and arms what it is told to."""

    def __init__(self, period_ms=None, wakes_itself=False):
        self.turns = 0
        self.period_ms = period_ms
        self.wakes_itself = wakes_itself

    def run(self, task):
        while True:
            self.turns += 1
            if self.period_ms is not None:
                task.sleep(self.period_ms)
            if self.wakes_itself:
                task.wake()
            yield


def repeated(function, argument):
    """Calls `function` with `argument` as often as it is told."""

    def run(rounds):
        for _ in range(rounds):
            function(argument)

    return run


def test_a_new_task_runs_at_once_and_then_only_when_woken():
    world = World()
    counter = Counter()
    task = world.loop.spawn("counter", counter.run)
    assert task.name == "counter" and task.ready
    assert world.loop.step(0) == 1 and world.loop.step(0) == 0
    task.wake()
    task.wake()
    assert task.ready and world.loop.step(-1) == 1 and world.loop.step(0) == 0
    assert counter.turns == 2


def test_yielded_values_are_ignored():
    world = World()
    turns = []

    def chatty(task):
        for value in (None, 0, "text", task):
            turns.append(value)
            task.wake()
            yield value

    world.loop.spawn("chatty", chatty)
    while world.loop.step(0):
        pass
    assert len(turns) == 4 and not world.errors


def test_a_timer_resumes_its_task_once():
    world = World()
    counter = Counter()
    task = world.loop.spawn("sleeper", counter.run)
    world.loop.step(0)
    task.sleep(500)
    assert world.loop.step(499) == 0 and counter.turns == 1
    assert world.loop.step(-1) == 1 and world.clock.now_ms == 500
    assert task.deadline is None and world.loop.step(1000) == 0 and counter.turns == 2


def test_a_wake_up_clears_the_timer():
    world = World()
    counter = Counter()
    task = world.loop.spawn("sleeper", counter.run)
    world.loop.step(0)
    task.sleep(500)
    task.wake()
    assert world.loop.step(0) == 1 and task.deadline is None
    assert world.loop.step(1000) == 0


def test_of_several_timers_the_earliest_holds():
    world = World()
    task = world.loop.spawn("sleeper", Counter().run)
    world.loop.step(0)
    for ms in (500, 300, 900):
        task.sleep(ms)
    assert world.loop.due() == 300
    assert world.loop.step(-1) == 1 and world.clock.now_ms == 300


def test_a_timer_in_the_past_is_due_now():
    world = World()
    task = world.loop.spawn("sleeper", Counter().run)
    world.loop.step(0)
    task.sleep(-1)
    assert world.loop.due() == 0 and world.loop.step(-1) == 1 and world.clock.now_ms == 0


def test_a_step_waits_for_the_first_timer_or_its_own_bound():
    clock = Clock()
    poller = CountingPoller()
    loop = Loop(clock, poller, None)
    slow = loop.spawn("slow", Counter().run)
    fast = loop.spawn("fast", Counter().run)
    loop.step(0)
    for dt_ms in (-1, 0, 20):
        loop.step(dt_ms)
        assert poller.timeout == dt_ms and loop.due() == -1
    slow.sleep(5000)
    fast.sleep(70)
    for dt_ms, waits in ((-1, 70), (0, 0), (20, 20), (100, 70)):
        loop.step(dt_ms)
        assert poller.timeout == waits
    slow.wake()
    loop.step(-1)
    assert poller.timeout == 0


def test_timers_work_across_the_wrap_of_the_ticks():
    world = World(start_ms=(1 << 30) - 100)
    counter = Counter(period_ms=60)
    world.loop.spawn("ticker", counter.run)
    times = []
    for _ in range(5):
        world.loop.step(-1)
        times.append(world.clock.now_ms - (1 << 30))
    assert times == [-100, -40, 20, 80, 140] and counter.turns == 5


def test_a_late_timer_across_the_wrap_is_still_due():
    world = World(start_ms=(1 << 30) - 100)
    task = world.loop.spawn("late", Counter().run)
    world.loop.step(0)
    task.sleep(50)
    world.clock.advance(1000)  # something blocked
    assert world.loop.due() == 0 and world.loop.step(0) == 1


def test_streams_wake_their_task_while_they_are_ready():
    world = World()
    one, other = MemoryStream.pair()
    counter = Counter()
    buf = bytearray(8)
    task = world.loop.spawn("reader", counter.run)
    world.loop.watch(one, READ, task)
    assert world.loop.step(0) == 1 and world.loop.step(0) == 0
    other.write(b"x")
    assert world.loop.step(0) == 1 and world.loop.step(0) == 1  # level-triggered: it is still there
    one.readinto(buf)
    assert world.loop.step(0) == 0
    world.loop.watch(one, READ | WRITE, task)
    assert world.loop.step(0) == 1
    world.loop.unwatch(one)
    world.loop.unwatch(one)
    assert world.loop.step(0) == 0 and counter.turns == 4


def test_watching_again_changes_the_task():
    world = World()
    one, other = MemoryStream.pair()
    first = Counter()
    second = Counter()
    world.loop.watch(one, READ, world.loop.spawn("first", first.run))
    world.loop.watch(one, READ, world.loop.spawn("second", second.run))
    world.loop.step(0)
    other.write(b"x")
    world.loop.step(0)
    assert first.turns == 1 and second.turns == 2


def test_a_task_that_returns_is_gone_with_its_streams():
    world = World()
    one, other = MemoryStream.pair()
    order = []

    def short(task):
        world.loop.watch(one, READ, task)
        order.append("short")
        yield
        other.write(b"x")

    def tail(task):
        order.append("tail")
        yield

    task = world.loop.spawn("short", short)
    world.loop.spawn("tail", tail)
    world.loop.step(0)
    task.wake()
    world.loop.step(0)
    task.wake()
    assert order == ["short", "tail"] and world.loop.step(0) == 0 and not world.errors


def test_a_task_that_ends_hides_no_other_from_the_step():
    world = World()
    counters = [Counter(), Counter()]
    tasks = [world.loop.spawn("before", counters[0].run)]
    tasks.append(world.loop.spawn("ends", lambda task: iter(())))
    tasks.append(world.loop.spawn("after", counters[1].run))
    assert world.loop.step(0) == 3
    for task in tasks:
        task.wake()
    assert world.loop.step(0) == 2 and [counter.turns for counter in counters] == [2, 2]


def test_a_task_may_spawn_another():
    world = World()
    child = Counter()

    def parent(task):
        world.loop.spawn("child", child.run)
        yield

    world.loop.spawn("parent", parent)
    world.loop.step(0)
    world.loop.step(0)
    assert child.turns == 1


def test_a_task_that_fails_is_restarted_after_a_back_off_that_doubles():
    world = World()
    starts = []

    def broken(task):
        starts.append(world.clock.now_ms)
        raise ValueError("broken")
        yield

    task = world.loop.spawn("broken", broken)
    other = Counter()
    world.loop.spawn("other", other.run)
    for _ in range(9):
        world.loop.step(-1)
        task.wake()  # whoever wakes it, it does not start before its time
        task.sleep(1)
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:])]
    assert gaps == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
    assert len(world.errors) == 9 and other.turns == 1
    now_ms, name, exc = world.errors[0]
    assert now_ms == 0 and name == "broken" and isinstance(exc, ValueError)


def test_the_back_off_is_forgotten_after_a_minute_of_health():
    world = World()
    failing = [True]
    starts = []

    def moody(task):
        starts.append(world.clock.now_ms)
        task.sleep(59999 if failing[0] else 60000)
        yield
        raise OSError(5)

    world.loop.spawn("moody", moody)
    for _ in range(6):
        world.loop.step(-1)
    assert [later - earlier for earlier, later in zip(starts, starts[1:])] == [60999, 61999]
    failing[0] = False
    for _ in range(6):
        world.loop.step(-1)
    assert starts[-1] - starts[-2] == 61000


def test_a_function_that_makes_no_generator_fails_like_a_task():
    world = World()
    world.loop.spawn("none", lambda task: None)
    world.loop.step(0)
    assert len(world.errors) == 1 and isinstance(world.errors[0][2], TypeError)


def test_a_failure_unwatches_the_streams_of_the_task_only():
    world = World()
    one, other = MemoryStream.pair()
    mine, yours = MemoryStream.pair()
    counter = Counter()
    healthy = world.loop.spawn("healthy", counter.run)
    closed = []

    def broken(task):
        world.loop.watch(one, READ, task)
        try:
            yield
            raise MemoryError
        finally:
            closed.append(True)

    world.loop.watch(mine, READ, healthy)
    task = world.loop.spawn("broken", broken)
    world.loop.step(0)
    task.wake()
    world.loop.step(0)
    other.write(b"x")
    assert closed and len(world.errors) == 1
    assert world.loop.step(500) == 0 and world.clock.now_ms == 500  # a stream nobody reads is no busy loop
    yours.write(b"x")
    assert world.loop.step(0) == 1 and counter.turns == 2


def test_what_is_no_exception_is_not_caught():
    world = World()

    def interrupted(task):
        raise KeyboardInterrupt
        yield

    world.loop.spawn("interrupted", interrupted)
    raises(KeyboardInterrupt, world.loop.step, 0)
    assert not world.errors


def test_run_steps_until_stop():
    world = World()
    times = []

    def stopper(task):
        for _ in range(3):
            times.append(world.clock.now_ms)
            task.sleep(10)
            yield
        world.loop.stop()

    world.loop.spawn("stopper", stopper)
    world.loop.run()
    assert times == [0, 10, 20] and world.clock.now_ms == 30


def test_a_task_that_is_always_ready_starves_nobody():
    world = World()
    one, other = MemoryStream.pair()
    greedy = Counter(wakes_itself=True)
    ticker = Counter(period_ms=10)
    reader = Counter()
    world.loop.spawn("greedy", greedy.run)
    world.loop.spawn("ticker", ticker.run)
    world.loop.watch(one, READ, world.loop.spawn("reader", reader.run))
    other.write(b"x")
    for _ in range(100):
        world.loop.step(-1)
        world.clock.advance(1)
    assert greedy.turns == 100 and reader.turns == 100 and ticker.turns == 10


def test_two_tasks_that_wake_each_other_run_once_a_step():
    world = World()
    tasks = []
    turns = [0, 0]

    def player(task, me):
        while True:
            turns[me] += 1
            tasks[1 - me].wake()
            yield

    tasks.append(world.loop.spawn("ping", lambda task: player(task, 0)))
    tasks.append(world.loop.spawn("pong", lambda task: player(task, 1)))
    for n in range(1, 50):
        world.loop.step(-1)
        assert turns == [n, n]


def test_there_is_a_limit_of_tasks():
    world = World()
    tasks = [world.loop.spawn("task", Counter().run) for _ in range(TASKS_MAX)]
    raises(RuntimeError, world.loop.spawn, "one more", Counter().run)
    assert world.loop.step(0) == len(tasks) == TASKS_MAX == 64


def test_tasks_that_ended_do_not_count():
    world = World()
    for _ in range(TASKS_MAX + 1):
        world.loop.spawn("short", lambda task: iter(()))
        world.loop.step(0)


def test_there_is_a_limit_of_streams():
    world = World()
    task = world.loop.spawn("task", Counter().run)
    streams = [MemoryStream.pair(1)[0] for _ in range(STREAMS_MAX + 1)]
    for stream in streams[:-1]:
        world.loop.watch(stream, READ, task)
    raises(RuntimeError, world.loop.watch, streams[-1], READ, task)
    world.loop.watch(streams[0], READ | WRITE, task)  # no new one
    world.loop.unwatch(streams[0])
    world.loop.watch(streams[-1], READ, task)
    assert STREAMS_MAX == 64


def test_an_idle_step_allocates_nothing():
    poller = CountingPoller()
    loop = Loop(Clock(1000), poller, None)
    loop.spawn("waits", Counter().run)
    loop.spawn("sleeps", Counter(period_ms=5000).run)
    loop.step(0)
    poller.asked = 0
    assert allocates_nothing(repeated(loop.step, 0), ROUNDS)
    assert poller.asked >= ROUNDS


def test_timers_and_wake_ups_allocate_nothing():
    clock = Clock(1000)
    loop = Loop(clock, CountingPoller(), None)
    ticker = Counter(period_ms=7)
    greedy = Counter(wakes_itself=True)
    loop.spawn("ticker", ticker.run)
    loop.spawn("greedy", greedy.run)

    def tick(dt_ms):
        clock.advance(7)
        loop.step(dt_ms)

    tick(0)
    assert allocates_nothing(repeated(tick, -1), ROUNDS)
    assert ticker.turns == greedy.turns > ROUNDS


def test_a_message_between_two_tasks_allocates_nothing():
    loop = Loop(Clock(1000), CountingPoller(), None)
    mailbox = Mailbox(2)
    sums = [0]

    def sender(task):
        while True:
            mailbox.put(1, 2, 3, 4)
            task.wake()
            yield

    def receiver(task):
        while True:
            while mailbox.take():
                sums[0] += mailbox.kind + mailbox.a + mailbox.b + mailbox.c
            yield

    loop.spawn("sender", sender)
    mailbox.task = loop.spawn("receiver", receiver)
    loop.step(0)
    assert allocates_nothing(repeated(loop.step, 0), ROUNDS)
    assert sums[0] % 10 == 0 and sums[0] > 10 * ROUNDS
