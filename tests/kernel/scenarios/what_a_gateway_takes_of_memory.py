"""Twenty sensors on I2C, lines and a serial port, read every second, the broker and a bridge: what the gateway has in memory on this machine."""

import re

from bench.chips import Bme280, Sht3x
from bench.waiting import check, wait_until

LINES = 16
# Of its own, whatever build it is; the pages of the program's file come on top, and are a release build's or, in CI, those of one that is not optimised.
OWN_MOST_KB = 5_000

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[bus.uart]
device = "{uart}"

[[sensor]]
id = "weather"
driver = "bme280"
bus = "i2c-1"
address = 0x76
every = "1s"

[[sensor]]
id = "cellar"
driver = "sht3x"
bus = "i2c-1"
address = 0x44
every = "1s"

[[sensor]]
id = "attic"
driver = "sht3x"
bus = "i2c-1"
address = 0x45
every = "1s"

[[sensor]]
id = "tank"
driver = "uart"
bus = "uart"
match = {{ json = true }}
"""

DOOR = """
[[sensor]]
id = "door{line}"
driver = "gpio-input"
line = "GPIO{line}"
bias = "pull-up"
every = "1s"
"""


def scenario(bench):
    gateway, cloud = bench.gateway, bench.cloud.client
    Bme280(bench.i2c)
    Sht3x(bench.i2c)
    Sht3x(bench.i2c, 0x45)
    mark = cloud.mark()
    config = CONFIG.format(uart=bench.machine.uart_device) + "".join(DOOR.format(line=line) for line in range(LINES))
    gateway.start(config + bench.cloud.bridge())

    def tank():
        # A port that is not open yet drops what comes.
        bench.machine.uart.send('{"n":1}\n')
        return gateway.client.since(0, "tidegate/box/tank")

    wait_until("a line of the port", tank)
    for sensor in ("weather", "cellar", "attic", "tank", f"door{LINES - 1}"):
        cloud.wait(f"tidegate/box/{sensor}", mark=mark)
    # Ten seconds' readings: what is taken once and for all has been taken.
    for _ in range(10):
        mark = gateway.client.mark()
        gateway.reading("weather", mark=mark)

    status = bench.machine.shell("cat /proc/$(pidof tidegate)/status")
    resident, anonymous = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) for name in ("VmRSS", "RssAnon"))
    bench.note(f"{resident / 1000:.1f} MB resident, {anonymous / 1000:.1f} MB of it not of a file")
    check(anonymous <= OWN_MOST_KB, f"more than {OWN_MOST_KB} kB: {anonymous}")
