"""paho-mqtt, of PyPI (2.x) and of Debian (1.x): PORT VERSION MODE."""

import queue
import sys
import time

import paho.mqtt as package
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
five = version == "5"
TWO = hasattr(mqtt, "CallbackAPIVersion")
inbox: "queue.Queue" = queue.Queue()
connected: "queue.Queue" = queue.Queue()


def client(name, clean=True, will=False):
    kind = (mqtt.CallbackAPIVersion.VERSION2,) if TWO else ()
    words = {"protocol": mqtt.MQTTv5 if five else mqtt.MQTTv311}
    if not five:
        words["clean_session"] = clean
    found = mqtt.Client(*kind, client_id=name, **words)
    found.on_message = lambda _c, _u, message: inbox.put(message)
    found.on_connect = lambda _c, _u, flags, code, *_: connected.put((flags, code))
    if will:
        found.will_set("lib/will", "gone", 1)
    more = {}
    if five:
        more["clean_start"] = clean
        if not clean:
            more["properties"] = Properties(PacketTypes.CONNECT)
            more["properties"].SessionExpiryInterval = 3600
    found.connect("127.0.0.1", port, 30, **more)
    found.loop_start()
    flags, code = connected.get(timeout=10)
    assert int(getattr(code, "value", code)) == 0, code
    return found, bool(flags.session_present if TWO else flags["session present"])


def subscribe(found, topic, qos):
    done = queue.Queue()
    found.on_subscribe = lambda *_: done.put(1)
    found.subscribe(topic, qos)
    done.get(timeout=10)


if mode == "version":
    print(getattr(package, "__version__", "?"))
elif mode == "talk":
    one, _ = client("lib-talk")
    print("connect=yes")
    for qos in range(3):
        subscribe(one, f"lib/q{qos}", qos)
        one.publish(f"lib/q{qos}", "x", qos).wait_for_publish()
        print(f"qos{qos}={'at ' + str(inbox.get(timeout=10).qos)}")
    one.publish("lib/kept", "kept", 1, retain=True).wait_for_publish()
    subscribe(one, "lib/kept", 1)
    print(f"retain={'kept' if inbox.get(timeout=10).retain else 'not kept'}")
    one.publish("lib/kept", "", 1, retain=True).wait_for_publish()
    one.disconnect()
elif mode == "mortal":
    client("lib-mortal", will=True)
    print("ready", flush=True)
    time.sleep(60)
elif mode == "keep":
    one, _ = client("lib-keeps", clean=False)
    subscribe(one, "lib/waits", 1)
    one.disconnect()
elif mode == "back":
    one, present = client("lib-keeps", clean=False)
    print(f"session={'present' if present else 'gone'}, {inbox.get(timeout=10).payload.decode()}")
    one.disconnect()
