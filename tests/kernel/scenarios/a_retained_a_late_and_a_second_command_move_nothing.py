"""A command that the cloud kept, one that is a second late and one that comes twice: the pin stays as it is, and each is told why."""

from datetime import datetime, timedelta, timezone

from bench.waiting import check

RELAY = 23
SET = "command/box/relay/set"
ACK = "tidegate/box/relay/ack"

CONFIG = """
[[actuator]]
id = "relay"
driver = "gpio-out"
line = "GPIO23"
"""


def scenario(bench):
    cloud = bench.cloud.client
    cloud.publish(SET, {"id": "kept", "value": "on"}, retain=True)
    # Whether a command is late can be told by a clock that is set.
    bench.machine.shell("wallclock set 0")
    try:
        play(bench, cloud)
    finally:
        cloud.publish(SET, "", retain=True)
        bench.machine.ask("run", "wallclock unset 0")


def play(bench, cloud):
    pins = bench.pins
    start, mark = pins.mark(), cloud.mark()
    bench.gateway.start(CONFIG + bench.cloud.bridge())
    answered(cloud, mark, "kept", "rejected", "retained")

    mark = cloud.mark()
    now = datetime.fromisoformat(command(cloud, "first", "off")["ts"].replace("Z", "+00:00")).astimezone(timezone.utc)
    late = (now - timedelta(seconds=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    cloud.publish(SET, {"id": "late", "value": "on", "expires": late})
    answered(cloud, mark, "late", "expired", "")
    check(on(pins, start) == 0, "neither moved the pin")

    soon = (now + timedelta(minutes=5)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    mark = cloud.mark()
    cloud.publish(SET, {"id": "twice", "value": "on", "expires": soon})
    answered(cloud, mark, "twice", "done", "")
    command(cloud, "between", "off")
    mark = cloud.mark()
    cloud.publish(SET, {"id": "twice", "value": "on", "expires": soon})
    answered(cloud, mark, "twice", "duplicate", "")
    # Whatever would still come of it has come when a later command is answered.
    command(cloud, "last", "off")
    check(on(pins, start) == 1, "the one that was in time moved it, once")
    check(bench.gateway.stop() == 0, "it ends in order")


def command(cloud, name, value):
    mark = cloud.mark()
    cloud.publish(SET, {"id": name, "value": value})
    return answered(cloud, mark, name, "done", "")


def answered(cloud, mark, name, result, reason):
    ack = cloud.wait(ACK, f'"id":"{name}"', mark).json()
    check(ack["result"] == result and reason in (ack.get("reason") or ""), f"`{name}` is answered {ack}")
    return ack


def on(pins, mark):
    """How often the gateway made the pin active."""
    return sum(level.level == 1 and level.who == "out" for level in pins.trace(RELAY, mark))
