"""The highest rate at which a thousand pulses are counted to the last one, on one line and on four at once. Above it the kernel makes one event of two
edges, which nobody can count: there are too few then, and never too many. At any rate, of what the kernel made an event of by version 2 nothing is
hidden: it is counted, or told as missed.

While the gateway stands still the kernel keeps some events and, by version 2, numbers those it has no room for.
"""

from bench.events import KernelEvents
from bench.waiting import check, wait_until

VARIANTS = ("v2", "v1")
LINES = (17, 22, 23, 27)
PULSES = 1000
# Half periods in microseconds, by the number of lines. The search begins at the first, which boards follow as a rule; where one does not, it is doubled until
# it does, and the slowest has to be followed. None that we emulate follows the second. The search ends at such a part of a half period.
BEGIN, FAST, PART = {1: 100, 4: 500}, 20, 0.04
SLOWEST = 2000
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
    with KernelEvents(bench.machine, backend) as events:
        best, lossy = search(bench, events, backend, LINES[:1])
        bench.note(f"one line: all of {PULSES} pulses at {best:,.0f} a second; {lossy}")
        if backend == "v2":
            best, lossy = search(bench, events, backend, LINES)
            bench.note(f"{len(LINES)} lines at once: all of {PULSES} pulses each at {best:,.0f} a second; {lossy}")

        (before,), events_before = standing(bench, LINES[:1]), events.so_far()
        gateway.signal("STOP")
        play(bench, LINES[:1], 500, WHILE_STOPPED)
        gateway.signal("CONT")
        wait_until("what the kernel kept", lambda: told(bench, LINES[0])["count"] > before[0])
        outcome = Outcome(difference([before], standing(bench, LINES[:1])), events.so_far() - events_before)
    bench.note(f"while the gateway stood still, of {WHILE_STOPPED} pulses: {outcome}")
    outcome.judge(backend, WHILE_STOPPED)
    check(backend == "v1" or outcome.missed > 0, "it was to miss some")


def search(bench, events, backend, lines):
    """Halves the distance between a half period at which all were counted and one at which some were not. The highest rate at which all were, and
    what happened at the lowest at which some were not."""
    slow, fast, lossy = BEGIN[len(lines)], FAST, "none were lost at any rate"
    best, outcome = burst(bench, events, backend, lines, slow)
    while not outcome.complete:
        lossy = f"at {best:,.0f} a second {outcome}"
        check(slow * 2 <= SLOWEST, lossy)
        slow, fast = slow * 2, slow
        best, outcome = burst(bench, events, backend, lines, slow)
    while slow - fast > max(1, PART * slow):
        half = (slow + fast) // 2
        rate, outcome = burst(bench, events, backend, lines, half)
        if outcome.complete:
            slow, best = half, max(best, rate)
        else:
            fast, lossy = half, f"at {rate:,.0f} a second {outcome}"
    return best, lossy


class Outcome:
    """Pulses that were counted, and told as missed, on each line; and the events that the kernel made of them on all."""

    def __init__(self, lines, events):
        self._lines, self._events = lines, events
        self.missed = sum(missed for _, missed in lines)

    @property
    def complete(self):
        return all(line == (PULSES, 0) for line in self._lines)

    def judge(self, backend, pulses):
        told = sum(map(sum, self._lines))
        check(self._events <= pulses * len(self._lines), f"the kernel saw more than there were: {self}")
        check(told == self._events if backend == "v2" else told <= self._events, f"{self}, of {pulses}")

    def __str__(self):
        return ", ".join(f"{counted} counted and {missed} missed" for counted, missed in self._lines) + f", of {self._events} that the kernel saw"


def burst(bench, events, backend, lines, half):
    """The rate that the wires really had, and the outcome."""
    before, events_before = standing(bench, lines), events.so_far()
    mark = bench.pins.mark()
    play(bench, lines, half, PULSES)
    outcome = Outcome(difference(before, standing(bench, lines)), events.so_far() - events_before)
    outcome.judge(backend, PULSES)
    traces = [bench.pins.trace(line, mark) for line in lines]
    check(all(len(trace) == 2 * PULSES for trace in traces), "the journal has each edge")
    return min((PULSES - 0.5) * 1e9 / (trace[-1].ns - trace[0].ns) for trace in traces), outcome


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
