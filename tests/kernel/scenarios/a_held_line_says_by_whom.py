"""A line that somebody else holds is told once, with the holder's name; it is taken as soon as it is given back."""

from bench.gateway import exactly_one
from bench.waiting import check

VARIANTS = ("v2", "v1")
LINE = 22

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "float"
driver = "gpio-input"
line = "GPIO22"

[[sensor]]
id = "lost"
driver = "gpio-input"
line = "GPIO99"
"""


def scenario(bench, backend):
    gateway, shell = bench.gateway, bench.machine.shell
    base = int(shell("cat $(grep -l bench-gpio /sys/class/gpio/*/label | sed 's/label$/base/')"))
    # The kernel's old interface is one more program that can hold a line; it calls itself sysfs.
    shell(f"echo {base + LINE} >/sys/class/gpio/export")
    try:
        gateway.start(CONFIG.format(backend=backend))
        gateway.wait_log("WARN .*held by `sysfs`")
        gateway.wait_log("WARN .*no line is named `GPIO99`")
        gateway.availability("float", "offline")
        # Before it is let go of: the next try may come at once.
        mark = gateway.mark()
    finally:
        shell(f"echo {base + LINE} >/sys/class/gpio/unexport")
    gateway.availability("float", "online", timeout=90)
    gateway.wait_log("INFO .*float.*outage_ms=", mark)
    check(gateway.reading("float")["state"] is False, "nothing pulls at it")
    exactly_one(gateway.log(), " WARN ", "float")
    exactly_one(gateway.log(mark), " INFO ", "float", "outage_ms=")
