"""gmqtt of PyPI: PORT VERSION MODE."""

import asyncio
import sys

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

port, version, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
five = version == "5"


async def client(name, clean=True, will=None):
    more = {"session_expiry_interval": 3600} if five and not clean else {}
    found = gmqtt.Client(name, clean_session=clean, will_message=will, **more)
    found.inbox, found.subscribed, found.present = asyncio.Queue(), asyncio.Queue(), None

    def on_connect(_client, flags, _code, _properties):
        found.present = bool(flags & 1)

    def on_message(_client, _topic, payload, qos, properties):
        found.inbox.put_nowait((payload, qos, properties.get("retain")))
        return 0

    found.on_connect, found.on_message = on_connect, on_message
    found.on_subscribe = lambda *_: found.subscribed.put_nowait(1)
    await found.connect("127.0.0.1", port, version=MQTTv50 if five else MQTTv311)
    return found


async def subscribe(one, topic, qos):
    one.subscribe(topic, qos=qos)
    await asyncio.wait_for(one.subscribed.get(), 10)


async def main():
    if mode == "talk":
        one = await client("lib-talk")
        print("connect=yes")
        for qos in range(3):
            await subscribe(one, f"lib/q{qos}", qos)
            one.publish(f"lib/q{qos}", "x", qos=qos)
            print(f"qos{qos}=at {(await asyncio.wait_for(one.inbox.get(), 10))[1]}")
        one.publish("lib/kept", "kept", qos=1, retain=True)
        await subscribe(one, "lib/kept", 1)
        print(f"retain={'kept' if (await asyncio.wait_for(one.inbox.get(), 10))[2] else 'not kept'}")
        one.publish("lib/kept", "", qos=1, retain=True)
        await one.disconnect()
    elif mode == "mortal":
        await client("lib-mortal", will=gmqtt.Message("lib/will", "gone", qos=1))
        print("ready", flush=True)
        await asyncio.sleep(60)
    elif mode == "keep":
        one = await client("lib-keeps", False)
        await subscribe(one, "lib/waits", 1)
        await one.disconnect()
    elif mode == "back":
        one = await client("lib-keeps", False)
        payload = (await asyncio.wait_for(one.inbox.get(), 10))[0]
        print(f"session={'present' if one.present else 'gone'}, {payload.decode()}")
        await one.disconnect()


if mode == "version":
    print(gmqtt.__version__)
else:
    asyncio.run(main())
