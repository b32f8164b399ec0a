"""The highest rate at which a thousand pulses are counted to the last one, on one line and on four at once. Above it the kernel makes one edge of two,
which nobody can count: there are too few then, and never too many.

While the gateway stands still the kernel keeps some edges and, by version 2, counts those it has no room for: none is hidden.
"""

from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
LINES = (17, 22, 23, 27)
PULSES = 1000
# Half periods in microseconds: any board follows the first on so many lines, none that we emulate the second. The search ends at such a part of one.
SLOW, FAST, PART = {1: 100, 4: 500}, 20, 0.04
# Few enough of them arrive to be kept by neither version.
WHILE_STOPPED = 600

CONFIG = """
[[sensor]]
id = "flow-{line}"
driver = "gpio-counter"
line = "GPIO{line}"
edge = "rising"
debounce = "0s"
every = "500ms"
"""


def scenario(bench, backend):
    gateway = bench.gateway
    gateway.start(f'[gpio]\nbackend = "{backend}"\n' + "".join(CONFIG.format(line=line) for line in LINES))
    for line in LINES:
        check(told(bench, line)["count"] == 0, "nothing is counted at the start")
    best, lossy = search(bench, LINES[:1])
    bench.note(f"one line: all of {PULSES} pulses at {best:,.0f} a second; {lossy}")
    if backend == "v2":
        best, lossy = search(bench, LINES)
        bench.note(f"{len(LINES)} lines at once: all of {PULSES} pulses each at {best:,.0f} a second; {lossy}")

    (before,) = standing(bench, LINES[:1])
    gateway.signal("STOP")
    play(bench, LINES[:1], 500, WHILE_STOPPED)
    gateway.signal("CONT")
    wait_until("what the kernel kept", lambda: told(bench, LINES[0])["count"] > before[0])
    ((counted, missed),) = difference([before], standing(bench, LINES[:1]))
    outcome = f"of {WHILE_STOPPED} pulses while the gateway stood still {counted} were counted, {missed} told as missed"
    check(counted + missed <= WHILE_STOPPED if backend == "v1" else counted + missed == WHILE_STOPPED, outcome)
    check(missed > 0 or backend == "v1", outcome)
    bench.note(outcome)


def search(bench, lines):
    """Halves the distance between a half period at which all were counted and one at which some were not. The highest rate at which all were, and
    what happened at the lowest at which some were not."""
    slow, fast = SLOW[len(lines)], FAST
    best, complete = burst(bench, lines, slow)
    check(complete, f"at {best:,.0f} a second {complete}")
    lossy = "none were lost at any rate"
    while slow - fast > max(1, PART * slow):
        half = (slow + fast) // 2
        rate, complete = burst(bench, lines, half)
        if complete:
            slow, best = half, max(best, rate)
        else:
            fast, lossy = half, f"at {rate:,.0f} a second {complete}"
    return best, lossy


class Outcome:
    """Pulses that were counted, and told as missed, on each line. True when all were counted."""

    def __init__(self, lines):
        self._lines = lines

    def __bool__(self):
        return all(line == (PULSES, 0) for line in self._lines)

    def __str__(self):
        return ", ".join(f"{counted} counted and {missed} missed" for counted, missed in self._lines)


def burst(bench, lines, half):
    """The rate that the wires really had, and the outcome."""
    before = standing(bench, lines)
    mark = bench.pins.mark()
    play(bench, lines, half, PULSES)
    outcome = difference(before, standing(bench, lines))
    for counted, missed in outcome:
        check(counted + missed <= PULSES, f"of {PULSES} pulses of 2 x {half} us: {Outcome(outcome)}")
    traces = [bench.pins.trace(line, mark) for line in lines]
    check(all(len(trace) == 2 * PULSES for trace in traces), "the journal has each edge")
    return min((PULSES - 0.5) * 1e9 / (trace[-1].ns - trace[0].ns) for trace in traces), Outcome(outcome)


def play(bench, lines, half, pulses):
    """On all of them at once, to the end."""
    mark = bench.pins.mark()
    bench.pins.waves(*((line, pulses, (1, half), (0, half)) for line in lines))
    for line in lines:
        bench.pins.wait_wave(line, mark)


def told(bench, line):
    return bench.gateway.reading(f"flow-{line}", mark=bench.gateway.client.mark())


def standing(bench, lines):
    """Count and missed of each line, once two readings agree: everything that came is in them."""
    mark = bench.gateway.client.mark()

    def last_two(line):
        told = [message.json() for message in bench.gateway.client.since(mark, f"tidegate/box/flow-{line}")][-2:]
        pairs = [(reading["count"], reading["missed"]) for reading in told]
        return pairs[0] if len(pairs) == 2 and pairs[0] == pairs[1] else None

    return [wait_until(f"the count of line {line} to stand still", lambda: last_two(line)) for line in lines]


def difference(before, after):
    return [(count - counted, miss - missed) for (counted, missed), (count, miss) in zip(before, after)]
