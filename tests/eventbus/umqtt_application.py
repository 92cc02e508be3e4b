"""An application on a board: `umqtt_application.py PORT`, for MicroPython with umqtt.simple."""

import json
import sys

from umqtt.simple import MQTTClient

DEV = "$hw/events/device/default/dev1/"
UPDATES = 20


def main(port):
    got = []
    client = MQTTClient("board", "127.0.0.1", int(port), keepalive=30)
    client.set_callback(lambda topic, msg: got.append((topic.decode(), json.loads(msg))))
    client.connect()
    client.subscribe(DEV + "twin/update/result", 1)
    client.subscribe(DEV + "twin/get/result")
    for i in range(UPDATES):
        update = {"event_id": str(i), "twin": {"temperature": {"actual": {"value": str(i)}}}}
        client.publish(DEV + "twin/update", json.dumps(update), False, i % 2)
        while not got:
            client.wait_msg()
        topic, payload = got.pop(0)
        assert topic == DEV + "twin/update/result" and payload["event_id"] == str(i), (topic, payload)
    client.publish(DEV + "twin/get", '{"event_id":"last"}')
    while not got:
        client.wait_msg()
    assert got[0][1]["twin"]["temperature"]["actual"]["value"] == str(UPDATES - 1)
    client.ping()
    client.disconnect()
    print("done")


main(sys.argv[1])
