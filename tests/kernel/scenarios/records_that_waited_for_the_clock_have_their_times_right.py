"""Readings made by a clock that was an hour behind wait for the cloud; then the clock is set. At the cloud each has the time at which the chip was
really read, as the kernel's journal of the bus has it, and none says that its time is a guess. Also when the gateway is killed in between."""

import re
from datetime import datetime, timezone

from bench.chips import Sht3x
from bench.waiting import check, wait_until

VARIANTS = ("it runs on", "it is killed after the clock was set")
BEHIND_S = 3600
READINGS = 6
# From the end of the transfer to the stamp, on a slow board that does something else meanwhile.
TOLERANCE_MS = 250

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "cellar"
driver = "sht3x"
bus = "i2c-1"
every = "400ms"
"""


def scenario(bench, variant):
    gateway, cloud, machine = bench.gateway, bench.cloud, bench.machine
    config = CONFIG + cloud.bridge()
    chip = Sht3x(bench.i2c)
    journal, arrived = bench.pins.mark(), cloud.client.mark()
    cloud.link.swallow()
    machine.shell(f"wallclock unset -{BEHIND_S}")
    try:
        gateway.start(config)
        # Each measures something else, so that a reading can be told from its neighbours.
        words = [0x5000 + 0x400 * number for number in range(READINGS)]
        for word in words:
            chip.measure(word, 0x8000)
            check(gateway.reading("cellar", f'"temperature":{celsius(word)},')["tq"] == "unsynced", "below, its time is a guess")
        offset_ms = int(machine.shell(f"wallclock set {BEHIND_S}"))
        if "killed" in variant:
            # A reading by the set clock shows that the gateway knows of it.
            wait_until("a reading by the set clock", lambda: "tq" not in gateway.reading("cellar", mark=gateway.client.mark()))
            gateway.kill()
            gateway.start(config)
        cloud.link.mend()

        worst = 0
        for word in words:
            told = cloud.client.wait("tidegate/box/cellar", f'"temperature":{celsius(word)},', arrived).json()
            check("tq" not in told, f"at the cloud its time is no guess any longer: {told}")
            ts = datetime.fromisoformat(told["ts"]).replace(tzinfo=timezone.utc).timestamp() * 1000
            off = min(abs(ts - offset_ms - at) for at in read_at(bench, word, journal))
            check(off <= TOLERANCE_MS, f"{told} is {off:.0f} ms off the time at which the chip was read")
            worst = max(worst, off)
        bench.note(f"{len(words)} readings, set back by an hour; the worst is {worst:.0f} ms off when the chip was read")
    finally:
        machine.shell("wallclock unset 0")


def celsius(word):
    """As the gateway writes it."""
    return f"{round(-45 + 175 * word / 65535, 2):g}"


def read_at(bench, word, mark):
    """When the chip was read with this word, in milliseconds since boot."""
    found = (re.match(rf"(\d+) i2c 0x44 0 R {word:04x}", line) for line in bench.machine.recorded(mark))
    return [int(match[1]) / 1e6 for match in found if match]
