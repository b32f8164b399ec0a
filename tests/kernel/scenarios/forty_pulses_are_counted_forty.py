"""Forty pulses that bounce are counted forty, none is told as missed, and the total outlives a restart."""

from bench.waiting import check

VARIANTS = ("v2", "v1")
RAIN, PULSES = 17, 40

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
"""


def scenario(bench, backend):
    gateway = bench.gateway
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("rain")["count"] == 0, "nothing is counted at the start")

    # A reed contact, which bounces when it closes and when it opens. A step of the bench may come late by some milliseconds on a busy host.
    bounce = ((0, 400), (1, 300), (0, 700), (1, 600))
    bench.pins.wave(RAIN, PULSES, *bounce, (0, 45_000), (1, 300), (0, 400), (1, 45_000))
    gateway.reading("rain", f'"count":{PULSES},')
    mark = gateway.client.mark()
    check(gateway.reading("rain", mark=mark)["count"] == PULSES, "and no more")
    check(gateway.reading("rain", mark=mark)["missed"] == 0, "none was missed")

    gateway.stop()
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("rain")["count"] == PULSES, "the total outlives a restart")
