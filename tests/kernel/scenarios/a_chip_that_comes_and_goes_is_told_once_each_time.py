"""A chip with a loose plug: it goes away and comes back, five times, as it is after power-on. Each time one warning and one line, offline and online
once; it is set up anew, and what it tells then is what it measures then. Its neighbour notices nothing."""

from bench.chips import Bme280, Sht3x
from bench.waiting import check

TIMES = 5
RAW = 480000

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "loose"
driver = "bme280"
bus = "i2c-1"
every = "300ms"

[[sensor]]
id = "firm"
driver = "sht3x"
bus = "i2c-1"
every = "300ms"
"""


def scenario(bench):
    gateway, i2c = bench.gateway, bench.i2c
    loose = Bme280(i2c)
    firm = Sht3x(i2c)
    gateway.start(CONFIG)
    gateway.availability("loose", "online")
    gateway.availability("firm", "online")
    start, journal = gateway.client.mark(), bench.pins.mark()

    for time in range(TIMES):
        mark, log = gateway.client.mark(), gateway.mark()
        i2c.do(f"remove {loose.address}")
        gateway.availability("loose", "offline", mark)
        check(gateway.reading("loose", '"q"', mark)["q"] == "fault", "the last reading is told again as a fault")
        back, came = gateway.client.mark(), bench.pins.mark()
        loose = Bme280(i2c)
        temperature, pressure, humidity = loose.measure(RAW + 5000 * time, 400000, 26000)
        gateway.availability("loose", "online", back, timeout=90)
        told = gateway.reading("loose", mark=back)
        near = abs(told["temperature"] - temperature) < 0.02 and abs(told["pressure"] - pressure) < 0.02 and abs(told["humidity"] - humidity) < 0.02
        check(near and "q" not in told, f"{told}, not {temperature}, {pressure}, {humidity}")
        check(any(f"0x{loose.address:02x} " in line and " W e0b6" in line for line in bench.machine.recorded(came)), "it was started anew")
        gateway.wait_log("INFO .*sensor=loose.*outage_ms=", log)
        gateway.exactly_one(" WARN ", "sensor=loose", r"no answer at 0x76 \(NACK\)", since=log)
        check(len(gateway.log(log)) == 2, f"more than two lines: {gateway.log(log)}")

    states = [message.text for message in gateway.client.since(start, "tidegate/box/loose/availability")]
    check(states == ["offline", "online"] * TIMES, f"it was {states}")
    check(not gateway.client.since(start, "tidegate/box/firm/availability"), "the neighbour was never away")
    check(set(bench.i2c.transfers(firm.address, journal)) == {0}, "the neighbour's transfers are good")
