"""A bus that is stuck, in each of the ways in which kernels say so, and a chip that holds the clock: for as long as it may, for longer, and without
end. Each is told once in its words and ends by itself, with values that are right; what hangs on no bus, and the broker, lose no time."""

from datetime import datetime

from bench.chips import Bme280, Sht3x
from bench.hardware import BUSY, IO_ERROR, TIMED_OUT
from bench.waiting import check, wait_until

WHOLE_BUS = 0
# How long i2c-dev lets an adapter wait when nobody says otherwise.
ADAPTER_US = 1_000_000
# What a Raspberry Pi's adapter lets a target stretch the clock before it gives up; and a wait that only `mend` ends.
WITHIN_US, BEYOND_US, WITHOUT_END_US = 30_000, 35_000, 4_000_000_000
PERIOD_S = 1
# A transfer that is waited for costs a second, a hang ten; what is below is a busy host's, whose idle machines wake up late.
LATE_S = 0.2
PULSES = 17

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "weather"
driver = "bme280"
bus = "i2c-1"
every = "500ms"

[[sensor]]
id = "cellar"
driver = "sht3x"
bus = "i2c-1"
every = "500ms"

[[sensor]]
id = "rain"
driver = "gpio-counter"
line = "GPIO17"
debounce = "0s"
every = "1s"
"""


def scenario(bench):
    gateway, i2c = bench.gateway, bench.i2c
    weather, cellar = Bme280(i2c), Sht3x(i2c)
    gateway.start(CONFIG)
    for sensor in ("weather", "cellar", "rain"):
        gateway.availability(sensor, "online")
    worst = 0
    for words, error, us in (
        (r"bus error at 0x(44|76): a line may be stuck", IO_ERROR, 0),
        (r"the bus was not free to ask 0x(44|76) \(busy\)", BUSY, 0),
        (r"0x(44|76) holds the clock too long \(timed out\)", TIMED_OUT, ADAPTER_US),
    ):
        worst = max(worst, stuck(bench, weather, cellar, words, lambda: i2c.fail(WHOLE_BUS, error, us=us)))

    mark, log = gateway.client.mark(), gateway.mark()
    i2c.stretch(cellar.address, WITHIN_US)
    cellar_is(gateway, cellar.measure(0x3000, 0xC000), mark)
    check(not gateway.log(log), f"a clock that is stretched is no news: {gateway.log(log)}")
    check(not gateway.client.since(mark, "tidegate/box/cellar/availability"), "nor an outage")
    i2c.mend()

    worst = max(worst, stretched_beyond(bench, cellar))

    mark, log = gateway.client.mark(), gateway.mark()
    i2c.stretch(cellar.address, WITHOUT_END_US, count=1)
    gateway.wait_log("WARN .*the bus hangs.*bus=i2c-1", log, timeout=90)
    for sensor in ("weather", "cellar"):
        gateway.availability(sensor, "offline", mark)
    worst = max(worst, others(bench, mark))
    values = weather.measure(500000, 415148, 30000), cellar.measure(0x7000, 0x4000)
    back = gateway.client.mark()
    i2c.mend()
    both_are(gateway, *values, back)
    gateway.wait_log("INFO .*the bus answers again", log)
    gateway.exactly_one(" WARN ", since=log)
    gateway.exactly_one(" INFO ", "the bus answers again", "outage_ms=", since=log)
    bench.note(f"an interval of a line, with the bus in trouble, was at worst {worst * 1000:.0f} ms off its second")


def stuck(bench, weather, cellar, words, harm):
    """All transfers fail. Returns how far an interval of what is not on the bus was off."""
    gateway, i2c = bench.gateway, bench.i2c
    mark, log = gateway.client.mark(), gateway.mark()
    harm()
    for sensor in ("weather", "cellar"):
        gateway.availability(sensor, "offline", mark)
        check(gateway.reading(sensor, '"q"', mark)["q"] == "fault", "the last reading is told again as a fault")
    worst = others(bench, mark)
    values = weather.measure(480000, 400000, 26000), cellar.measure(0x5000, 0x8000)
    back = gateway.client.mark()
    i2c.mend()
    both_are(gateway, *values, back)
    # So that the next has other values to come back to.
    weather.measure(519888, 415148, 30000), cellar.measure(0x6666, 0x8000)
    for sensor in ("weather", "cellar"):
        gateway.availability(sensor, "online", back)
        gateway.wait_log(f"INFO .*sensor={sensor}.*outage_ms=", log)
        gateway.exactly_one(" WARN ", f"sensor={sensor}", words, since=log)
        gateway.exactly_one(" INFO ", f"sensor={sensor}", "outage_ms=", since=log)
    check(len(gateway.log(log)) == 4, gateway.log(log))
    return worst


def stretched_beyond(bench, cellar):
    """One chip only: its neighbour on the bus goes on."""
    gateway, i2c = bench.gateway, bench.i2c
    mark, log = gateway.client.mark(), gateway.mark()
    i2c.fail(cellar.address, TIMED_OUT, us=BEYOND_US)
    gateway.availability("cellar", "offline", mark)
    worst = others(bench, mark)
    back = gateway.client.mark()
    i2c.mend()
    gateway.availability("cellar", "online", back, timeout=90)
    cellar_is(gateway, cellar.measure(0x6666, 0x8000), back)
    gateway.exactly_one(" WARN ", "sensor=cellar", r"0x44 holds the clock too long \(timed out\)", since=log)
    check(not gateway.client.since(mark, "tidegate/box/weather/availability"), "the neighbour was never away")
    return worst


def others(bench, mark):
    """Pulses are told each second, and the broker acknowledges at once, while the bus is in trouble."""
    client, topic = bench.gateway.client, "tidegate/box/rain"
    journal = bench.pins.mark()
    bench.pins.wave(PULSES, 3, (1, 2000), (0, 2000))
    bench.pins.wait_wave(PULSES, journal)
    known = len(client.acknowledged)
    client.publish_and_hear("tidegate/box/note", "heard?", 1)
    wait_until("the broker's acknowledgement", lambda: len(client.acknowledged) > known, timeout=5)
    readings = wait_until("readings of the line", lambda: (told := client.since(mark, topic)) and len(told) >= 5 and told)
    times = [datetime.fromisoformat(message.json()["ts"]) for message in readings]
    worst = max(abs((after - before).total_seconds() - PERIOD_S) for before, after in zip(times, times[1:]))
    check(worst <= LATE_S, f"an interval of the line is {worst * 1000:.0f} ms off")
    return worst


def both_are(gateway, weather, cellar, mark):
    def is_it(message):
        told = message.json() if message.topic == "tidegate/box/weather" else {}
        return "q" not in told and abs(told.get("temperature", 1000) - weather[0]) < 0.02 and abs(told["pressure"] - weather[1]) < 0.02

    gateway.client.wait_for(f"the weather {weather}", is_it, mark, timeout=90)
    cellar_is(gateway, cellar, mark)


def cellar_is(gateway, cellar, mark):
    def is_it(message):
        told = message.json() if message.topic == "tidegate/box/cellar" else {}
        return "q" not in told and abs(told.get("temperature", 1000) - cellar[0]) < 0.02 and abs(told["humidity"] - cellar[1]) < 0.02

    gateway.client.wait_for(f"the cellar {cellar}", is_it, mark, timeout=90)
