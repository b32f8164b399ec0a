"""On a kernel without version 1 of the GPIO interface a config that insists on it is told why nothing comes, and what to do; without that line, or
with `auto`, version 2 is taken by itself."""

from bench.waiting import check

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "door"
driver = "gpio-input"
line = "GPIO27"
bias = "pull-up"

[[actuator]]
id = "lamp"
driver = "gpio-out"
line = "GPIO25"
"""


def why_not(kind):
    return "its kernel has version 1" if "v1" in kind.gpio else None


def scenario(bench):
    gateway = bench.gateway
    gateway.start(CONFIG.format(backend="v1"))
    for name in ("door", "lamp"):
        gateway.wait_log(f"WARN .*{name}.*version 1.*`auto`")
        gateway.availability(name, "offline")
    told = gateway.exactly_one(" WARN ", "sensor=door")
    gateway.exactly_one(" WARN ", "actuator=lamp")
    bench.note(told.split("WARN ")[1])

    mark = gateway.client.mark()
    gateway.reload(CONFIG.format(backend="auto"))
    gateway.availability("door", "online", mark)
    gateway.availability("lamp", "online", mark)
    check(gateway.reading("door", mark=mark)["state"] is True, "the pull-up holds it")
    gateway.client.publish("tidegate/box/lamp/set", "on")
    bench.pins.wait(25, 1, "out")
