"""DS18B20 on a 1-Wire bus, found and read by the kernel's own drivers: values to the sixteenth of a degree, what a chip says after a loss of power, a
checksum that is wrong, a chip that is gone and back. Each is told once, ends by itself, and costs the neighbour nothing."""

import json

from bench.hardware import ALL
from bench.waiting import check, wait_until

BOILER, CELLAR = 0x0316A2796FFF, 0x00000B0C0D0E
MASTER = "/sys/bus/w1/devices/w1_bus_master1"

CONFIG = f"""
[[sensor]]
id = "boiler"
driver = "w1"
device = "28-{BOILER:012x}"
every = "2s"

[[sensor]]
id = "cellar"
driver = "w1"
device = "28-{CELLAR:012x}"
every = "2s"
"""


def scenario(bench):
    gateway, wire = bench.gateway, bench.wire
    wire.add(BOILER, 21.5625)
    wire.add(CELLAR, -10.125)
    wait_until("the kernel to find both", lambda: found(bench) == {BOILER, CELLAR})
    code, printed = gateway.run("scan w1 --json")
    check(code == 0 and {chip["name"] for chip in json.loads(printed)} == {f"28-{BOILER:012x}", f"28-{CELLAR:012x}"}, printed)
    gateway.start(CONFIG)
    check(gateway.reading("boiler")["temperature"] == 21.562, "345 sixteenths, of which the kernel tells thousandths")
    check(gateway.reading("cellar")["temperature"] == -10.125, "DS18B20 datasheet, table 1: FF5E is -10.125 °C")
    wire.measure(CELLAR, -55)
    gateway.reading("cellar", '"temperature":-55')
    start = gateway.client.mark()

    # Its supply breaks down in each conversion, which leaves 85 °C: no value, while an honest 85 °C is one when the one before was near.
    ill(bench, "85.00 °C is what the chip says before it has measured", lambda: wire.starve(BOILER, ALL), lambda: wire.starve(BOILER, 0))
    wire.measure(BOILER, 84.5)
    gateway.reading("boiler", '"temperature":84.5')
    wire.measure(BOILER, 85)
    gateway.reading("boiler", '"temperature":85')

    # The kernel tries five times, then its file is empty.
    ill(bench, "the conversion gave nothing", lambda: wire.garble(BOILER, ALL), lambda: wire.garble(BOILER, 0))

    def gone():
        wire.remove(BOILER)
        # As it does by itself after ten searches without an answer.
        bench.machine.shell(f"echo 28-{BOILER:012x} >{MASTER}/w1_master_remove")

    ill(bench, "(the kernel sees no such chip|the conversion gave nothing|cannot read)", gone, lambda: wire.add(BOILER, 30.0625))
    check(found(bench) == {BOILER, CELLAR}, "the kernel found it again")
    gateway.reading("boiler", '"temperature":30.062', gateway.client.mark())

    check(not gateway.client.since(start, "tidegate/box/cellar/availability"), "the neighbour was never away")
    told = [message.json() for message in gateway.client.since(start, "tidegate/box/cellar") if not message.retained]
    check(told and all(reading["temperature"] == -55 and "q" not in reading for reading in told), "the neighbour's values are right")
    check(not any("cellar" in line for line in gateway.log()), "no line about the neighbour")


def ill(bench, words, harm, heal):
    """One warning with these words, the last value as a fault, then one line and values again."""
    gateway = bench.gateway
    mark, log = gateway.client.mark(), gateway.mark()
    harm()
    gateway.availability("boiler", "offline", mark, timeout=90)
    check(gateway.reading("boiler", '"q"', mark)["q"] == "fault", "the last reading is told again as a fault")
    back = gateway.client.mark()
    heal()
    gateway.availability("boiler", "online", back, timeout=90)
    check("q" not in gateway.reading("boiler", mark=back), "good again")
    gateway.wait_log("INFO .*sensor=boiler.*outage_ms=", log)
    gateway.exactly_one(" WARN ", "sensor=boiler", words, since=log)
    bench.note(gateway.exactly_one(" INFO ", "sensor=boiler", "outage_ms=", since=log).split("INFO ")[1])
    check(len(gateway.log(log)) == 2, gateway.log(log))


def found(bench):
    """The serials that the kernel lists."""
    names = bench.machine.shell("ls /sys/bus/w1/devices").split()
    return {int(name[3:], 16) for name in names if name.startswith("28-")}
