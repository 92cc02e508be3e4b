"""What modules say to each other: the kinds of mailbox messages, with their fields (a, b, c).

One small file, so that no module has to import another to speak to it.
"""

# to devicetwin
PUT = 1  # resource, content: bytes; the node holds this object (new, or changed)
DELETE = 2  # resource
READY = 3  # everything the store held has been handed over
ARRIVED = 4  # topic, payload: bytes; an MQTT message for DeviceTwin
# to eventbus
PUBLISH = 6  # topic, payload: str or bytes
