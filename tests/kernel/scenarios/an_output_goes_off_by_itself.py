"""An output goes off when its time is over and when the link has been down for longer than it may, with nobody there to say so; a pulse has its
length. All of it is read off the pins."""

from bench.waiting import check

PUMP, HEATER, DOOR = 23, 24, 25
NS_PER_S = 1_000_000_000

CONFIG = """
[[actuator]]
id = "pump"
driver = "gpio-out"
line = "GPIO23"
max_on = "2s"

[[actuator]]
id = "heater"
driver = "gpio-out"
line = "GPIO24"
link_loss = "3s"

[[actuator]]
id = "door"
driver = "gpio-pulse"
line = "GPIO25"
length = "400ms"
"""


def scenario(bench):
    gateway, pins, cloud = bench.gateway, bench.pins, bench.cloud
    mark, start = cloud.client.mark(), pins.mark()
    gateway.start(CONFIG + cloud.bridge())
    cloud.client.wait("tidegate/box/heater", mark=mark)
    gateway.client.publish("tidegate/box/pump/set", "on")
    gateway.client.publish("tidegate/box/heater/set", "on")
    gateway.client.publish("tidegate/box/door/set", '{"id":"open","value":"press"}')

    lasts(bench, DOOR, start, 0.4, 0.6)
    lasts(bench, PUMP, start, 2, 2.5)

    link = gateway.client.mark()
    pins_mark = pins.mark()
    cloud.link.swallow()
    gateway.client.wait("tidegate/box/bridge/cloud", '"offline"', link)
    down = float(bench.machine.shell("cut -d' ' -f1 /proc/uptime"))
    off = pins.wait(HEATER, 0, "out", pins_mark) / NS_PER_S
    check(2 <= off - down <= 4, f"the heater went off {off - down:.2f} s after the link was known to be down")
    bench.note(f"the heater went off {off - down:.2f} s after the link was known to be down, of 3 s allowed")
    check(not pins.trace(PUMP, pins_mark) and not pins.trace(DOOR, pins_mark), "the others did not move")


def lasts(bench, line, mark, least_s, most_s):
    """The line went on once, and off again after so long."""
    bench.pins.wait(line, 0, "out", mark)
    on, off = bench.pins.trace(line, mark)
    span = (off.ns - on.ns) / NS_PER_S
    check(on.level == 1 and least_s <= span <= most_s, f"line {line} was on for {span:.3f} s")
    bench.note(f"line {line} was on for {span:.3f} s, of {least_s} s")
