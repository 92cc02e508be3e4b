"""The rules of every mapper, against a bus that is nothing but a table of values."""

from motelet import attach, device
from motelet.cbor import Writer
from motelet.device import APPLY, UNUSABLE
from motelet.devload import load
from motelet.loop import Loop
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT, Mapper
from tests_util import Clock, MemoryPoller, raises

TRIP_MS = 3  # from a request to its answer
TIMEOUT_MS = 100


class Table:
    """A bus whose devices are in `values` (device.property -> int); it remembers each access."""

    def __init__(self, clock):
        self.task = None
        self._reason = ""
        self.values = {}
        self.reads = []  # (ms, name)
        self.writes = []  # (name, value)
        self.dead = set()  # names of devices that do not answer
        self.refused = set()  # names that may not be read
        self.failing = set()  # names that cannot be written just now
        self.locked = set()  # names that may not be written
        self.clamp = None
        self.lose_answers = False  # to writes
        self.down = False
        self.closed = 0
        self._clock = clock
        self._prop = self._data = None
        self._end = 0

    def attach(self, _driver, device, _devices):
        if device.config["configData"]:
            raise ValueError(device.id + ": malformed")
        device.raw = {}

    def begin(self, prop, data):
        self._prop = prop
        self._data = data
        name = name_of(prop)
        if data is None:
            self.reads.append((self._clock.now_ms, name))
        else:
            self.writes.append((name, int.from_bytes(data, "big")))
        lost = prop.device.id in self.dead or (data and self.lose_answers)
        self._end = self._clock.now_ms + (TIMEOUT_MS if lost else TRIP_MS)

    def wait(self):
        return self._end - self._clock.now_ms

    def step(self):
        prop = self._prop
        if prop is None or (self._clock.now_ms < self._end and not self.down):
            return None
        self._prop = None
        return self._result(prop, name_of(prop))

    def _result(self, prop, name):
        self._reason = "no answer"
        if self.down:
            return DOWN
        if prop.device.id in self.dead:
            return SILENT
        if self._data:
            if name in self.locked or name in self.failing:
                self._reason = "illegal data value" if name in self.locked else "failing"
                return REFUSED
            value = int.from_bytes(self._data, "big")
            self.values[name] = value if self.clamp is None else min(value, self.clamp)
            return SILENT if self.lose_answers else SAME
        if name in self.refused:
            self._reason = "illegal data address"
            return REFUSED
        raw = self.values[name].to_bytes(2, "big")
        if self.held(prop, raw):
            return SAME
        prop.device.raw[prop.name] = raw
        return CHANGED

    def value(self, prop):
        value = int.from_bytes(prop.device.raw[prop.name], "big")
        if value == 65535:
            raise ValueError("means nothing")
        return value

    def seldom(self):
        return self

    def encode(self, _prop, value):
        return value.to_bytes(2, "big")

    def held(self, prop, data):
        return prop.device.raw.get(prop.name) == data

    def reason(self, _driver):
        return self._reason

    def passing(self, _driver):
        return self._reason == "failing"

    def close(self):
        self._prop = None
        self.closed += 1


def name_of(prop):
    return prop.device.id.split("/")[1] + "." + prop.name


class Twin:
    """Records what it is told, as (ms, what, ...)."""

    def __init__(self, clock):
        self.log = []
        self.records = {}  # property name -> what `once` answers, in turn
        self._clock = clock

    def _add(self, *entry):
        self.log.append((self._clock.now_ms,) + entry)

    def reported(self, prop, value):
        self._add("reported", name_of(prop), value)

    def applied(self, prop):
        self._add("applied", name_of(prop))

    def state(self, device, state, reason):
        device.state = state
        device.reason = reason
        self._add("state", device.id, state, reason)

    def once(self, prop):
        answers = self.records[prop.name]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def told(self, *what):
        """The entries of these kinds since the last call, without their times."""
        entries = [entry[1:] for entry in self.log if entry[1] in what]
        self.log = []
        return entries


class Log:
    def __init__(self):
        self.lines = []

    def debug(self, *_pairs):
        pass

    def info(self, *pairs):
        self.lines.append(pairs)

    warning = info


def encode(value):
    writer = Writer(bytearray(2048))
    writer.value(value)
    return bytes(writer.buf[: writer.n])


