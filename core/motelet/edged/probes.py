"""Probes of a container that runs: is it started, is it alive, is it ready (Kubernetes' three)?

`exec` names a function of the application, which fails by raising or by returning False; `tcpSocket` is a
connection that can be made. Loaded only for pods that have probes.
"""

from micropython import const

from motelet.loop import WRITE

# What is kept of a probe: [spec, tick when it is due, right in a row, wrong in a row].
_DUE = const(1)
_RIGHT = const(2)
_WRONG = const(3)
_STARTUP = "startupProbe"
_LIVENESS = "livenessProbe"
_READINESS = "readinessProbe"


class Probes:
    """The probes of `container`, which was just started; `specs`: {kind: probe} of protocol.cddl."""

    def __init__(self, edged, container, specs):
        clock = edged.clock
        now = clock.ticks_ms()
        self._edged = edged
        self._container = container
        self._run = container.run
        self._all = {}
        self._asked = None  # the kind that is under way
        self._until = 0
        for kind in specs:
            delay = specs[kind].get("initialDelaySeconds", 0) * 1000
            self._all[kind] = [specs[kind], clock.ticks_add(now, delay), 0, 0]
        container.ready = _READINESS not in specs and _STARTUP not in specs
        container.due = now

    def check(self, edged, container):
        """Begin what is due; `container.due` is when to look again. -> why it has to be stopped, or None."""
        clock = edged.clock
        now = clock.ticks_ms()
        if self._asked is not None:
            left = clock.ticks_diff(self._until, now)
            if left > 0:
                container.due = self._until
                return None
            self._answer(self._asked, False)
        why = self._verdict()
        if why:
            return why
        wait = 60000
        for kind in self._all:
            if kind != _STARTUP and _STARTUP in self._all:
                continue
            probe = self._all[kind]
            left = clock.ticks_diff(probe[_DUE], now)
            if left <= 0:
                self._begin(kind, probe, now)
                container.due = self._until
                return None
            wait = min(wait, left)
        container.due = clock.ticks_add(now, wait)
        return None

    def _verdict(self):
        for kind in (_STARTUP, _LIVENESS):
            probe = self._all.get(kind)
            if probe is not None and probe[_WRONG] >= probe[0].get("failureThreshold", 3):
                return "%s failed" % kind
        return None

    def _begin(self, kind, probe, now):
        spec = probe[0]
        clock = self._edged.clock
        self._asked = kind
        self._until = clock.ticks_add(now, spec.get("timeoutSeconds", 1) * 1000)
        probe[_DUE] = clock.ticks_add(now, max(1, spec.get("periodSeconds", 10)) * 1000)
        if "exec" in spec:
            self._edged.runner.call(self._container, spec["exec"], self._done)
        else:
            host, port = spec["tcpSocket"]
            self._edged.loop.spawn("probe", lambda task: self._connect(task, host, port))

    def _connect(self, task, host, port):
        run, kind = self._run, self._asked
        stream = None
        try:
            stream = self._edged.tcp(host, port)
            self._edged.loop.watch(stream, WRITE, task)
            task.sleep(self._edged.clock.ticks_diff(self._until, self._edged.clock.ticks_ms()))
            yield
            # Made or failed; a stream that failed says so when it is read.
            stream.readinto(bytearray(1))
            good = True
        except OSError:
            good = False
        finally:
            if stream is not None:
                self._edged.loop.unwatch(stream)
                stream.close()
        if self._container.run is run and self._asked == kind:
            self._done(good)

    def _done(self, good):
        """The probe that is under way has an answer."""
        if self._asked is not None and self._container.run is self._run:
            self._answer(self._asked, good)
            self._container.due = self._edged.clock.ticks_ms()
            self._edged.look(self._container.pod)

    def _answer(self, kind, good):
        self._asked = None
        probe = self._all[kind]
        probe[_RIGHT] = probe[_RIGHT] + 1 if good else 0
        probe[_WRONG] = 0 if good else probe[_WRONG] + 1
        ready = self._container.ready
        if kind == _STARTUP and good:
            del self._all[_STARTUP]
            ready = _READINESS not in self._all
        elif kind == _READINESS:
            if probe[_RIGHT] >= probe[0].get("successThreshold", 1):
                ready = True
            elif probe[_WRONG] >= probe[0].get("failureThreshold", 3):
                ready = False
        if ready != self._container.ready:
            self._container.ready = ready
            self._edged.tell(self._container.pod)
