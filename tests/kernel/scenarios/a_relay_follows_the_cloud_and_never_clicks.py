"""A command from the cloud moves a relay: the level is seen at the pin, read back into the retained state, and answered once. And nothing else
moves a line: not the start, not a reload of something else, not the command a second time; a stop brings it to its safe state, in one step."""

from bench.mqtt import Client
from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
# Off while its voltage is high: the board's pull-up holds it there when nobody drives the line.
RELAY = 23
# Safe is on, and the board holds it on.
VALVE = 24
# Safe is on, and nothing holds it before the gateway does.
SIREN = 26

CONFIG = """
[gpio]
backend = "{backend}"

[[actuator]]
id = "relay"
driver = "gpio-out"
line = "GPIO23"
active_low = true

[[actuator]]
id = "valve"
driver = "gpio-out"
line = "GPIO24"
safe = "on"

[[actuator]]
id = "siren"
driver = "gpio-out"
line = "GPIO26"
safe = "on"
"""

ONE_MORE = """
[[actuator]]
id = "lamp"
driver = "gpio-out"
line = "GPIO25"
"""


def scenario(bench, backend):
    gateway, pins, cloud = bench.gateway, bench.pins, bench.cloud.client
    config = CONFIG.format(backend=backend) + bench.cloud.bridge()
    pins.drive(RELAY, 1)
    pins.drive(VALVE, 1)
    start = pins.mark()
    mark = cloud.mark()
    gateway.start(config)
    cloud.wait("tidegate/box/relay", '"value":"off"', mark)
    cloud.wait("tidegate/box/valve", '"value":"on"', mark)
    cloud.wait("tidegate/box/siren", '"value":"on"', mark)
    check(levels(bench, RELAY, start) == [] and levels(bench, VALVE, start) == [], "the start moves no line")
    moves(bench, SIREN, start, (1, "out"))

    # The bridge is subscribed once its own birth is told.
    cloud.wait("tidegate/box/status", "online", mark)
    mark = cloud.mark()
    cloud.publish("command/box/relay/set", {"id": "first", "value": "on"})
    pins.wait(RELAY, 0, "out", start)
    check(cloud.wait("tidegate/box/relay/ack", "first", mark).json()["result"] == "done", "the command is answered")
    check(cloud.wait("tidegate/box/relay", mark=mark).json()["value"] == "on", "its state is at the cloud")
    late = Client(bench.machine.mqtt_port, "late")
    state = late.wait("tidegate/box/relay")
    check(state.retained and state.json()["value"] == "on", f"a client that comes later is told the state: {state}")
    late.close()

    mark = cloud.mark()
    cloud.publish("command/box/relay/set", {"id": "first", "value": "on"})
    check(cloud.wait("tidegate/box/relay/ack", "first", mark).json()["result"] == "duplicate", "a second arrival is known")

    lamp = pins.mark()
    gateway.reload(config + ONE_MORE)
    gateway.availability("lamp", "online")
    check(levels(bench, 25, lamp) == [], "a new output begins as its line was")
    moves(bench, RELAY, start, (0, "out"))
    moves(bench, VALVE, start)

    # An actuator that is itself changed goes to its safe state, in one step and without giving its line back.
    mark = gateway.client.mark()
    gateway.reload(config.replace("active_low = true", 'active_low = true\nmax_on = "1h"'))
    gateway.client.wait("tidegate/box/relay", '"value":"off"', mark)
    gateway.client.publish("tidegate/box/relay/set", "on")
    gateway.client.wait("tidegate/box/relay", '"value":"on"', mark)
    check(not any(line.endswith(f"free {RELAY}") for line in bench.machine.recorded(start)), "it never gave the line back")

    code = gateway.stop()
    check(code == 0, f"it ended with {code}")
    moves(bench, RELAY, start, (0, "out"), (1, "out"), (0, "out"), (1, "out"))
    # What becomes of a line that is given back is the chip's business: this one makes an input of it.
    moves(bench, SIREN, start, (1, "out"), (0, "free"))
    moves(bench, VALVE, start)


def moves(bench, line, mark, *expected):
    """These and no others; the journal comes a little later than what it tells."""
    wait_until(f"line {line} to do {expected}", lambda: levels(bench, line, mark) == list(expected), timeout=5)


def levels(bench, line, mark):
    """What the wire did and who did it; the bench's own first word does not count."""
    return [(level.level, level.who) for level in bench.pins.trace(line, mark) if level.who != "outside"]
