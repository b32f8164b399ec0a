"""An input that bounces tells one change, at the time of its first edge, and ends in the level that is there: also after so many edges that the
kernel loses some. A spike that is shorter than the debounce is no change."""

from bench.waiting import check

VARIANTS = ("v2", "v1")
DOOR = 27
TOPIC = "tidegate/box/door"

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "door"
driver = "gpio-input"
line = "GPIO27"
bias = "pull-up"
active_low = true
debounce = "20ms"
on = "open"
off = "closed"
"""


def scenario(bench, backend):
    gateway, pins = bench.gateway, bench.pins
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("door")["state"] == "closed", "the pull-up holds it")

    changes_to(bench, "open", (0, 500), (1, 800), (0, 200), (1, 4000), (0, 1))
    changes_to(bench, "closed", (1, 1000), (0, 100), (1, 3000), (0, 900), (1, 1))

    mark, journal = gateway.client.mark(), pins.mark()
    pins.wave(DOOR, 1, (0, 8000), (1, 1))
    pins.wait_wave(DOOR, journal)
    # What is told after the spike shows that nothing was told of it.
    changes_to(bench, "open", (0, 1), mark=mark)

    # 400 edges in 20 ms: more than the kernel keeps for either backend, and an odd one at the end.
    chatter = ((1, 50), (0, 50)) * 200
    changes_to(bench, "closed", *chatter, (1, 1))
    changes_to(bench, "open", *((0, 50), (1, 50)) * 200, (0, 1))


def changes_to(bench, state, *steps, mark=None):
    """Plays the steps once; exactly one reading follows, with this state."""
    gateway, pins = bench.gateway, bench.pins
    mark = gateway.client.mark() if mark is None else mark
    journal = pins.mark()
    pins.wave(DOOR, 1, *steps)
    pins.wait_wave(DOOR, journal)
    check(gateway.reading("door", mark=mark)["state"] == state, f"it is {state}")
    edges = pins.trace(DOOR, journal)
    check(edges[-1].level == (0 if state == "open" else 1), f"the bench left it elsewhere: {edges[-1]}")
    # Longer than the debounce: a second change would have been told.
    bench.machine.shell("sleep 0.3")
    told = [message.json()["state"] for message in gateway.client.since(mark, TOPIC)]
    check(told == [state], f"told were {told}, wanted {state} alone")