def prop(name, desired=None, momentary=False, **fields):
    fields.update({"name": name, "type": "INT"})
    fields.setdefault("accessMode", "ReadWrite")
    fields["visitors"] = {"configData": {"momentary": momentary}}
    if desired is not None:
        fields["desired"] = {"value": desired}
    return fields


def make(name, *properties, **config):
    content = {"protocol": {"protocolName": "table", "configData": config}, "properties": list(properties)}
    return load("default/device/" + name, encode(content))


def fail(_task, error):
    raise error


class World:
    """One bus on a virtual clock."""

    def __init__(self, **values):
        self.clock = Clock((1 << 30) - 2500)  # so that ticks wrap on the way
        self.start = self.clock.now_ms
        self.loop = Loop(self.clock, MemoryPoller(self.clock), fail)
        self.log = Log()
        self.table = Table(self.clock)
        self.twin = Twin(self.clock)
        self.mapper = Mapper(self.loop, self.log, self.twin, self.table)
        for name, value in values.items():
            self.table.values["d." + name] = value

    def add(self, *properties, name="d"):
        made = make(name, *properties)
        attach.add(self.mapper, made, self.table)
        return made

    def run(self, ms):
        """Let `ms` pass; what is due at the end of them is left to the next run."""
        end = self.clock.now_ms + ms
        for _ in range(10000):
            if self.clock.now_ms >= end - 1:
                self.clock.now_ms = end
                return
            self.loop.step(end - 1 - self.clock.now_ms)
        raise AssertionError("the task never rests")

    def reported(self):
        """What was reported since the world began, with its time."""
        return [(entry[0] - self.start, entry[3]) for entry in self.twin.log if entry[1] == "reported"]

    def times(self, name):
        """When `name` was read since the last call, from the start of the world."""
        times = [ms - self.start for ms, read in self.table.reads if read == name]
        self.table.reads = []
        return times


def test_a_property_is_read_every_collect_cycle():
    world = World(a=1, b=2)
    world.add(prop("a", collectCycle=500), prop("b"))
    world.run(3000)
    reads = world.table.reads
    assert world.times("d.a") == [0, 500, 1000, 1500, 2000, 2500]
    world.table.reads = reads
    assert world.times("d.b") == [TRIP_MS, 1000 + TRIP_MS, 2000 + TRIP_MS]


def test_what_a_busy_bus_missed_is_not_made_up_for():
    world = World(a=1)
    world.add(prop("a", collectCycle=10))
    world.run(55)
    world.table.dead.add("default/slow")
    world.add(prop("x"), name="slow")  # holds the bus for a while
    world.run(300)
    times = world.times("d.a")
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    assert min(waits) == 10 and max(waits) > TIMEOUT_MS, waits


def test_a_bus_that_is_too_slow_starves_nobody():
    world = World(a=1, b=2, c=3)
    world.add(prop("a", collectCycle=10), prop("b", collectCycle=10), prop("c", collectCycle=10))
    world.add(prop("d", collectCycle=10), name="e")
    world.table.values["e.d"] = 1
    world.run(400)
    names = [name for _, name in world.table.reads[-40:]]
    assert all(names.count(name) >= 7 for name in ("d.a", "d.b", "d.c", "e.d")), names


def test_the_first_value_and_then_changes_are_reported():
    world = World(a=7)
    world.add(prop("a", reportToCloud=False))
    world.run(2500)
    assert world.twin.told("reported", "state") == [
        ("state", "default/d", "online", ""),
        ("reported", "d.a", 7),
    ]
    world.table.values["d.a"] = 8
    world.run(2500)
    assert world.twin.told("reported", "state") == [("reported", "d.a", 8)]


