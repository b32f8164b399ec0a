"""Two relays on one PCF8574: each command writes one byte that leaves the other pins as they are, and the state is what the chip reads back. A chip
that does not acknowledge fails the command and moves nothing later; one that lost its power is noticed by itself."""

import re

from bench.hardware import NACK
from bench.waiting import check

CHIP = 0x20
# Relays are on while their pin is low; so after power-on, all pins high, they are off.
FAN, LIGHT = 0x01, 0x08
AT_REST = 0xFF

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[actuator]]
id = "fan"
driver = "i2c-write"
bus = "i2c-1"
chip = "pcf8574"
address = 0x20
output = 0
active_low = true

[[actuator]]
id = "light"
driver = "i2c-write"
bus = "i2c-1"
chip = "pcf8574"
address = 0x20
output = 3
active_low = true
"""


def scenario(bench):
    gateway, i2c = bench.gateway, bench.i2c
    start = bench.pins.mark()
    i2c.do(f"add {CHIP} port8", f"set {CHIP} 0 {AT_REST}")
    gateway.start(CONFIG)
    gateway.availability("fan", "online")
    gateway.availability("light", "online")
    check(set(written(bench, start)) == {AT_REST}, "the start switches nothing")

    start = bench.pins.mark()
    done(gateway, "fan", "1", "on", "done")
    done(gateway, "light", "2", "on", "done")
    done(gateway, "fan", "3", "off", "done")
    expected = [AT_REST & ~FAN, AT_REST & ~FAN & ~LIGHT, AT_REST & ~LIGHT]
    check(written(bench, start) == expected, f"written were {written(bench, start)}, not {expected}")

    mark, start = gateway.client.mark(), bench.pins.mark()
    i2c.fail(CHIP, NACK)
    ack = done(gateway, "fan", "4", "on", "failed")
    check("no answer at 0x20 (NACK)" in ack["reason"], ack)
    gateway.availability("fan", "offline", mark)
    i2c.mend()
    gateway.availability("fan", "online", mark, timeout=60)
    check(all(byte & FAN for byte in written(bench, start)), "a command that failed is not done later")

    # A loss of its power leaves the chip as when it is switched on: the light, which is on, is not.
    mark, log = gateway.client.mark(), gateway.mark()
    i2c.do(f"set {CHIP} 0 {AT_REST}")
    gateway.client.wait("tidegate/box/light", '"value":"off"', mark)
    gateway.exactly_one(" WARN ", "actuator=light", since=log)


def done(gateway, actuator, number, value, result):
    mark = gateway.client.mark()
    gateway.client.publish(f"tidegate/box/{actuator}/set", {"id": number, "value": value})
    ack = gateway.client.wait(f"tidegate/box/{actuator}/ack", f'"id":"{number}"', mark).json()
    check(ack["result"] == result, f"{actuator} {value}: {ack}")
    return ack


def written(bench, mark):
    """The bytes that the chip took, in their order."""
    found = (re.match(r"\d+ i2c 0x20 0 W ([0-9a-f]{2})$", line) for line in bench.machine.recorded(mark))
    return [int(match[1], 16) for match in found if match]
