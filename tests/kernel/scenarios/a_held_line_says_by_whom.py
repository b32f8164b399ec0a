"""A line that somebody else holds is told once, with the holder's name; it is taken as soon as it is given back."""

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
    gateway = bench.gateway
    bench.pins.hold(LINE)
    try:
        gateway.start(CONFIG.format(backend=backend))
        gateway.wait_log("WARN .*held by `sysfs`")
        gateway.wait_log("WARN .*no line is named `GPIO99`")
        gateway.availability("float", "offline")
        # Before it is let go of: the next try may come at once.
        mark = gateway.mark()
    finally:
        bench.pins.let_go(LINE)
    gateway.availability("float", "online", timeout=90)
    gateway.wait_log("INFO .*float.*outage_ms=", mark)
    check(gateway.reading("float")["state"] is False, "nothing pulls at it")
    gateway.exactly_one(" WARN ", "float")
    gateway.exactly_one(" INFO ", "float", "outage_ms=", since=mark)
