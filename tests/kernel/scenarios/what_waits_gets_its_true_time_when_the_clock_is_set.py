"""Readings that were made by a clock that was not set, an hour wrong, and that wait for the cloud say when they were really made once it is set.

The gateway is killed in between. At its own broker the readings say that their time is a guess; at the cloud, that time is an hour nearer to
the truth, and no guess any more. What was made after the clock was set is the same at both.
"""

import datetime

from bench.waiting import check, wait_until

VARIANTS = {"set an hour forward": 3600, "set an hour back": -3600}
CONFIG = """
[bus.uart]
device = "UART"
serial = "115200 8N1"

[[sensor]]
id = "meter"
driver = "uart"
bus = "uart"
match = { kv = "=" }
publish = { qos = 1 }
"""
TOPIC = "tidegate/box/meter"
BEFORE, AFTER = range(1, 6), range(6, 9)
OFF_MS_MAX = 5


def scenario(bench, variant):
    try:
        play(bench, VARIANTS[variant])
    finally:
        bench.machine.ask("run", "wallclock unset 0")


def play(bench, step_s):
    gateway, machine, cloud = bench.gateway, bench.machine, bench.cloud
    config = CONFIG.replace("UART", machine.uart_device) + cloud.bridge()
    arrived = cloud.client.mark()
    cloud.link.swallow()
    machine.shell(f"wallclock unset {-step_s}")
    gateway.start(config)
    guessed = measure(bench, BEFORE)
    commit(gateway.client)
    gateway.kill()
    gateway.start(config)
    machine.shell(f"wallclock set {step_s}")
    known = measure(bench, AFTER)
    check(all(reading.get("tq") == "unsynced" for reading in guessed.values()), guessed)
    check(not any("tq" in reading for reading in known.values()), known)

    cloud.link.mend()

    def above():
        told = [message.json() for message in cloud.client.since(arrived, TOPIC)]
        readings = {reading["n"]: reading for reading in told if reading["n"] > 0}
        return readings if len(readings) == len(BEFORE) + len(AFTER) else None

    above = wait_until("all readings at the cloud", above)
    check(all(above[n] == known[n] for n in AFTER), f"at the cloud {above}, below {known}")
    check(not any("tq" in reading for reading in above.values()), above)
    off_ms = {n: 1000 * (seconds(above[n]) - seconds(guessed[n]) - step_s) for n in BEFORE}
    check(all(abs(off) <= OFF_MS_MAX for off in off_ms.values()), f"off by so many ms: {off_ms}")
    bench.note(f"{len(BEFORE)} times mended, off by {max(map(abs, off_ms.values())):.0f} ms at most")


def measure(bench, numbers):
    """Sends these numbers as lines, and tells the reading of each at the gateway's own broker."""
    client = bench.gateway.client

    def numbered(message):
        return message.topic == TOPIC and not message.retained

    def heard():
        bench.machine.uart.send("n=0\r\n")
        return any(numbered(message) for message in client.since())

    # What comes as a port opens may be half a line, and is no reading: 0 is sent until it is one, and counts nowhere.
    wait_until("the first line", heard)
    readings = {}
    for number in numbers:
        mark = client.mark()
        bench.machine.uart.send(f"n={number}\r\n")
        told = client.wait_for(f"the reading of {number}", lambda m: numbered(m) and m.json()["n"] > 0, mark)
        readings[number] = told.json()
    check(list(readings) == [reading["n"] for reading in readings.values()], readings)
    return readings


def commit(client):
    """A client's message is acknowledged once it is committed, and with it what came before."""
    client.publish_and_hear("tidegate/box/note", "committed?", 1)
    wait_until("the commit", lambda: client.acknowledged)


def seconds(reading):
    return datetime.datetime.fromisoformat(reading["ts"].replace("Z", "+00:00")).timestamp()
