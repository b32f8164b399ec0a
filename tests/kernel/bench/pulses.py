"""A counter's pulses, and how many there were when the power went."""

from bench.hardware import levels
from bench.waiting import check, wait_until

LINE, HALF_US = 27, 25_000
NS_PER_S = 1_000_000_000
# A total is written once a minute while it rises (docs/decisions/0010); on a busy machine by so much later.
PROMISE_S, LATE_S = 60, 5
# Pulses that the journal may not have told yet: those of a second.
UNTOLD = 20
CONFIG = """
[[sensor]]
id = "flow"
driver = "gpio-counter"
line = "GPIO27"
edge = "rising"
debounce = "0s"
every = "1s"
"""


class Pulses:
    """A counter's pulses, whose number is known: the journal of the bench tells each. What the gateway tells after a cut is held to what it promises:
    never more than there were, and not behind by more than those of the last minute."""

    def __init__(self, bench):
        self._bench = bench
        self._total = self._least = self._most = 0
        # By how many it was behind at most.
        self.lag = 0
        self._mark = None

    def told(self, total=None):
        return self._bench.gateway.reading("flow", "" if total is None else f'"count":{total},')["count"]

    def begin(self):
        """From now on, until the power is gone."""
        self._mark = self._bench.pins.mark()
        self._bench.pins.wave(LINE, 1_000_000, (1, HALF_US), (0, HALF_US))

    def some(self, times):
        """So many, and until they are counted."""
        mark = self._bench.pins.mark()
        self._bench.pins.wave(LINE, times, (1, HALF_US), (0, HALF_US))
        self._bench.pins.wait_wave(LINE, mark)
        self._total += times
        self.told(self._total)

    def run_for(self, seconds):
        """Of the machine's own time."""

        def long_enough():
            edges = self._edges()
            return edges and edges[-1] - edges[0] > seconds * NS_PER_S

        wait_until(f"{seconds} s of pulses", long_enough, 4 * seconds, 1)

    def _edges(self):
        # As far as it has come: the machine may have no power.
        return [edge.ns for edge in levels(LINE, self._bench.machine.journal.since(self._mark)) if edge.level == 1]

    def at_the_cut(self):
        """How many there were is known now; to be called when the power is gone, and before the machine is there again."""
        edges = self._edges()
        due = [ns for ns in edges if ns < edges[-1] - (PROMISE_S + LATE_S) * NS_PER_S]
        self._least, self._most = self._total + len(due), self._total + len(edges)

    def judge(self):
        # What is retained was told before the cut.
        client = self._bench.gateway.client
        count = client.wait_for("a count of now", lambda m: m.topic == "tidegate/box/flow" and not m.retained and m.json().get("count") is not None).json()["count"]
        told = f"{count} counted of {self._most} pulses, of which {self._least} were there a minute before"
        check(self._least <= count <= self._most + UNTOLD, told)
        self.lag = max(self.lag, self._most - count)
        self._total = count
