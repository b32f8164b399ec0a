"""Pulses on a line are counted to the last one: forty that bounce, and a thousand in a second that do not. The total goes on after a restart."""

from bench.waiting import check

VARIANTS = ("v2", "v1")
RAIN, FLOW = 17, 27
PULSES = 1000

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "rain"
driver = "gpio-counter"
line = "GPIO17"
bias = "pull-up"
edge = "falling"
debounce = "20ms"
every = "500ms"

[[sensor]]
id = "flow"
driver = "gpio-counter"
line = "GPIO27"
edge = "rising"
debounce = "0s"
every = "500ms"
"""


def scenario(bench, backend):
    gateway = bench.gateway
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("rain")["count"] == 0, "nothing is counted at the start")

    # A reed contact, which bounces when it closes and when it opens. A step of the bench may come late by some milliseconds on a busy host.
    bounce = ((0, 400), (1, 300), (0, 700), (1, 600))
    bench.pins.wave(RAIN, 40, *bounce, (0, 45_000), (1, 300), (0, 400), (1, 45_000))
    gateway.reading("rain", '"count":40,')
    mark = gateway.client.mark()
    check(gateway.reading("rain", mark=mark)["count"] == 40, "and no more")
    check(gateway.reading("rain", mark=mark)["missed"] == 0, "none was missed")

    mark = bench.pins.mark()
    bench.pins.wave(FLOW, PULSES, (1, 500), (0, 500))
    bench.pins.wait_wave(FLOW, mark)
    gateway.reading("flow", f'"count":{PULSES},')

    gateway.stop()
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("rain")["count"] == 40, "the total outlives a restart")
    check(gateway.reading("flow")["count"] == PULSES, "the total outlives a restart")
