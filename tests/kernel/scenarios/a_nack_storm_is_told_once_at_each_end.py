"""A chip that does not acknowledge for many measurements costs one warning, and one line when it is over; its neighbour notices nothing. A
single NACK costs no line and no reading at all."""

from bench.chips import Bme280, Sht3x
from bench.hardware import NACK
from bench.waiting import check, wait_until

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "shaky"
driver = "sht3x"
bus = "i2c-1"
every = "100ms"

[[sensor]]
id = "steady"
driver = "bme280"
bus = "i2c-1"
every = "200ms"
"""


def scenario(bench):
    gateway = bench.gateway
    shaky, steady = Sht3x(bench.i2c), Bme280(bench.i2c)
    gateway.start(CONFIG)
    gateway.availability("shaky", "online")
    gateway.availability("steady", "online")
    mark, log, journal = gateway.client.mark(), gateway.mark(), bench.pins.mark()

    bench.i2c.fail(shaky.address, NACK, count=1)
    wait_until("the NACK", lambda: bench.i2c.transfers(shaky.address, journal).count(-NACK) == 1)
    wait_until("the measurement after it", lambda: bench.i2c.transfers(shaky.address, journal)[-4:] == [0] * 4)
    check(not gateway.log(log) and not gateway.client.since(mark, "tidegate/box/shaky/availability"), "one NACK is no news")

    bench.i2c.fail(shaky.address, NACK)
    gateway.availability("shaky", "offline", mark)
    check(gateway.reading("shaky", '"q"', mark)["q"] == "fault", "the last reading is told again as a fault")
    # Asked less and less often: so it is the count of failed transfers that says how long the storm was.
    wait_until("8 transfers to fail", lambda: bench.i2c.transfers(shaky.address, journal).count(-NACK) >= 8)

    back = gateway.client.mark()
    bench.i2c.mend()
    gateway.availability("shaky", "online", back, timeout=90)
    check("q" not in gateway.reading("shaky", mark=back), "good again")

    gateway.exactly_one(" WARN ", "sensor=shaky", r"no answer at 0x44 \(NACK\)", since=log)
    over = gateway.exactly_one(" INFO ", "sensor=shaky", "failed=", "outage_ms=", since=log)
    check(len(gateway.log(log)) == 2, f"more than two lines: {gateway.log(log)}")
    check(not gateway.client.since(mark, "tidegate/box/steady/availability"), "the neighbour was never away")
    check(all(result == 0 for result in bench.i2c.transfers(steady.address, journal)), "the neighbour's transfers are good")
    bench.note(over.split("INFO ")[1])
