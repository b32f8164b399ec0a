"""Pulses on a line are counted to the last one: forty that bounce, and a thousand at each of several rates, up to where the kernel loses some. The
total goes on after a restart."""

from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
RAIN, FLOW = 17, 27
# Half periods in microseconds. The last is beyond what the emulated board follows; what it shows is that losses are not hidden where they can be seen.
HALVES = (500, 200, 100, 50)
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

    total, best, outcomes = 0, None, []
    for half in HALVES:
        counted, missed = burst(bench, half, total)
        total += counted
        outcomes.append(f"{500_000 // half} a second: {counted} counted, {missed} missed")
        check(counted <= PULSES, outcomes[-1])
        if counted == PULSES and missed == 0:
            best = half
        elif half > 100:
            check(False, outcomes[-1])
    check(best is not None, f"no rate at which all were counted: {outcomes}")
    bench.note(f"of {PULSES} pulses at " + "; at ".join(outcomes))

    gateway.stop()
    gateway.start(CONFIG.format(backend=backend))
    check(gateway.reading("rain")["count"] == 40, "the total outlives a restart")
    check(gateway.reading("flow")["count"] == total, "the total outlives a restart")


def burst(bench, half, before):
    """How many of a thousand pulses were counted, and how many told as missed."""
    mark = bench.pins.mark()
    missed = bench.gateway.reading("flow", mark=bench.gateway.client.mark())["missed"]
    bench.pins.wave(FLOW, PULSES, (1, half), (0, half))
    bench.pins.wait_wave(FLOW, mark)
    # Two readings that agree: everything that came is counted.
    mark = bench.gateway.client.mark()

    def last_two():
        told = [message.json() for message in bench.gateway.client.since(mark, "tidegate/box/flow")][-2:]
        return told if len(told) == 2 and told[0]["count"] == told[1]["count"] else None

    after = wait_until("the count to stand still", last_two)[1]
    return after["count"] - before, after["missed"] - missed