def test_a_report_cycle_passes_between_reports_and_the_newest_value_wins():
    world = World(a=0)
    world.add(prop("a", collectCycle=100, reportCycle=1000))
    for i in range(25):
        world.table.values["d.a"] = i
        world.run(100)
    reported = world.reported()
    assert [value for _, value in reported] == [0, 10, 20]
    assert [ms // 1000 for ms, _ in reported] == [0, 1, 2]
    world.run(1000)  # nothing changes any more: the last change is reported when the cycle ends
    assert world.twin.told("reported")[-1] == ("reported", "d.a", 24)
    world.run(5000)
    assert world.twin.told("reported") == []


def test_the_end_of_a_report_cycle_does_not_wait_for_the_next_collection():
    world = World(a=1)
    world.add(prop("a", collectCycle=2000, reportCycle=3000))
    world.run(1000)
    world.table.values["d.a"] = 2  # read at 2000, to be reported at 3000
    world.run(4000)
    assert world.reported() == [(TRIP_MS, 1), (3000 + TRIP_MS, 2)]


def test_equal_cycles_do_not_double_the_reads():
    world = World(a=0)
    world.add(prop("a"))
    for i in range(10):
        world.table.values["d.a"] = i
        world.run(1000)
    assert len(world.times("d.a")) == 10
    assert len(world.twin.told("reported")) == 10


def test_a_held_value_is_reported_when_the_device_falls_silent():
    world = World(a=1)
    world.add(prop("a", collectCycle=100, reportCycle=60000))
    world.run(150)
    world.table.values["d.a"] = 2
    world.run(100)
    assert world.twin.told("reported") == [("reported", "d.a", 1)]
    world.table.dead.add("default/d")
    world.run(300)
    assert world.twin.told("reported") == [("reported", "d.a", 2)]


def test_a_desired_value_that_is_there_is_not_written():
    world = World(a=21)
    world.add(prop("a", "21"))
    world.run(3000)
    assert world.table.writes == []
    assert world.twin.told("reported", "applied") == [("reported", "d.a", 21), ("applied", "d.a")]


def test_a_desired_value_that_differs_is_written_and_read_back():
    world = World(a=20)
    world.add(prop("a", "21", reportCycle=60000))
    world.run(3000)
    assert world.table.writes == [("d.a", 21)]
    # The value that was desired is reported at once, whatever the reportCycle.
    assert world.twin.told("reported", "applied") == [
        ("reported", "d.a", 20),
        ("reported", "d.a", 21),
        ("applied", "d.a"),
    ]
    assert world.times("d.a")[:2] == [0, 2 * TRIP_MS]
    world.table.values["d.a"] = 30  # someone turns a knob: reported, not fought
    world.run(90000)
    assert world.table.writes == [("d.a", 21)]
    assert world.twin.told("reported", "applied") == [("reported", "d.a", 30)]


def test_a_desired_text_that_changes_is_applied_at_once():
    world = World(a=20)
    item = world.add(prop("a", "20", collectCycle=60000)).properties[0]
    world.run(100)
    assert world.twin.told("applied") == [("applied", "d.a")]
    item.desired = "25"
    world.mapper.apply(item)
    world.run(100)
    assert world.table.writes == [("d.a", 25)]
    assert world.twin.told("applied") == [("applied", "d.a")]


def test_a_desired_text_that_changes_while_the_last_one_is_written_is_applied_next():
    world = World(a=20)
    item = world.add(prop("a", "30")).properties[0]
    world.run(TRIP_MS + 1)
    assert world.table.writes == [("d.a", 30)]
    item.desired = "40"
    world.mapper.apply(item)
    world.run(100)
    assert world.table.writes == [("d.a", 30), ("d.a", 40)]
    assert world.twin.told("applied", "state") == [("state", "default/d", "online", ""), ("applied", "d.a")]


def test_a_desired_text_that_goes_is_not_applied():
    for ms in (0, TRIP_MS + 1):  # before it is compared, and while it is written
        world = World(a=20)
        item = world.add(prop("a", "30")).properties[0]
        world.run(ms)
        item.desired = None
        world.run(5000)
        assert len(world.table.writes) == (1 if ms else 0)
        assert world.twin.told("applied") == []


# fields of the property, what the reason says
FORBIDDEN = (
    ({"desired": "31", "maximum": "30"}, "desired 31 is above maximum 30"),
    ({"desired": "-1", "minimum": "0"}, "desired -1 is below minimum 0"),
    ({"desired": "warm"}, "desired warm is not of type INT"),
    ({"desired": "21", "accessMode": "ReadOnly"}, "desired 21 of a ReadOnly property"),
)


def test_what_may_not_be_written_is_not_and_the_rest_goes_on():
    for fields, reason in FORBIDDEN:
        world = World(a=20, b=1)
        world.add(prop("a", **fields), prop("b", "2"))
        world.run(10000)
        assert world.table.writes == [("d.b", 2)]
        states = world.twin.told("state")
        assert states == [
            ("state", "default/d", "online", ""),
            ("state", "default/d", "online", "default/d a: " + reason),
        ]
        assert len(world.times("d.a")) == 10


def test_a_device_that_holds_something_else_is_not_fought():
    world = World(a=20)
    world.table.clamp = 25
    world.add(prop("a", "30"))
    world.run(10000)
    assert world.table.writes == [("d.a", 30)]
    assert world.twin.told("state", "reported", "applied") == [
        ("state", "default/d", "online", ""),
        ("reported", "d.a", 20),
        ("state", "default/d", "online", "a: desired 30 does not read back"),
        ("reported", "d.a", 25),
    ]
    world.table.values["d.a"] = 30
    world.run(2000)
    assert world.twin.told("state", "reported", "applied") == [
        ("reported", "d.a", 30),
        ("applied", "d.a"),
        ("state", "default/d", "online", ""),
    ]
    assert world.table.writes == [("d.a", 30)]


def test_a_write_that_is_refused_is_not_repeated():
    world = World(a=20)
    world.table.locked.add("d.a")
    world.add(prop("a", "30"))
    world.run(10000)
    assert world.table.writes == [("d.a", 30)]
    assert world.twin.told("state")[1:] == [
        ("state", "default/d", "online", "a: desired 30: illegal data value")
    ]


def test_what_was_to_be_written_when_the_task_failed_is_written_by_the_next():
    world = World(a=20)
    item = world.add(prop("a", "30")).properties[0]
    item.flags &= ~APPLY  # as it is while the write is under way
    world.run(10)
    assert world.table.writes == [("d.a", 30)]


def test_what_is_wrong_with_the_spec_is_not_the_mappers_to_take_back():
    world = World(a=20)
    device = world.add(prop("a"))
    world.run(1000)
    device.flags |= UNUSABLE
    device.reason = "collectCycle 5 is not in 10..86400000"
    world.twin.told("state")
    world.run(5000)
    assert world.twin.told("state") == []


def test_a_write_that_failed_in_the_device_is_repeated_with_each_cycle():
    world = World(a=20)
    world.table.failing.add("d.a")
    world.add(prop("a", "30"))
    world.run(3500)
    assert world.table.writes == [("d.a", 30)] * 4
    assert world.twin.told("state")[1:] == [("state", "default/d", "online", "a: desired 30: failing")]
    world.table.failing.clear()
    world.run(3000)
    assert world.table.writes == [("d.a", 30)] * 5
    assert world.table.values["d.a"] == 30
    assert world.twin.told("state") == [("state", "default/d", "online", "")]


def test_a_write_without_an_answer_is_decided_by_reading():
    world = World(a=20)
    world.table.lose_answers = True  # the value arrives, the answer does not
    world.add(prop("a", "30"))
    world.run(5000)
    assert world.table.writes == [("d.a", 30)]
    assert world.twin.told("applied") == [("applied", "d.a")]


def test_a_command_on_record_is_written_once():
    world = World(a=0)
    world.twin.records["a"] = [None, None, True, False]
    world.add(prop("a", "1", momentary=True))
    world.run(20000)
    assert world.table.writes == [("d.a", 1)]
    assert world.twin.told("applied") == [("applied", "d.a")]
    assert world.twin.records["a"] == [False]  # asked until it was known, and not since


def test_a_command_that_changes_while_the_last_one_is_written_is_another():
    world = World(a=0)
    world.twin.records["a"] = [True, True, False]
    item = world.add(prop("a", "1", momentary=True)).properties[0]
    world.run(TRIP_MS + 1)
    assert world.table.writes == [("d.a", 1)]
    item.desired = "2"
    world.mapper.apply(item)
    world.run(1)
    assert world.twin.told("applied") == []  # what is being written is not what is desired now
    world.run(5000)
    assert world.table.writes == [("d.a", 1), ("d.a", 2)]
    assert world.twin.told("applied") == [("applied", "d.a")]


def test_a_command_is_written_even_if_the_value_is_there():
    world = World(a=1)
    world.twin.records["a"] = [True, False]
    world.add(prop("a", "1", momentary=True))
    world.run(5000)
    assert world.table.writes == [("d.a", 1)]


def test_a_command_that_was_on_record_is_not_written():
    world = World(a=0)
    world.twin.records["a"] = [False]
    world.add(prop("a", "1", momentary=True))
    world.run(5000)
    assert world.table.writes == []
    assert world.twin.told("applied") == []


def test_a_command_whose_answer_is_lost_is_never_repeated():
    world = World(a=0)
    world.twin.records["a"] = [True, False]
    world.table.lose_answers = True
    world.add(prop("a", "1", momentary=True))
    world.run(5000)
    world.table.dead.add("default/d")
    world.run(20000)
    world.table.dead.clear()
    world.run(70000)
    assert world.table.writes == [("d.a", 1)]
    assert [state[2] for state in world.twin.told("state")] == ["online", "offline", "online"]


def test_a_dead_device_is_offline_and_the_others_go_on():
    world = World(a=1)
    world.table.values["gone.x"] = 1
    world.table.dead.add("default/gone")
    world.add(prop("x"), prop("y"), name="gone")
    world.add(prop("a"))
    world.run(60000)
    assert world.twin.told("state", "applied") == [
        ("state", "default/d", "online", ""),
        ("state", "default/gone", "offline", "no answer"),
    ]
    reads = world.table.reads
    tries = [ms - world.start for ms, name in reads if name.startswith("gone.")]
    assert tries[0] == 0
    waits = [later - earlier - TIMEOUT_MS for earlier, later in zip(tries, tries[1:])]
    for wait, expected in zip(waits, (1000, 2000, 4000, 8000, 16000)):
        assert 0 <= wait - expected <= 2 * TRIP_MS, waits
    assert len(world.times("d.a")) == 60


def test_the_back_off_has_an_end():
    world = World()
    world.table.dead.add("default/d")
    world.add(prop("a"))
    world.run(600000)
    tries = world.times("d.a")
    assert tries[-1] - tries[-2] == 60000 + TIMEOUT_MS


def test_a_device_that_comes_back_gets_its_desired_values_again():
    world = World(a=21, b=1)
    world.add(prop("a", "21"), prop("b"))
    world.run(1000)
    world.table.dead.add("default/d")
    world.run(10000)
    world.table.dead.clear()
    world.table.values["d.a"] = 5  # it forgot
    world.twin.told()
    world.run(10000)
    assert world.table.writes == [("d.a", 21)]
    assert world.twin.told("state", "applied") == [("state", "default/d", "online", ""), ("applied", "d.a")]
    world.table.dead.add("default/d")
    world.run(10000)
    world.table.dead.clear()
    world.twin.told()
    world.run(10000)  # it did not forget: read first, and nothing to write
    assert world.table.writes == [("d.a", 21)]
    assert world.twin.told("state", "applied") == [("state", "default/d", "online", ""), ("applied", "d.a")]


def test_a_few_lost_answers_are_nothing():
    world = World(a=1)
    world.add(prop("a"))
    world.run(500)
    world.twin.told()
    for _ in range(3):
        world.table.dead.add("default/d")
        world.run(1700)  # fails at 1000 and 2100
        world.table.dead.clear()
        world.run(5000)
    assert world.twin.told("state") == []


def test_a_bus_that_is_down_takes_all_its_devices_with_it():
    world = World(a=1)
    world.table.values["e.a"] = 1
    world.add(prop("a", collectCycle=86400000))
    world.add(prop("a"), name="e")
    world.run(500)
    world.table.down = True
    world.run(20000)
    world.table.down = False
    world.run(20000)
    states = [entry[1:3] for entry in world.twin.told("state")]
    assert states == [
        ("default/d", "online"),
        ("default/e", "online"),
        ("default/d", "offline"),
        ("default/e", "offline"),
        ("default/d", "online"),
        ("default/e", "online"),
    ]


def test_a_property_that_is_refused_is_told_once_and_the_rest_goes_on():
    world = World(a=1, b=2)
    world.table.refused.add("d.a")
    world.add(prop("a"), prop("b"))
    world.run(10000)
    assert world.twin.told("state", "reported") == [
        ("state", "default/d", "online", ""),
        ("state", "default/d", "online", "a: illegal data address"),
        ("reported", "d.b", 2),
    ]
    world.table.refused.clear()
    world.run(3000)
    assert world.twin.told("state", "reported") == [
        ("reported", "d.a", 1),
        ("state", "default/d", "online", ""),
    ]


def test_a_fault_is_over_with_the_first_good_read():
    world = World(a=1)
    world.table.refused.add("d.a")
    world.add(prop("a", collectCycle=5000))
    world.run(2000)
    world.table.refused.clear()
    world.run(5000)  # one read
    assert world.twin.told("state")[-1] == ("state", "default/d", "online", "")
    world = World(a=20)
    world.table.clamp = 25
    world.add(prop("a", "30", collectCycle=5000))
    world.run(2000)
    assert world.twin.told("state")[-1][3] == "a: desired 30 does not read back"
    world.table.values["d.a"] = 30
    world.run(5000)
    assert world.twin.told("state")[-1] == ("state", "default/d", "online", "")


def test_two_faults_are_over_when_both_are():
    world = World(a=1, b=2)
    world.table.refused.add("d.a")
    world.table.refused.add("d.b")
    world.add(prop("a"), prop("b"))
    world.run(2000)
    world.twin.told()
    world.table.refused.discard("d.a")
    world.run(5000)
    assert world.twin.told("state") == []
    world.table.refused.discard("d.b")
    world.run(5000)
    assert world.twin.told("state") == [("state", "default/d", "online", "")]


def test_a_fault_is_told_again_after_the_device_was_offline():
    world = World(a=1, b=2)
    world.table.refused.add("d.a")
    world.add(prop("a"), prop("b"))
    world.run(2000)
    world.table.dead.add("default/d")
    world.run(10000)
    world.table.dead.clear()
    world.twin.told()
    world.run(10000)
    assert world.twin.told("state")[-1] == ("state", "default/d", "online", "a: illegal data address")


def test_a_value_that_means_nothing_is_a_fault_until_it_changes():
    world = World(a=65535)
    world.add(prop("a"))
    world.run(5000)
    assert world.twin.told("state", "reported")[1:] == [("state", "default/d", "online", "means nothing")]
    world.table.values["d.a"] = 5
    world.run(3000)
    assert world.twin.told("state", "reported") == [
        ("reported", "d.a", 5),
        ("state", "default/d", "online", ""),
    ]


def test_a_device_that_is_removed_is_left_alone_and_the_bus_closed():
    world = World(a=1)
    made = world.add(prop("a"))
    world.run(1001)  # in the middle of a read
    closed = world.table.closed
    world.table.values["d.a"] = 9
    attach.remove(made)
    world.twin.told()
    world.run(10000)
    assert made.mapper is None
    assert world.table.closed == closed + 1 and world.mapper.task is None
    assert world.twin.log == []
    reads = len(world.table.reads)
    world.run(10000)
    assert len(world.table.reads) == reads
    again = world.add(prop("a"))
    assert again.mapper is world.mapper
    world.run(1000)
    assert world.twin.told("reported") == [("reported", "d.a", 9)]


def test_a_device_that_is_replaced_keeps_the_bus_open():
    world = World(a=1)
    old = world.add(prop("a", "1"))
    world.run(1001)
    closed = world.table.closed
    attach.remove(old)
    world.add(prop("a", "2"))
    world.run(1000)
    assert world.table.closed == closed
    assert world.table.writes == [("d.a", 2)]


def test_a_malformed_device_is_refused_and_not_kept():
    world = World(a=1)
    raises(ValueError, attach.add, world.mapper, make("d", prop("a"), nonsense=1), world.table)
    assert world.mapper.devices == [] and world.mapper.task is None


def test_a_property_without_a_visitor_is_not_read():
    world = World(a=1)
    world.add({"name": "n", "type": "INT"}, prop("a"))
    world.run(3000)
    assert world.times("d.a") == [0, 1000, 2000]
    world = World()
    world.add({"name": "n", "type": "INT"})
    world.run(3000)
    assert world.table.reads == []


def test_the_flags_of_the_mapper_leave_the_twins_alone():
    world = World(a=1)
    item = world.add(prop("a", "2")).properties[0]
    item.flags |= device.DIRTY | device.INFLIGHT
    world.run(5000)
    assert item.flags == device.READ_WRITE | device.TO_CLOUD | device.DIRTY | device.INFLIGHT
