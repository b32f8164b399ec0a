"""Bursts of edges at rising rates, while the processor is kept busy and clients publish: how many were counted, how many told as missed, and how many
are lost without a word. Never is more counted than came. Version 2 of the kernel's interface numbers its edges, so none is lost in silence as long as
the kernel itself keeps up; of version 1 it is a figure."""

import threading

from bench.mqtt import Client
from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
LINE, EDGES = 27, 1000
# A second, from what a busy program follows to beyond what the kernel does: two edges that come before the interrupt's thread has run are one to it,
# and no number is left out. The thread waits for whatever else the kernel is in the middle of, which took less than half a millisecond here.
RATES = (200, 1000, 2000, 5000, 10_000)
FOLLOWED = 1000
# Of a thousand edges, beyond that: what was lost before they were numbered. Version 1, which drops what it has no room for, is far above it.
UNNUMBERED = 100
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
    outcomes = []
    try:
        for rate in RATES:
            counted, missed = burst(bench, rate)
            silent = EDGES - counted - missed
            outcomes.append(f"{rate} a second: {counted} counted, {missed} missed, {silent} lost silently")
            bench.note(outcomes[-1])
            check(silent >= 0, f"more than came: {outcomes}")
            check(backend != "v2" or silent <= (0 if rate <= FOLLOWED else UNNUMBERED), f"version 2 lost some without a word: {outcomes}")
    finally:
        ends.set()
        for loop in loops:
            machine.shell(f"kill {loop}")
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


def burst(bench, rate):
    """How many of the edges were counted, and how many told as missed."""
    client = bench.gateway.client
    before = settled(client)
    journal, us = bench.pins.mark(), 1_000_000 // rate
    bench.pins.wave(LINE, EDGES // 2, (1, us), (0, us))
    bench.pins.wait_wave(LINE, journal, timeout=90)
    after = settled(client)
    check(len(bench.pins.trace(LINE, journal)) == EDGES, "the bench itself came too late")
    return after["count"] - before["count"], after["missed"] - before["missed"]


def settled(client):
    """The totals, once three readings agree: everything that came is counted."""
    mark = client.mark()

    def last():
        told = [(reading["count"], reading["missed"]) for reading in (m.json() for m in client.since(mark, "tidegate/box/flow"))][-3:]
        return len(told) == 3 and len(set(told)) == 1 and {"count": told[0][0], "missed": told[0][1]}

    return wait_until("the totals to stand still", last, timeout=90)
