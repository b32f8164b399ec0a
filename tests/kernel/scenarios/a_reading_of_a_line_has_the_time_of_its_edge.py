"""A wave whose every step has another length, on a line that is not debounced and bouncing on one that is: each change is one reading, and its time is
that at which the wire moved, by the kernel's stamp. Also while the gateway stands still and reads the edges late."""

from datetime import datetime, timezone

from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
QUICK, BOUNCING = 17, 27
# Microseconds: from the shortest that a slow board can tell one by one to what a person does.
STEPS = [(number % 2, us) for number, us in enumerate((3_000, 61_000, 4_000, 17_000, 150_000, 8_000, 5_000, 90_000, 33_000, 250_000), 1)]
BOUNCE = ((0, 400), (1, 300))
# A reading's time is in whole milliseconds, and so is the distance of the two clocks.
TOLERANCE_MS = 3

CONFIG = """
[gpio]
backend = "{backend}"

[[sensor]]
id = "quick"
driver = "gpio-input"
line = "GPIO17"
debounce = "0s"

[[sensor]]
id = "bouncing"
driver = "gpio-input"
line = "GPIO27"
debounce = "20ms"
"""


def scenario(bench, backend):
    gateway, pins = bench.gateway, bench.pins
    offset_ms = int(bench.machine.shell("wallclock set 0"))
    try:
        gateway.start(CONFIG.format(backend=backend))
        gateway.reading("quick")
        gateway.reading("bouncing")

        mark, journal = gateway.client.mark(), pins.mark()
        pins.wave(QUICK, 1, *STEPS)
        pins.wait_wave(QUICK, journal)
        edges = pins.trace(QUICK, journal)
        check(len(edges) == len(STEPS), f"the wire moved {len(edges)} times")
        attended = worst_of(bench, "quick", mark, edges, offset_ms)

        # Ten edges are kept for it by either version.
        mark, journal = gateway.client.mark(), pins.mark()
        gateway.signal("STOP")
        pins.wave(QUICK, 1, *STEPS)
        pins.wait_wave(QUICK, journal)
        bench.machine.shell("sleep 1")
        gateway.signal("CONT")
        late = worst_of(bench, "quick", mark, pins.trace(QUICK, journal), offset_ms)

        mark, journal = gateway.client.mark(), pins.mark()
        pins.wave(BOUNCING, 1, (1, 300), *BOUNCE, (1, 70_000), (0, 200), (1, 500), (0, 45_000), (1, 700), *BOUNCE, (1, 1))
        pins.wait_wave(BOUNCING, journal)
        edges = pins.trace(BOUNCING, journal)
        first = [edge for edge, before in zip(edges, [None, *edges]) if before is None or edge.ns - before.ns > 20_000_000]
        check([edge.level for edge in first] == [1, 0, 1], f"bursts begin with {first}")
        bounced = worst_of(bench, "bouncing", mark, first, offset_ms)
        bench.note(f"off the wire's time by at most {attended:.1f} ms; {late:.1f} ms read late, {bounced:.1f} ms of a bounce's first edge")
    finally:
        bench.machine.ask("run", "wallclock unset 0")


def worst_of(bench, sensor, mark, edges, offset_ms):
    """One reading for each edge, with its level, at its time. By how many milliseconds the worst is off."""

    def told():
        messages = bench.gateway.client.since(mark, f"tidegate/box/{sensor}")
        return [message.json() for message in messages if not message.retained]

    readings = wait_until(f"{len(edges)} readings of {sensor}", lambda: (all_of := told()) and len(all_of) >= len(edges) and all_of)
    # One too many would have come by now.
    bench.machine.shell("sleep 0.3")
    check(len(told()) == len(edges), f"{len(told())} readings of {len(edges)} edges")
    check([reading["state"] for reading in readings] == [bool(edge.level) for edge in edges], f"{readings}")
    off = []
    for reading, edge in zip(readings, edges):
        ts_ms = datetime.fromisoformat(reading["ts"]).replace(tzinfo=timezone.utc).timestamp() * 1000
        off.append(abs(ts_ms - offset_ms - edge.ns / 1e6))
    check(max(off) <= TOLERANCE_MS, f"{sensor} is off the wire's time by {[round(ms, 1) for ms in off]} ms")
    return max(off)
