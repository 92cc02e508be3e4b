"""EventBus: MQTT for the applications and mappers beside the gateway, over KubeEdge's topics.

It subscribes to what KubeEdge's does, takes topics apart by position, and hands a message to
DeviceTwin or to the cloud. What DeviceTwin answers comes through the mailbox "eventbus". The broker
is an external one (mqttMode 2), the internal one (0), or both (1); `motelet.broker` is imported only
where it is asked for, `motelet.uploads` with the first message for the cloud, `motelet.publications` with
the first one that the cloud publishes here.
"""

from micropython import const

from motelet import borrow
from motelet.messages import ARRIVED

_HELD_MS = const(50)


class EventBus:
    """Runs on `loop`, between the broker that `config` names, DeviceTwin `twin` and the cloud.

    `config`: mqttMode (0, 1 or 2, the default); host, port, username, password, keepalive (s),
    clientId for an external broker, with TLS also ca and perhaps cert and key (DER); broker, a dict, for the
    internal one; mqttQOS of what is published
    (as in KubeEdge 0 with the internal broker alone, else 1). ValueError for what cannot be used.

    `apps`, None unless there are pods: its `arrived(topic, payload)` is True for what is not for the cloud.
    `hub`, EdgeHub or None, is given `uploads`, the queue of messages for the cloud, once there is one; its
    PUBLISH messages and the topics of Router rules come to `eventrules`.
    """

    def __init__(self, port, loop, bus, log, twin, node, config, hub=None):
        self._inbox = bus["devicetwin"]
        self._log = log
        self._tcp = port.tcp
        self._twin = twin
        self._hub = hub
        self.local = twin.speak(node)
        self.out = bus["eventbus"]
        self.dropped = 0
        self.client = self.broker = self.uploads = self.publications = self.apps = None
        self.rules = []  # the topics that Router rules want
        self.host = config.get("host", "127.0.0.1")
        self.port = config.get("port", 1883)
        self.qos = 1
        self.context = None  # of TLS
        self._ruled = True  # those may be other ones now
        self._held = False  # a message for the cloud, while the store makes room
        borrow("eventrules").start(self, port, loop, log, twin.store, node, config)
        self.task = loop.spawn("eventbus", self.run)

    def dial(self):
        """-> a stream to the external broker, for MQTTClient."""
        return self._tcp(self.host, self.port, self.context, self.host)

    def upload(self):
        """-> the queue of messages for the cloud."""
        if self.uploads is None:
            from motelet.uploads import Uploads

            twin = self._twin
            self.uploads = Uploads(twin.store, self._log, twin.epoch_ms)
            self.uploads.hub = twin.hub
            if self._hub is not None:
                self._hub.uploads = self.uploads
        return self.uploads

    def run(self, task):
        """The task: publish what the mailbox holds, in order, as fast as the broker takes it."""
        out = self.out
        out.task = task
        client = self.client
        if client is not None:
            client.waiter = task
        waiting = False
        while True:
            if self._held:
                self._held = False
                self.wake()
            online = client is None or client.connected or self.broker is not None
            if online != self.local.online:
                self.local.connected(online)
            while waiting or out.take():
                waiting = not self._serve(out)
                if waiting:
                    break
            if not waiting:
                self.local.drained()
            if self._ruled:
                self._ruled = not borrow("eventrules").apply(self, self._log, self._twin.store)
            if self.publications is not None:
                self.publications.serve(client, self.broker, self.qos)
            yield

    def ruled(self):
        """MetaManager: the topics of Router rules may be other ones now."""
        self._ruled = True
        self.task.wake()

    def _serve(self, out):
        """Publish the message that was taken; -> False when the broker cannot take it now.

        As arguments topic and payload would stay on the stack of the task, which waits, and in memory.
        """
        topic, payload = out.a, out.b
        client = self.client
        if client is not None and client.connected:
            try:
                if not client.publish(topic, payload, False, self.qos):
                    return False
            except ValueError as error:
                self._drop(topic, error)
        elif self.broker is None:
            self._drop(topic, "no broker")
        if self.broker is not None:
            self.broker.publish(topic, payload, False, self.qos)
        return True

    def _drop(self, topic, reason):
        self.dropped += 1
        self._log.warning("eventbus", "not published", "topic", topic, "reason", reason, "sum", self.dropped)

    def arrived(self, topic, payload):
        """Take a message from a broker; -> False when there is no room for it now."""
        # Not taken apart here: what that makes is garbage at every message.
        known = topic.startswith("$hw/events/device/") or topic.startswith("$hw/events/node/")
        if known and topic.count("/") > 3:
            if not self._inbox.put(ARRIVED, topic, payload):
                self._inbox.sender = self
                return False
            if self.apps is not None:
                self.apps.arrived(topic, payload)
        elif self.apps is None or not self.apps.arrived(topic, payload):
            if not self.upload().put(topic, payload):
                self._held = True
                self.task.sleep(_HELD_MS)
                return False
        return True

    def wake(self, events=0):
        """What was held up for want of room may go on."""
        if self.client is not None:
            self.client.wake()
        if self.broker is not None:
            self.broker.wake()
