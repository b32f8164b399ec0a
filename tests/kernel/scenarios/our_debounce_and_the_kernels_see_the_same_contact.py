"""The same contact on three lines: one that the gateway debounces, one that the kernel debounces for a small program, one that nobody does. Both
debounces end in the same state, the true one, and the gateway counts each press. The kernel looks at the line when its timer has run: where that runs
late, because the whole board stood still, it may miss a press; never does it see one more. What each costs and what each stamps is a figure."""

from datetime import datetime, timezone
from typing import NamedTuple

from bench.waiting import check, wait_until

OURS, KERNELS, RAW = 27, 5, 6
QUIET_MS = 20
TOPIC = "tidegate/box/door"
# The wall clock is read in milliseconds; a reading's time is written in them too.
STAMP_OFF_MS = 2

CONFIG = """
[[sensor]]
id = "door"
driver = "gpio-input"
line = "GPIO27"
debounce = "20ms"
"""

CLOSES, OPENS = ((1, 400), (0, 300), (1, 700), (0, 600)), ((0, 300), (1, 400))
PRESS = (*CLOSES, (1, 45_000), *OPENS, (0, 45_000))
CHATTER = ((1, 50), (0, 50)) * 200


class Case(NamedTuple):
    what: str
    times: int
    steps: tuple


CASES = (
    Case("forty presses that bounce", 40, PRESS),
    Case("a spike of 8 ms", 1, ((1, 8000), (0, 1))),
    Case("two presses 15 ms apart", 1, ((1, 40_000), (0, 15_000), (1, 40_000), (0, 1))),
    Case("400 edges in 20 ms, and then closed", 1, (*CHATTER, (1, 1))),
    Case("400 edges in 20 ms, and then open", 1, (*CHATTER[1:], (0, 1))),
)


def why_not(kind):
    return None if "v2" in kind.gpio else "only version 2 debounces"


class Probe:
    """guest/edges.c on a line, from here on."""

    def __init__(self, machine, line, debounce_us):
        self._machine, self._place = machine, f"/tmp/edges.{line}"
        self._id = machine.start_beside(f"edges bench-gpio {line} {debounce_us}", self._place)
        wait_until("the line to be taken", lambda: "ready" in self._lines())

    def _lines(self):
        return self._machine.shell(f"cat {self._place}").splitlines()

    def end(self):
        """Its edges as (ns, level), the level it finds at last, and how often it was woken."""

        def ended():
            self._machine.ask("run", f"kill {self._id}")
            return self._lines()[-1].startswith("end")

        wait_until("the probe to end", ended)
        _, *edges, last = self._lines()
        _, level, woken = last.split()
        return [(int(ns), int(level)) for ns, level, _ in map(str.split, edges)], int(level), int(woken)


def scenario(bench):
    bench.machine.shell("wallclock unset 0")
    bench.gateway.start(CONFIG)
    check(bench.gateway.reading("door")["state"] is False, "nothing pulls at it")
    for case in CASES:
        play(bench, case)


def play(bench, case):
    machine, client, pins = bench.machine, bench.gateway.client, bench.pins
    before = client.since(0, TOPIC)[-1].json()["state"]
    if before:
        settle(bench, 0)
    kernels, raw = Probe(machine, KERNELS, QUIET_MS * 1000), Probe(machine, RAW, 0)
    journal, mark, woken = pins.mark(), client.mark(), wakings(machine)
    for line in (OURS, KERNELS, RAW):
        pins.wave(line, case.times, *case.steps)
    for line in (OURS, KERNELS, RAW):
        pins.wait_wave(line, journal, timeout=60)
    # Longer than the debounce: what is to be told is told.
    machine.shell("sleep 0.5")
    woken = wakings(machine) - woken
    told = [message.json() for message in client.since(mark, TOPIC)]
    (edges, level, reads), (everything, _, raw_reads) = kernels.end(), raw.end()

    ours = sum(reading["state"] for reading in told)
    theirs = sum(level for _, level in edges)
    state = told[-1]["state"] if told else False
    came = pins.trace(RAW, journal)
    due, due_to_kernel = presses(pins.trace(OURS, journal)), presses(pins.trace(KERNELS, journal))
    check(len(came) >= len(everything), "no edge comes of nothing")
    check((ours, state) == (due, bool(came[-1].level)), f"{case.what}: of {due} presses {ours} told, and then {state}: {told}")
    check(theirs <= due_to_kernel and level == came[-1].level, f"{case.what}: of {due_to_kernel} the kernel counts {theirs}, and then {level}: {edges}")
    bench.note(
        f"{case.what}: {due} presses, {ours} told, {theirs} by the kernel's debounce. Of {len(came)} edges {len(everything)} "
        f"delivered in {raw_reads} reads, {len(edges)} by the kernel's debounce in {reads}; the gateway slept {woken} times. {stamps(bench, journal, told, edges)}"
    )


def presses(trace):
    """How often the line rose and held by the debounce's rule. On a busy host a step of the bench may last longer than it was meant to."""
    found, high = 0, False
    for edge, after in zip(trace, [*trace[1:], None]):
        if after is None or after.ns - edge.ns >= QUIET_MS * 1_000_000:
            found += edge.level and not high
            high = bool(edge.level)
    return found


def stamps(bench, journal, told, edges):
    """How far the stamps of the first change are from the first edge of it."""
    if not told or not edges:
        return "Nothing to stamp."
    first, last = (bench.pins.trace(line, journal)[0].ns / 1e6 for line in (OURS, KERNELS))
    offset_ms = int(bench.machine.shell("wallclock unset 0"))
    ours = datetime.fromisoformat(told[0]["ts"]).replace(tzinfo=timezone.utc).timestamp() * 1000 - offset_ms - first
    theirs = edges[0][0] / 1e6 - last
    check(abs(ours) <= STAMP_OFF_MS, f"its time is {ours:.0f} ms off the first edge")
    check(theirs >= QUIET_MS, f"the kernel stamps when it is sure, here {theirs:.1f} ms after the first edge")
    return f"Stamped {ours:.0f} ms after the first edge; by the kernel {theirs:.1f} ms after it."


def settle(bench, level):
    """Back to where a case begins."""
    mark = bench.gateway.client.mark()
    for line in (OURS, KERNELS, RAW):
        bench.pins.drive(line, level)
    bench.gateway.reading("door", f'"state":{str(bool(level)).lower()}', mark)


def wakings(machine):
    """How often the gateway's threads went to sleep so far."""
    lines = machine.shell("cat /proc/$(pidof tidegate)/task/*/status | grep ^voluntary").splitlines()
    return sum(int(line.split()[1]) for line in lines)
