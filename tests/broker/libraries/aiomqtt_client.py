"""aiomqtt of PyPI: PORT VERSION MODE."""

import asyncio
import importlib.metadata
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
five = version == "5"


def client(name, clean=True, will=None):
    more = {}
    if five:
        more["clean_start"] = clean
        if not clean:
            more["properties"] = Properties(PacketTypes.CONNECT)
            more["properties"].SessionExpiryInterval = 3600
    else:
        more["clean_session"] = clean
    protocol = aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311
    return aiomqtt.Client("127.0.0.1", port, identifier=name, protocol=protocol, will=will, **more)


async def next_message(one):
    async with asyncio.timeout(10):
        async for message in one.messages:
            return message


async def main():
    if mode == "talk":
        async with client("lib-talk") as one:
            print("connect=yes")
            for qos in range(3):
                await one.subscribe(f"lib/q{qos}", qos)
                await one.publish(f"lib/q{qos}", "x", qos)
                print(f"qos{qos}=at {(await next_message(one)).qos}")
            await one.publish("lib/kept", "kept", 1, retain=True)
            await one.subscribe("lib/kept", 1)
            print(f"retain={'kept' if (await next_message(one)).retain else 'not kept'}")
            await one.publish("lib/kept", "", 1, retain=True)
    elif mode == "mortal":
        async with client("lib-mortal", will=aiomqtt.Will("lib/will", "gone", 1)):
            print("ready", flush=True)
            await asyncio.sleep(60)
    elif mode == "keep":
        async with client("lib-keeps", False) as one:
            await one.subscribe("lib/waits", 1)
    elif mode == "back":
        async with client("lib-keeps", False) as one:
            # It does not tell whether the session was there; what waited does.
            print(f"session=present, {(await next_message(one)).payload.decode()}")


if mode == "version":
    print(importlib.metadata.version("aiomqtt"))
else:
    asyncio.run(main())
