"""Outputs are on while the gateway is killed: nobody sets anything, and what becomes of a line is its chip's business. One that keeps its level stays
on until the next start brings it to its safe state, in one step; one that becomes an input goes where the board pulls it, and the start moves it
no more. The cloud learns that the gateway is gone, still has the last state, and is told the true one after the start."""

from bench.mqtt import Client
from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
# The chip keeps these two; the board pulls the relay, which is on while its voltage is low, to its off; nothing pulls at the lamp.
PUMP, VALVE, RELAY, LAMP = 23, 24, 25, 26
ALL = {"pump": PUMP, "valve": VALVE, "relay": RELAY, "lamp": LAMP}
SAFE = {"pump": "off", "valve": "on", "relay": "off", "lamp": "off"}
OTHER = {"on": "off", "off": "on"}

CONFIG = """
[gpio]
backend = "{backend}"

[[actuator]]
id = "pump"
driver = "gpio-out"
line = "GPIO23"

[[actuator]]
id = "valve"
driver = "gpio-out"
line = "GPIO24"
safe = "on"

[[actuator]]
id = "relay"
driver = "gpio-out"
line = "GPIO25"
active_low = true

[[actuator]]
id = "lamp"
driver = "gpio-out"
line = "GPIO26"
"""


def scenario(bench, backend):
    gateway, pins, cloud = bench.gateway, bench.pins, bench.cloud.client
    config = CONFIG.format(backend=backend) + bench.cloud.bridge()
    pins.drive(RELAY, 1)
    pins.keep(PUMP, VALVE)
    mark = cloud.mark()
    gateway.start(config)
    cloud.wait("tidegate/box/status", "online", mark)
    for name in ALL:
        gateway.client.publish(f"tidegate/box/{name}/set", {"id": f"{name}-1", "value": OTHER[SAFE[name]]})
        cloud.wait(f"tidegate/box/{name}", f'"value":"{OTHER[SAFE[name]]}"', mark)
        cloud.wait(f"tidegate/box/{name}/ack", "done", mark)

    mark, killed = cloud.mark(), pins.mark()
    gateway.kill()
    cloud.wait("tidegate/box/status", "offline", mark)
    moves(bench, RELAY, killed, (1, "free"))
    moves(bench, LAMP, killed, (0, "free"))
    check(levels(bench, PUMP, killed) == levels(bench, VALVE, killed) == [], "nobody sets what its chip keeps")
    late = Client(bench.cloud.link.port, "late")
    for name in ALL:
        state = late.wait(f"tidegate/box/{name}")
        check(state.retained and state.json()["value"] == OTHER[SAFE[name]], f"the cloud's last of {name} is {state}")
    check(late.wait("tidegate/box/status").text.count("offline"), "and beside it that the gateway is gone")
    late.close()

    mark, started = cloud.mark(), pins.mark()
    gateway.start(config)
    for name in ALL:
        gateway.client.wait(f"tidegate/box/{name}", f'"value":"{SAFE[name]}"')
        cloud.wait(f"tidegate/box/{name}", f'"value":"{SAFE[name]}"', mark)
    moves(bench, PUMP, started, (0, "out"))
    moves(bench, VALVE, started, (1, "out"))
    check(levels(bench, RELAY, started) == levels(bench, LAMP, started) == [], "the start moves no line that is where it belongs")
    for name in ALL:
        # What was on its way at the kill comes a second time.
        before = {message.text for message in cloud.since(0, f"tidegate/box/{name}")[: -1]}
        told = [message for message in cloud.since(mark, f"tidegate/box/{name}") if message.text not in before]
        check([message.json()["value"] for message in told] == [SAFE[name]], f"after the start the cloud is told {told} of {name}")

    gateway.client.publish("tidegate/box/pump/set", {"id": "pump-1", "value": "on"})
    answer = cloud.wait("tidegate/box/pump/ack", "pump-1", mark).json()
    check(answer["result"] == "duplicate", f"a command of before the kill is known: {answer}")
    moves(bench, PUMP, started, (0, "out"))


def moves(bench, line, mark, *expected):
    """These and no others; the journal comes a little later than what it tells."""
    wait_until(f"line {line} to do {expected}", lambda: levels(bench, line, mark) == list(expected), timeout=5)


def levels(bench, line, mark):
    return [(level.level, level.who) for level in bench.pins.trace(line, mark)]
