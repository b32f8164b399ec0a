"""Bursts of edges at rising rates, while the processor is kept busy and clients publish: how many were counted, how many told as missed, and how many
are lost without a word. Never is more counted than came. Version 2 of the kernel's interface numbers its events, so nothing is lost in silence of what
the kernel made an event of; how many edges were none is a figure, and so is what version 1 hides."""

import threading

from bench.events import KernelEvents
from bench.mqtt import Client
from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
LINE, EDGES = 27, 1000
# A second, from what a busy program follows to beyond what the kernel does (bench/events.py).
RATES = (200, 1000, 2000, 5000, 10_000)
# Up to here events are counted, such a share of them: version 2 keeps those of a quarter of a second until they are read, version 1 those of 80 ms.
FOLLOWED = {"v2": (1000, 1), "v1": (200, 0.9)}
BUSY_LOOPS = 3
IN_FLIGHT = 5

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "flow"
driver = "gpio-counter"
line = "GPIO27"
edge = "both"
debounce = "0s"
every = "200ms"
"""


def scenario(bench, backend):
    gateway, machine = bench.gateway, bench.machine
    gateway.start(CONFIG.format(backend=backend))
    gateway.reading("flow")
    loops = [machine.start_beside("while :; do :; done") for _ in range(BUSY_LOOPS)]
    ends = threading.Event()
    load = threading.Thread(target=publish, args=(machine.mqtt_port, ends))
    load.start()
    followed, share = FOLLOWED[backend]
    try:
        with KernelEvents(machine, backend) as events:
            for rate in RATES:
                counted, missed, seen = burst(bench, events, rate)
                silent = EDGES - counted - missed
                outcome = f"{rate} a second: {counted} counted, {missed} missed, {silent} lost silently, of {seen} that the kernel saw"
                bench.note(outcome)
                check(silent >= 0, f"more than came: {outcome}")
                check(counted <= seen, f"more than the kernel saw: {outcome}")
                check(backend == "v1" or counted + missed == seen, f"some are hidden: {outcome}")
                check(rate > followed or counted >= share * seen, f"some are not counted: {outcome}")
    finally:
        ends.set()
        for loop in loops:
            machine.ask("run", f"kill {loop}")
        load.join()


def publish(port, ends):
    """As fast as it is acknowledged."""
    client = Client(port, "load")
    try:
        number = 0
        while not ends.is_set():
            client.publish_and_hear("tidegate/box/load", str(number), IN_FLIGHT)
            number += 1
    finally:
        client.close()


def burst(bench, events, rate):
    """How many of the edges were counted, how many told as missed, and of how many the kernel made an event."""
    client = bench.gateway.client
    before, events_before = settled(client), events.so_far()
    journal, us = bench.pins.mark(), 1_000_000 // rate
    bench.pins.wave(LINE, EDGES // 2, (1, us), (0, us))
    bench.pins.wait_wave(LINE, journal, timeout=90)
    after, seen = settled(client), events.so_far() - events_before
    check(len(bench.pins.trace(LINE, journal)) == EDGES, "the bench itself came too late")
    return after["count"] - before["count"], after["missed"] - before["missed"], seen


def settled(client):
    """The totals, once three readings agree: everything that came is counted."""
    mark = client.mark()

    def last():
        told = [(reading["count"], reading["missed"]) for reading in (m.json() for m in client.since(mark, "tidegate/box/flow"))][-3:]
        return len(told) == 3 and len(set(told)) == 1 and {"count": told[0][0], "missed": told[0][1]}

    return wait_until("the totals to stand still", last, timeout=90)
